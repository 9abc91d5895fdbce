import assert from 'node:assert/strict';
import { exception, undefinedOpcode, VECTOR } from '../../mmu/fault.ts';
import { CR0 } from '../../state/control-bits.ts';
import { GPR } from '../../state/layout.ts';
import { enter32, enter64, newCpu, run, type TestCpu } from '../test-cpu.ts';
import { toBits } from './instruction.ts';
import { fullTags, readStack, topOf } from './registers.ts';

const MEMORY = 0x5_0000;

const FLDZ = 'd9 ee';
const FLD1 = 'd9 e8';
const FLDPI = 'd9 eb';
const FDIVP = 'de f9';
const FNINIT = 'db e3';
const FNOP = 'd9 d0';
const FNCLEX = 'db e2';
const FNSTENV = 'd9 30';
const FLDCW = 'd9 28';
const WAIT = '9b';

/** A processor with an initialised unit, [RAX] being free memory. */
function newX87(enter: (cpu: TestCpu) => TestCpu = enter64): TestCpu {
  const cpu = enter(newCpu());
  cpu.state.set64('cr0', cpu.state.get64('cr0') | BigInt(CR0.ne));
  cpu.state.set64('gpr', BigInt(MEMORY), GPR.rax);
  runAll(cpu, [FNINIT]);
  return cpu;
}

function runAll(cpu: TestCpu, instructions: readonly string[]): void {
  for (const bytes of instructions) assert.equal(run(cpu, bytes), undefined, bytes);
}

const setCr0 = (cpu: TestCpu, set: number, clear = 0): void =>
  cpu.state.set64('cr0', (cpu.state.get64('cr0') & ~BigInt(clear)) | BigInt(set));

const stack = (cpu: TestCpu, i: number): string => toBits(readStack(cpu.state, i)).toString(16).padStart(20, '0');
const words = (cpu: TestCpu, size: 2 | 4, count: number): number[] =>
  Array.from({ length: count }, (_, i) => cpu.mmu.physical.read(MEMORY + size * i, size));

/** Loads a control word. */
function setControl(cpu: TestCpu, value: number): void {
  cpu.mmu.physical.write(MEMORY, 2, value);
  runAll(cpu, [FLDCW]);
}

/** 1 / 0 with that exception unmasked. */
function divideByZero(cpu: TestCpu): void {
  setControl(cpu, 0x37b);
  runAll(cpu, [FLD1, FLDZ, FDIVP]);
}

describe('x87 instructions', () => {
  it('need CR0.EM and TS clear; WAIT heeds TS only with MP', () => {
    const cpu = newX87();
    setCr0(cpu, CR0.em);
    assert.deepEqual(run(cpu, FLD1), exception(VECTOR.nm));
    assert.equal(run(cpu, WAIT), undefined);
    setCr0(cpu, CR0.ts, CR0.em | CR0.mp);
    assert.deepEqual(run(cpu, FLD1), exception(VECTOR.nm));
    assert.equal(run(cpu, WAIT), undefined);
    setCr0(cpu, CR0.mp);
    assert.deepEqual(run(cpu, WAIT), exception(VECTOR.nm));
  });

  it('report an unmasked exception at the next instruction that waits', () => {
    const cpu = newX87();
    divideByZero(cpu);
    assert.equal(topOf(cpu.state), 6, 'nothing was popped');
    assert.deepEqual(run(cpu, FNOP), exception(VECTOR.mf));
    assert.deepEqual(run(cpu, WAIT), exception(VECTOR.mf));
    assert.deepEqual(run(cpu, FLDCW), exception(VECTOR.mf));
    runAll(cpu, ['df e0']);
    assert.equal(cpu.state.get64('gpr', GPR.rax) & 0xffffn, 0xb084n, 'FNSTSW does not wait');
    runAll(cpu, [FNCLEX, FNOP]);
  });

  it('report an exception whose mask FLDCW takes away', () => {
    const cpu = newX87();
    runAll(cpu, [FLD1, FLDZ, FDIVP, FNOP]);
    assert.equal(stack(cpu, 0), '7fff8000000000000000', 'the masked response is infinity');
    setControl(cpu, 0x37b);
    assert.deepEqual(run(cpu, FNOP), exception(VECTOR.mf));
  });

  it('stop by name where FERR# would report an error', () => {
    const cpu = newX87();
    divideByZero(cpu);
    setCr0(cpu, 0, CR0.ne);
    const fault = run(cpu, FNOP);
    assert.equal(fault?.kind, 'unimplemented');
  });

  it('load π as rounding control says', () => {
    const cpu = newX87();
    runAll(cpu, [FLDPI]);
    assert.equal(stack(cpu, 0), '4000c90fdaa22168c235');
    setControl(cpu, 0xf7f);
    runAll(cpu, [FLDPI]);
    assert.equal(stack(cpu, 0), '4000c90fdaa22168c234');
  });

  it('round quotients as precision control says', () => {
    const third = (control: number) => {
      const cpu = newX87();
      setControl(cpu, control);
      cpu.mmu.physical.write(MEMORY, 4, 0x3f80_0000);
      cpu.mmu.physical.write(MEMORY + 4, 4, 0x4040_0000);
      runAll(cpu, ['d9 00', 'd8 70 04']);
      return stack(cpu, 0);
    };
    assert.equal(third(0x37f), '3ffdaaaaaaaaaaaaaaab');
    assert.equal(third(0x27f), '3ffdaaaaaaaaaaaaa800');
    assert.equal(third(0x07f), '3ffdaaaaab0000000000');
  });

  it('compute transcendental functions to the last bit', () => {
    const cpu = newX87();
    runAll(cpu, [FLD1, FLD1, 'd9 f3']);
    assert.equal(stack(cpu, 0), '3ffec90fdaa22168c235', 'arctan 1 = π/4');
    runAll(cpu, [FNINIT, FLD1, 'd9 f0']);
    assert.equal(stack(cpu, 0), '3fff8000000000000000', '2^1 - 1');
    runAll(cpu, [FNINIT, FLD1, FLD1, 'd9 e8', 'de c1', 'd9 f1']);
    assert.equal(stack(cpu, 0), '3fff8000000000000000', '1 × log2 2');
  });
});

describe('The x87 environment in memory', () => {
  it('has 32-bit units with selectors, and the tags of all contents', () => {
    const cpu = newX87(enter32);
    runAll(cpu, [FLDZ, FLDPI, FLD1, FLDZ, FDIVP, 'd9 18']);
    runAll(cpu, ['d9 00']);
    const at = cpu.state.get64('rip') - 2n;
    const { cs, ds } = { cs: cpu.state.segment(1).selector, ds: cpu.state.segment(3).selector };
    runAll(cpu, [FNSTENV]);
    const image = words(cpu, 4, 7);
    // Physical registers 7 to 5: zero (1), π (0), infinity (2); the others are empty (3).
    assert.deepEqual(image, [
      0xffff_037f, 0xffff_2804, 0xffff_4bff, Number(at), cs, MEMORY, 0xffff_0000 + ds,
    ]); // biome-ignore format: one line says it
  });

  it('has 16-bit units with an operand-size prefix, and linear addresses in real-address mode', () => {
    const cpu = newX87(enter32);
    runAll(cpu, [FLD1]);
    const at = Number(cpu.state.get64('rip')) - 2;
    cpu.state.set32('x87Cs', 0x1000);
    setCr0(cpu, 0, CR0.pe);
    runAll(cpu, [`66 ${FNSTENV}`]);
    const linear = 0x1_0000 + at;
    assert.deepEqual(words(cpu, 2, 5), [0x37f, 0x3800, 0x3fff, linear & 0xffff, (linear >>> 16) << 12]);
  });

  it('masks all exceptions when stored, and is loaded with those that are pending', () => {
    const cpu = newX87();
    divideByZero(cpu);
    runAll(cpu, [FNSTENV, FNOP]);
    assert.equal(run(cpu, 'd9 20'), undefined);
    assert.deepEqual(run(cpu, FNOP), exception(VECTOR.mf));
  });

  it('goes with the registers in FNSAVE, which initialises the unit, and FRSTOR', () => {
    const cpu = newX87();
    runAll(cpu, [FLD1, FLDPI, 'dd 30']);
    assert.equal(fullTags(cpu.state), 0xffff);
    assert.equal(cpu.mmu.physical.read64(MEMORY + 28), 0xc90f_daa2_2168_c235n);
    assert.equal(cpu.mmu.physical.read(MEMORY + 28 + 18, 2), 0x3fff, 'ST(1) follows after 10 bytes');
    runAll(cpu, ['dd 20']);
    assert.equal(fullTags(cpu.state), 0x0fff);
    assert.equal(stack(cpu, 1), '3fff8000000000000000');
  });

  it('is abridged by FXSAVE: a bit for each register in use, by physical number', () => {
    const cpu = newX87();
    runAll(cpu, [FLD1, FLDPI, '0f ae 00']);
    assert.equal(cpu.mmu.physical.read(MEMORY + 4, 1), 0xc0);
    assert.equal(cpu.mmu.physical.read64(MEMORY + 32), 0xc90f_daa2_2168_c235n, 'ST(0)');
    assert.equal(cpu.mmu.physical.read64(MEMORY + 48), 1n << 63n, 'ST(1)');
  });
});

describe('MMX instructions', () => {
  const EMMS = '0f 77';

  it('are #UD with CR0.EM, #NM with TS, #MF when an x87 exception waits', () => {
    const cpu = newX87();
    divideByZero(cpu);
    assert.deepEqual(run(cpu, EMMS), exception(VECTOR.mf));
    setCr0(cpu, CR0.ts);
    assert.deepEqual(run(cpu, EMMS), exception(VECTOR.nm));
    setCr0(cpu, CR0.em);
    assert.deepEqual(run(cpu, EMMS), undefinedOpcode());
  });

  it('make all x87 registers valid with TOP 0, until EMMS', () => {
    const cpu = newX87();
    cpu.mmu.physical.write(MEMORY, 4, 0x3fc0_0000);
    cpu.mmu.physical.write(MEMORY + 4, 4, 0xc020_0000);
    runAll(cpu, [FLD1, '0f 2d 00']);
    assert.equal(topOf(cpu.state), 0);
    assert.equal(fullTags(cpu.state) & 3, 2, 'an MMX register looks like a NaN');
    // 1.5 and -2.5 to nearest even, below an exponent of all ones.
    assert.equal(stack(cpu, 0), 'fffffffffffe00000002');
    runAll(cpu, [EMMS]);
    assert.equal(fullTags(cpu.state), 0xffff);
  });
});
