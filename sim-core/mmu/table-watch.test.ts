import assert from 'node:assert/strict';
import { describeWrite, explainStaleUse } from './explain-stale.ts';
import type { Moment, StaleUse } from './table-watch.ts';
import {
  A,
  access,
  allocator,
  CR0_WP,
  CR4_PAE,
  D,
  EFER_LONG,
  EFER_NXE,
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
  XD,
} from './test-tables.ts';
import { MAPPING } from './tlb.ts';

const ROOT = 0x1000;
const OTHER_ROOT = 0x5000;
const LINEAR = 0x40_0000n;
const FLAGS = P | W | U | A | D;
/** The table page that holds the leaf entries of LINEAR's neighbourhood is mapped here, for writes by instructions. */
const TABLE_WINDOW = 0x80_0000n;

interface Watching extends World {
  /** Physical addresses of the entries for LINEAR by level. */
  readonly entries: readonly number[];
  readonly uses: StaleUse[];
  readonly clock: { instructions: number; running: boolean };
  codeSuspected: number;
}

/** LINEAR is at 0x9000 and watched; every access counts as an instruction at address 1000h × its number. */
function build(level = 0, target = 0x9000n, flags = FLAGS): Watching {
  const world = newWorld();
  const allocate = allocator(0x10_0000);
  const leaf = flags | (level > 0 ? PS : 0n);
  const entries = map4(world, ROOT, LINEAR, target, level, leaf, P | W | U, allocate);
  const tablePage = BigInt(entries[level] as number) & ~0xfffn;
  map4(world, ROOT, TABLE_WINDOW, tablePage, 0, FLAGS, P | W | U, allocate);
  setMode(world, { cr0: 0x8000_0001n | CR0_WP, cr3: BigInt(ROOT), cr4: CR4_PAE, efer: EFER_LONG | EFER_NXE });
  const watching: Watching = {
    ...world,
    entries,
    uses: [],
    clock: { instructions: 0, running: true },
    codeSuspected: 0,
  };
  const now = (): Moment => {
    const { instructions } = watching.clock;
    return { address: 0x1000n * BigInt(instructions), world: 'vmm', instructions, cycles: 2 * instructions };
  };
  world.mmu.watchTables({
    now,
    isRunning: () => watching.clock.running,
    onUse: (use) => watching.uses.push(use),
    onCodeSuspected: () => {
      watching.codeSuspected++;
    },
  });
  return watching;
}

/** An instruction that reads or writes 8 bytes through the engine's fast TLB or else the MMU. */
function touch(watching: Watching, linear: bigint, value?: bigint): number {
  watching.clock.instructions++;
  const [low, high] = [Number(linear & 0xffff_ffffn), Number(linear >> 32n)];
  const host = watching.mmu.locate(low, high, 8, value !== undefined);
  if (host !== 0 && value !== undefined) watching.state.view.setBigUint64(host, value, true);
  return host === 0 ? -1 : physicalOf(watching, host);
}

const leafWindow = ({ entries }: Watching, level = 0): bigint =>
  TABLE_WINDOW + (BigInt(entries[level] as number) % 4096n);

describe('The watch on tables', () => {
  it('tells the write that made an entry stale, and the first access through it, once', () => {
    const watching = build();
    touch(watching, LINEAR);
    touch(watching, leafWindow(watching), 0xa000n | FLAGS);
    assert.equal(watching.uses.length, 0);
    assert.equal(touch(watching, LINEAR + 8n), 0x9008);
    const [use] = watching.uses;
    assert.ok(use?.write);
    assert.deepEqual([use.access, use.accessed, use.at.instructions], ['read', LINEAR + 8n, 3]);
    assert.equal(use.write.by, 'instruction');
    assert.deepEqual(use.write.at, { address: 0x2000n, world: 'vmm', instructions: 2, cycles: 4 });
    assert.equal(use.write.physical, watching.entries[0]);
    assert.equal(use.write.before, 0x9000n | FLAGS);
    const { text, details } = explainStaleUse(use);
    assert.match(text, /^the read of 0x400008: the entry gives 0x9000; the PTE at .* = 0xa067 gives 0xa000/);
    assert.match(
      details.join('\n'),
      /write of the table entry .* by the instruction at 0x2000 .*instruction 2, cycle 4/,
    );
    assert.match(details.join('\n'), /would have removed it: INVLPG 0x400000/);
    touch(watching, LINEAR);
    assert.equal(watching.uses.length, 1);
  });

  it('is silent when the entry was invalidated, or put right again', () => {
    const watching = build();
    touch(watching, LINEAR);
    touch(watching, leafWindow(watching), 0xa000n | FLAGS);
    watching.mmu.tlb.invalidate({ kinds: [MAPPING.linear], vpid: 0, pcid: 0, linear: LINEAR });
    assert.equal(touch(watching, LINEAR), 0xa000);
    touch(watching, leafWindow(watching), 0xb000n | FLAGS);
    touch(watching, leafWindow(watching), 0xa000n | FLAGS);
    assert.equal(touch(watching, LINEAR), 0xa000);
    assert.equal(watching.uses.length, 0);
  });

  it('names the first of several writes, and a later one after things were right meanwhile', () => {
    const watching = build();
    touch(watching, LINEAR);
    for (const page of [0xa000n, 0xb000n, 0x9000n, 0xc000n]) touch(watching, leafWindow(watching), page | FLAGS);
    const [entry] = watching.mmu.tlb.entries().filter(({ page }) => page === LINEAR);
    assert.ok(entry);
    assert.equal(watching.mmu.storyOf(entry)?.write?.at.instructions, 5);
    touch(watching, leafWindow(watching), 0xd000n | FLAGS);
    touch(watching, LINEAR);
    assert.equal(watching.uses[0]?.write?.at.instructions, 5);
  });

  it('says nothing of accesses that come out the same: reads after write permission is gone', () => {
    const watching = build();
    touch(watching, LINEAR, 1n);
    touch(watching, leafWindow(watching), 0x9000n | P | U | A | D);
    touch(watching, LINEAR);
    assert.equal(watching.uses.length, 0);
    assert.equal(touch(watching, LINEAR, 2n), 0x9000);
    assert.equal(watching.uses[0]?.access, 'write');
  });

  it('sees fetches, and asks for code that runs from a suspected page to be fetched anew', () => {
    const watching = build();
    assert.equal(watching.mmu.fetch(LINEAR), 0x9000);
    watching.clock.instructions = Number(LINEAR / 0x1000n) - 1;
    touch(watching, leafWindow(watching), 0x9000n | FLAGS | XD);
    assert.equal(watching.codeSuspected, 1);
    touch(watching, LINEAR);
    assert.equal(watching.uses.length, 0);
    watching.mmu.fetch(LINEAR);
    assert.equal(watching.uses[0]?.access, 'execute');
  });

  it('judges the piece of a large page that is accessed', () => {
    const watching = build(1, 0x20_0000n);
    touch(watching, LINEAR);
    const table = 0x30_0000;
    for (let i = 0; i < 512; i++) watching.physical.write64(table + 8 * i, BigInt(0x20_0000 + 4096 * i) | FLAGS);
    watching.physical.write64(table + 8 * 7, 0xb000n | FLAGS);
    touch(watching, leafWindow(watching, 1), BigInt(table) | P | W | U);
    touch(watching, LINEAR + 0x6000n);
    assert.equal(watching.uses.length, 0);
    touch(watching, LINEAR + 0x7010n);
    assert.equal(watching.uses[0]?.accessed, LINEAR + 0x7010n);
  });

  it('tells the debugger’s writes from those of devices', () => {
    for (const [running, by, words] of [
      [false, 'debugger', /by the debugger’s write/],
      [true, 'device', /by a device’s write \(DMA\)/],
    ] as const) {
      const watching = build();
      touch(watching, LINEAR);
      watching.clock.running = running;
      watching.physical.poke(watching.entries[0] as number, Uint8Array.of(0, 0, 0, 0));
      touch(watching, LINEAR);
      assert.equal(watching.uses[0]?.write?.by, by);
      assert.match(describeWrite(watching.uses[0]?.write), words);
    }
  });

  it('takes over entries that are stale already, without a write', () => {
    const watching = build();
    touch(watching, LINEAR);
    watching.mmu.watchTables(undefined);
    watching.physical.write64(watching.entries[0] as number, 0xa000n | FLAGS);
    const uses: StaleUse[] = [];
    watching.mmu.watchTables({
      now: () => ({ address: 0n, world: 'vmm', instructions: 9, cycles: 9 }),
      isRunning: () => true,
      onUse: (use) => uses.push(use),
      onCodeSuspected: () => {},
    });
    touch(watching, LINEAR);
    assert.equal(uses[0]?.write, undefined);
    assert.match(describeWrite(undefined), /no write that was seen/);
  });

  it('sees CR3 changed under the same VPID without an invalidation, as by a VM entry after INVVPID was forgotten', () => {
    const watching = build();
    const mode = { cr0: 0x8000_0001n, cr4: CR4_PAE, efer: EFER_LONG | EFER_NXE, vpid: 1 };
    map4(watching, OTHER_ROOT, LINEAR, 0xe000n, 0, FLAGS, P | W | U, allocator(0x18_0000));
    setMode(watching, { ...mode, cr3: BigInt(ROOT) });
    touch(watching, LINEAR);
    setMode(watching, { ...mode, cr3: BigInt(OTHER_ROOT) });
    assert.equal(touch(watching, LINEAR), 0x9000);
    const [use] = watching.uses;
    assert.match(use?.difference ?? '', /filled under the tables at 0x1000, while CR3 leads to those at 0x5000/);
    assert.ok(use?.invalidations.some((words) => words.startsWith('INVVPID type 1 (single context) with VPID 1')));
  });

  it('follows EPT: a combined mapping goes stale with the guest-physical mappings that its walk went through', () => {
    const watching = newWorld();
    const eptRoot = 0x80_0000;
    const allocate = allocator(eptRoot + 0x1000);
    const leaves = new Map<number, number>();
    for (const page of [0x1000, 0x2000, 0x3000, 0x4000, 0x9000]) {
      const at = map4(watching, eptRoot, BigInt(page), BigInt(page + 0x20_0000), 0, 7n | (6n << 3n), 7n, allocate);
      leaves.set(page, at[0] as number);
    }
    const tables = [
      [0x1000, 0x2000n],
      [0x2000, 0x3000n],
      [0x3010, 0x4000n],
      [0x4000, 0x9000n],
    ] as const;
    for (const [at, to] of tables) watching.physical.write64(at + 0x20_0000, to | FLAGS);
    setMode(watching, { cr3: 0x1000n, cr4: CR4_PAE, efer: EFER_LONG, eptp: BigInt(eptRoot) | 0x1en, vpid: 1 });
    const uses: StaleUse[] = [];
    let instructions = 0;
    watching.mmu.watchTables({
      now: () => ({ address: 0n, world: 'guest', instructions, cycles: 0 }),
      isRunning: () => true,
      onUse: (use) => uses.push(use),
      onCodeSuspected: () => {},
    });
    const read = (): number => {
      instructions++;
      return physicalOf(watching, access(watching.mmu, LINEAR, 1));
    };
    assert.equal(read(), 0x20_9000);
    // The EPT entry of the guest's page table: another table is there now, which maps LINEAR elsewhere.
    watching.physical.write64(0x21_0000, 0x3000n | FLAGS);
    watching.physical.write64(leaves.get(0x4000) as number, 0x21_0000n | 7n | (6n << 3n));
    assert.equal(read(), 0x20_9000);
    assert.deepEqual(
      uses.map(({ entry }) => entry.kind),
      [MAPPING.combined],
    );
    assert.equal(uses[0]?.write?.physical, leaves.get(0x4000));
    // INVVPID is not enough: the guest-physical mapping serves the next walk, and what that fills is as stale.
    watching.mmu.tlb.invalidate({ kinds: [MAPPING.linear, MAPPING.combined], vpid: 1 });
    assert.equal(read(), 0x20_9000);
    assert.deepEqual(
      uses.map(({ entry }) => entry.kind),
      [MAPPING.combined, MAPPING.guestPhysical],
    );
    watching.mmu.tlb.invalidate({ kinds: [MAPPING.guestPhysical, MAPPING.combined], eptRoot });
    assert.equal(read(), 0x20_3000);
    assert.equal(uses.length, 2);
  });

  const SEED = 20_261_122;
  it(`reports an entry's first access that comes out otherwise than by the tables, and no other (seed ${SEED})`, () => {
    const random = generator(SEED);
    const watching = build();
    const pte = (page: number): number => (watching.entries[0] as number) + 8 * page;
    const reported = new Set<number>();
    let total = 0;
    /** What each page's entry gives, since its fill. */
    const cached = new Map<number, { stamp: number; given: number }>();
    const byTables = (page: number): number => {
      const entry = watching.physical.read64(pte(page));
      return (entry & 1n) === 0n ? -1 : Number(entry & 0xf_f000n);
    };
    for (let page = 1; page < 8; page++) watching.physical.write64(pte(page), BigInt(0x9000 + 4096 * page) | FLAGS);
    for (let step = 0; step < 4000; step++) {
      const page = random(8);
      const linear = LINEAR + BigInt(4096 * page);
      const before = watching.uses.length;
      const what = random(8);
      if (what < 2) {
        const value = BigInt(0x9000 + 4096 * random(4)) | (random(4) === 0 ? 0n : FLAGS);
        // An entry that agrees again can become stale anew.
        const known = cached.get(page);
        if (known && known.given === byTables(page)) reported.delete(known.stamp);
        if (what === 0) touch(watching, leafWindow(watching) + BigInt(8 * page), value);
        else watching.physical.write64(pte(page), value);
      } else if (what === 2) {
        watching.mmu.tlb.invalidate({ kinds: [MAPPING.linear], vpid: 0, pcid: 0, linear });
      } else if (what === 3 && random(8) === 0) {
        watching.mmu.tlb.invalidate({ kinds: [MAPPING.linear], vpid: 0 });
      } else {
        const expected = byTables(page);
        const given = touch(watching, linear);
        const stamp = watching.mmu.tlb.entries().find((one) => one.page === linear)?.stamp ?? -1;
        const isNew = given !== expected && !reported.has(stamp);
        assert.equal(watching.uses.length - before, isNew ? 1 : 0, `seed ${SEED} step ${step}`);
        if (isNew) reported.add(stamp);
        if (isNew) total++;
        cached.set(page, { stamp, given });
        continue;
      }
      assert.equal(watching.uses.length, before, `seed ${SEED} step ${step}: no access of the pages`);
    }
    assert.ok(total > 100, `${total} stale uses`);
  });
});
