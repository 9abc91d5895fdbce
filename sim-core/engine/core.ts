import { CODE_MODE, CODE_TLB, OFFSET, REGION, SEGMENT } from '../state/layout.ts';
import { type Callee, Code, type Signature } from './code.ts';
import { storeCellsFunction } from './compiled-flags.ts';
import { ModuleBuilder, type ModuleImports } from './module.ts';
import { EXIT, RECORD } from './record.ts';
import { type I32, type I64, i32, load16, load32, load64, select } from './value.ts';

/**
 * The fixed part of the engine: the dispatch loop, the look-up of code addresses, and handlers of records that are not
 * instructions. Built once per machine.
 */

const HANDLER: Signature = { parameters: ['i32'], results: ['i32'] };
const LOOKUP: Signature = { parameters: [], results: ['i32'] };
const STORE_FLAGS: Signature = { parameters: ['i32', 'i64', 'i64', 'i64'], results: [] };
const TOUCH_SIGNATURE: Signature = { parameters: ['i32', 'i32', 'i32'], results: ['i32'] };
const LEAVE_REGION: Signature = {
  parameters: ['i32', 'i32', 'i32', 'i32', 'i64', 'i64', 'i64'],
  results: ['i32'],
};
const REACH: Signature = { parameters: ['i64', 'i32', 'i32'], results: ['i32'] };
const ZERO = i32(0);

/** Table indices of the fixed handlers; instruction handlers follow. */
export const FIXED_HANDLER = {
  /** Never executed: an unset handler traps. */
  none: 0,
  /** A slow instruction: TypeScript executes it. */
  slow: 1,
  /** Its code was written: look the address up again. */
  stale: 2,
  /** Goes on at `codeBase` + offset, which may be in another page; counts as no instruction. */
  goto: 3,
  /** An instruction that crosses into another page. */
  crossing: 4,
  /** A breakpoint in front of the handler `original`. */
  breakpoint: 5,
  count: 6,
} as const;

/** What `access` and `segment` are told beside the size in bits 7:0. */
export const ACCESS_FLAGS = { write: 0x100, stack: 0x200 } as const;

/** How a region is left, for `leave`. */
export const LEAVE = { record: 0, lookup: 1, fault: 2, slow: 3, interpret: 4 } as const;

/** What `touch` answers when there is no RAM to give: a fault is pending, or the interpreter must execute it all. */
export const TOUCH = { fault: 0, interpret: 1 } as const;

/** TypeScript functions that WebAssembly calls. Record addresses in, record address or 0 (leave the loop) out. */
export interface EngineCallbacks {
  slow(record: number): number;
  /** The record that stands for the page-crossing instruction now. */
  crossing(record: number): number;
  /** 1 to stop in front of the record's instruction. */
  breakpoint(record: number): number;
  /** Resolves a near branch within its page: the target record, or 0 to look `state.rip` up. */
  link(record: number): number;
  /** MMU slow path: linear address halves, size | ACCESS_FLAGS, the instruction's record; host address or 0. */
  access(low: number, high: number, what: number, record: number): number;
  /** As `access` for compiled code: host address of RAM that the fast TLB now holds, or one of TOUCH. */
  touch(low: number, high: number, what: number): number;
  /** Finishes a write to the bounce buffer. */
  commit(): void;
  /** Segment check outside 64-bit mode: segment, offset, size | write << 8; 1 when the access is allowed. */
  segment(segment: number, offset: number, sizeAndWrite: number): number;
  /** Leaves the exception `vector` pending. */
  raise(vector: number): void;
}

/** Signatures of what modules of handlers and regions import; order does not matter. */
export const HANDLER_IMPORTS: Readonly<Record<string, Signature>> = {
  slow: HANDLER,
  link: HANDLER,
  access: { parameters: ['i32', 'i32', 'i32', 'i32'], results: ['i32'] },
  reach: REACH,
  commit: { parameters: [], results: [] },
  segment: { parameters: ['i32', 'i32', 'i32'], results: ['i32'] },
  raise: { parameters: ['i32'], results: [] },
  lookup: LOOKUP,
  fault: HANDLER,
  storeFlags: STORE_FLAGS,
  leave: LEAVE_REGION,
};

/** Declares HANDLER_IMPORTS, for modules of handlers and regions. @returns them by name */
export function declareImports(builder: ModuleBuilder): Readonly<Record<string, Callee>> {
  // The first import has the handlers' type, which thereby is type 0: `callIndirect` relies on it.
  const callee = ([name, signature]: [string, Signature]) => [name, builder.import(name, signature)] as const;
  return Object.fromEntries(Object.entries(HANDLER_IMPORTS).map(callee));
}

/** RIP of the record's instruction. */
const recordRip = (record: I32): I64 => load64(ZERO, OFFSET.codeBase).add(load16(record, RECORD.offset).extendU());

/** Where a truncated RIP ends up: outside 64-bit mode IP is 32 bits wide. */
export function storeRip(code: Code, rip: I64): void {
  code.store(8, ZERO, rip, OFFSET.rip);
}

const exitLoop = (code: Code, exit: number): void => {
  code.store(4, ZERO, i32(exit), OFFSET.exitCode);
  code.return(i32(0));
};

const giveBack = (code: Code): void => {
  code.store(4, ZERO, load32(ZERO, OFFSET.budget).add(1), OFFSET.budget);
};

/** Outside 64-bit mode the sum of base and offset is a 32-bit offset. */
export function storeRecordRip(code: Code, record: I32): void {
  const rip = code.variable('i64', recordRip(record));
  code.if(load32(ZERO, OFFSET.codeMode).ne(CODE_MODE.code64), () => rip.set(rip.get().zeroExtend(32)));
  storeRip(code, rip.get());
}

/** Counts an execution of the record; leaves in front of every `hotAfter`th. */
function countHeat(code: Code, record: I32, hotAfter: number): void {
  const heat = code.let(load16(record, RECORD.heat).add(1));
  code.store(2, record, heat, RECORD.heat);
  code.if(heat.and(hotAfter - 1).eqz(), () => {
    storeRecordRip(code, record);
    code.store(4, ZERO, record, OFFSET.exitRecord);
    exitLoop(code, EXIT.hot);
  });
}

/** run(record): executes records until one says to leave; the reason is in `exitCode`. */
function runFunction(hotAfter: number): Code {
  const code = new Code(HANDLER);
  const record = code.variable('i32', code.parameter(0, 'i32'));
  code.loop((again) => {
    const left = code.let(load32(ZERO, OFFSET.budget).sub(1));
    code.if(left.ltS(0), () => {
      storeRecordRip(code, record.get());
      exitLoop(code, EXIT.budget);
    });
    if (hotAfter > 0) countHeat(code, record.get(), hotAfter);
    code.store(4, ZERO, left, OFFSET.budget);
    record.set(code.callIndirect('i32', 0, [record.get()], load32(record.get(), RECORD.handler)));
    again(record.get().ne(0));
  });
  code.result(i32(0));
  return code;
}

/** lookup(): the record of `state.rip`, with codeBase and codeTable set; 0 with EXIT.resolve when it is not known. */
function lookupFunction(): Code {
  const code = new Code(LOOKUP);
  lookUp(code, (record) => code.return(record));
  exitLoop(code, EXIT.resolve);
  code.unreachable();
  return code;
}

/** @param found emits what happens with the record of `state.rip` where it is known, which must leave the function */
function lookUp(code: Code, found: (record: I32) => void): void {
  const rip = code.let(load64(ZERO, OFFSET.rip));
  const linear = code.variable('i64', rip);
  const mode = code.let(load32(ZERO, OFFSET.codeMode));
  code.if(mode.ne(CODE_MODE.code64), () => {
    linear.set(rip.add(load64(ZERO, OFFSET.segmentBase + 8 * SEGMENT.cs)).zeroExtend(32));
  });
  const page = code.let(linear.get().shrU(12));
  const context = code.let(load64(ZERO, OFFSET.tlbContext));
  const entry = codeTlbEntry(code, page, context);
  const tag = page.shl(12).or(context);
  const hit = load64(entry, CODE_TLB.tag).eq(tag).and(load32(entry, CODE_TLB.mode).eq(mode));
  code.if(hit, () => {
    const table = code.let(load32(entry, CODE_TLB.table));
    const offset = code.let(linear.get().wrap().and(0xfff));
    const record = code.let(load32(table.add(offset.shl(2))));
    code.store(8, ZERO, rip.sub(offset.extendU()), OFFSET.codeBase);
    code.store(4, ZERO, table, OFFSET.codeTable);
    code.if(record, () => found(record));
  });
}

/** Address of the code TLB's entry that a linear page may be in. */
export function codeTlbEntry(code: Code, page: I64, context: I64): I32 {
  const number = page
    .add(context.mul(CODE_TLB.contextStride))
    .wrap()
    .and(CODE_TLB.entries - 1);
  return code.let(number.shl(CODE_TLB.entryShift).add(REGION.codeTlb.start));
}

/** fault(record): leaves the loop with the fault that a callback has left pending. */
function faultFunction(): Code {
  const code = new Code(HANDLER);
  storeRecordRip(code, code.parameter(0, 'i32'));
  code.store(4, ZERO, code.parameter(0, 'i32'), OFFSET.exitRecord);
  exitLoop(code, EXIT.fault);
  code.unreachable();
  return code;
}

/**
 * reach(linear, what, budget): `touch` for compiled code that misses the fast TLB, with the instructions that are left
 * where callbacks look for them. As a function it keeps the misses out of regions.
 */
function reachFunction(touch: Callee): Code {
  const code = new Code(REACH);
  const linear = code.parameter(0, 'i64');
  code.store(4, ZERO, code.parameter(2, 'i32'), OFFSET.budget);
  code.result(code.call('i32', touch, [linear.wrap(), linear.shrU(32).wrap(), code.parameter(1, 'i32')]));
  return code;
}

/**
 * leave(record, kind, budget, flags…): goes on where a region has ended, which has stored its registers. What comes
 * next is called in its place, without the dispatch loop, unless that has something to do first.
 */
function leaveFunction(callees: Readonly<Record<'storeFlags' | 'fault' | 'slow', Callee>>, hotAfter: number): Code {
  const code = new Code(LEAVE_REGION);
  const [record, kind, budget, producer] = [0, 1, 2, 3].map((i) => code.parameter(i, 'i32')) as [I32, I32, I32, I32];
  const values = [4, 5, 6].map((i) => code.parameter(i, 'i64'));
  code.do(callees.storeFlags, [producer, ...values]);
  code.if(kind.eq(LEAVE.lookup), () => {
    lookUp(code, (found) => continueAt(code, found, budget, hotAfter));
    code.store(4, ZERO, budget, OFFSET.budget);
    exitLoop(code, EXIT.resolve);
  });
  code.if(kind.eq(LEAVE.record), () => continueAt(code, record, budget, hotAfter));
  code.store(4, ZERO, budget, OFFSET.budget);
  code.if(kind.eq(LEAVE.fault), () => code.returnCall(callees.fault, [record]));
  code.if(kind.eq(LEAVE.slow), () => {
    storeRecordRip(code, record);
    code.returnCall(callees.slow, [record]);
  });
  // The interpreter's turn, for an instruction at least: too little budget for the whole block, or a device.
  code.if(budget.eqz(), () => code.return(record));
  code.store(4, ZERO, budget.sub(1), OFFSET.budget);
  const handler = code.let(load32(record, RECORD.handler));
  const original = code.let(load32(record, RECORD.original));
  const isRegion = handler.geU(FIXED_HANDLER.count).and(original.ne(0));
  code.returnCallIndirect(0, [record], select(isRegion, original, handler));
  return code;
}

/** Executes a record as `run` would; returns to that one when there is no budget left, or the code has become hot. */
function continueAt(code: Code, record: I32, budget: I32, hotAfter: number): void {
  const heat = code.let(load16(record, RECORD.heat).add(1));
  code.if(budget.eqz().or(heat.and(hotAfter - 1).eqz()), () => {
    code.store(4, ZERO, budget, OFFSET.budget);
    code.return(record);
  });
  code.store(2, record, heat, RECORD.heat);
  code.store(4, ZERO, budget.sub(1), OFFSET.budget);
  code.returnCallIndirect(0, [record], load32(record, RECORD.handler));
}

function storeFlagsFunction(): Code {
  const code = new Code(STORE_FLAGS);
  storeCellsFunction(code);
  return code;
}

function slowHandler(slow: Callee): Code {
  const code = new Code(HANDLER);
  const record = code.parameter(0, 'i32');
  storeRecordRip(code, record);
  code.result(code.call('i32', slow, [record]));
  return code;
}

function gotoHandler(lookup: Callee): Code {
  const code = new Code(HANDLER);
  giveBack(code);
  storeRecordRip(code, code.parameter(0, 'i32'));
  code.result(code.call('i32', lookup, []));
  return code;
}

function crossingHandler(crossing: Callee): Code {
  const code = new Code(HANDLER);
  const record = code.parameter(0, 'i32');
  giveBack(code);
  storeRecordRip(code, record);
  code.result(code.call('i32', crossing, [record]));
  return code;
}

function breakpointHandler(breakpoint: Callee): Code {
  const code = new Code(HANDLER);
  const record = code.parameter(0, 'i32');
  storeRecordRip(code, record);
  code.if(code.call('i32', breakpoint, [record]), () => {
    giveBack(code);
    exitLoop(code, EXIT.breakpoint);
  });
  code.result(code.callIndirect('i32', 0, [record], load32(record, RECORD.original)));
  return code;
}

export interface Core {
  run(record: number): number;
  lookup(): number;
  fault(record: number): number;
  storeFlags(kind: number, a: bigint, b: bigint, result: bigint): void;
  reach(linear: bigint, what: number, budget: number): number;
  leave(record: number, kind: number, budget: number, ...flags: Parameters<Core['storeFlags']>): number;
}

/**
 * Builds the core module and puts the fixed handlers into the table.
 * @param hotAfter executions of a record between two exits with EXIT.hot, a power of two from 2 to 32768; 0 for none
 */
export function buildCore(
  memory: WebAssembly.Memory,
  table: WebAssembly.Table,
  callbacks: EngineCallbacks,
  hotAfter: number,
): Core {
  const functions: ModuleImports['functions'] = {
    slow: callbacks.slow,
    crossing: callbacks.crossing,
    breakpoint: callbacks.breakpoint,
    touch: callbacks.touch,
  };
  // Type 0 must be the handlers' signature: callIndirect names it.
  const builder = new ModuleBuilder();
  builder.typeIndex(HANDLER);
  const slow = builder.import('slow', HANDLER);
  const crossing = builder.import('crossing', HANDLER);
  const breakpoint = builder.import('breakpoint', HANDLER);
  const touch = builder.import('touch', TOUCH_SIGNATURE);
  // Own functions follow the four imports, in the order of `codes`.
  const lookup: Callee = { index: 5, signature: LOOKUP };
  const fault: Callee = { index: 6, signature: HANDLER };
  const storeFlags: Callee = { index: 12, signature: STORE_FLAGS };
  const codes = [
    runFunction(hotAfter),
    lookupFunction(),
    faultFunction(),
    slowHandler(slow),
    gotoHandler(lookup),
    gotoHandler(lookup),
    crossingHandler(crossing),
    breakpointHandler(breakpoint),
    storeFlagsFunction(),
    reachFunction(touch),
    leaveFunction({ storeFlags, fault, slow }, hotAfter),
  ];
  for (const code of codes) builder.add(code);
  const [run, find, failed, ...rest] = builder.instantiate({ memory, table, functions });
  const [store, reach, leave] = rest.splice(FIXED_HANDLER.count - FIXED_HANDLER.slow);
  rest.forEach((handler, i) => {
    table.set(FIXED_HANDLER.slow + i, handler);
  });
  return { run, lookup: find, fault: failed, storeFlags: store, reach, leave } as Core;
}
