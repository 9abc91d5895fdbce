import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { HandlerCallees } from './base-stage.ts';
import { Code, type Variable } from './code.ts';
import { CompiledFlags } from './compiled-flags.ts';
import { CompiledStage } from './compiled-stage.ts';
import { storeRecordRip } from './core.ts';
import type { Form } from './form.ts';
import { RECORD } from './record.ts';
import { type BlockEdges, layOutBlocks, type Unit } from './region-layout.ts';
import type { Semantics } from './stage.ts';
import { type I32, type I64, i32, load16, load32, load64, select } from './value.ts';

/**
 * A region: blocks of one page compiled to one function, with general-purpose registers and flags in locals. The
 * function has the signature of a handler; the records of its blocks' first instructions lead to it.
 */

export interface RegionInstruction {
  /** Address of its operation record. */
  readonly record: number;
  readonly form: Form;
  readonly semantics: Semantics;
}

export interface RegionBlock {
  readonly instructions: readonly RegionInstruction[];
  /** Record to go on with when the last instruction falls through. */
  readonly next: number;
}

/** How a region is left; the tail of the function acts on it. */
export const LEAVE = { record: 0, lookup: 1, fault: 2, slow: 3, interpret: 4 } as const;

const ZERO = i32(0);

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
  readonly state: State;
  readonly callees: HandlerCallees;
  readonly codeBase: I64;
  readonly tlbContext: I64;
  /** Table index that the region will have. */
  readonly self: number;
  /** The page's table offset → record. */
  readonly table: number;
  private readonly gprs: (Variable<'i64'> | undefined)[] = [];
  private readonly written = new Set<number>();
  private readonly blocks: readonly RegionBlock[];
  private readonly numbers = new Map<number, number>();
  private readonly budget: Variable<'i32'>;
  private readonly block: Variable<'i32'>;
  private readonly leaveKind: Variable<'i32'>;
  private readonly leaveRecord: Variable<'i32'>;
  private readonly locals;
  private readonly fixed: { readonly codeBase: Variable<'i64'>; readonly tlbContext: Variable<'i64'> };
  /** Where the code that is being emitted stands, the innermost sequence of units last. */
  private readonly places: Place[] = [];
  private leave: () => void = () => {};

  constructor(state: State, callees: HandlerCallees, blocks: readonly RegionBlock[], self: number, table: number) {
    const { code } = this;
    this.state = state;
    this.callees = callees;
    this.blocks = blocks;
    this.self = self;
    this.table = table;
    blocks.forEach((block, number) => {
      this.numbers.set((block.instructions[0] as RegionInstruction).record, number);
    });
    this.locals = {
      kind: code.variable('i32'),
      a: code.variable('i64'),
      b: code.variable('i64'),
      result: code.variable('i64'),
    };
    this.fixed = { codeBase: code.variable('i64'), tlbContext: code.variable('i64') };
    this.codeBase = this.fixed.codeBase.get();
    this.tlbContext = this.fixed.tlbContext.get();
    this.budget = code.variable('i32');
    this.block = code.variable('i32');
    this.leaveKind = code.variable('i32');
    this.leaveRecord = code.variable('i32');
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
      local = this.code.variable('i64');
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
      code.loop((again) => {
        this.emitUnits(layOutBlocks(this.blocks.map((block) => this.edges(block))), again);
        code.unreachable();
      });
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
    // The dispatch loop has counted the first instruction already; blocks count all of theirs.
    this.budget.set(load32(ZERO, OFFSET.budget).add(1));
    this.block.set(load16(record, RECORD.entry));
  }

  private edges({ instructions, next }: RegionBlock): BlockEdges {
    const targets = [next];
    let dispatches = false;
    for (const { record, form } of instructions) {
      if (form.flow === 'conditional' || form.flow === 'jump') targets.push(this.targetOf(record));
      else if (form.flow !== 'next') dispatches = true;
    }
    const numbers = targets.map((record) => this.numbers.get(record)).filter((number) => number !== undefined);
    return { targets: numbers, dispatches };
  }

  /** Record that a direct branch leads to, as far as it is known. */
  private targetOf(record: number): number {
    return this.state.u32[(record + RECORD.target) >>> 2] as number;
  }

  /** @param again goes back to where `block` decides which unit comes next */
  private emitUnits(units: readonly Unit[], again: () => void, isLoop = false): void {
    const first = (units[0] as Unit).first;
    const last = (units.at(-1) as Unit).last;
    const table = Array.from({ length: last - first + 1 }, (_, i) => units.findIndex((unit) => unit.last >= first + i));
    const place: Place = { units, again, index: 0, skipTo: () => {} };
    this.places.push(place);
    const cases = units.map((unit, index) => (skipTo: (later: number) => void) => {
      place.index = index;
      place.skipTo = skipTo;
      this.emitUnit(unit);
    });
    this.code.switch(this.block.get().sub(first), cases, table, isLoop);
    this.places.pop();
  }

  private emitUnit(unit: Unit): void {
    if (!unit.loops) return this.emitBlock(unit.first);
    this.code.loop((again) => {
      if (unit.units.length > 0) return this.emitUnits(unit.units, again, true);
      this.places.push({ units: [unit], again, index: 0, skipTo: () => {} });
      this.emitBlock(unit.first);
      this.places.pop();
    });
  }

  private emitBlock(number: number): void {
    const { code, flags } = this;
    const block = this.blocks[number] as RegionBlock;
    const { instructions } = block;
    const first = (instructions[0] as RegionInstruction).record;
    flags.enterBlock();
    const left = code.let(this.budget.get().sub(instructions.length));
    code.if(left.ltS(0), () => this.leaveWith(LEAVE.interpret, i32(first), 0));
    this.budget.set(left);
    let ended = false;
    instructions.forEach((instruction, i) => {
      const stage = new CompiledStage(this, instruction, instructions.length - 1 - i);
      instruction.semantics(stage);
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

  /** Forwards within the innermost sequence of units that has the block ahead, else back to a dispatcher. */
  private branchTo(number: number, atEnd: boolean): void {
    for (const place of this.places.toReversed()) {
      const index = place.units.findIndex(({ first, last }) => first <= number && number <= last);
      if (index < 0) continue;
      const unit = place.units[index] as Unit;
      const dispatched = index <= place.index ? place.units.length > 1 : unit.units.length > 0;
      if (dispatched) this.block.set(i32(number));
      if (index <= place.index) place.again();
      else if (!atEnd || index > place.index + 1 || place !== this.places.at(-1)) place.skipTo(index);
      return;
    }
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

  /** Before calls that may read the instruction count. */
  storeBudget(unused: number): void {
    this.code.store(4, ZERO, this.budget.get().add(unused), OFFSET.budget);
  }

  private tail(): void {
    const { code, locals } = this;
    for (const register of this.written) {
      code.store(8, ZERO, this.gpr(register).get(), OFFSET.gpr + 8 * register);
    }
    code.do(this.callee('storeFlags'), [locals.kind.get(), locals.a.get(), locals.b.get(), locals.result.get()]);
    const record = this.leaveRecord.get();
    const kind = this.leaveKind.get();
    const budget = this.budget.get();
    code.store(4, ZERO, budget, OFFSET.budget);
    code.if(kind.eq(LEAVE.record), () => code.return(record));
    code.if(kind.eq(LEAVE.lookup), () => code.return(code.call('i32', this.callee('lookup'), [])));
    code.if(kind.eq(LEAVE.fault), () => code.return(code.call('i32', this.callee('fault'), [record])));
    code.if(kind.eq(LEAVE.slow), () => {
      storeRecordRip(code, record);
      code.return(code.call('i32', this.callee('slow'), [record]));
    });
    // The interpreter's turn, for an instruction at least: too little budget for the whole block, or a device.
    code.if(budget.eqz(), () => code.return(record));
    code.store(4, ZERO, budget.sub(1), OFFSET.budget);
    const handler = code.let(load32(record, RECORD.handler));
    const own = select(handler.eq(this.self), load32(record, RECORD.original), handler);
    code.result(code.callIndirect('i32', 0, [record], own));
  }
}
