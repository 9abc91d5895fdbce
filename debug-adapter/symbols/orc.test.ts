// Expected values: struct orc_entry as Linux 6.1 and 6.4 define it, and what their unwinders do with it.
import assert from 'node:assert/strict';
import { OrcTable } from './orc.ts';

const AT = 0xffff_ffff_8200_0000n;
const TEXT = 0xffff_ffff_8100_0000n;
const [SP, BP, SP_INDIRECT, PREVIOUS_SP] = [5, 4, 9, 1] as const;
const [RBP, RSP, RIP] = [6, 7, 16] as const;

interface Row {
  /** Into the text. */
  readonly from: number;
  readonly sp: readonly [register: number, offset: number];
  readonly bp?: readonly [register: number, offset: number];
  readonly type: number;
}

/** @param end bit 10, which up to 6.3 says that the stack ends here */
function table(rows: readonly Row[], end: readonly number[] = []): OrcTable {
  const ips = new DataView(new ArrayBuffer(4 * rows.length));
  const entries = new DataView(new ArrayBuffer(6 * rows.length));
  rows.forEach(({ from, sp, bp = [0, 0], type }, index) => {
    ips.setInt32(4 * index, Number(TEXT + BigInt(from) - AT) - 4 * index, true);
    entries.setInt16(6 * index, sp[1], true);
    entries.setInt16(6 * index + 2, bp[1], true);
    const last = end.includes(index) ? 1 << 10 : 0;
    entries.setUint16(6 * index + 4, sp[0] | (bp[0] << 4) | (type << 8) | last, true);
  });
  return new OrcTable(new Uint8Array(ips.buffer), AT, new Uint8Array(entries.buffer));
}

/** A function that pushes RBP, what interrupts pushed, and a change of stacks. @param call the number of calls' kind */
const rows = (call: number): Row[] => [
  { from: 0, sp: [SP, 8], type: call },
  { from: 1, sp: [SP, 16], bp: [PREVIOUS_SP, -16], type: call },
  { from: 4, sp: [BP, 16], bp: [PREVIOUS_SP, -16], type: call },
  { from: 0x40, sp: [SP, 0], type: call + 1 },
  { from: 0x50, sp: [SP, 8], type: call + 2 },
  { from: 0x60, sp: [SP_INDIRECT, -8], type: call },
];

for (const [version, call] of [
  ['6.1', 0],
  ['6.4', 2],
] as const) {
  describe(`ORC tables of Linux ${version}`, () => {
    it('tell the frames of calls', () => {
      const orc = table(rows(call));
      assert.equal(orc.start, TEXT);
      assert.deepEqual(orc.rules(TEXT)?.cfa, { register: RSP, offset: 8n });
      assert.deepEqual(orc.rules(TEXT)?.registers.get(RIP), { kind: 'offset', offset: -8n });
      assert.equal(orc.rules(TEXT)?.registers.get(RBP), undefined);
      assert.deepEqual(orc.rules(TEXT + 3n)?.cfa, { register: RSP, offset: 16n });
      assert.deepEqual(orc.rules(TEXT + 0x3fn)?.cfa, { register: RBP, offset: 16n });
      assert.deepEqual(orc.rules(TEXT + 0x3fn)?.registers.get(RBP), { kind: 'offset', offset: -16n });
      assert.equal(orc.rules(TEXT - 1n), undefined);
    });

    it('tell where interrupts have put registers', () => {
      const orc = table(rows(call));
      const [all, some] = [orc.rules(TEXT + 0x40n), orc.rules(TEXT + 0x50n)];
      assert.ok(all?.ofSignal && some?.ofSignal);
      // struct pt_regs: R15 first, RIP after 16 words, RSP three words on.
      assert.deepEqual(all.registers.get(15), { kind: 'offset', offset: 0n });
      assert.deepEqual(all.registers.get(RIP), { kind: 'offset', offset: 128n });
      assert.deepEqual(all.registers.get(RSP), { kind: 'offset', offset: 152n });
      assert.deepEqual(some.cfa, { register: RSP, offset: 8n });
      assert.deepEqual(some.registers.get(RIP), { kind: 'offset', offset: 0n });
      assert.deepEqual(some.registers.get(RSP), { kind: 'offset', offset: 24n });
    });

    it('follow a change of stacks, and are sorted if the file is not', () => {
      const orc = table(rows(call).reverse());
      assert.deepEqual(orc.rules(TEXT + 2n)?.cfa, { register: RSP, offset: 16n });
      // DW_OP_breg7 0, DW_OP_deref, DW_OP_consts -8, DW_OP_plus.
      const cfa = orc.rules(TEXT + 0x60n)?.cfa;
      assert.ok(cfa && 'expression' in cfa);
      assert.deepEqual([...cfa.expression], [0x77, 0, 0x06, 0x11, 0xf8, 0xff, 0x7f, 0x22]);
    });
  });
}

describe('the end of a stack', () => {
  it('is a bit up to Linux 6.3, and a kind from 6.4 on', () => {
    const [old, recent] = [table(rows(0), [1]), table([...rows(2), { from: 0x70, sp: [0, 0], type: 1 }])];
    assert.ok(old.rules(TEXT)?.cfa);
    assert.deepEqual([old.rules(TEXT + 1n)?.cfa, old.rules(TEXT + 1n)?.registers.size], [undefined, 0]);
    assert.equal(recent.rules(TEXT + 0x70n)?.cfa, undefined);
  });

  it('is everywhere in a table of zeros', () => {
    assert.equal(table([{ from: 0, sp: [0, 0], type: 0 }]).rules(TEXT)?.cfa, undefined);
  });
});
