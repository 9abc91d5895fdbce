import { CODE_MODE, CODE_TLB, REGION } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { FIXED_HANDLER } from './core.ts';
import type { HandlerTable } from './handlers.ts';
import type { HotCode } from './hot-code.ts';
import { LINK, RECORD } from './record.ts';
import type { RegionBlock, RegionInstruction } from './region.ts';

const PAGE = 4096;
/** Instructions that one region takes at most: bounds its compile time. */
const LARGEST_REGION = 800;
/** Instructions of other pages that a branch or call of a region may lead to within it, and all such of a region. */
const LARGEST_COPY = 48;
const MOST_COPIED = 400;

/** A page whose code was executed. */
export interface ExecutedPage {
  /** Its table offset → record. */
  readonly table: number;
  /** The linear address that it had then. */
  readonly base: bigint;
}

/**
 * Finds what to compile together: from a hot instruction, everything of its page that direct branches, calls and fall
 * through reach, as far as it is staged, warm, and in no other region; and short code without calls in other pages that
 * branches and calls lead to, which other regions may hold, too.
 */
export class RegionFinder {
  private readonly state: State;
  private readonly handlers: HandlerTable;
  private readonly hotCode: HotCode;
  private readonly table: number;
  private readonly base: bigint;
  private readonly leaders = new Set<number>();
  private readonly seen = new Map<number, RegionInstruction>();
  /** Instructions of other regions that branches and fall through lead to. */
  private readonly touched = new Set<number>();
  /** Leaders that an instruction leads to that is not staged: control begins there. */
  private readonly resumed = new Set<number>();
  private readonly leastHeat: number;
  /** Instructions of other pages, with their page's table. */
  private readonly copies = new Map<number, number>();

  /** @param leastHeat executions that make an instruction warm */
  constructor(state: State, handlers: HandlerTable, hotCode: HotCode, page: ExecutedPage, leastHeat: number) {
    this.state = state;
    this.handlers = handlers;
    this.hotCode = hotCode;
    this.table = page.table;
    this.base = page.base;
    this.leastHeat = leastHeat;
  }

  /**
   * @param seeds records where control was seen @param entries those that it comes to by no branch that is known
   * @returns blocks, or none when nothing there can be compiled
   */
  find(seeds: Iterable<number>, entries: readonly number[] = []): RegionBlock[] {
    const entered = new Set(seeds);
    this.followAll(entered);
    this.copyCallees();
    for (const [record, { form }] of this.seen) {
      if (form.flow === 'next' || form.flow === 'conditional') entered.delete(this.u32(record + RECORD.next));
    }
    for (const leader of this.leaders) entered.delete(leader);
    for (const record of [...this.resumed, ...entries]) entered.add(record);
    for (const seed of entered) this.leaders.add(seed);
    for (const record of this.seen.keys())
      if (this.hotCode.blockStarts.has(this.offset(record))) this.leaders.add(record);
    const found = [...this.leaders].filter((leader) => this.seen.has(leader));
    // In the order of the guest's code: most of its branches then lead forwards in the region, too.
    const order = (record: number): number => (this.copies.get(record) ?? 0) + this.offset(record) / PAGE;
    found.sort((a, b) => order(a) - order(b));
    return found.map((leader) => this.block(leader, entered.has(leader)));
  }

  /** @returns instructions of other regions that control comes to from a record, but not by a call */
  touches(seed: number): ReadonlySet<number> {
    this.followAll([seed]);
    return this.touched;
  }

  private followAll(seeds: Iterable<number>): void {
    const waiting = [...seeds];
    while (waiting.length > 0 && this.seen.size < LARGEST_REGION) {
      for (const leader of this.follow(waiting.shift() as number)) {
        if (this.leaders.has(leader) || !this.isWarm(leader)) continue;
        this.leaders.add(leader);
        waiting.push(leader);
      }
    }
  }

  private isWarm(record: number): boolean {
    return (this.state.u16[(record + RECORD.heat) >>> 1] as number) >= this.leastHeat;
  }

  private u32(at: number): number {
    return this.state.u32[at >>> 2] as number;
  }

  private offset(record: number): number {
    return this.state.u16[(record + RECORD.offset) >>> 1] as number;
  }

  private instruction(record: number): RegionInstruction | undefined {
    const handler = this.handlers.handler(this.hotCode.handlerOf(record));
    return handler && { record, form: handler.form, semantics: handler.semantics, far: 0 };
  }

  /** Walks straight-line code; gives the leaders that its branches make. */
  private follow(start: number): number[] {
    const leaders: number[] = [];
    for (let record = start; !this.seen.has(record) && this.seen.size < LARGEST_REGION; ) {
      if (this.hotCode.isCompiled(record) || (record !== start && !this.isWarm(record))) break;
      const next = this.follower(record);
      const instruction = this.instruction(record);
      if (!instruction) {
        if (this.u32(record + RECORD.handler) === FIXED_HANDLER.slow) this.resumed.add(next);
        break;
      }
      this.seen.set(record, instruction);
      const { flow } = instruction.form;
      const targets = isDirect(flow) ? this.target(record, this.table) : [];
      leaders.push(...targets);
      if (flow === 'call' || flow === 'indirectCall') leaders.push(next);
      if (flow === 'jump' || flow === 'conditional') this.touch(targets[0]);
      if (flow !== 'jump' && flow !== 'indirect' && flow !== 'return') this.touch(next);
      if (flow !== 'next' && flow !== 'conditional') break;
      record = next;
    }
    leaders.push(...this.resumed);
    return leaders;
  }

  /** The record after this one; one that leads to a look-up is passed by where that is known to find something. */
  private follower(record: number): number {
    const next = this.u32(record + RECORD.next);
    const handler = this.u32(next + RECORD.handler);
    if (handler !== FIXED_HANDLER.goto && handler !== FIXED_HANDLER.stale) return next;
    const offset = this.offset(next);
    const found = offset < PAGE ? this.u32(this.table + 4 * offset) : 0;
    if (found !== 0) this.state.u32[(record + RECORD.next) >>> 2] = found;
    return found || next;
  }

  private touch(record: number | undefined): void {
    if (record !== undefined && this.hotCode.isCompiled(record)) this.touched.add(record);
  }

  /** The decoded record in this page that a near branch leads to; remembered in the branch's own record. */
  private target(record: number, table: number): number[] {
    const slot = (record + RECORD.target) >>> 2;
    const linked = this.state.u32[slot] as number;
    const isStale = linked > LINK.lookup && this.u32(linked + RECORD.handler) === FIXED_HANDLER.stale;
    if (isStale) this.state.u32[slot] = LINK.unresolved;
    if (linked === LINK.unresolved || isStale) {
      const offset = this.state.view.getBigInt64(record + RECORD.immediate, true);
      // Only 64-bit code is linked here: elsewhere the target may wrap (Processor.link decides when it is taken).
      if (this.state.get32('codeMode') === 4 && offset >= 0n && offset < BigInt(PAGE)) {
        this.state.u32[slot] = this.u32(table + 4 * Number(offset));
      }
    }
    const target = this.state.u32[slot] as number;
    return target > LINK.lookup ? [target] : [];
  }

  /** From a leader to the end of its straight line, through conditional branches that are not taken. */
  private block(leader: number, entered: boolean): RegionBlock {
    const instructions: RegionInstruction[] = [];
    let record = leader;
    for (;;) {
      const instruction = this.seen.get(record);
      if (!instruction) break;
      instructions.push(instruction);
      record = this.u32(record + RECORD.next);
      const { flow } = instruction.form;
      if ((flow !== 'next' && flow !== 'conditional') || this.leaders.has(record)) break;
    }
    return { instructions, next: record, entered, table: this.copies.get(leader) ?? this.table };
  }

  // ---- code of other pages

  /** Takes short code of other pages in that direct branches and calls lead to. */
  private copyCallees(): void {
    const waiting = [...this.seen.keys()].map((record) => ({ record, base: this.base }));
    for (let at = 0; at < waiting.length; at++) {
      const { record, base } = waiting[at] as (typeof waiting)[number];
      const instruction = this.seen.get(record) as RegionInstruction;
      const { flow, mode } = instruction.form;
      const offset = this.state.view.getBigInt64(record + RECORD.immediate, true);
      if (mode !== CODE_MODE.code64 || !isDirect(flow) || (offset >= 0n && offset < BigInt(PAGE))) continue;
      const rip = BigInt.asUintN(64, base + offset);
      const table = this.tableOf(rip);
      const far = table && this.u32(table + 4 * Number(rip & 0xfffn));
      if (far === 0) continue;
      if (!this.seen.has(far)) {
        if (table === this.table) continue;
        const copied = this.copy(far, table);
        waiting.push(...copied.map((one) => ({ record: one, base: rip & ~0xfffn })));
      }
      if (!this.seen.has(far)) continue;
      this.leaders.add(far);
      this.seen.set(record, { ...instruction, far });
    }
  }

  /** The table of a linear page, as long as the fast look-up knows it; else 0. */
  private tableOf(rip: bigint): number {
    const page = rip >> 12n;
    const context = this.state.get64('tlbContext');
    const number = Number(BigInt.asUintN(32, page + context * BigInt(CODE_TLB.contextStride))) & (CODE_TLB.entries - 1);
    const entry = REGION.codeTlb.start + (number << CODE_TLB.entryShift);
    const isThere = this.state.view.getBigUint64(entry + CODE_TLB.tag, true) === ((page << 12n) | context);
    return isThere && this.u32(entry + CODE_TLB.mode) === CODE_MODE.code64 ? this.u32(entry + CODE_TLB.table) : 0;
  }

  /** @returns records of the short code without calls that begins at `start`; none where it is something else */
  private copy(start: number, table: number): readonly number[] {
    const found = new Map<number, RegionInstruction>();
    const leaders = [start];
    for (let at = 0; at < leaders.length; at++) {
      for (let record = leaders[at] as number; !found.has(record) && !this.seen.has(record) && this.isWarm(record); ) {
        const instruction = this.instruction(record);
        const { flow } = instruction?.form ?? {};
        if (!instruction || flow === 'call' || flow === 'indirectCall' || found.size === LARGEST_COPY) return [];
        found.set(record, instruction);
        if (flow === 'jump' || flow === 'conditional') leaders.push(...this.target(record, table));
        if (flow !== 'next' && flow !== 'conditional') break;
        record = this.u32(record + RECORD.next);
      }
    }
    if (this.copies.size + found.size > MOST_COPIED) return [];
    for (const leader of leaders) this.leaders.add(leader);
    for (const [record, instruction] of found) {
      this.copies.set(record, table);
      this.seen.set(record, instruction);
    }
    return [...found.keys()];
  }
}

const isDirect = (flow: string): boolean => flow === 'jump' || flow === 'conditional' || flow === 'call';
