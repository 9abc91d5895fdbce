import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Mnemonic } from 'iced-x86';
import { workloadPath } from '../../bench/emulators.ts';
import { WORKLOADS } from '../../bench/workloads.ts';
import { assemble } from '../../test/support/nasm.ts';
import { type Bits, DATA, ORIGIN, randomProgram } from '../../test/support/random-program.ts';
import { CompiledStage } from '../engine/compiled-stage.ts';
import type { Semantics, Stage } from '../engine/stage.ts';
import { i32, i64 } from '../engine/value.ts';
import { ENTRY_GDT, enterLongMode, enterProtectedMode } from '../loaders/entry-state.ts';
import { CR4 } from '../state/control-bits.ts';
import { GPR } from '../state/layout.ts';
import type { Machine } from './api.ts';
import { createMachine } from './machine.ts';
import { STAGED_SEMANTICS } from './semantics.ts';
import { type StartMachine, Verification, type VerifyOptions } from './verify.ts';

const MIB = 2 ** 20;
const TABLES = 0x8000;
const ALL_STATE = 7n;

/** Identity paging of the first 4 MiB by pages of 2 MiB, at TABLES. */
function setTables({ physical }: Machine): void {
  physical.write64(TABLES, BigInt(TABLES + 0x1000) | 3n);
  physical.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 3n);
  for (const page of [0, 1]) physical.write64(TABLES + 0x2000 + 8 * page, BigInt(2 * MIB * page) | 0x83n);
}

/** Machines that begin with `code` at ORIGIN. */
const starting =
  (code: Uint8Array, bits: Bits): StartMachine =>
  (config) => {
    const machine = createMachine({ memory: 4 * MIB, cpuModel: 'max', ...config });
    const start = { entry: ORIGIN, registers: { rbp: DATA, rsp: DATA + 0x1_0000, rbx: 3, rdx: 5 } };
    machine.physical.poke(ORIGIN, code);
    if (bits === 32) {
      enterProtectedMode(machine.cpu, start);
      return machine;
    }
    setTables(machine);
    enterLongMode(machine.cpu, start, TABLES, { address: 0x7000, entries: ENTRY_GDT.length });
    machine.state.set64('cr4', machine.state.get64('cr4') | BigInt(CR4.osxsave));
    machine.state.set64('xcr0', ALL_STATE);
    return machine;
  };

function outcomeOf(start: StartMachine, options: VerifyOptions) {
  const verification = new Verification(start, options);
  for (;;) {
    const outcome = verification.advance();
    if (outcome) return outcome;
  }
}

/** What the manual says, but that RBX becomes 1 when RCX is `count`: in compiled code only. */
const wrongWhenCompiled =
  (count: number) =>
  (right: Semantics): Semantics =>
  (s: Stage) => {
    right(s);
    if (!(s instanceof CompiledStage)) return;
    s.when(s.code.let(s.gpr(GPR.rcx, 8).read().eq(count)), () => s.gpr(GPR.rbx, 8).write(i64(1)));
  };

/** The outcome while an instruction has another meaning, which has to be the right one in interpreted code. */
function outcomeWith(
  mnemonic: Mnemonic,
  change: (right: Semantics) => Semantics,
  start: StartMachine,
  options: VerifyOptions,
) {
  const table = STAGED_SEMANTICS as Map<number, Semantics>;
  const right = table.get(mnemonic);
  assert(right);
  table.set(mnemonic, change(right));
  try {
    return outcomeOf(start, options);
  } finally {
    table.set(mnemonic, right);
  }
}

describe('verification', function () {
  this.timeout(60_000);
  const base = Number(process.env.VMXRAY_SEED ?? 1);

  for (const bits of [64, 32] as const) {
    it(`finds no difference in random ${bits}-bit loops from seed ${base}`, () => {
      for (let seed = base; seed < base + 12; seed++) {
        const source = randomProgram(seed, bits, bits === 64);
        const outcome = outcomeOf(starting(assemble(source), bits), { maxInstructions: 150_000 });
        assert.deepEqual(outcome, { kind: 'limit' }, `seed ${seed}:\n${source}`);
      }
    });
  }

  for (const workload of WORKLOADS) {
    it(`finds no difference at the beginning of ${workload.name}`, () => {
      const image = readFileSync(workloadPath(workload));
      const start: StartMachine = (config) => {
        const machine = createMachine({ memory: 128 * MIB, ...config });
        machine.boot({ name: workload.name, image, commandLine: '', modules: [] });
        return machine;
      };
      const outcome = outcomeOf(start, { maxInstructions: 1_500_000 });
      assert.ok('kind' in outcome && (outcome.kind === 'limit' || outcome.kind === 'debugExit'), outcome.kind);
    });
  }

  it('finds the instruction that compiled code gets wrong', () => {
    const code = assemble(`bits 64
      xor ecx, ecx
      again: inc rcx
      add rdx, rcx
      bswap rax
      xor rsi, rax
      jmp again`);
    const wrong = wrongWhenCompiled(100_000);
    const outcome = outcomeWith(Mnemonic.Bswap, wrong, starting(code, 64), { maxInstructions: 1_000_000 });
    // XOR, 99,999 iterations of five instructions, INC and ADD.
    assert.deepEqual(outcome, {
      kind: 'discrepancy',
      instructions: 1 + 5 * 99_999 + 2,
      isExact: true,
      address: BigInt(ORIGIN + 8),
      bytes: Uint8Array.of(0x48, 0x0f, 0xc8),
      bitness: 64,
      differences: [{ name: 'rbx', values: [1n, 3n] }],
    });
  });

  it('finds a difference in RAM that no register shows', () => {
    const code = assemble(`bits 64
      xor ecx, ecx
      again: inc ecx
      mov [rbp + rcx*2], cx
      jmp again`);
    const wrong = (right: Semantics) => (s: Stage) => {
      right(s);
      if (s instanceof CompiledStage && s.form.operands[0]?.kind === 'memory') {
        const isThere = s.gpr(GPR.rcx, 4).read().eq(50_000);
        s.when(s.code.let(isThere), () => s.operand(0, 'write').write(i32(0)));
      }
    };
    const outcome = outcomeWith(Mnemonic.Mov, wrong, starting(code, 64), { maxInstructions: 200_000 });
    assert(outcome.kind === 'discrepancy', outcome.kind);
    // XOR, 49,999 iterations of three instructions, and INC. 50,000 is C350H, at twice that from DATA.
    assert.equal(outcome.instructions, 1 + 3 * 49_999 + 1);
    assert.deepEqual(outcome.differences, [{ name: 'RAM 0x218000+0x6a0', values: [0n, 0xc350n] }]);
  });
});
