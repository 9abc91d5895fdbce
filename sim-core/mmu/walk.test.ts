import assert from 'node:assert/strict';
import type { MemoryFault } from './fault.ts';
import {
  CR0_WP,
  CR4_PAE,
  EFER_LONG,
  EFER_NXE,
  generator,
  newWorld,
  physicalOf,
  setMode,
  type World,
} from './test-tables.ts';

/*
 * Random tables against a second, naive walker: recursion over BigInts, written from SDM Vol. 3A chapter "Paging" and
 * Vol. 3C chapter "Address Translation", sharing nothing with walk.ts. The TLB is never flushed while the tables stay
 * the same, so it must not show.
 */

type Kind = 'read' | 'write' | 'execute';

interface Rules {
  readonly user: boolean;
  readonly wp: boolean;
  readonly nxe: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly ept: boolean;
  readonly eptAccessedDirty: boolean;
}

type Outcome = { readonly physical: bigint } | { readonly fault: MemoryFault };

const PHYSICAL_BITS = 40n;
const ADDRESS = ((1n << PHYSICAL_BITS) - 1n) & ~0xfffn;
const TOO_HIGH = ((1n << 52n) - 1n) & ~((1n << PHYSICAL_BITS) - 1n);
const GUEST_ROOT = 0x1000n;
const EPT_ROOT = 0x2_0000n;

class NaiveWalker {
  private readonly world: World;
  private readonly rules: Rules;
  private readonly linear: bigint;
  constructor(world: World, rules: Rules, linear: bigint) {
    this.world = world;
    this.rules = rules;
    this.linear = linear;
  }

  translate(kind: Kind): Outcome {
    const used: { at: bigint; value: bigint }[] = [];
    const { user, wp, nxe, smep, smap } = this.rules;
    let table = GUEST_ROOT;
    let writable = true;
    let userPage = true;
    let noExecute = false;
    for (let level = 3n; ; level--) {
      const at = table + 8n * ((this.linear >> (12n + 9n * level)) & 511n);
      const host = this.guestPhysical(at, 'read', true);
      if ('fault' in host) return host;
      const value = this.world.physical.read64(Number(host.physical));
      used.push({ at, value });
      if ((value & 1n) === 0n) return this.pageFault(kind, 0);
      const leaf = level === 0n || ((value & 0x80n) !== 0n && level < 3n);
      const low = level === 1n ? 0x1f_e000n : level === 2n ? 0x3fff_e000n : 0n;
      const reserved = TOO_HIGH | (nxe ? 0n : 1n << 63n) | (leaf ? low : level === 3n ? 0x80n : 0n);
      if ((value & reserved) !== 0n) return this.pageFault(kind, 9);
      writable &&= (value & 2n) !== 0n;
      userPage &&= (value & 4n) !== 0n;
      noExecute ||= value >> 63n === 1n;
      if (!leaf) {
        table = value & ADDRESS;
        continue;
      }
      const refused =
        (kind === 'execute' && (noExecute || (smep && !user && userPage))) ||
        (kind === 'write' && !writable && (user || wp)) ||
        (user && !userPage) ||
        (kind !== 'execute' && smap && !user && userPage);
      if (refused) return this.pageFault(kind, 1);
      const marked = this.mark(used, kind);
      if (marked) return marked;
      const offset = this.linear & ((1n << (12n + 9n * level)) - 1n);
      return this.guestPhysical((value & ADDRESS & ~((1n << (12n + 9n * level)) - 1n)) | offset, kind, false);
    }
  }

  /** The EPT violation of setting an accessed or dirty flag, if there is one. */
  private mark(used: { at: bigint; value: bigint }[], kind: Kind): Outcome | undefined {
    if (this.rules.eptAccessedDirty) return undefined;
    for (const [i, { at, value }] of used.entries()) {
      const wanted = 0x20n | (kind === 'write' && i === used.length - 1 ? 0x40n : 0n);
      if ((value & wanted) === wanted) continue;
      const outcome = this.guestPhysical(at, 'write', true);
      if ('fault' in outcome) return outcome;
    }
    return undefined;
  }

  private pageFault(kind: Kind, code: number): Outcome {
    const { user, nxe, smep } = this.rules;
    const fetch = kind === 'execute' && (nxe || smep) ? 16 : 0;
    const errorCode = code | (kind === 'write' ? 2 : 0) | (user ? 4 : 0) | fetch;
    return { fault: { kind: 'exception', vector: 14, errorCode, linearAddress: this.linear } };
  }

  private guestPhysical(address: bigint, kind: Kind, structure: boolean): Outcome {
    if (!this.rules.ept) return { physical: address };
    const asWrite = kind === 'write' || (structure && this.rules.eptAccessedDirty);
    let table = EPT_ROOT;
    let rights = 7n;
    for (let level = 3n; ; level--) {
      const value = this.world.physical.read64(Number(table + 8n * ((address >> (12n + 9n * level)) & 511n)));
      rights &= value;
      if ((value & 7n) === 0n) return this.violation(address, kind, structure, 0n);
      const leaf = level === 0n || ((value & 0x80n) !== 0n && level < 3n);
      const low = level === 3n ? 0xf8n : !leaf ? 0x78n : level === 0n ? 0n : (1n << (12n + 9n * level)) - 0x1000n;
      const type = (value >> 3n) & 7n;
      const wrongType = leaf && (type === 2n || type === 3n || type === 7n);
      if ((value & 3n) === 2n || (value & (TOO_HIGH | low)) !== 0n || wrongType) {
        return { fault: { kind: 'eptMisconfiguration', guestPhysicalAddress: address } };
      }
      if (!leaf) {
        table = value & ADDRESS;
        continue;
      }
      const needed = kind === 'execute' ? 4n : asWrite ? (structure ? 3n : 2n) : 1n;
      if ((rights & needed) !== needed) return this.violation(address, kind, structure, rights);
      const mask = (1n << (12n + 9n * level)) - 1n;
      return { physical: (value & ADDRESS & ~mask) | (address & mask) };
    }
  }

  private violation(address: bigint, kind: Kind, structure: boolean, rights: bigint): Outcome {
    const what = { read: 1n, write: 2n, execute: 4n }[kind];
    // An access to a paging structure that sets a flag reads and writes it.
    const both = structure && (this.rules.eptAccessedDirty || kind === 'write');
    const qualification = (both ? 3n : what) | (rights << 3n) | 0x80n | (structure ? 0n : 0x100n);
    const guestLinearAddress = this.linear;
    return { fault: { kind: 'eptViolation', qualification, guestPhysicalAddress: address, guestLinearAddress } };
  }
}

/**
 * Table pages [first, first + count) filled at random: entries point to other tables and to low pages, mostly valid.
 */
function fillTables(world: World, random: (limit: number) => number, first: number, count: number, ept: boolean): void {
  for (let page = first; page < first + count; page++) {
    for (let index = 0; index < 4; index++) {
      const target = BigInt(first + random(count)) << 12n;
      const usual = ept ? 7n | (6n << 3n) : 7n;
      let value = target | usual;
      if (random(4) === 0) value &= ~(1n << BigInt(random(3)));
      if (random(6) === 0) value ^= 1n << BigInt(random(64));
      // Table entries of EPT must have bits 6:3 clear; those of the last level name a memory type: mix both.
      if (ept && random(2) === 0) value &= ~0x78n;
      world.physical.write64(page * 4096 + 8 * index, value);
    }
  }
}

const CR4_SMEP = 0x10_0000n;
const CR4_SMAP = 0x20_0000n;
const EPT_AD = 0x40n;

function enter(world: World, rules: Rules): void {
  setMode(world, {
    cr0: 0x8000_0001n | (rules.wp ? CR0_WP : 0n),
    cr3: GUEST_ROOT,
    cr4: CR4_PAE | (rules.smep ? CR4_SMEP : 0n) | (rules.smap ? CR4_SMAP : 0n),
    efer: EFER_LONG | (rules.nxe ? EFER_NXE : 0n),
    cpl: rules.user ? 3 : 0,
    eptp: rules.ept ? EPT_ROOT | 0x1en | (rules.eptAccessedDirty ? EPT_AD : 0n) : 0n,
    vpid: 1,
  });
}

/** Guest tables are at the same physical and guest-physical addresses often enough for walks to succeed. */
function identityEpt(world: World, random: (limit: number) => number): void {
  const tables = [0x20, 0x21, 0x22, 0x23];
  for (const [i, page] of tables.slice(0, 3).entries()) {
    world.physical.write64(page * 4096, BigInt((tables[i + 1] as number) * 4096) | 7n);
  }
  for (let page = 0; page < 32; page++) {
    const rights = random(8) === 0 ? BigInt(random(8)) : 7n;
    world.physical.write64(0x2_3000 + 8 * page, (BigInt(page) << 12n) | rights | (6n << 3n));
  }
}

function actual(world: World, linear: bigint, kind: Kind): Outcome {
  const { mmu } = world;
  if (kind === 'execute') {
    const physical = mmu.fetch(linear);
    return physical < 0 ? { fault: mmu.lastFault() } : { physical: BigInt(physical) };
  }
  const host = mmu.access(Number(linear & 0xffff_ffffn), Number(linear >> 32n), 1, kind === 'write');
  return host === 0 ? { fault: mmu.lastFault() } : { physical: BigInt(physicalOf(world, host)) };
}

describe('Walks over random tables', () => {
  for (const ept of [false, true]) {
    for (const eptAccessedDirty of ept ? [false, true] : [false]) {
      const seed = 0x1234_5678 + (ept ? 1 : 0) + (eptAccessedDirty ? 2 : 0);
      it(`agree with a naive walker: EPT ${ept}, EPT A/D ${eptAccessedDirty} (seed ${seed})`, () => {
        const random = generator(seed);
        const kinds: readonly Kind[] = ['read', 'write', 'execute'];
        let good = 0;
        let faults = 0;
        for (let round = 0; round < 120; round++) {
          const world = newWorld(2 ** 20);
          fillTables(world, random, 1, 8, false);
          if (ept) {
            if (random(4) === 0) fillTables(world, random, 0x20, 6, true);
            else identityEpt(world, random);
          }
          const flag = (): boolean => random(2) === 0;
          for (let i = 0; i < 60; i++) {
            const nxe = round % 2 === 0;
            const smap = round % 5 === 0;
            const rules = { user: flag(), wp: flag(), nxe, smep: round % 3 === 0, smap, ept, eptAccessedDirty };
            enter(world, rules);
            const index = (shift: bigint): bigint => BigInt(random(4)) << shift;
            const linear = index(39n) | index(30n) | index(21n) | index(12n) | BigInt(random(4096));
            const kind = kinds[random(3)] as Kind;
            const expected = new NaiveWalker(world, rules, linear).translate(kind);
            // Data outside RAM goes through the bounce buffer and has no address to compare.
            if ('physical' in expected && kind !== 'execute' && expected.physical >= 2n ** 20n) continue;
            assert.deepEqual(actual(world, linear, kind), expected, `seed ${seed} round ${round} access ${i}`);
            if ('physical' in expected) good++;
            else faults++;
          }
        }
        assert.ok(good > 300 && faults > 300, `too one-sided: ${good} translations, ${faults} faults`);
      });
    }
  }
});
