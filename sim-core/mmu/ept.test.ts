import assert from 'node:assert/strict';
import type { EptViolation } from './fault.ts';
import {
  access,
  allocator,
  CR4_PAE,
  EFER_LONG,
  map4,
  newWorld,
  P,
  PS,
  physicalOf,
  setMode,
  U,
  W,
  type World,
} from './test-tables.ts';
import { MAPPING } from './tlb.ts';

/** EPT entry bits (SDM Vol. 3C, "Format of an EPT Page-Table Entry"). */
const R = 1n;
const EW = 2n;
const X = 4n;
const RWX = 7n;
const WB = 6n << 3n;
/** Ignored without mode-based execute control. */
const USER_EXECUTE = 0x400n;
const EA = 0x100n;
const ED = 0x200n;

const GUEST_ROOT = 0x1000;
const EPT_ROOT = 0x80_0000;
/** Write-back, four levels. */
const EPTP = BigInt(EPT_ROOT) | 6n | (3n << 3n);
const ACCESSED_DIRTY = 0x40n;
/** Where the guest's physical address 0 lies in the machine's memory. */
const OFFSET_OF_GUEST = 0x20_0000n;

interface Nested extends World {
  /** Physical addresses of the guest's entries for 0x40_0000 by level. */
  readonly guestEntries: number[];
  /** Changes the EPT entry of a guest-physical page. */
  setEpt(guestPhysical: bigint, flags: bigint, target?: bigint): number;
}

/** A guest with 4-level paging in guest-physical 0…2 MiB, whose page 0x40_0000 is guest-physical 0x9000. */
function build(eptp = EPTP): Nested {
  const world = newWorld();
  const allocate = allocator(EPT_ROOT + 0x1000);
  const setEpt = (guestPhysical: bigint, flags: bigint, target = guestPhysical + OFFSET_OF_GUEST): number =>
    map4(world, EPT_ROOT, guestPhysical, target, 0, flags, RWX | USER_EXECUTE, allocate)[0] as number;
  for (let page = 0n; page < 0x10n; page++) setEpt(page << 12n, RWX | WB);
  // The guest's tables are written as it would see them: entry addresses are guest-physical.
  const entries = [
    [0x4000 + 0, 0x9000n | P | W | U],
    [0x3000 + 8 * 2, 0x4000n | P | W | U],
    [0x2000, 0x3000n | P | W | U],
    [GUEST_ROOT, 0x2000n | P | W | U],
  ] as const;
  for (const [at, value] of entries) world.physical.write64(at + Number(OFFSET_OF_GUEST), value);
  setMode(world, { cr3: BigInt(GUEST_ROOT), cr4: CR4_PAE, efer: EFER_LONG, eptp, vpid: 1 });
  return { ...world, guestEntries: entries.map(([at]) => at + Number(OFFSET_OF_GUEST)), setEpt };
}

const LINEAR = 0x40_0000n;

function violation(world: World, linear: bigint, write = false): EptViolation {
  assert.equal(access(world.mmu, linear, 1, write), 0);
  const fault = world.mmu.lastFault();
  assert.equal(fault.kind, 'eptViolation');
  return fault as EptViolation;
}

describe('EPT', () => {
  it('translates the guest’s tables and its pages', () => {
    const world = build();
    assert.equal(physicalOf(world, access(world.mmu, LINEAR + 0x123n, 4)), 0x20_9123);
    assert.equal(world.physical.read64(world.guestEntries[0] as number), 0x9000n | P | W | U | 0x20n);
  });

  it('caches guest-physical mappings of every page walked, and one combined mapping', () => {
    const world = build();
    access(world.mmu, LINEAR, 4);
    const kinds = world.mmu.tlb.entries().map(({ kind, page, vpid, eptRoot }) => ({ kind, page, vpid, eptRoot }));
    assert.deepEqual(
      kinds.filter(({ kind }) => kind === MAPPING.combined),
      [{ kind: MAPPING.combined, page: LINEAR, vpid: 1, eptRoot: EPT_ROOT }],
    );
    assert.deepEqual(
      kinds.filter(({ kind }) => kind === MAPPING.guestPhysical).map(({ page }) => page),
      [0x1000n, 0x2000n, 0x3000n, 0x4000n, 0x9000n],
    );
  });

  it('uses only guest-physical mappings without paging', () => {
    const world = build();
    setMode(world, { cr0: 1n, eptp: EPTP, vpid: 1 });
    assert.equal(physicalOf(world, access(world.mmu, 0x5010n, 4)), 0x20_5010);
    assert.deepEqual(
      world.mmu.tlb.entries().map(({ kind }) => kind),
      [MAPPING.guestPhysical],
    );
  });

  // SDM Vol. 3C, "Exit Qualification for EPT Violations": bits 2:0 access, 5:3 rights, 7 linear address, 8 translation.
  const cases: [string, bigint, boolean, bigint][] = [
    ['a read of a page that is not present', 0n, false, 0x181n],
    ['a write of a page that is not present', 0n, true, 0x182n],
    ['a write of a read-only page', R | WB, true, 0x18an],
    ['a write of a page that may be read and executed', R | X | WB, true, 0x1aan],
    ['a read of an execute-only page', X | WB, false, 0x1a1n],
  ];
  for (const [name, flags, write, qualification] of cases) {
    it(`qualifies ${name}`, () => {
      const world = build();
      world.setEpt(0x9000n, flags);
      const fault = violation(world, LINEAR + 0x10n, write);
      assert.equal(fault.qualification, qualification);
      assert.equal(fault.guestPhysicalAddress, 0x9010n);
      assert.equal(fault.guestLinearAddress, LINEAR + 0x10n);
    });
  }

  it('qualifies an instruction fetch', () => {
    const world = build();
    world.setEpt(0x9000n, R | EW | WB);
    assert.equal(world.mmu.fetch(LINEAR), -1);
    assert.equal((world.mmu.lastFault() as EptViolation).qualification, 0x19cn);
  });

  it('clears bit 8 for accesses to paging structures', () => {
    const world = build();
    world.setEpt(0x3000n, 0n);
    const fault = violation(world, LINEAR);
    assert.equal(fault.qualification, 0x081n);
    assert.equal(fault.guestPhysicalAddress, 0x3010n);
  });

  it('tells user-mode from supervisor-mode execution with mode-based execute control', () => {
    for (const [flags, supervisorPage, allowed] of [
      [R | WB | USER_EXECUTE, false, true],
      [R | WB | X, false, false],
      [R | WB | USER_EXECUTE, true, false],
      [R | WB | X, true, true],
      [USER_EXECUTE | WB, false, true],
    ] as const) {
      const world = build();
      const entry = 0x9000n | P | W | (supervisorPage ? 0n : U);
      world.physical.write64(0x4000 + Number(OFFSET_OF_GUEST), entry);
      world.setEpt(0x9000n, flags);
      world.state.set32('eptControls', 1);
      world.state.set32('cpl', supervisorPage ? 0 : 3);
      world.mmu.updateContext();
      assert.equal(world.mmu.fetch(LINEAR) >= 0, allowed, `${flags.toString(16)} supervisor ${supervisorPage}`);
      // The second look is the TLB's.
      assert.equal(world.mmu.fetch(LINEAR) >= 0, allowed);
      if (!allowed) {
        const { qualification } = world.mmu.lastFault() as EptViolation;
        assert.equal(qualification, 0x184n | ((flags & 7n) << 3n) | ((flags & USER_EXECUTE) >> 4n));
      }
    }
  });

  it('takes the setting of an accessed flag as a read and a write', () => {
    const world = build();
    world.setEpt(0x4000n, R | WB);
    const fault = violation(world, LINEAR);
    assert.equal(fault.qualification, 0x08bn);
    assert.equal(fault.guestPhysicalAddress, 0x4000n);
  });

  it('takes every walk access as a write, bits 0 and 1, with EPT accessed and dirty flags', () => {
    const world = build(EPTP | ACCESSED_DIRTY);
    world.setEpt(0x4000n, R | X | WB);
    assert.equal(violation(world, LINEAR).qualification, 0x0abn);
  });

  it('sets accessed and dirty flags in EPT: dirty for the pages of walked tables', () => {
    const world = build(EPTP | ACCESSED_DIRTY);
    const data = world.setEpt(0x9000n, RWX | WB);
    const table = world.setEpt(0x4000n, RWX | WB);
    access(world.mmu, LINEAR, 1);
    assert.equal(world.physical.read64(data) & (EA | ED), EA);
    assert.equal(world.physical.read64(table) & (EA | ED), EA | ED);
    access(world.mmu, LINEAR, 1, true);
    assert.equal(world.physical.read64(data) & (EA | ED), EA | ED);
  });

  // SDM Vol. 3C, "EPT Misconfigurations".
  const misconfigured: [string, bigint][] = [
    ['write without read', EW | WB],
    ['write and execute without read', EW | X | WB],
    ['memory type 2', RWX | (2n << 3n)],
    ['memory type 3', RWX | (3n << 3n)],
    ['memory type 7', RWX | (7n << 3n)],
    ['an address beyond the physical width', RWX | WB | (1n << 40n)],
  ];
  for (const [name, flags] of misconfigured) {
    it(`finds misconfigured: ${name}`, () => {
      const world = build();
      world.setEpt(0x9000n, flags);
      assert.equal(access(world.mmu, LINEAR, 1), 0);
      assert.deepEqual(world.mmu.lastFault(), { kind: 'eptMisconfiguration', guestPhysicalAddress: 0x9000n });
    });
  }

  it('finds reserved bits of large pages and of table entries misconfigured', () => {
    const world = build();
    const allocate = allocator(0x90_0000);
    map4(world, EPT_ROOT, 0x4000_0000n, 0x1000n, 1, RWX | WB | PS, RWX, allocate);
    const explained = world.mmu.explainEpt(0x4000_0000, 'read', EPTP);
    assert.equal(explained.fault?.kind, 'eptMisconfiguration');
    assert.equal(explained.steps.at(-1)?.problem, 'misconfigured: reserved bits 0x1000 are set');
    map4(world, EPT_ROOT, 0x8000_0000n, 0n, 1, RWX | WB | PS, RWX | 8n, allocate);
    assert.equal(world.mmu.explainEpt(0x8000_0000, 'read', EPTP).fault?.kind, 'eptMisconfiguration');
  });

  it('translates EPT pages of 2 MiB and 1 GiB; the smaller of both sizes is cached', () => {
    const world = build();
    const allocate = allocator(0x90_0000);
    map4(world, EPT_ROOT, 0x20_0000n, 0x40_0000n, 1, RWX | WB | PS, RWX, allocate);
    map4(world, EPT_ROOT, 0x4000_0000n, 0n, 2, RWX | WB | PS, RWX, allocate);
    assert.equal(world.mmu.explainEpt(0x20_1234, 'read', EPTP).physical, 0x40_1234);
    assert.equal(world.mmu.explainEpt(0x4000_1234, 'read', EPTP).pageSize, 2 ** 30);
    world.physical.write64(0x20_3000 + 8 * 3, 0x20_0000n | P | W | U | PS);
    world.physical.write64(0x20_3000 + 8 * 4, 0x4060_0000n | P | W | U | PS);
    assert.equal(physicalOf(world, access(world.mmu, 0x60_1234n, 1)), 0x40_1234);
    assert.equal(physicalOf(world, access(world.mmu, 0x80_1234n, 1)), 0x60_1234);
    const sizes = world.mmu.tlb.entries().filter(({ kind }) => kind === MAPPING.combined);
    assert.deepEqual(
      sizes.map(({ page, pageSize }) => [page, pageSize]),
      [
        [0x60_0000n, 2 ** 21],
        [0x80_0000n, 2 ** 21],
      ],
    );
  });

  it('keeps a stale guest-physical mapping until INVEPT', () => {
    const world = build();
    access(world.mmu, LINEAR, 1);
    world.setEpt(0x9000n, RWX | WB, 0x30_0000n);
    assert.equal(physicalOf(world, access(world.mmu, LINEAR, 1)), 0x20_9000);
    world.mmu.tlb.invalidate({ kinds: [MAPPING.linear, MAPPING.combined], vpid: 1 });
    assert.equal(physicalOf(world, access(world.mmu, LINEAR, 1)), 0x20_9000);
    world.mmu.tlb.invalidate({ kinds: [MAPPING.guestPhysical, MAPPING.combined], eptRoot: EPT_ROOT });
    assert.equal(physicalOf(world, access(world.mmu, LINEAR, 1)), 0x30_0000);
  });

  it('invalidates all pieces of a guest’s large page with one address', () => {
    const world = build();
    world.physical.write64(0x20_3000 + 8 * 3, P | W | U | PS);
    access(world.mmu, 0x60_0000n, 1);
    access(world.mmu, 0x60_5000n, 1);
    const combined = () => world.mmu.tlb.entries().filter(({ kind }) => kind === MAPPING.combined).length;
    assert.equal(combined(), 2);
    world.mmu.tlb.invalidate({ kinds: [MAPPING.linear, MAPPING.combined], vpid: 1, linear: 0x60_7000n });
    assert.equal(combined(), 0);
  });

  it('reports no linear address for a PDPTE load', () => {
    const world = build();
    setMode(world, { cr0: 1n, cr4: CR4_PAE, eptp: EPTP | ACCESSED_DIRTY });
    world.setEpt(0x5000n, 0n);
    assert.deepEqual(world.mmu.readPdptes(0x5000n), {
      kind: 'eptViolation',
      qualification: 1n,
      guestPhysicalAddress: 0x5000n,
    });
  });

  it('has 5 levels when EPTP says so, which translate addresses beyond 48 bits', () => {
    const world = newWorld();
    world.mmu.features.physicalAddressBits = 52;
    const root = 0x80_0000;
    const far = 0x7_1234_5678_9000n;
    map4(world, root, far, 0x50_0000n, 0, RWX | WB, RWX, allocator(root + 0x1000), 4);
    const fiveLevels = BigInt(root) | 6n | (4n << 3n);
    const { steps, physical } = world.mmu.explainEpt(Number(far), 'read', fiveLevels);
    assert.deepEqual(
      steps.map(({ table }) => table),
      ['EPT PML5E', 'EPT PML4E', 'EPT PDPTE', 'EPT PDE', 'EPT PTE'],
    );
    assert.equal(physical, 0x50_0000);
    const four = world.mmu.explainEpt(Number(far), 'read', EPTP);
    assert.equal(four.fault?.kind, 'eptViolation', '4 levels translate 48 bits');
    // SDM Vol. 3C, "Format of an EPT PML5 Entry": bits 7:3 are reserved.
    world.physical.write64(root + 8 * 7, world.physical.read64(root + 8 * 7) | 0x80n);
    assert.equal(world.mmu.explainEpt(Number(far), 'read', fiveLevels).fault?.kind, 'eptMisconfiguration');
  });

  it('explains a guest from root operation with every EPT entry read', () => {
    const world = build();
    const guest = world.mmu.context();
    setMode(world, { cr0: 1n });
    const { steps, guestPhysical, physical } = world.mmu.explain(LINEAR + 4n, 'read', guest);
    assert.equal(steps.filter(({ level }) => level === 'ept').length, 20);
    assert.deepEqual(
      steps
        .filter(({ level }) => level === 'linear')
        .map(({ table, entryGuestPhysical }) => [table, entryGuestPhysical]),
      [
        ['PML4E', 0x1000],
        ['PDPTE', 0x2000],
        ['PDE', 0x3010],
        ['PTE', 0x4000],
      ],
    );
    assert.equal(guestPhysical, 0x9004);
    assert.equal(physical, 0x20_9004);
  });
});
