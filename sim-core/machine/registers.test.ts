import assert from 'node:assert/strict';
import { Register } from 'iced-x86';
import type { Cpu } from '../cpu/cpu.ts';
import { REGISTERS } from '../isa/registers.ts';
import { OFFSET } from '../state/layout.ts';
import { State } from '../state/state.ts';
import { MACHINE_REGISTERS, registerByName } from './registers.ts';

/** What register writes need of a processor. */
class TestCpu {
  readonly state = new State(0x1_0000);
  contextUpdates = 0;
  breakpointUpdates = 0;
  readonly mmu = {
    updateContext: () => this.contextUpdates++,
    updateBreakpoints: () => this.breakpointUpdates++,
  };

  read(name: string): bigint | undefined {
    return registerByName(name)?.read(this.state);
  }
  write(name: string, value: bigint): void {
    registerByName(name)?.write?.(this as unknown as Cpu, value);
  }
}

describe('the table of registers', () => {
  it('has each name once', () => {
    const names = MACHINE_REGISTERS.map((register) => register.name);
    assert.deepEqual(
      names.filter((name, index) => names.indexOf(name) !== index),
      [],
    );
  });

  // iced-x86 has its own list of register names and widths.
  it('agrees with iced-x86 on the place and width of every general register and its parts', () => {
    const icedNames = Register as unknown as Readonly<Record<number, string>>;
    for (const [number, location] of REGISTERS) {
      if (location.kind !== 'gpr') continue;
      const cpu = new TestCpu();
      for (let byte = 0; byte < 128; byte++) cpu.state.view.setUint8(OFFSET.gpr + byte, byte + 1);
      const iced = (icedNames[number] ?? '').toLowerCase();
      const name = /^(r\d+)l$/.test(iced) ? iced.replace('l', 'b') : iced;
      if (/^(spl|bpl|sil|dil)$/.test(name) || registerByName(name)) {
        const register = registerByName(name);
        assert.equal(register?.bits, 8 * location.size, name);
        const bytes = Array.from({ length: location.size }, (_, index) => location.address - OFFSET.gpr + index + 1);
        const expected = bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
        assert.equal(cpu.read(name), expected, name);
      } else assert.fail(`no register ${name}`);
    }
  });

  // SDM Vol. 1, 3.4.1.1: 32-bit results clear bits 63:32, 8-bit and 16-bit results leave the rest.
  it('writes parts as instructions do', () => {
    const cpu = new TestCpu();
    cpu.write('rax', 0x1122_3344_5566_7788n);
    cpu.write('ah', 0xffn);
    assert.equal(cpu.read('rax'), 0x1122_3344_5566_ff88n);
    cpu.write('ax', 0x1_2345n);
    assert.equal(cpu.read('rax'), 0x1122_3344_5566_2345n);
    cpu.write('EAX', 0x9abc_def0n);
    assert.equal(cpu.read('rax'), 0x9abc_def0n);
    cpu.write('r9b', 0x7fn);
    assert.equal(cpu.read('r9'), 0x7fn);
  });

  it('reads and writes RFLAGS through the lazy flags; bit 1 is always set', () => {
    const cpu = new TestCpu();
    for (const value of [0x2n, 0x8d7n, 0x246n, 0x893n, 0x3_0202n]) {
      cpu.write('rflags', value);
      assert.equal(cpu.read('rflags'), value);
      assert.equal(cpu.read('eflags'), value);
    }
  });

  it('tells the MMU when translation may have changed', () => {
    const cpu = new TestCpu();
    cpu.write('cr3', 0x1000n);
    cpu.write('cr2', 0x1000n);
    assert.equal(cpu.read('cr3'), 0x1000n);
    assert.equal(cpu.contextUpdates, 1);
  });

  it('tells the MMU when the guest’s own breakpoints may have changed', () => {
    const cpu = new TestCpu();
    cpu.write('dr0', 0x1000n);
    cpu.write('dr7', 0x402n);
    assert.equal(cpu.breakpointUpdates, 2);
    cpu.write('rax', 1n);
    assert.equal(cpu.breakpointUpdates, 2);
  });

  it('keeps vector registers whole, XMM being the low half of YMM', () => {
    const cpu = new TestCpu();
    const value = (0x0102_0304_0506_0708n << 64n) | 0x1112_1314_1516_1718n;
    cpu.write('ymm3', (value << 128n) | value);
    assert.equal(cpu.read('xmm3'), value);
    cpu.write('xmm3', 5n);
    assert.equal(cpu.read('ymm3'), (value << 128n) | 5n);
    assert.equal(cpu.read('xmm2'), 0n);
  });

  // SDM Vol. 1, "x87 FPU Execution Environment": TOP is bits 13:11 of the status word; tags 0 valid, 1 zero, 3 empty.
  it('has the x87 registers relative to TOP, with the tags that their contents give', () => {
    const cpu = new TestCpu();
    cpu.write('ftw', 0xffffn);
    cpu.write('fsw', 6n << 11n);
    const one = 0x3fff_8000_0000_0000_0000n;
    cpu.write('st1', one);
    assert.equal(cpu.state.view.getBigUint64(OFFSET.x87 + 16 * 7, true), 1n << 63n);
    assert.equal(cpu.read('ftw'), 0xffffn, 'writing a register leaves its tag');
    cpu.write('ftw', 0x0fffn);
    assert.equal(cpu.read('ftw'), 0x1fffn, '7 is valid, 6 is zero');
    cpu.write('fsw', 0n);
    assert.equal(cpu.read('st7'), one);
    // An unmasked flag makes ES and B.
    cpu.write('fcw', 0x37en);
    cpu.write('fsw', 1n);
    assert.equal(cpu.read('fsw'), 0x8081n);
    cpu.write('fcw', 0xffffn);
    assert.equal(cpu.read('fcw'), 0x1f7fn);
    assert.equal(cpu.read('fsw'), 1n);
  });

  it('names segment parts, aliases and what cannot be written', () => {
    const cpu = new TestCpu();
    cpu.write('ia32_gs_base', 0xffff_8000_0000_0000n);
    assert.equal(cpu.read('gs.base'), 0xffff_8000_0000_0000n);
    assert.equal(registerByName('cs')?.write, undefined);
    assert.equal(registerByName('nothing'), undefined);
  });
});
