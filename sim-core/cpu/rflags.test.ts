import assert from 'node:assert/strict';
import { State } from '../state/state.ts';
import { readRflags, writeRflags } from './rflags.ts';

describe('RFLAGS', () => {
  it('reads back every combination of the status flags', () => {
    const state = new State(0x1_0000);
    for (let bits = 0; bits < 64; bits++) {
      const places = [0x1, 0x4, 0x10, 0x40, 0x80, 0x800];
      const flags = places.reduce((value, place, i) => ((bits >> i) & 1 ? value | place : value), 0x2);
      writeRflags(state, flags);
      assert.equal(readRflags(state), flags);
    }
  });

  it('keeps the system flags, always sets bit 1 and drops reserved bits', () => {
    const state = new State(0x1_0000);
    writeRflags(state, 0xffff_ffff);
    assert.equal(readRflags(state), 0x3f_7fd7);
    writeRflags(state, 0);
    assert.equal(readRflags(state), 2);
  });

  it('computes flags from a result, its carries and corrections as state/layout.ts defines the cells', () => {
    const state = new State(0x1_0000);
    // 0x7f + 1 in bytes: result 0x80 sign-extended, carry out of bit 6 but not of bit 7, AF.
    state.set64('flagResult', 0xffff_ffff_ffff_ff80n);
    state.set64('flagCarry', 0x7fn << 56n);
    state.set32('flagMisc', 0x10);
    // SF, OF, AF; parity of 0x80 is odd.
    assert.equal(readRflags(state) & 0x8d5, 0x890);
  });

  it('sets the string step with DF', () => {
    const state = new State(0x1_0000);
    writeRflags(state, 0x400);
    assert.equal(state.get32('stringStep'), 0xffff_ffff);
    writeRflags(state, 0);
    assert.equal(state.get32('stringStep'), 1);
  });
});
