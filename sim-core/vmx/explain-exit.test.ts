import assert from 'node:assert/strict';
import { allocator, CR4_PAE, EFER_LONG, map4, newWorld, P, setMode, U, W, type World } from '../mmu/test-tables.ts';
import { EXIT } from './exit-reasons.ts';
import { type EptStory, explainEptExit } from './explain-exit.ts';
import type { VmExitRecord } from './records.ts';

const EPT_ROOT = 0x80_0000;
const EPTP = BigInt(EPT_ROOT) | 0x1en;
const RWX = 7n;
const WB = 6n << 3n;
const LINEAR = 0x40_0000n;
const TO_HOST = 0x20_0000;

interface Nested extends World {
  readonly ept: Readonly<Record<number, readonly number[]>>;
}

/** A guest whose linear 0x400000 is guest-physical 0x9000; tables at 0x1000 to 0x4000; all in 4-KiB EPT pages. */
function build(): Nested {
  const world = newWorld();
  const allocate = allocator(EPT_ROOT + 0x1000);
  const ept: Record<number, readonly number[]> = {};
  for (const page of [0x1000, 0x2000, 0x3000, 0x4000, 0x9000]) {
    ept[page] = map4(world, EPT_ROOT, BigInt(page), BigInt(page + TO_HOST), 0, RWX | WB, RWX, allocate);
  }
  const entries = [
    [0x1000, 0x2000n],
    [0x2000, 0x3000n],
    [0x3010, 0x4000n],
    [0x4000, 0x9000n],
  ] as const;
  for (const [at, target] of entries) world.physical.write64(at + TO_HOST, target | P | W | U);
  setMode(world, { cr3: 0x1000n, cr4: CR4_PAE, efer: EFER_LONG, eptp: EPTP, vpid: 1 });
  return { ...world, ept };
}

/** Makes the access, which faults. @returns the VM exit that the fault would cause */
function exitOf(world: Nested, write: boolean): VmExitRecord {
  assert.equal(world.mmu.access(Number(LINEAR), 0, 1, write), 0);
  const fault = world.mmu.lastFault();
  assert.ok(fault.kind === 'eptViolation' || fault.kind === 'eptMisconfiguration');
  const violation = fault.kind === 'eptViolation';
  return {
    reason: violation ? EXIT.EPT_VIOLATION : EXIT.EPT_MISCONFIGURATION,
    exitReasonField: 0,
    qualification: violation ? fault.qualification : 0n,
    guestLinearAddress: violation ? (fault.guestLinearAddress ?? 0n) : 0n,
    guestPhysicalAddress: fault.guestPhysicalAddress,
    interruptionInformation: 0,
    interruptionErrorCode: 0,
    idtVectoringInformation: 0,
    instructionLength: 2,
    instructionInformation: 0,
    guestRip: 0n,
    vmcs: 0n,
    instructions: 0,
    cause: '',
  };
}

function story(world: Nested, write: boolean, exit = exitOf(world, write)): EptStory {
  const told = explainEptExit(exit, world.mmu, world.mmu.context());
  assert.ok(told);
  return told;
}

const setEpt = (world: Nested, page: number, level: number, change: (old: bigint) => bigint): number => {
  const at = world.ept[page]?.[level] ?? 0;
  world.physical.write64(at, change(world.physical.read64(at)));
  return at;
};

describe('the story of an EPT-induced VM exit', () => {
  it('names the leaf whose permission bit is 0, and the data write', () => {
    const world = build();
    const at = setEpt(world, 0x9000, 0, (old) => old & ~2n);
    const { access, entry, reason } = story(world, true);
    assert.equal(access, 'a data write at linear address 0x400000');
    assert.equal(entry?.entryAddress, at);
    assert.equal(reason, `bit 1 (W, write access) of the EPT PTE at 0x${at.toString(16)} is 0`);
  });

  it('names the entry of a higher level when the bit is 0 there', () => {
    const world = build();
    const at = setEpt(world, 0x9000, 1, (old) => old & ~2n);
    assert.match(story(world, true).reason, new RegExp(`of the EPT PDE at 0x${at.toString(16)} is 0$`));
  });

  it('tells a walk of the guest’s page tables from the access itself', () => {
    const world = build();
    setEpt(world, 0x3000, 0, () => 0n);
    const { access, steps, reason } = story(world, false);
    assert.match(access, /own walk of the guest’s page tables for linear address 0x400000, to its PDE$/);
    assert.equal(reason, 'not present');
    const guestTables = steps.filter((step) => step.level === 'linear').map((step) => step.table);
    assert.deepEqual(guestTables, ['PML4E', 'PDPTE']);
  });

  it('names the reserved bits of a misconfigured entry', () => {
    const world = build();
    // Writable but not readable (SDM Vol. 3C, "EPT Misconfigurations").
    const at = setEpt(world, 0x9000, 0, (old) => (old & ~7n) | 2n);
    const { entry, reason } = story(world, false);
    assert.equal(entry?.entryAddress, at);
    assert.match(reason, /writable but not readable/);
  });

  it('says when the tables have changed since', () => {
    const world = build();
    const at = setEpt(world, 0x9000, 0, () => 0n);
    const exit = exitOf(world, false);
    world.physical.write64(at, BigInt(0x9000 + TO_HOST) | RWX | WB);
    const { entry, reason } = story(world, false, exit);
    assert.equal(entry, undefined);
    assert.match(reason, /have changed since/);
  });
});
