import assert from 'node:assert/strict';
import { Mnemonic } from 'iced-x86';
import { Random } from '../../test/fuzz/random.ts';
import type { SlowInstruction } from '../cpu/cpu.ts';
import { CPU_INSTRUCTIONS } from '../cpu/instructions.ts';
import { readRflags, writeRflags } from '../cpu/rflags.ts';
import { STAGED_INSTRUCTIONS } from '../cpu/staged-instructions.ts';
import { AT, enter64, newCpu, SELECTOR } from '../cpu/test-cpu.ts';
import { EXIT } from '../engine/record.ts';
import { SEMANTICS } from '../isa/semantics.ts';
import { GPR, SEGMENT, STATE_END, STATE_START } from '../state/layout.ts';
import { Processor } from './processor.ts';

/**
 * Instructions that are staged for their plain case, against the slow instruction that does all of it (and is compared
 * with real processors in test/silicon).
 */

const CODE = 0x30_0000;
const DATA = 0x20_0000;
const DATA_SIZE = 0x4000;
/** Addresses near the ends of pages, so that strings cross them. */
const PLACES = [0, 0x10, 0x103, 0x800, 0xf00, 0xff8, 0xfff, 0x1000, 0x1ff0, 0x2ff9].map((offset) => DATA + offset);
const CASES = 150;

/** Instruction bytes by name, and the mnemonic whose slow form is counted. */
const INSTRUCTIONS: readonly (readonly [string, string, number])[] = [
  ['rep movsb', 'f3 a4', Mnemonic.Movsb],
  ['rep movsw', 'f3 66 a5', Mnemonic.Movsw],
  ['rep movsd', 'f3 a5', Mnemonic.Movsd],
  ['rep movsq', 'f3 48 a5', Mnemonic.Movsq],
  ['movsb', 'a4', Mnemonic.Movsb],
  ['movsd', 'a5', Mnemonic.Movsd],
  ['movsq', '48 a5', Mnemonic.Movsq],
  ['rep stosb', 'f3 aa', Mnemonic.Stosb],
  ['rep stosw', 'f3 66 ab', Mnemonic.Stosw],
  ['rep stosd', 'f3 ab', Mnemonic.Stosd],
  ['rep stosq', 'f3 48 ab', Mnemonic.Stosq],
  ['stosb', 'aa', Mnemonic.Stosb],
  ['stosq', '48 ab', Mnemonic.Stosq],
  ['cmpxchg16b [rbx]', '48 0f c7 0b', Mnemonic.Cmpxchg16b],
  ['mov eax, ss', '8c d0', Mnemonic.Mov],
  ['mov rcx, cs', '48 8c c9', Mnemonic.Mov],
  ['mov si, ds', '66 8c de', Mnemonic.Mov],
  ['mov [rbx], ds', '8c 1b', Mnemonic.Mov],
  ['ldmxcsr [rbx]', '0f ae 13', Mnemonic.Ldmxcsr],
  ['iretq', '48 cf', Mnemonic.Iretq],
];

/** What is never staged: another address size, a segment with a base, both repeat prefixes' other meaning. */
const SLOW: readonly (readonly [string, string, number])[] = [
  ['rep movsb [edi], [esi]', '67 f3 a4', Mnemonic.Movsb],
  ['rep movsb [rdi], [fs:rsi]', '64 f3 a4', Mnemonic.Movsb],
  ['rep stosb [edi]', '67 f3 aa', Mnemonic.Stosb],
];
const STAGED = new Set([...INSTRUCTIONS.map(([, , mnemonic]) => mnemonic), Mnemonic.Iretq]);

/** @param plain whether the instructions under test are staged */
function start(plain: boolean) {
  const cpu = enter64(newCpu());
  const { state, mmu } = cpu;
  const semantics = new Map([...SEMANTICS, ...STAGED_INSTRUCTIONS]);
  if (!plain) for (const mnemonic of STAGED) semantics.delete(mnemonic);
  let slow = 0;
  const counted = ([mnemonic, execute]: [number, SlowInstruction]): [number, SlowInstruction] => [
    mnemonic,
    (...args) => {
      slow++;
      return execute(...args);
    },
  ];
  const hooks = { mayBreakAt: () => false, stopsHere: () => false };
  const processor = new Processor(cpu, new Map([...CPU_INSTRUCTIONS].map(counted)), hooks, { semantics });
  const saved = state.bytes.slice(STATE_START, STATE_END);
  return {
    state,
    physical: mmu.physical,
    reset(): void {
      state.bytes.set(saved, STATE_START);
      mmu.updateContext();
      slow = 0;
    },
    step(): { readonly slow: number; readonly fault: unknown } {
      processor.fault = undefined;
      mmu.updateContext();
      processor.run(1);
      return { slow, fault: state.get32('exitCode') === EXIT.fault ? processor.fault : undefined };
    },
  };
}
type Run = ReturnType<typeof start>;

const picture = ({ state, physical }: Run) => ({
  rip: state.get64('rip'),
  gpr: state.elements('gpr'),
  rflags: readRflags(state),
  step: state.get32('stringStep'),
  cpl: state.get32('cpl'),
  mxcsr: state.get32('mxcsr'),
  segments: [SEGMENT.cs, SEGMENT.ss].map((index) => state.segment(index)),
  memory: Buffer.from(physical.peek(DATA, DATA_SIZE)).toString('latin1'),
});

/** One random case, the same for every run. */
function prepare(runs: readonly Run[], random: Random, code: number): void {
  const bytes = Uint8Array.from({ length: DATA_SIZE }, () => random.next());
  const value = BigInt(random.next()) | (BigInt(random.next()) << 32n);
  const patterns = [0n, 0xffff_ffff_ffff_ffffn, 0x4242_4242_4242_4242n, 0x0101n, value];
  const gpr = Array.from({ length: 16 }, () => BigInt(random.pick(PLACES)));
  gpr[GPR.rax] = random.pick(patterns);
  gpr[GPR.rcx] = random.pick([0n, 1n, 2n, 7n, 64n, 512n, 4096n, 4097n, 1n << 61n]);
  if (gpr[GPR.rcx] === 1n << 61n) gpr[GPR.rdi] = BigInt(DATA + 8);
  const frame = [
    random.pick([0x1234n, BigInt(CODE), 0x8000_0000_0000n]),
    BigInt(random.pick([SELECTOR.code0, SELECTOR.code0, SELECTOR.code0, SELECTOR.code3 | 3, SELECTOR.data0, 0])),
    BigInt(random.pick([0x2, 0x246, 0x8d7, 0x602, 0x4_0202, 0x3202, 0x4002, 0x20_0002])),
    BigInt(random.pick(PLACES)),
    BigInt(random.pick([SELECTOR.data0, SELECTOR.data0, SELECTOR.data0, SELECTOR.data3 | 3, 0])),
  ];
  const equal = random.below(2) === 0;
  const flags = random.pick([0x2, 0x2, 0x2, 0x402, 0x8d7, 0x202]);
  const rights = random.below(8) === 0 ? 1n << 52n : 0n;
  const waits = random.below(4) === 0 ? 1 : 0;
  for (const run of runs) {
    run.reset();
    const { state, physical } = run;
    physical.poke(DATA, bytes);
    gpr.forEach((register, i) => {
      state.set64('gpr', register, i);
    });
    if (code === Mnemonic.Iretq)
      for (const [i, word] of frame.entries()) physical.write64(Number(gpr[GPR.rsp]) + 8 * i, word);
    if (equal && code === Mnemonic.Ldmxcsr) physical.write(Number(gpr[GPR.rbx]), 4, 0x9fc0);
    if (equal && code === Mnemonic.Cmpxchg16b) {
      state.set64('gpr', physical.read64(Number(gpr[GPR.rbx])), GPR.rax);
      state.set64('gpr', physical.read64(Number(gpr[GPR.rbx]) + 8), GPR.rdx);
    }
    const descriptor = physical.read64(AT.gdt + SELECTOR.code0) & ~(1n << 52n);
    physical.write64(AT.gdt + SELECTOR.code0, code === Mnemonic.Iretq ? descriptor | rights : descriptor);
    state.set32('interruptRequest', code === Mnemonic.Iretq ? waits : 0);
    writeRflags(state, flags);
  }
}

describe('Instructions staged for their plain case', () => {
  const seed = Number(process.env.VMXRAY_SEED ?? 1);
  const runs = [start(true), start(false)] as const;
  const code = (bytes: string): Uint8Array => Uint8Array.from(bytes.split(' '), (byte) => Number.parseInt(byte, 16));

  for (const [number, [name, bytes, mnemonic]] of [...INSTRUCTIONS, ...SLOW].entries()) {
    it(`${name} does what the slow instruction does, seed ${seed}`, () => {
      const at = CODE + 64 * number;
      const random = new Random(seed + number);
      for (const { physical } of runs) physical.poke(at, code(bytes));
      let plain = 0;
      for (let i = 0; i < CASES; i++) {
        prepare(runs, random, mnemonic);
        for (const { state } of runs) state.set64('rip', BigInt(at));
        const [one, other] = runs.map((run) => run.step());
        assert.equal(other?.slow, 1, `case ${i}`);
        assert.deepEqual(one?.fault, other?.fault, `case ${i}`);
        assert.deepEqual(picture(runs[0]), picture(runs[1]), `case ${i}`);
        if (one?.slow === 0) plain++;
      }
      if (number < INSTRUCTIONS.length) assert(plain >= CASES / 20, `${plain} cases of ${CASES} were staged`);
      else assert.equal(plain, 0);
    });
  }
});
