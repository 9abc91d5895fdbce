/** Everything that a machine is at one moment, to go on from it elsewhere: linear memory's pages, and the rest. */

import { OFFSET, REGION, STATE_START } from '../../state/layout.ts';
import type { State } from '../../state/state.ts';
import type { Machine } from '../api.ts';
import { DEFAULT_QUANTUM } from '../machine.ts';
import { Hash } from './hash.ts';
import type { RecordedBoot } from './recording.ts';
import { stateHash } from './state-hash.ts';

export const PAGE = 4096;

/** Consecutive pages of linear memory. */
export interface PageRun {
  /** Number of the first page. */
  readonly first: number;
  readonly bytes: Uint8Array;
}

export interface Snapshot {
  /** What the machine was made of and booted with. */
  readonly boot: RecordedBoot;
  /** Instructions since boot. */
  readonly instructions: number;
  /** state-hash.ts */
  readonly hash: string;
  /** Pages that are not all zero. In a snapshot that was just taken they are the machine's own: copy or write them. */
  readonly pages: readonly PageRun[];
  /** What is not in linear memory, as `Rewindable.saveOutside` gives it. */
  readonly outside: unknown;
}

/** What is wrong with a snapshot, as a sentence without its full stop. */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError';
}

/** Parts of linear memory that hold state: what is derived from it (decoded code, fast translations) does not count. */
const stateParts = ({ ramSize, bytes }: State): readonly (readonly [number, number])[] => [
  [STATE_START, REGION.vmcsFields.start],
  [REGION.tlb.start, REGION.tlb.start + REGION.tlb.size],
  [REGION.ram.start, REGION.ram.start + ramSize],
  [REGION.ram.start + ramSize, bytes.length],
];

/** Snapshots hold bytes of this layout: another one cannot read them. */
export function layoutHash(): string {
  const hash = new Hash();
  hash.value({ OFFSET, REGION });
  return hash.digest();
}

function isZero(state: State, page: number): boolean {
  const { i32 } = state;
  const end = ((page + 1) * PAGE) >>> 2;
  for (let i = (page * PAGE) >>> 2; i < end; i++) if (i32[i] !== 0) return false;
  return true;
}

/** Runs of pages that are not all zero. */
function pagesOf(state: State): PageRun[] {
  const runs: PageRun[] = [];
  for (const [start, end] of stateParts(state)) {
    let first: number | undefined;
    for (let page = start / PAGE; page <= end / PAGE; page++) {
      const counts = page < end / PAGE && !isZero(state, page);
      if (counts) first ??= page;
      else if (first !== undefined) {
        runs.push({ first, bytes: state.bytes.subarray(first * PAGE, page * PAGE) });
        first = undefined;
      }
    }
  }
  return runs;
}

/** @param boot what the machine was booted with: whoever goes on must make the same machine */
export function takeSnapshot(machine: Machine, boot: RecordedBoot): Snapshot {
  const { rewindable, state } = machine;
  const outside = rewindable.saveOutside();
  return { boot, instructions: machine.instructions, hash: stateHash(machine), pages: pagesOf(state), outside };
}

/**
 * Makes a machine what it was when the snapshot was taken. It must have been made as that one, and firmware that is
 * no RAM must have been booted. A history of it must begin anew.
 * @throws SnapshotError when it has not become the same; the machine is of no use then
 */
export function restoreSnapshot(machine: Machine, { pages, outside, hash }: Snapshot): void {
  const { rewindable, state } = machine;
  const put = new PageWriter(machine);
  for (const { first, bytes } of pages) {
    for (let at = 0; at < bytes.length; at += PAGE) put.page(first + at / PAGE, bytes.subarray(at, at + PAGE));
  }
  for (const [start, end] of stateParts(state)) put.zeroOthers(start / PAGE, end / PAGE);
  rewindable.restoreOutside(outside);
  rewindable.memoryReplaced();
  const found = stateHash(machine);
  if (found !== hash) throw new SnapshotError(`the machine's state (${found}) is not the saved one (${hash})`);
}

/** Replaces pages of linear memory; decoded code of RAM pages is forgotten. */
class PageWriter {
  private readonly machine: Machine;
  private readonly written = new Set<number>();

  constructor(machine: Machine) {
    this.machine = machine;
  }

  page(page: number, bytes: Uint8Array | undefined): void {
    const { state, physical } = this.machine;
    const address = page * PAGE - REGION.ram.start;
    if (page < 0 || (page + 1) * PAGE > state.bytes.length) {
      throw new SnapshotError(`page ${page} of the saved machine is not in this one: it had more memory`);
    }
    if (address >= 0 && address < state.ramSize) physical.onWrite?.(address, PAGE);
    if (bytes) state.bytes.set(bytes, page * PAGE);
    else state.bytes.fill(0, page * PAGE, (page + 1) * PAGE);
    this.written.add(page);
  }

  zeroOthers(first: number, end: number): void {
    for (let page = first; page < end; page++) {
      if (!this.written.has(page) && !isZero(this.machine.state, page)) this.page(page, undefined);
    }
  }
}

type Described = Omit<RecordedBoot, 'disks'>;

/**
 * Whether a snapshot can be restored in a machine that was booted with something.
 * @throws SnapshotError that says what differs
 */
export function checkBoot(saved: Described, here: Described): void {
  if (saved.image.hash !== here.image.hash) {
    throw new SnapshotError(
      `it is of another image: ${saved.image.path} with the hash ${saved.image.hash}, where ${here.image.path} has ` +
        `${here.image.hash}; give the image that it was made with`,
    );
  }
  for (const [name, value] of Object.entries(described(saved))) {
    const own = described(here)[name];
    if (value === own) continue;
    throw new SnapshotError(`its machine had ${name} = ${value}, and this one has ${own}; make them the same`);
  }
}

/** By what people call it; absent values are the machine's defaults. */
function described({ machine }: Described): Readonly<Record<string, string>> {
  const { memory, cpuModel, cpus, vmx, iommu, devices, quantum = DEFAULT_QUANTUM, startTime = 'default' } = machine;
  const kinds = devices.map((text) => text.split(',')[0]).join(' ') || 'none';
  const values = { memory, cpuModel, cpus, vmx, iommu, devices: kinds, quantum, startTime };
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
}
