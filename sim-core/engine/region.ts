import { CODE_TLB, OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { HandlerCallees } from './base-stage.ts';
import { Code, type SwitchCase, type Variable } from './code.ts';
import { CompiledFlags } from './compiled-flags.ts';
import { CompiledStage } from './compiled-stage.ts';
import { codeTlbEntry, LEAVE, storeRip } from './core.ts';
import type { Form } from './form.ts';
import { RECORD } from './record.ts';
import { type BlockEdges, layOutBlocks, type Unit } from './region-layout.ts';
import type { Semantics } from './stage.ts';
import { type I32, type I64, i32, i64, load16, load32, load64 } from './value.ts';

/**
 * A region: blocks of a page compiled to one function, with general-purpose registers and flags in locals. The
 * function has the signature of a handler; the records of its blocks' first instructions lead to it. It may repeat
 * blocks of other pages, which are reached from inside only, as long as the same linear page leads to them.
 */

/** Memory that holds operation records at their addresses. */
export type RecordMemory = Pick<State, 'u32' | 'view'>;

export interface RegionInstruction {
  /** Address of its operation record. */
  readonly record: number;
  readonly form: Form;
  readonly semantics: Semantics;
  /** Record in another page that it branches to, of a block of the region; 0 if there is none. */
  readonly far: number;
}

export interface RegionBlock {
  readonly instructions: readonly RegionInstruction[];
  /** Record to go on with when the last instruction falls through. */
  readonly next: number;
  /** Whether control was seen here without a branch of the region that leads here. */
  readonly entered: boolean;
  /** Its page's table offset → record. */
  readonly table: number;
}

/** A block that can be entered from outside: its first record, and its number in the region. */
export interface RegionHead {
  readonly record: number;
  readonly number: number;
}

const ZERO = i32(0);

const firstOf = (block: RegionBlock): number => (block.instructions[0] as RegionInstruction).record;

/** A sequence of units whose code is being emitted. */
interface Place {
  readonly units: readonly Unit[];
  readonly again: () => void;
  /** The unit that is being emitted, and how to skip to a later one. */
  index: number;
  skipTo: (later: number) => void;
}

/** What the stages of a region's instructions share. */
export class RegionBuilder {
  readonly code = new Code({ parameters: ['i32'], results: ['i32'] });
  readonly flags: CompiledFlags;
  readonly state: RecordMemory;
  readonly callees: HandlerCallees;
  /** The linear address of the page of the block that is being executed. */
  readonly codeBase: I64;
  readonly tlbContext: I64;
  readonly tlbOffset: I32;
  /** Table index that the region will have. */
  readonly self: number;
  /** The page's table offset → record. */
  readonly table: number;
  private readonly gprs: (Variable<'i64'> | undefined)[] = [];
  private readonly written = new Set<number>();
  private readonly blocks: readonly RegionBlock[];
  /**
   * The fast TLB's entry of the last stack access: its tag for writing, which serves reads, too, as no page can be
   * written only. It holds until something may change the TLB.
   */
  readonly stackEntry: { readonly tag: Variable<'i64'>; readonly addend: Variable<'i32'> };
  private readonly hasOtherPages: boolean;
  private readonly units: readonly Unit[];
  private readonly numbers = new Map<number, number>();
  private readonly budget: Variable<'i32'>;
  private readonly block: Variable<'i32'>;
  private readonly leaveKind: Variable<'i32'>;
  private readonly leaveRecord: Variable<'i32'>;
  private readonly locals;
  private readonly fixed: {
    readonly codeBase: Variable<'i64'>;
    readonly tlbContext: Variable<'i64'>;
    readonly tlbOffset: Variable<'i32'>;
  };
  /** The block that is being emitted. */
  private running: RegionBlock | undefined;
  /** Where the code that is being emitted stands, the innermost sequence of units last. */
  private readonly places: Place[] = [];
  private leave: () => void = () => {};
  private leaveForRam: () => void = () => {};

  constructor(
    state: RecordMemory,
    callees: HandlerCallees,
    blocks: readonly RegionBlock[],
    self: number,
    table: number,
  ) {
    const { code } = this;
    this.state = state;
    this.callees = callees;
    this.blocks = blocks;
    this.self = self;
    this.table = table;
    blocks.forEach((block, number) => {
      this.numbers.set(firstOf(block), number);
    });
    this.hasOtherPages = blocks.some((block) => block.table !== table);
    this.units = layOutBlocks(blocks.map((block) => this.edges(block)));
    this.locals = {
      kind: code.lasting('i32'),
      a: code.lasting('i64'),
      b: code.lasting('i64'),
      result: code.lasting('i64'),
    };
    this.fixed = { codeBase: code.lasting('i64'), tlbContext: code.lasting('i64'), tlbOffset: code.lasting('i32') };
    this.codeBase = this.fixed.codeBase.get();
    this.tlbContext = this.fixed.tlbContext.get();
    this.tlbOffset = this.fixed.tlbOffset.get();
    this.budget = code.lasting('i32');
    this.block = code.lasting('i32');
    this.stackEntry = { tag: code.lasting('i64'), addend: code.lasting('i32') };
    this.leaveKind = code.lasting('i32');
    this.leaveRecord = code.lasting('i32');
    this.flags = new CompiledFlags(code, this.locals, this.callee('storeFlags'));
  }

  callee(name: string) {
    const callee = this.callees[name];
    if (!callee) throw new Error(`no engine function ${name}`);
    return callee;
  }

  /** The local that holds a general-purpose register. */
  gpr(register: number): Variable<'i64'> {
    let local = this.gprs[register];
    if (!local) {
      local = this.code.lasting('i64');
      this.gprs[register] = local;
    }
    return local;
  }

  setGpr(register: number, value: I64): void {
    this.gpr(register).set(value);
    this.written.add(register);
  }

  // ---- the function

  build(): Code {
    const { code } = this;
    code.block((leave) => {
      this.leave = leave;
      code.block((leaveForRam) => {
        this.leaveForRam = leaveForRam;
        code.loop((again) => {
          this.emitAll(again);
          code.unreachable();
        });
      });
      const why = this.leaveKind.get();
      this.budget.set(load32(ZERO, OFFSET.budget).add(why));
      this.leaveKind.set(why.mul(LEAVE.interpret - LEAVE.fault).add(LEAVE.fault));
    });
    this.tail();
    code.prologue(() => this.enter());
    return code;
  }

  private enter(): void {
    const { code } = this;
    const record = code.parameter(0, 'i32');
    this.gprs.forEach((local, register) => {
      local?.set(load64(ZERO, OFFSET.gpr + 8 * register));
    });
    this.fixed.codeBase.set(load64(ZERO, OFFSET.codeBase));
    this.fixed.tlbContext.set(load64(ZERO, OFFSET.tlbContext));
    this.fixed.tlbOffset.set(load32(ZERO, OFFSET.tlbOffset));
    // The dispatch loop has counted the first instruction already; blocks count all of theirs.
    this.budget.set(load32(ZERO, OFFSET.budget).add(1));
    this.block.set(load16(record, RECORD.entry));
    this.stackEntry.tag.set(i64(-1));
  }

  private edges({ instructions, next, entered }: RegionBlock): BlockEdges {
    const targets = [next];
    let dispatches = false;
    for (const { record, form, far } of instructions) {
      const { flow } = form;
      if (flow === 'conditional' || flow === 'jump' || flow === 'call') targets.push(far || this.targetOf(record));
      if (flow !== 'conditional' && flow !== 'jump' && flow !== 'next') dispatches = true;
    }
    const numbers = targets.map((record) => this.numbers.get(record)).filter((number) => number !== undefined);
    return { targets: numbers, dispatches, entered };
  }

  /** Record that a direct branch leads to, as far as it is known. */
  private targetOf(record: number): number {
    return this.state.u32[(record + RECORD.target) >>> 2] as number;
  }

  /** @param again goes back to the dispatcher: to where `block` says what comes next */
  private emitAll(again: () => void): void {
    const table = this.blocks.map((_, number) => this.units.findIndex((unit) => unit.last >= number));
    this.code.switch(this.block.get(), this.cases(this.units, again), table);
    this.places.pop();
  }

  /** @param again goes back to the first unit, or to the dispatcher */
  private cases(units: readonly Unit[], again: () => void): SwitchCase[] {
    const place: Place = { units, again, index: 0, skipTo: () => {} };
    this.places.push(place);
    return units.map((unit, index) => (skipTo) => {
      place.index = index;
      place.skipTo = skipTo;
      this.emitUnit(unit);
    });
  }

  private emitUnit(unit: Unit): void {
    if (!unit.loops) return this.emitBlock(unit.first);
    this.code.loop((again) => {
      const single = { ...unit, loops: false };
      this.code.sequence(this.cases(unit.units.length > 0 ? unit.units : [single], again));
      this.places.pop();
    });
  }

  /** The page's own blocks that the dispatcher reaches: only these can be entered from outside. */
  get heads(): RegionHead[] {
    const heads = this.units.map(({ first }) => ({ block: this.blocks[first] as RegionBlock, number: first }));
    const own = heads.filter(({ block }) => block.table === this.table);
    return own.map(({ block, number }) => ({ record: firstOf(block), number }));
  }

  private emitBlock(number: number): void {
    const { code, flags } = this;
    const block = this.blocks[number] as RegionBlock;
    const { instructions } = block;
    const first = (instructions[0] as RegionInstruction).record;
    this.running = block;
    flags.enterBlock();
    code.temporarily(() => {
      const left = code.let(this.budget.get().sub(instructions.length));
      code.if(left.ltS(0), () => this.leaveWith(LEAVE.interpret, i32(first), 0));
      this.budget.set(left);
    });
    let ended = false;
    instructions.forEach((instruction, i) => {
      const stage = new CompiledStage(this, instruction, instructions.length - 1 - i);
      code.temporarily(() => instruction.semantics(stage));
      ended = stage.finish();
    });
    if (!ended) this.goTo(block.next, 0, true);
  }

  /**
   * Goes on with the instruction of a record: inside the region when it heads a block there.
   * @param unused instructions of the block that were counted but not begun
   * @param atEnd the block ends here: what comes next can be fallen into
   */
  goTo(record: number, unused: number, atEnd = false): void {
    const number = this.numbers.get(record);
    if (number === undefined) return this.leaveWith(LEAVE.record, i32(record), unused);
    this.flags.settle();
    this.giveBack(unused);
    this.branchTo(number, atEnd);
  }

  /** To the first block of a unit: forwards to a later one, or back to the start of a loop or to the dispatcher. */
  private branchTo(number: number, atEnd: boolean): void {
    for (const place of this.places.toReversed()) {
      const index = place.units.findIndex(({ first }) => first === number);
      if (index < 0) continue;
      if (index > place.index) {
        const isNext = index === place.index + 1 && place === this.places.at(-1);
        if (!(atEnd && isNext)) place.skipTo(index);
        return;
      }
      if (place === this.places[0]) this.block.set(i32(number));
      return place.again();
    }
    throw new Error(`block ${number} is inside a loop that it does not begin`);
  }

  /** The table of the page of the block that is being emitted. */
  get runningTable(): number {
    return this.running?.table ?? this.table;
  }

  /**
   * Goes on with a record in another page of the region, if the fast look-up of code says that `rip` is still there.
   * From then on the state's `codeBase` and `codeTable` are that page's.
   */
  crossTo(record: number, rip: I64, unused: number): void {
    const { code } = this;
    const number = this.numbers.get(record);
    if (number === undefined) return;
    const { table } = this.blocks[number] as RegionBlock;
    const page = code.let(rip.shrU(12));
    const entry = codeTlbEntry(code, page, this.tlbContext);
    const isThere = load64(entry, CODE_TLB.tag).eq(page.shl(12).or(this.tlbContext));
    code.if(isThere.and(load32(entry, CODE_TLB.table).eq(table)), () => {
      this.fixed.codeBase.set(rip.and(-4096));
      code.store(8, ZERO, this.codeBase, OFFSET.codeBase);
      code.store(4, ZERO, i32(table), OFFSET.codeTable);
      this.goTo(record, unused);
    });
  }

  /** Goes on at `rip`, which may be anywhere: inside the region where a block of it begins there. */
  findNext(rip: I64, unused: number): void {
    const { code } = this;
    storeRip(code, rip);
    if (!this.hasOtherPages) return this.leaveWith(LEAVE.lookup, ZERO, unused);
    const record = code.let(code.call('i32', this.callee('lookup'), []));
    code.if(record, () => {
      code.if(load32(record, RECORD.handler).eq(this.self), () => {
        this.giveBack(unused);
        this.fixed.codeBase.set(load64(ZERO, OFFSET.codeBase));
        this.goToBlock(load16(record, RECORD.entry));
      });
      this.leaveWith(LEAVE.record, record, unused);
    });
    this.leaveWith(LEAVE.lookup, ZERO, unused);
  }

  private giveBack(unused: number): void {
    if (unused !== 0) this.budget.set(this.budget.get().add(unused));
  }

  /** Goes on in the block with this number, known at run time only. */
  goToBlock(number: I32): void {
    this.flags.settle();
    this.block.set(number);
    this.places[0]?.again();
  }

  /** Leaves the region. @param unused instructions of the block that were counted but not begun */
  leaveWith(kind: number, record: I32, unused: number): void {
    this.flags.settle();
    this.giveBack(unused);
    this.leaveKind.set(i32(kind));
    this.leaveRecord.set(record);
    this.leave();
  }

  /**
   * Leaves the region because there is no RAM to access.
   * @param why one of TOUCH: the instruction has faulted, or the interpreter is to begin it
   */
  leaveUntouched(why: I32, record: I32): void {
    this.flags.settle();
    this.leaveKind.set(why);
    this.leaveRecord.set(record);
    this.leaveForRam();
  }

  /** There must be so many: those of the block that are counted already stay. */
  shorten(instructions: number): void {
    this.budget.set(this.budget.get().sub(instructions));
  }

  /** After calls that may let time pass. */
  reloadBudget(unused: number): void {
    this.budget.set(load32(ZERO, OFFSET.budget).sub(unused));
  }

  /** @param unused instructions of the block that were counted but not begun */
  exactBudget(unused: number): I32 {
    return this.budget.get().add(unused);
  }

  private tail(): void {
    const { code, locals } = this;
    for (const register of this.written) {
      code.store(8, ZERO, this.gpr(register).get(), OFFSET.gpr + 8 * register);
    }
    const flags = [locals.kind.get(), locals.a.get(), locals.b.get(), locals.result.get()];
    code.returnCall(this.callee('leave'), [this.leaveRecord.get(), this.leaveKind.get(), this.budget.get(), ...flags]);
  }
}
