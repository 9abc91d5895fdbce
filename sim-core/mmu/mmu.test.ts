import assert from 'node:assert/strict';
import { OFFSET } from '../state/layout.ts';
import type { ExceptionFault } from './fault.ts';
import {
  A,
  access,
  allocator,
  CR0_WP,
  CR4_PAE,
  D,
  EFER_LONG,
  EFER_NXE,
  G,
  map4,
  newWorld,
  P,
  PS,
  physicalOf,
  setMode,
  U,
  W,
  type World,
  XD,
} from './test-tables.ts';

const PG_PE = 0x8000_0001n;

/** The error code of the #PF that the access raises; undefined when it raises none. */
function pageFault(world: World, linear: bigint, write = false): number | undefined {
  if (access(world.mmu, linear, 1, write) !== 0) return undefined;
  const fault = world.mmu.lastFault() as ExceptionFault;
  assert.equal(fault.vector, 14);
  assert.equal(fault.linearAddress, linear);
  return fault.errorCode;
}

describe('Mmu without paging', () => {
  it('leaves addresses as they are', () => {
    const world = newWorld();
    setMode(world, { cr0: 1n });
    assert.equal(physicalOf(world, access(world.mmu, 0x1234n, 4)), 0x1234);
  });

  it('reads all ones where there is nothing, and forgets writes', () => {
    const { mmu } = newWorld();
    assert.equal(mmu.read(0xf000_0000n, 4), 0xffff_ffffn);
    assert.equal(mmu.write(0xf000_0000n, 4, 1n), undefined);
    assert.equal(mmu.read(0xf000_0000n, 4), 0xffff_ffffn);
  });

  it('lets a device see accesses of its own size, once', () => {
    const { mmu, physical } = newWorld();
    const log: string[] = [];
    physical.map(0x80_0000, 0x1000, {
      name: 'device',
      read: (offset, size) => {
        log.push(`read ${offset} ${size}`);
        return 0x1122_3344;
      },
      write: (offset, size, value) => {
        log.push(`write ${offset} ${size} ${value.toString(16)}`);
      },
    });
    assert.equal(mmu.read(0x80_0010n, 4), 0x1122_3344n);
    assert.deepEqual(log, ['read 16 4']);
    mmu.write(0x80_0010n, 8, 0x5566_7788_99aa_bbccn);
    assert.deepEqual(log.slice(-2), ['write 16 4 99aabbcc', 'write 20 4 55667788']);
  });
});

describe('Mmu with 32-bit paging', () => {
  // PDE 1 → page table at 0x3000; its PTE 2 → page 0x5000. PDE 2 is a 4-MiB page at 0x40_0000.
  function build(): World {
    const world = newWorld();
    world.physical.write(0x2000 + 4, 4, 0x3007);
    world.physical.write(0x3000 + 8, 4, 0x5003);
    world.physical.write(0x2000 + 8, 4, 0x40_0087);
    setMode(world, { cr3: 0x2000n, cr4: 0x10n });
    return world;
  }

  it('walks directory and table', () => {
    const world = build();
    assert.equal(physicalOf(world, access(world.mmu, 0x40_2abcn, 4)), 0x5abc);
  });

  it('sets accessed and dirty flags', () => {
    const { mmu, physical } = build();
    access(mmu, 0x40_2000n, 4);
    assert.equal(physical.read(0x2004, 4), 0x3027);
    assert.equal(physical.read(0x3008, 4), 0x5023);
    access(mmu, 0x40_2000n, 4, true);
    assert.equal(physical.read(0x3008, 4), 0x5063);
  });

  it('maps 4-MiB pages with CR4.PSE', () => {
    const world = build();
    assert.equal(physicalOf(world, access(world.mmu, 0x9a_bcdcn, 4)), 0x5a_bcdc);
    assert.equal(world.physical.read(0x2008, 4), 0x40_00a7);
  });

  it('takes bits 39:32 of a 4-MiB page from PDE bits 20:13 (PSE-36)', () => {
    const { mmu, physical } = build();
    physical.write(0x2000 + 12, 4, 0x80_0083 | (0x12 << 13));
    assert.equal(mmu.explain(0xc0_0010n, 'read').physical, 0x12_0080_0010);
  });

  it('faults on PDE bit 21 of a 4-MiB page: reserved', () => {
    const world = build();
    world.physical.write(0x2000 + 12, 4, 0x80_0083 | (1 << 21));
    assert.equal(pageFault(world, 0xc0_0000n), 0b01001);
  });

  it('gives error codes by presence, write and mode', () => {
    const world = build();
    assert.equal(pageFault(world, 0xf000_0000n), 0);
    assert.equal(pageFault(world, 0xf000_0000n, true), 2);
    setMode(world, { cr3: 0x2000n, cr4: 0x10n, cpl: 3 });
    assert.equal(pageFault(world, 0x40_2000n), 5);
    assert.equal(pageFault(world, 0x40_2000n, true), 7);
    assert.equal(pageFault(world, 0x80_0000n, true), undefined);
  });

  it('lets supervisors write read-only pages unless CR0.WP', () => {
    const world = build();
    world.physical.write(0x3000 + 8, 4, 0x5001);
    assert.equal(pageFault(world, 0x40_2000n, true), undefined);
    setMode(world, { cr0: PG_PE | CR0_WP, cr3: 0x2000n, cr4: 0x10n });
    assert.equal(pageFault(world, 0x40_2000n, true), 3);
  });
});

describe('Mmu with PAE paging', () => {
  function build(): World {
    const world = newWorld();
    world.state.set64('pdpte', 0x3000n | P, 0);
    world.state.set64('pdpte', 0n, 1);
    world.physical.write64(0x3000 + 8, 0x4000n | P | W | U);
    world.physical.write64(0x4000 + 8 * 3, 0x7000n | P | W | U | XD);
    world.physical.write64(0x3000 + 16, 0x60_0000n | P | W | U | PS);
    setMode(world, { cr3: 0x1000n, cr4: CR4_PAE, efer: EFER_NXE });
    return world;
  }

  it('walks from the PDPTE registers, not from memory', () => {
    const world = build();
    assert.equal(physicalOf(world, access(world.mmu, 0x20_3456n, 1)), 0x7456);
    assert.equal(physicalOf(world, access(world.mmu, 0x41_2345n, 1)), 0x61_2345);
    assert.equal(pageFault(world, 0x4000_0000n), 0);
  });

  it('refuses to execute XD pages with EFER.NXE, and takes XD as reserved without', () => {
    const world = build();
    assert.equal(world.mmu.fetch(0x20_3000n), -1);
    assert.equal((world.mmu.lastFault() as ExceptionFault).errorCode, 0b10001);
    setMode(world, { cr3: 0x1000n, cr4: CR4_PAE });
    world.mmu.tlb.invalidateAll();
    assert.equal(pageFault(world, 0x20_3000n), 0b01001);
  });

  it('reads PDPTEs and refuses reserved bits in present ones', () => {
    const { mmu, physical } = build();
    for (let i = 0; i < 4; i++) physical.write64(0x1000 + 8 * i, BigInt(0x10_000 * i) | P);
    assert.deepEqual(mmu.readPdptes(0x1000n), [1n, 0x1_0001n, 0x2_0001n, 0x3_0001n]);
    physical.write64(0x1008, 0x1_0003n);
    assert.deepEqual(mmu.readPdptes(0x1000n), { kind: 'exception', vector: 13, errorCode: 0 });
    physical.write64(0x1008, 0x1_0002n);
    assert.ok(Array.isArray(mmu.readPdptes(0x1000n)));
  });
});

describe('Mmu with 4-level paging', () => {
  const ROOT = 0x1000;
  const HIGH = 0xffff_8000_0000_0000n;

  function build(): World & { readonly entries: number[] } {
    const world = newWorld();
    const allocate = allocator(0x10_000);
    const entries = map4(world, ROOT, HIGH, 0x50_0000n, 0, P | W, P | W | U, allocate);
    map4(world, ROOT, 0x1000n, 0x60_0000n, 0, P | W | U, P | W | U, allocate);
    map4(world, ROOT, 0x2000n, 0x70_0000n, 0, P | W | U | XD, P | W | U, allocate);
    map4(world, ROOT, 0x20_0000n, 0x80_0000n, 1, P | U | PS, P | W | U, allocate);
    map4(world, ROOT, 0x4000_0000n, 0n, 2, P | W | PS, P | W | U, allocate);
    setLong(world);
    return { ...world, entries };
  }

  const setLong = (world: World, more: { cr0?: bigint; cr4?: bigint; cpl?: number; cr3?: bigint } = {}): void =>
    setMode(world, {
      cr3: more.cr3 ?? BigInt(ROOT),
      cr0: more.cr0 ?? PG_PE,
      cr4: CR4_PAE | (more.cr4 ?? 0n),
      efer: EFER_LONG | EFER_NXE,
      cpl: more.cpl ?? 0,
    });

  it('walks pages of 4 KiB, 2 MiB and 1 GiB', () => {
    const world = build();
    assert.equal(physicalOf(world, access(world.mmu, HIGH + 0x123n, 1)), 0x50_0123);
    assert.equal(physicalOf(world, access(world.mmu, 0x20_1234n, 1)), 0x80_1234);
    assert.equal(physicalOf(world, access(world.mmu, 0x4012_3456n, 1)), 0x12_3456);
  });

  it('raises #GP(0) for addresses that are not canonical', () => {
    const { mmu } = build();
    assert.equal(access(mmu, 0x8000_0000_0000n, 1), 0);
    assert.deepEqual(mmu.lastFault(), { kind: 'exception', vector: 13, errorCode: 0 });
  });

  it('raises #PF with RSVD for address bits beyond the physical width, and for PS in a PML4E', () => {
    const world = build();
    world.physical.write64(world.entries[0] as number, (1n << 40n) | P | W);
    assert.equal(pageFault(world, HIGH), 0b01001);
    world.physical.write64(world.entries[0] as number, 0x50_0000n | P | W);
    world.physical.write64(world.entries[3] as number, world.physical.read64(world.entries[3] as number) | PS);
    assert.equal(pageFault(world, HIGH), 0b01001);
  });

  it('keeps user code off supervisor pages', () => {
    const world = build();
    setLong(world, { cpl: 3 });
    assert.equal(pageFault(world, HIGH), 5);
    assert.equal(pageFault(world, 0x1000n, true), undefined);
    assert.equal(pageFault(world, 0x20_0000n, true), 7);
  });

  it('reads system structures with supervisor rights at CPL 3', () => {
    const world = build();
    setLong(world, { cpl: 3 });
    world.physical.write64(0x50_0008, 0x1122n);
    assert.equal(world.mmu.read(HIGH + 8n, 8, true), 0x1122n);
  });

  it('applies SMEP and SMAP to supervisor accesses of user pages', () => {
    const world = build();
    setLong(world, { cr4: 0x30_0000n });
    assert.equal(world.mmu.fetch(0x1000n), -1);
    assert.equal((world.mmu.lastFault() as ExceptionFault).errorCode, 0b10001);
    assert.equal(pageFault(world, 0x1000n), 1);
    world.state.set32('rflagsSystem', 0x4_0002);
    world.mmu.updateContext();
    assert.equal(pageFault(world, 0x1000n), undefined);
    assert.notEqual(typeof world.mmu.read(0x1000n, 1, true), 'bigint');
  });

  it('translates both pages of an access that crosses, and commits a write to both', () => {
    const world = build();
    const { physical, state } = world;
    physical.write64(0x60_0ff8, 0x8877_6655_4433_2211n);
    physical.write64(0x70_0000, 0x00ff_eedd_ccbb_aa99n);
    const at = access(world.mmu, 0x1ffcn, 8, true);
    assert.equal(at, OFFSET.bounce);
    assert.equal(state.view.getBigUint64(at, true), 0xccbb_aa99_8877_6655n);
    state.view.setBigUint64(at, 0x0102_0304_0506_0708n, true);
    world.mmu.commit();
    assert.equal(physical.read(0x60_0ffc, 4), 0x0506_0708);
    assert.equal(physical.read(0x70_0000, 4), 0x0102_0304);
  });

  it('faults before any change when the second page is missing', () => {
    const world = build();
    assert.equal(access(world.mmu, 0x2ffen, 4, true), 0);
    const fault = world.mmu.lastFault() as ExceptionFault;
    assert.equal(fault.linearAddress, 0x3000n);
    assert.equal(fault.errorCode, 2);
  });

  it('uses a stale entry until it is invalidated', () => {
    const world = build();
    const { mmu, physical } = world;
    const entry = world.entries[0] as number;
    access(mmu, HIGH, 1, true);
    physical.write64(entry, 0x51_0000n | P | W);
    assert.equal(physicalOf(world, access(mmu, HIGH, 1)), 0x50_0000);
    mmu.tlb.invalidate({ kinds: [0, 2], vpid: 0, pcid: 0, linear: HIGH });
    assert.equal(physicalOf(world, access(mmu, HIGH, 1)), 0x51_0000);
  });

  it('walks again when an entry lacks a right, so that granted rights need no invalidation', () => {
    const world = build();
    const { mmu, physical } = world;
    setLong(world, { cr0: PG_PE | CR0_WP });
    const entry = world.entries[0] as number;
    physical.write64(entry, 0x50_0000n | P);
    assert.equal(pageFault(world, HIGH, true), 3);
    physical.write64(entry, 0x50_0000n | P | W);
    assert.equal(pageFault(world, HIGH, true), undefined);
    assert.equal(physical.read64(entry), 0x50_0000n | P | W | A | D);
    assert.equal(mmu.tlb.entries().length, 1);
  });

  it('keeps global pages over a CR3 write and separates PCIDs', () => {
    const world = build();
    const { mmu, physical } = world;
    const pge = 0x80n;
    const pcide = 0x2_0000n;
    physical.write64(world.entries[0] as number, 0x50_0000n | P | W | G);
    setLong(world, { cr4: pge | pcide, cr3: BigInt(ROOT) | 5n });
    access(mmu, HIGH, 1);
    access(mmu, 0x1000n, 1);
    setLong(world, { cr4: pge | pcide, cr3: 0xf000n | 6n });
    assert.equal(physicalOf(world, access(mmu, HIGH, 1)), 0x50_0000);
    assert.equal(pageFault(world, 0x1000n), 0);
    mmu.tlb.invalidate({ kinds: [0, 2], vpid: 0, pcid: 5, keepGlobal: true });
    assert.deepEqual(
      mmu.tlb.entries().map((e) => [e.page, e.global, e.pcid]),
      [[HIGH, true, 5]],
    );
  });

  it('translates 57 bits through a PML5 table with CR4.LA57, and calls canonical what is for 57 bits', () => {
    const world = newWorld();
    const linear = 0x00ab_cdef_0123_4000n;
    const root = 0x8000;
    map4(world, root, linear, 0x50_0000n, 0, P | W, P | W, allocator(0x9000), 4);
    const la57 = 0x1000n;
    setMode(world, { cr3: BigInt(root), cr4: CR4_PAE | la57, efer: EFER_LONG });
    assert.equal(physicalOf(world, access(world.mmu, linear + 8n, 4)), 0x50_0008);
    const { steps, physical } = world.mmu.explain(linear, 'read');
    assert.deepEqual(
      steps.filter(({ table }) => table !== 'TLB').map(({ table }) => table),
      ['PML5E', 'PML4E', 'PDPTE', 'PDE', 'PTE'],
    );
    assert.equal(physical, 0x50_0000);
    assert.equal(access(world.mmu, 1n << 56n, 1), 0);
    assert.deepEqual(world.mmu.fault, { kind: 'exception', vector: 13, errorCode: 0 });
    setMode(world, { cr3: BigInt(root), cr4: CR4_PAE, efer: EFER_LONG });
    assert.equal(access(world.mmu, linear, 1), 0);
    assert.deepEqual(world.mmu.fault, { kind: 'exception', vector: 13, errorCode: 0 }, '4 levels: not canonical');
  });

  it('explains a walk entry by entry and changes nothing', () => {
    const world = build();
    const before = world.state.bytes.slice();
    const { steps, physical, pageSize } = world.mmu.explain(HIGH + 0x10n, 'write');
    assert.deepEqual(
      steps.map((step) => step.table),
      ['PML4E', 'PDPTE', 'PDE', 'PTE'],
    );
    assert.deepEqual(
      steps.map((step) => step.entryAddress),
      world.entries.toReversed(),
    );
    assert.equal(physical, 0x50_0010);
    assert.equal(pageSize, 4096);
    assert.ok(Buffer.compare(before, world.state.bytes) === 0);
  });

  it('shows the TLB entry that the processor would use before the walk, stale or not', () => {
    const world = build();
    access(world.mmu, HIGH, 1, true);
    world.physical.write64(world.entries[0] as number, 0x51_0000n | P | W);
    const { steps, physical } = world.mmu.explain(HIGH + 8n, 'read');
    assert.deepEqual(steps[0], { table: 'TLB', level: 'linear', entryAddress: 0, value: 0x50_0000n });
    assert.equal(physical, 0x51_0008);
  });

  it('charges cycles for the entries that a walk reads, none for a hit', () => {
    const { mmu, state } = build();
    access(mmu, HIGH, 1);
    const afterWalk = state.getFloat('extraCycles');
    assert.equal(afterWalk, 16);
    access(mmu, HIGH + 8n, 1);
    assert.equal(state.getFloat('extraCycles'), afterWalk);
  });

  it('names the problem of the entry that ends a walk', () => {
    const world = build();
    const explained = world.mmu.explain(0x3000n, 'read');
    assert.equal(explained.steps.at(-1)?.problem, 'not present');
    assert.equal((explained.fault as ExceptionFault).errorCode, 0);
    assert.equal(world.mmu.explain(0x2000n, 'execute').steps.at(-1)?.problem, 'execution is disabled (XD)');
  });

  it('raises #AC for misaligned user data when CR0.AM and RFLAGS.AC are set', () => {
    const world = build();
    world.state.set32('rflagsSystem', 0x4_0002);
    setLong(world, { cr0: PG_PE | 0x4_0000n, cpl: 3 });
    assert.notEqual(access(world.mmu, 0x1004n, 4), 0);
    assert.equal(access(world.mmu, 0x1002n, 4), 0);
    assert.deepEqual(world.mmu.lastFault(), { kind: 'exception', vector: 17, errorCode: 0 });
    assert.equal(access(world.mmu, 0x1002n, 4), 0);
  });
});
