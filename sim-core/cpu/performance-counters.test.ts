import assert from 'node:assert/strict';
import { readMsr, writeMsr } from './msrs.ts';
import { updateCounters } from './performance-counters.ts';
import { newCpu, type TestCpu } from './test-cpu.ts';

/** Numbers and layouts from SDM Vol. 3B, chapter "Performance Monitoring", and Vol. 4. */
const MSR = {
  pmc0: 0xc1, select0: 0x186, fixed0: 0x309, fixed1: 0x30a, fixedControl: 0x38d, status: 0x38e, global: 0x38f,
  overflow: 0x390, capabilities: 0x345, full0: 0x4c1, debugControl: 0x1d9,
} as const; // biome-ignore format: a table reads better in rows
const INSTRUCTIONS = 0x00c0n;
const CYCLES = 0x003cn;
const USER = 1n << 16n;
const OS = 1n << 17n;
const INT = 1n << 20n;
const ENABLE = 1n << 22n;

/** `instructions` instructions retire, of which the slow ones take `extra` cycles more. */
function pass(cpu: TestCpu, instructions: number, extra = 0): void {
  cpu.cycles += instructions + extra;
  cpu.state.setFloat('extraCycles', cpu.state.getFloat('extraCycles') + extra);
}

function write(cpu: TestCpu, index: number, value: bigint): void {
  assert.ok(writeMsr(cpu, index, value), `WRMSR of 0x${index.toString(16)}`);
}

describe('Performance counters', () => {
  it('count instructions and cycles apart, from the moment that they are enabled', () => {
    const cpu = newCpu();
    pass(cpu, 1000);
    write(cpu, MSR.select0, INSTRUCTIONS | OS | USER | ENABLE);
    write(cpu, MSR.select0 + 1, CYCLES | OS | USER | ENABLE);
    pass(cpu, 10, 5);
    assert.equal(readMsr(cpu, MSR.pmc0), 10n);
    assert.equal(readMsr(cpu, MSR.pmc0 + 1), 15n);
    write(cpu, MSR.select0, 0n);
    pass(cpu, 10);
    assert.equal(readMsr(cpu, MSR.pmc0), 10n);
    assert.equal(readMsr(cpu, MSR.pmc0 + 1), 25n);
  });

  it('stand still while IA32_PERF_GLOBAL_CTRL, which enables the general ones after power-up, says so', () => {
    const cpu = newCpu();
    assert.equal(readMsr(cpu, MSR.global), 0xfn);
    write(cpu, MSR.fixedControl, 0x333n);
    pass(cpu, 7);
    assert.equal(readMsr(cpu, MSR.fixed0), 0n);
    write(cpu, MSR.global, 0x7_0000_0000n);
    pass(cpu, 7, 2);
    assert.equal(readMsr(cpu, MSR.fixed0), 7n);
    assert.equal(readMsr(cpu, MSR.fixed1), 9n);
  });

  it('count in the rings that they are set up for', () => {
    const cpu = newCpu();
    write(cpu, MSR.select0, INSTRUCTIONS | USER | ENABLE);
    write(cpu, MSR.select0 + 1, INSTRUCTIONS | OS | ENABLE);
    cpu.mmu.onContextChanged = () => updateCounters(cpu);
    pass(cpu, 3);
    cpu.state.set32('cpl', 3);
    cpu.mmu.updateContext();
    pass(cpu, 5);
    cpu.state.set32('cpl', 0);
    cpu.mmu.updateContext();
    pass(cpu, 1);
    assert.deepEqual([readMsr(cpu, MSR.pmc0), readMsr(cpu, MSR.pmc0 + 1)], [5n, 4n]);
  });

  it('do not count cycles in HLT', () => {
    const cpu = newCpu();
    write(cpu, MSR.select0, CYCLES | OS | ENABLE);
    pass(cpu, 1, 500);
    cpu.state.setFloat('haltedCycles', 500);
    assert.equal(readMsr(cpu, MSR.pmc0), 1n);
  });

  it('overflow at 48 bits into IA32_PERF_GLOBAL_STATUS, which IA32_PERF_GLOBAL_OVF_CTRL clears', () => {
    const cpu = newCpu();
    write(cpu, MSR.pmc0, 0xffff_fffen);
    assert.equal(readMsr(cpu, MSR.pmc0), 0xffff_ffff_fffen, 'WRMSR of IA32_PMC0 extends the sign of 32 bits');
    write(cpu, MSR.select0, INSTRUCTIONS | OS | ENABLE);
    pass(cpu, 3);
    assert.equal(readMsr(cpu, MSR.status), 1n);
    assert.equal(readMsr(cpu, MSR.pmc0), 1n);
    assert.deepEqual(cpu.log, [], 'without INT there is no interrupt');
    assert.equal(writeMsr(cpu, MSR.status, 0n), false);
    write(cpu, MSR.overflow, 1n);
    assert.equal(readMsr(cpu, MSR.status), 0n);
  });

  it('interrupt at the deadline that they give, and with FREEZE_PERFMON_ON_PMI stop all others', () => {
    const cpu = newCpu();
    write(cpu, MSR.debugControl, 1n << 12n);
    write(cpu, MSR.pmc0, 0xffff_ff9cn);
    write(cpu, MSR.select0, INSTRUCTIONS | OS | INT | ENABLE);
    assert.equal(cpu.state.getFloat('perfDeadline') - cpu.cycles, 100);
    pass(cpu, 60, 40);
    updateCounters(cpu);
    assert.deepEqual(cpu.log, []);
    assert.equal(cpu.state.getFloat('perfDeadline') - cpu.cycles, 40);
    pass(cpu, 40);
    updateCounters(cpu);
    assert.deepEqual(cpu.log, ['performance-monitoring interrupt']);
    assert.equal(readMsr(cpu, MSR.global), 0n);
  });

  it('refuse reserved bits, and counters that are not there', () => {
    const cpu = newCpu();
    const refused: readonly (readonly [number, bigint])[] = [
      [MSR.select0, 1n << 32n],
      [MSR.select0, 1n << 21n],
      [MSR.fixedControl, 4n],
      [MSR.fixedControl, 0x1000n],
      [MSR.global, 0x10n],
      [MSR.global, 1n << 35n],
      [MSR.fixed0, 1n << 48n],
      [MSR.full0, 1n << 48n],
      [MSR.pmc0 + 4, 0n],
      [MSR.fixed0 + 3, 0n],
    ];
    for (const [index, value] of refused) {
      assert.equal(writeMsr(cpu, index, value), false, `0x${index.toString(16)} = 0x${value.toString(16)}`);
    }
    assert.equal(readMsr(cpu, MSR.pmc0 + 4), undefined);
    write(cpu, MSR.full0, 0x1234_5678_9abcn);
    assert.equal(readMsr(cpu, MSR.pmc0), 0x1234_5678_9abcn);
    assert.equal(readMsr(cpu, MSR.capabilities), 1n << 13n);
  });

  it('do not count events that CPUID leaf 0AH calls missing, or edges', () => {
    const cpu = newCpu();
    write(cpu, MSR.select0, 0x00c4n | OS | ENABLE);
    write(cpu, MSR.select0 + 1, CYCLES | OS | ENABLE | (1n << 18n));
    pass(cpu, 50);
    assert.deepEqual([readMsr(cpu, MSR.pmc0), readMsr(cpu, MSR.pmc0 + 1)], [0n, 0n]);
  });
});

describe('IA32_TSC_ADJUST', () => {
  const TSC = 0x10;
  const ADJUST = 0x3b;

  it('changes with each write of the TSC by as much, and the TSC with each write of it', () => {
    const cpu = newCpu('skylake');
    cpu.cycles = 1000;
    assert.equal(readMsr(cpu, ADJUST), 0n);
    write(cpu, TSC, 5000n);
    assert.equal(readMsr(cpu, ADJUST), 4000n);
    cpu.cycles = 1100;
    write(cpu, ADJUST, 4500n);
    assert.equal(readMsr(cpu, TSC), 5600n);
    write(cpu, TSC, 100n);
    assert.equal(readMsr(cpu, ADJUST), BigInt.asUintN(64, -1000n));
  });

  it('exists with its CPUID flag only', () => {
    const cpu = newCpu('westmere');
    assert.equal(readMsr(cpu, ADJUST), undefined);
    assert.equal(writeMsr(cpu, ADJUST, 0n), false);
  });
});
