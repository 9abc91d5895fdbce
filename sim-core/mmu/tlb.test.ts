import assert from 'node:assert/strict';
import {
  A,
  access,
  allocator,
  CR4_PAE,
  D,
  EFER_LONG,
  G,
  generator,
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
import { type Invalidation, MAPPING, TLB_ENTRIES } from './tlb.ts';

const ROOT = 0x1000;
const PGE = 0x80n;
const PCIDE = 0x2_0000n;
const LINEAR_KINDS = [MAPPING.linear, MAPPING.combined] as const;

function enter(world: World, vpid: number, pcid: number): void {
  setMode(world, { cr3: BigInt(ROOT | pcid), cr4: CR4_PAE | PGE | PCIDE, efer: EFER_LONG, vpid });
}

const pageAt = (index: number): bigint => 0x40_0000n + BigInt(index) * 0x1000n;
const targetAt = (number: number): number => 0x10_0000 + number * 0x1000;

/**
 * One page table whose entries the tests change: pages of odd number are global. Dirty, so that writes need no walk.
 */
function build(pages: number): World & { setTarget(page: number, target: number): void } {
  const world = newWorld();
  const allocate = allocator(0x10_000);
  const setTarget = (page: number, target: number): void => {
    const flags = P | W | U | A | D | (page % 2 === 1 ? G : 0n);
    map4(world, ROOT, pageAt(page), BigInt(target), 0, flags, P | W | U, allocate);
  };
  for (let page = 0; page < pages; page++) setTarget(page, targetAt(page));
  return { ...world, setTarget };
}

/** What a TLB must remember, written as a plain list. */
interface Remembered {
  readonly vpid: number;
  readonly pcid: number;
  readonly page: number;
  readonly target: number;
}
const isGlobal = (entry: Remembered): boolean => entry.page % 2 === 1;

/** Which entries an invalidation of the manual leaves (SDM Vol. 3A, "Invalidation of TLBs"; 3C, "VPID"). */
const survives = (what: Invalidation) => (entry: Remembered) => {
  if (what.vpid !== undefined && entry.vpid !== what.vpid) return true;
  if (what.linear !== undefined && what.linear >> 12n !== pageAt(entry.page) >> 12n) return true;
  if (isGlobal(entry)) return what.keepGlobal === true;
  return what.pcid !== undefined && entry.pcid !== what.pcid;
};

describe('Tlb', () => {
  const seed = 20261122;
  // 3 VPIDs with 2 PCIDs need 6 of the 8 ways: nothing is ever replaced.
  it(`remembers exactly what no invalidation has removed, fast copies included (seed ${seed})`, () => {
    const PAGES = 8;
    const random = generator(seed);
    const world = build(PAGES);
    const targets = Array.from({ length: PAGES }, (_, page) => targetAt(page));
    let remembered: Remembered[] = [];
    let stale = 0;
    for (let i = 0; i < 20_000; i++) {
      const vpid = random(3);
      const pcid = random(2);
      const page = random(PAGES);
      enter(world, vpid, pcid);
      const what = random(20);
      if (what === 0) {
        targets[page] = targetAt(random(64));
        world.setTarget(page, targets[page] as number);
      } else if (what === 1) {
        const linear = pageAt(page) + BigInt(random(4096));
        const forms: Invalidation[] = [
          { kinds: LINEAR_KINDS, vpid, pcid, linear },
          { kinds: LINEAR_KINDS, vpid, pcid, linear, keepGlobal: true },
          { kinds: LINEAR_KINDS, vpid, pcid, keepGlobal: true },
          { kinds: LINEAR_KINDS, vpid },
          { kinds: LINEAR_KINDS, vpid, keepGlobal: true },
          { kinds: LINEAR_KINDS, vpid, linear },
          { kinds: LINEAR_KINDS },
          { kinds: [MAPPING.guestPhysical, MAPPING.combined] },
        ];
        const form = forms[random(forms.length)] as Invalidation;
        world.mmu.tlb.invalidate(form);
        if (form.kinds === LINEAR_KINDS) remembered = remembered.filter(survives(form));
      } else {
        const known = remembered.find(
          (entry) => entry.vpid === vpid && entry.page === page && (entry.pcid === pcid || isGlobal(entry)),
        );
        const expected = known?.target ?? (targets[page] as number);
        if (!known) remembered.push({ vpid, pcid, page, target: expected });
        if (expected !== targets[page]) stale++;
        // Half the accesses go through the engine's fast copies, as compiled code does.
        const low = Number(pageAt(page));
        const host = random(2) === 0 ? world.mmu.locate(low, 0, 1, true) : world.mmu.access(low, 0, 1, false);
        assert.equal(physicalOf(world, host), expected, `seed ${seed} step ${i}`);
      }
      assert.equal(world.mmu.tlb.entries().length, remembered.length, `seed ${seed} step ${i}`);
    }
    assert.ok(stale > 500, `only ${stale} accesses through stale entries`);
  });

  it('gives up the entry that was filled first when a set of 8 is full', () => {
    const world = newWorld();
    const allocate = allocator(0x10_000);
    const page = (i: number): bigint => 0x40_0000n + BigInt(i) * 0x10_0000n;
    for (let i = 0; i < 9; i++) map4(world, ROOT, page(i), BigInt(targetAt(i)), 0, P | W, P | W | U, allocate);
    enter(world, 0, 0);
    for (let i = 0; i < 9; i++) access(world.mmu, page(i), 1);
    const pages = world.mmu.tlb.entries().map((entry) => entry.page);
    assert.deepEqual(
      pages,
      [1, 2, 3, 4, 5, 6, 7, 8].map((i) => page(i)),
    );
    map4(world, ROOT, page(0), BigInt(targetAt(20)), 0, P | W, P | W | U, allocate);
    assert.equal(physicalOf(world, world.mmu.locate(Number(page(0)), 0, 1, false)), targetAt(20));
  });

  it('drops the fast copies of a large page with its entry', () => {
    const world = newWorld();
    const allocate = allocator(0x10_000);
    const entry = map4(world, ROOT, 0x20_0000n, 0x40_0000n, 1, P | W | U | PS, P | W | U, allocate)[1] as number;
    enter(world, 0, 0);
    for (const offset of [0, 0x1000, 0x1f_f000]) access(world.mmu, BigInt(0x20_0000 + offset), 1);
    world.physical.write64(entry, 0x60_0000n | P | W | U | PS);
    assert.equal(physicalOf(world, world.mmu.locate(0x3f_f000, 0, 1, false)), 0x5f_f000);
    world.mmu.tlb.invalidate({ kinds: LINEAR_KINDS, vpid: 0, pcid: 0, linear: 0x20_5000n });
    for (const offset of [0, 0x1000, 0x1f_f000]) {
      assert.equal(physicalOf(world, world.mmu.locate(0x20_0000 + offset, 0, 1, false)), 0x60_0000 + offset);
    }
  });

  it('does not let user code use what was cached for the supervisor', () => {
    const world = newWorld();
    map4(world, ROOT, 0x1000n, 0x5000n, 0, P | W, P | W | U, allocator(0x10_000));
    enter(world, 0, 0);
    assert.notEqual(access(world.mmu, 0x1000n, 1), 0);
    setMode(world, { cr3: BigInt(ROOT), cr4: CR4_PAE | PGE | PCIDE, efer: EFER_LONG, cpl: 3 });
    assert.equal(world.mmu.locate(0x1000, 0, 1, false), 0);
  });

  it('gives context ids anew after more worlds than there are ids', () => {
    const world = build(1);
    for (let round = 0; round < 3; round++) {
      for (let pcid = 0; pcid < 4096; pcid += 2) {
        enter(world, 0, pcid);
        assert.equal(physicalOf(world, world.mmu.locate(Number(pageAt(0)), 0, 1, true)), targetAt(0));
        assert.ok(world.state.low('tlbContext') > 0 && world.state.low('tlbContext') < 0xfff);
      }
    }
  });

  it('sends writes to pages that hold code past the fast copies', () => {
    const world = build(2);
    enter(world, 0, 0);
    const low = Number(pageAt(0));
    world.mmu.locate(low, 0, 4, true);
    assert.notEqual(world.mmu.tlb.fast.probe(low, 0, true), 0);
    const written: [number, number][] = [];
    world.mmu.codeWatch = {
      holdsCode: (page) => page === targetAt(0) / 4096,
      written: (physical, length) => written.push([physical, length]),
    };
    world.mmu.dropWriteTranslations(targetAt(0) / 4096);
    assert.equal(world.mmu.tlb.fast.probe(low, 0, true), 0);
    assert.notEqual(world.mmu.tlb.fast.probe(low, 0, false), 0);
    world.mmu.locate(low + 8, 0, 4, true);
    assert.deepEqual(written, [[targetAt(0) + 8, 4]]);
    assert.equal(world.mmu.tlb.fast.probe(low, 0, true), 0);
  });

  it('has room for at least 1536 translations', () => {
    assert.ok(TLB_ENTRIES >= 1536);
  });
});
