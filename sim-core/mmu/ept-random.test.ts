/**
 * Random EPT structures against a second, naive walker: recursion over BigInts, written from SDM Vol. 3C, "The Extended
 * Page Table Mechanism", sharing nothing with walk.ts. Compared are the outcome and, bit for bit, what the walk has
 * written into the structures: the accessed and dirty flags.
 */

import assert from 'node:assert/strict';
import type { MemoryFault } from './fault.ts';
import { generator, newWorld, physicalOf, setMode, type World } from './test-tables.ts';
import { MAPPING } from './tlb.ts';

type Kind = 'read' | 'write' | 'execute';
type Outcome = { readonly physical: bigint } | { readonly fault: MemoryFault };

const ROOT = 0x1000n;
/** The tables: pages 1 to 6. */
const TABLES = { first: 1, count: 6 } as const;
const RAM = 2 ** 20;
/** MAXPHYADDR of the test's memory: bits 51:40 of an entry are reserved. */
const ADDRESS = 0xff_ffff_f000n;
const BEYOND = 0xf_ff00_0000_0000n;
const BIT = { read: 1n, write: 2n, execute: 4n, large: 0x80n, accessed: 0x100n, dirty: 0x200n } as const;

interface Rules {
  readonly accessedDirty: boolean;
  readonly executeOnly: boolean;
}

/**
 * Guest-physical address → outcome; sets flags in `memory`, which holds the tables, when the translation succeeds. The
 * rest of RAM is zero, and where there is nothing reads give all ones.
 */
function naiveWalk(memory: DataView, { accessedDirty, executeOnly }: Rules, address: bigint, kind: Kind): Outcome {
  const used: { at: number; leaf: boolean }[] = [];
  const level = (number: bigint, table: bigint, above: bigint): Outcome => {
    const at = Number(table + 8n * ((address >> (12n + 9n * number)) & 511n));
    const outside = at < RAM ? 0n : (1n << 64n) - 1n;
    const entry = at < memory.byteLength ? memory.getBigUint64(at, true) : outside;
    const rights = above & entry;
    if ((entry & 7n) === 0n) return violation(address, kind, 0n);
    const leaf = number === 0n || (number < 3n && (entry & BIT.large) !== 0n);
    if (isMisconfigured(entry, number, leaf, executeOnly)) {
      return { fault: { kind: 'eptMisconfiguration', guestPhysicalAddress: address } };
    }
    used.push({ at, leaf });
    if (!leaf) return level(number - 1n, entry & ADDRESS, rights);
    if ((rights & BIT[kind]) === 0n) return violation(address, kind, rights & 7n);
    const size = 1n << (12n + 9n * number);
    return { physical: (entry & ADDRESS & ~(size - 1n)) | (address & (size - 1n)) };
  };
  const outcome = level(3n, ROOT, 7n);
  if ('physical' in outcome && accessedDirty) {
    for (const { at, leaf } of used) {
      const dirty = leaf && kind === 'write' ? BIT.dirty : 0n;
      memory.setBigUint64(at, memory.getBigUint64(at, true) | BIT.accessed | dirty, true);
    }
  }
  return outcome;
}

/** SDM Vol. 3C, "EPT Misconfigurations". */
function isMisconfigured(entry: bigint, level: bigint, leaf: boolean, executeOnly: boolean): boolean {
  const rights = entry & 7n;
  if (rights === 2n || rights === 6n || (rights === 4n && !executeOnly)) return true;
  if ((entry & BEYOND) !== 0n) return true;
  if (!leaf) return (entry & (level === 3n ? 0xf8n : 0x78n)) !== 0n;
  const type = (entry >> 3n) & 7n;
  const lowAddressBits = (1n << (12n + 9n * level)) - 0x1000n;
  return type === 2n || type === 3n || type === 7n || (entry & lowAddressBits) !== 0n;
}

/** Without paging the linear address is the guest-physical one, and what is accessed: bits 8:7 are 1. */
function violation(address: bigint, kind: Kind, rights: bigint): Outcome {
  const qualification = BIT[kind] | (rights << 3n) | 0x180n;
  return { fault: { kind: 'eptViolation', qualification, guestPhysicalAddress: address, guestLinearAddress: address } };
}

function fill(world: World, random: (limit: number) => number): void {
  for (let page = TABLES.first; page < TABLES.first + TABLES.count; page++) {
    for (let index = 0; index < 4; index++) {
      world.physical.write64(page * 4096 + 8 * index, randomEntry(random, page));
    }
  }
}

/** Tables lead to later ones, the last ones to pages; most entries are good ones, of any kind. */
function randomEntry(random: (limit: number) => number, page: number): bigint {
  const last = TABLES.first + TABLES.count;
  const table = page + 1 < last ? (BigInt(page + 1 + random(Math.min(2, last - page - 1))) << 12n) | 7n : 0n;
  const frame = BigInt(random(256));
  const large = random(3) === 0 ? (BigInt(random(3)) << 30n) | 0xb7n : (BigInt(random(8)) << 21n) | 0xb7n;
  const choices = [table, table, table, (frame << 12n) | 0x37n, large];
  let entry = choices[random(choices.length)] ?? 0n;
  if (random(4) === 0) entry = (entry & ~7n) | BigInt(random(8));
  if (random(8) === 0) entry ^= 1n << BigInt(random(52));
  if (random(16) === 0) entry |= BIT.accessed | BIT.dirty;
  return entry;
}

function actual(world: World, address: bigint, kind: Kind): Outcome {
  const { mmu } = world;
  if (kind === 'execute') {
    const physical = mmu.fetch(address);
    return physical < 0 ? { fault: mmu.lastFault() } : { physical: BigInt(physical) };
  }
  const host = mmu.access(Number(address), 0, 1, kind === 'write');
  return host === 0 ? { fault: mmu.lastFault() } : { physical: BigInt(physicalOf(world, host)) };
}

const pageNumbers = Array.from({ length: TABLES.count }, (_, i) => TABLES.first + i);

describe('Walks over random EPT structures', () => {
  for (const accessedDirty of [false, true]) {
    for (const executeOnly of [false, true]) {
      const seed = 4711 + (accessedDirty ? 1 : 0) + (executeOnly ? 2 : 0);
      it(`agree with a naive walker, flags included: A/D ${accessedDirty}, execute-only ${executeOnly} (seed ${seed})`, () => {
        const random = generator(seed);
        const kinds: readonly Kind[] = ['read', 'write', 'execute'];
        const met = { good: 0, eptViolation: 0, eptMisconfiguration: 0, exception: 0, vmExit: 0 };
        for (let round = 0; round < 100; round++) {
          const world = newWorld(RAM);
          world.mmu.features.eptExecuteOnly = executeOnly;
          fill(world, random);
          const eptp = ROOT | 0x1en | (accessedDirty ? 0x40n : 0n);
          setMode(world, { cr0: 1n, eptp, vpid: 1 });
          for (let i = 0; i < 12; i++) {
            const address = BigInt(random(4) * 2 ** 30 + random(4) * 2 ** 21 + random(4) * 4096 + random(4096));
            const kind = kinds[random(3)] ?? 'read';
            const before = new DataView(world.physical.peek(0, (TABLES.first + TABLES.count) * 4096).buffer);
            const expected = naiveWalk(before, { accessedDirty, executeOnly }, address, kind);
            // Each access starts with an empty TLB: a mapping in it would set no flags.
            world.mmu.tlb.invalidate({ kinds: [MAPPING.guestPhysical, MAPPING.combined] });
            const where = `seed ${seed} round ${round} access ${i}`;
            // Data outside RAM goes through the bounce buffer and has no address to compare.
            if ('physical' in expected && kind !== 'execute' && expected.physical >= RAM) continue;
            assert.deepEqual(actual(world, address, kind), expected, where);
            for (const page of pageNumbers) {
              const tables = Buffer.from(before.buffer, page * 4096, 32);
              assert.deepEqual(Buffer.from(world.physical.peek(page * 4096, 32)), tables, `${where}: table ${page}`);
            }
            met['physical' in expected ? 'good' : expected.fault.kind]++;
          }
        }
        assert.ok(Math.min(met.good, met.eptViolation, met.eptMisconfiguration) > 60, JSON.stringify(met));
      });
    }
  }
});
