import assert from 'node:assert/strict';
import { type Staleness, staleEntries } from './stale.ts';
import {
  access,
  allocator,
  CR4_PAE,
  D,
  EFER_LONG,
  map4,
  newWorld,
  P,
  PS,
  setMode,
  U,
  W,
  type World,
} from './test-tables.ts';
import { MAPPING } from './tlb.ts';

const ROOT = 0x1000;
const LINEAR = 0x40_0000n;

interface Mapped extends World {
  /** Physical addresses of the entries for LINEAR by level. */
  readonly entries: number[];
}

/** 4-level paging without EPT; LINEAR is at 0x9000 and its translation is in the TLB, written through once. */
function build(level = 0, target = 0x9000n): Mapped {
  const world = newWorld();
  const flags = P | W | U | (level > 0 ? PS : 0n);
  const entries = map4(world, ROOT, LINEAR, target, level, flags, P | W | U, allocator(0x10_0000));
  setMode(world, { cr3: BigInt(ROOT), cr4: CR4_PAE, efer: EFER_LONG });
  access(world.mmu, LINEAR, 1, true);
  return { ...world, entries };
}

function onlyStale(world: World): Staleness {
  const [first, ...others] = staleEntries(world.mmu);
  assert.ok(first);
  assert.deepEqual(others, []);
  return first;
}

describe('Stale translations', () => {
  it('are none as long as the tables are as they were', () => {
    assert.deepEqual(staleEntries(build().mmu), []);
  });

  it('are entries whose page the tables map elsewhere now', () => {
    const world = build();
    const at = world.entries[0] as number;
    world.physical.write64(at, 0xa000n | P | W | U | D);
    const { difference, steps, invalidations } = onlyStale(world);
    assert.match(difference, /gives 0x9000; the PTE at 0x\w+ = 0xa047 gives 0xa000/);
    assert.equal(steps.at(-1)?.entryAddress, at);
    // SDM Vol. 3A 4.10.4.1: INVLPG invalidates the page; a load of CR3 what is not global.
    assert.match(invalidations[0] ?? '', /^INVLPG 0x400000 executed in root operation/);
  });

  it('are entries whose page is not present any more, at any level', () => {
    const world = build();
    world.physical.write64(world.entries[2] as number, 0n);
    assert.match(onlyStale(world).difference, /the PDPTE at .* gives none: not present/);
  });

  it('are entries that allow what the tables forbid now, not those that allow less', () => {
    const world = build();
    const at = world.entries[0] as number;
    const old = world.physical.read64(at);
    world.physical.write64(at, old & ~W);
    assert.match(onlyStale(world).difference, /still has write permission/);
    world.physical.write64(at, old & ~D);
    assert.match(onlyStale(world).difference, /still has the dirty flag/);
    world.physical.write64(at, old);
    assert.deepEqual(staleEntries(world.mmu), []);
  });

  it('are large entries one of whose pieces is mapped elsewhere, and not when the pieces are the same', () => {
    const world = build(1, 0x20_0000n);
    const table = 0x30_0000;
    for (let i = 0; i < 512; i++) world.physical.write64(table + 8 * i, BigInt(0x20_0000 + 4096 * i) | P | W | U | D);
    world.physical.write64(world.entries[1] as number, BigInt(table) | P | W | U);
    assert.deepEqual(staleEntries(world.mmu), []);
    world.physical.write64(table + 8 * 7, 0xb000n | P | W | U | D);
    assert.equal(onlyStale(world).address, LINEAR + 0x7000n);
  });

  it('stay in the TLB under another CR3 and are compared with the tables that they came from', () => {
    const world = build();
    world.physical.write64(world.entries[0] as number, 0xa000n | P | W | U | D);
    setMode(world, { cr3: 0x5000n, cr4: CR4_PAE, efer: EFER_LONG, vpid: 3 });
    assert.equal(onlyStale(world).entry.vpid, 0);
  });

  it('go with the invalidation that is named', () => {
    const world = build();
    world.physical.write64(world.entries[0] as number, 0n);
    onlyStale(world);
    world.mmu.tlb.invalidate({ kinds: [MAPPING.linear], vpid: 0, pcid: 0, linear: LINEAR });
    assert.deepEqual(staleEntries(world.mmu), []);
  });

  it('are guest-physical and combined mappings after EPT has changed, which INVEPT removes', () => {
    const world = newWorld();
    const eptRoot = 0x80_0000;
    const allocate = allocator(eptRoot + 0x1000);
    const rwx = 7n;
    let leaf = 0;
    for (const page of [0x1000, 0x2000, 0x3000, 0x4000, 0x9000]) {
      const ept = map4(world, eptRoot, BigInt(page), BigInt(page + 0x20_0000), 0, rwx | (6n << 3n), rwx, allocate);
      leaf = ept[0] as number;
    }
    const tables = [
      [0x1000, 0x2000n],
      [0x2000, 0x3000n],
      [0x3010, 0x4000n],
      [0x4000, 0x9000n],
    ] as const;
    for (const [at, to] of tables) world.physical.write64(at + 0x20_0000, to | P | W | U);
    setMode(world, { cr3: 0x1000n, cr4: CR4_PAE, efer: EFER_LONG, eptp: BigInt(eptRoot) | 0x1en, vpid: 1 });
    assert.notEqual(access(world.mmu, LINEAR, 1), 0);
    assert.deepEqual(staleEntries(world.mmu), []);
    world.physical.write64(leaf, 0n);
    const stale = staleEntries(world.mmu);
    assert.deepEqual(
      stale.map(({ entry, address }) => [entry.kind, address]),
      [
        [MAPPING.guestPhysical, 0x9000n],
        [MAPPING.combined, LINEAR],
      ],
    );
    for (const { invalidations } of stale) assert.ok(invalidations.some((words) => /^INVEPT type 1/.test(words)));
    world.mmu.tlb.invalidate({ kinds: [MAPPING.guestPhysical, MAPPING.combined], eptRoot });
    assert.deepEqual(staleEntries(world.mmu), []);
  });
});
