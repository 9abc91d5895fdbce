import { Instruction, Mnemonic } from 'iced-x86';
import { type Cpu, NEXT, type SlowInstruction } from '../cpu/cpu.ts';
import { meaningOn } from '../cpu/instruction-features.ts';
import { CodeCache } from '../engine/code-cache.ts';
import { ACCESS_FLAGS, buildCore, type Core, FIXED_HANDLER, TOUCH } from '../engine/core.ts';
import { LONGEST_INSTRUCTION } from '../engine/form.ts';
import { HandlerTable } from '../engine/handlers.ts';
import { HotCode } from '../engine/hot-code.ts';
import { EXIT, LINK, RECORD } from '../engine/record.ts';
import type { RegionCompiler } from '../engine/region-job.ts';
import type { Semantics } from '../engine/stage.ts';
import { InstructionDecoder } from '../isa/decoder.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import { fillOperands } from '../isa/record-operands.ts';
import { ENDS_BLOCK, FAR_THROUGH_MEMORY, SEMANTICS } from '../isa/semantics.ts';
import { exception, type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { checkSegmentAccess } from '../mmu/segmentation.ts';
import { CODE_MODE, type CodeMode, OFFSET, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';

const PAGE = 4096;
/** Room that one decoding needs at most: a page of one-byte instructions, the block's end, its table. */
const ROOM = PAGE + 2;

/** Bytes that a decoder gets at once: it copies them, and most blocks are shorter. */
const DECODED_AHEAD = 128;

/** Exceptions that push error code 0 when an instruction raises them through `Stage.faultIf`. */
const WITH_ERROR_CODE: ReadonlySet<number> = new Set([VECTOR.gp, VECTOR.ss, VECTOR.ac]);

/** What a record of a slow instruction leads to. */
interface SlowRecord {
  readonly instruction: DecodedInstruction;
  readonly execute: SlowInstruction;
}

/** What the processor asks of the machine. */
export interface ProcessorHooks {
  /** Whether an instruction breakpoint may lie at this page offset. */
  mayBreakAt(pageOffset: number): boolean;
  /** Whether `stopsHere` is to be asked in front of every execution of an instruction: by what it is. Default: never. */
  mayBreakOn?(instruction: Instruction): boolean;
  /** Whether to stop in front of the instruction at `state.rip`. */
  stopsHere(instruction: () => DecodedInstruction): boolean;
  /**
   * Delivers a fault in the middle of a slice (never the slice's last instruction). @returns whether to go on at
   * `state.rip`; else the slice ends with EXIT.attention. Without it every fault ends the slice with EXIT.fault.
   */
  deliverFault?(fault: Fault): boolean;
}

export interface ProcessorOptions {
  /** Staged semantics by mnemonic, when there are more than isa/ has. */
  readonly semantics?: ReadonlyMap<number, Semantics>;
  /** False keeps everything in the interpreter: for comparing it with compiled code. Default true. */
  readonly compile?: boolean;
  /** Page offsets of instructions that begin a block of compiled code of their own. Default: none. */
  readonly blockStarts?: Iterable<number>;
  /** Executions that make an instruction worth compiling: a power of two from 2 to 32768. Default 512. */
  readonly hotAfter?: number;
  /** Compiles hot code elsewhere while it is free. Default: here. */
  readonly compiler?: RegionCompiler | undefined;
}

/**
 * Runs instructions: finds or decodes operation records, enters the dispatch loop, executes slow instructions. Knows no
 * events, time or stop conditions; `run` says why it returned by `state.exitCode`, a last fault is left in `fault`.
 */
export class Processor {
  readonly cache: CodeCache;
  fault: Fault | undefined;
  /** The processor that executes. */
  private cpu: Cpu;
  private readonly state: State;
  private readonly slowTable: ReadonlyMap<number, SlowInstruction>;
  private readonly hooks: ProcessorHooks;
  private readonly handlers: HandlerTable;
  private readonly hotCode: HotCode;
  private readonly core: Core;
  private readonly semantics: ReadonlyMap<number, Semantics>;
  /** Slow instructions by number in RECORD.instruction; 0 is none. */
  private instructions: (SlowRecord | undefined)[] = [undefined];
  /** Handlers by `InstructionDecoder.formKey`. */
  private readonly handlerOfForm = new Map<number, number>();
  /** What code is decoded into. */
  private readonly decoded = new Instruction();
  /** Records of page-crossing instructions by stub record and second physical page. */
  private readonly crossings = new Map<number, number>();

  constructor(
    cpu: Cpu,
    slowTable: ReadonlyMap<number, SlowInstruction>,
    hooks: ProcessorHooks,
    options: ProcessorOptions = {},
  ) {
    const { compile = true, hotAfter = 512 } = options;
    this.semantics = options.semantics ?? SEMANTICS;
    this.hooks = hooks;
    this.cpu = cpu;
    this.state = cpu.state;
    this.slowTable = slowTable;
    this.cache = new CodeCache(this.state);
    this.handlers = new HandlerTable(this.state);
    this.hotCode = new HotCode(this.state, this.handlers, { hotAfter, ...options });
    const callbacks = {
      slow: (record: number) => this.slow(record),
      crossing: (record: number) => this.crossing(record),
      breakpoint: (record: number) => {
        // An access of an instruction before it is over.
        this.accessing = 0;
        return this.hooks.stopsHere(() => this.instructionOf(record).instruction) ? 1 : 0;
      },
      link: (record: number) => this.link(record),
      access: (low: number, high: number, what: number, record: number) => this.access(low, high, what, record),
      touch: (low: number, high: number, what: number) => this.touch(low, high, what),
      commit: () => this.commit(),
      segment: (segment: number, offset: number, sizeAndWrite: number) => this.segment(segment, offset, sizeAndWrite),
      raise: (vector: number) => this.raise(vector),
    };
    this.core = buildCore(this.state.memory, this.handlers.table, callbacks, compile ? hotAfter : 0);
    const { lookup, fault, storeFlags, reach, leave } = this.core;
    this.handlers.functions = { ...callbacks, lookup, fault, storeFlags, reach, leave };
    this.cache.onHold = (page) => cpu.mmu.dropWriteTranslations(page);
    this.cache.onDrop = (page, written) => this.hotCode.dropRegions(page, written);
    this.attach(cpu);
    cpu.mmu.physical.onWrite = (physical, length) => this.cache.written(physical, length);
  }

  /** Joins a processor's MMU to the code cache, which all processors share. */
  attach({ mmu }: Cpu): void {
    mmu.codeWatch = this.cache;
    mmu.onDataBreakpoint = () => this.kick();
  }

  /** Goes on with another processor, one that is attached: between two calls of `run`. */
  use(cpu: Cpu): void {
    this.cpu = cpu;
  }

  /** Forgets all decoded code (breakpoints changed, memory loaded from outside). */
  flush(): void {
    this.cache.flush();
    this.hotCode.dropAllRegions();
    this.crossings.clear();
    this.instructions = [undefined];
  }

  /** Decodes anew what lies at these page offsets: whether to ask `stopsHere` there has changed. */
  forgetAt(offsets: readonly number[]): void {
    this.cache.dropAt(offsets);
  }

  /** Executes up to `count` instructions from `state.rip`; less when it returns early (see EXIT). */
  run(count: number): void {
    const { state } = this;
    state.setFloat('granted', count);
    state.set32('budget', count);
    this.dispatch();
  }

  private dispatch(): void {
    const { state } = this;
    do {
      let record = this.core.lookup();
      if (record === 0) record = this.resolve();
      while (record !== 0) {
        this.core.run(record);
        this.accessing = 0;
        const exit = state.get32('exitCode');
        if (exit === EXIT.hot) this.compileHot();
        else if (exit !== EXIT.resolve) break;
        record = this.core.lookup();
        if (record === 0) record = this.resolve();
      }
    } while (state.get32('exitCode') === EXIT.fault && this.deliversFault());
  }

  /** Lets the machine deliver the fault while the slice goes on. @returns whether execution continues at `state.rip` */
  private deliversFault(): boolean {
    const { fault, state } = this;
    if (!fault || !this.hooks.deliverFault || state.get32('budget') === 0) return false;
    if (this.hooks.deliverFault(fault)) return true;
    state.set32('exitCode', EXIT.attention);
    return false;
  }

  // ---- hot code

  /** Compiles around the instruction that was executed often, if it is worth it. */
  private compileHot(): void {
    this.hotCode.takeCompiled();
    const { u32, u16 } = this.state;
    const record = u32[OFFSET.exitRecord >>> 2] as number;
    const table = u32[OFFSET.codeTable >>> 2] as number;
    // Instructions that cross into another page have no place of their own in the table.
    if (u32[(table >>> 2) + (u16[(record + RECORD.offset) >>> 1] as number)] !== record) return;
    if (this.handlers.isNearlyFull) this.flush();
    else if (this.hotCode.compileHot({ table, base: this.state.get64('codeBase') }, record)) this.regions++;
  }

  /** Regions compiled so far. */
  regions = 0;

  // ---- finding code

  /** The record of `state.rip`, decoded if need be; 0 with `exitCode` = fault when it cannot be fetched. */
  private resolve(): number {
    const { state, cpu } = this;
    const { u32 } = state;
    const mode = u32[OFFSET.codeMode >>> 2] as CodeMode;
    let low = u32[OFFSET.rip >>> 2] as number;
    let high = u32[(OFFSET.rip >>> 2) + 1] as number;
    if (mode !== CODE_MODE.code64) {
      if (high !== 0 || low > state.get32('segmentLimit', SEGMENT.cs)) return this.failed(exception(VECTOR.gp, 0));
      low = (low + state.low('segmentBase', SEGMENT.cs)) >>> 0;
      high = 0;
    }
    const physical = cpu.mmu.fetchAt(low, high);
    if (physical < 0) return this.failed(cpu.mmu.fault);
    if (!this.cache.hasRoom(ROOM)) this.flush();
    const table = this.cache.table(Math.floor(physical / PAGE), mode);
    if (cpu.mmu.physical.isRamPage(physical)) this.cache.remember((low & ~0xfff) >>> 0, high, mode, table);
    this.setCodeBase(physical % PAGE);
    u32[OFFSET.codeTable >>> 2] = table;
    return this.recordAt(table, physical, mode);
  }

  /** codeBase = RIP - `offset`, modulo 2^64. */
  private setCodeBase(offset: number): void {
    const { u32 } = this.state;
    const low = (u32[OFFSET.rip >>> 2] as number) - offset;
    u32[OFFSET.codeBase >>> 2] = low;
    u32[(OFFSET.codeBase >>> 2) + 1] = (u32[(OFFSET.rip >>> 2) + 1] as number) - (low < 0 ? 1 : 0);
  }

  /** @param record the faulting instruction's, 0 when it could not be fetched. */
  private failed(fault: Fault | undefined, record = 0): 0 {
    this.fault = fault;
    this.state.set32('exitRecord', record);
    this.state.set32('exitCode', EXIT.fault);
    return 0;
  }

  private recordAt(table: number, physical: number, mode: CodeMode): number {
    const slot = (table >>> 2) + (physical % PAGE);
    const known = this.state.u32[slot] as number;
    if (known !== 0) return known;
    this.decode(table, physical, mode);
    this.handlers.compile();
    return this.state.u32[slot] as number;
  }

  /** Decodes from `physical` to the end of the block, the page, or code that is decoded already. */
  private decode(table: number, physical: number, mode: CodeMode): void {
    const { u32, u16 } = this.state;
    const page = Math.floor(physical / PAGE);
    const start = physical % PAGE;
    let decoder = this.decoderAt(mode, physical);
    let previous = 0;
    let at = start;
    let decodedFrom = start;
    while (at < PAGE) {
      const known = u32[(table >>> 2) + at] as number;
      let outcome = known === 0 ? decoder.next() : 'ok';
      if (outcome !== 'ok' && at !== decodedFrom) {
        // It may be cut off where the decoder's bytes end.
        decoder.free();
        decoder = this.decoderAt(mode, page * PAGE + at);
        decodedFrom = at;
        outcome = decoder.next();
      }
      const record = known || this.makeRecord(decoder, outcome, page, at);
      u32[(table >>> 2) + at] = record;
      if (previous !== 0) u32[(previous + RECORD.next) >>> 2] = record;
      previous = record;
      if (known !== 0 || outcome !== 'ok') break;
      at = u16[(record + RECORD.nextOffset) >>> 1] as number;
      if (ENDS_BLOCK.has(decoder.instruction.mnemonic)) break;
    }
    if (u32[(previous + RECORD.next) >>> 2] === 0) {
      u32[(previous + RECORD.next) >>> 2] = this.gotoRecord(page, u16[(previous + RECORD.nextOffset) >>> 1] as number);
    }
    decoder.free();
  }

  /** A decoder for code at `physical`, into `decoded`: as a block is short, of not much more than it takes. */
  private decoderAt(mode: CodeMode, physical: number): InstructionDecoder {
    return new InstructionDecoder(mode, this.codeBytes(physical, DECODED_AHEAD), physical % PAGE, this.decoded);
  }

  /** Bytes from `physical` on, not beyond the end of its page; valid until memory changes. */
  private codeBytes(physical: number, most = PAGE): Uint8Array {
    const { physical: memory } = this.cpu.mmu;
    const length = Math.min(most, PAGE - (physical % PAGE));
    if (memory.isRamPage(physical)) return memory.ramAt(physical, length);
    // Executing from a device or from nothing: what the bus answers, usually all ones.
    return Uint8Array.from({ length }, (_, i) => memory.read(physical + i, 1));
  }

  private gotoRecord(page: number, offset: number): number {
    const record = this.cache.record(page, 0, 0);
    const { u32, u16 } = this.state;
    u32[(record + RECORD.handler) >>> 2] = FIXED_HANDLER.goto;
    u16[(record + RECORD.offset) >>> 1] = offset;
    return record;
  }

  private makeRecord(
    decoder: InstructionDecoder,
    outcome: 'ok' | 'invalid' | 'truncated',
    page: number,
    offset: number,
  ): number {
    const truncated = outcome === 'truncated' && offset + LONGEST_INSTRUCTION > PAGE;
    const length = truncated ? PAGE - offset : Math.max(1, decoder.instruction.length);
    const record = this.cache.record(page, offset, length);
    const { u32, u16 } = this.state;
    u16[(record + RECORD.offset) >>> 1] = offset;
    u16[(record + RECORD.nextOffset) >>> 1] = offset + length;
    this.state.bytes[record + RECORD.length] = length;
    if (truncated) u32[(record + RECORD.handler) >>> 2] = FIXED_HANDLER.crossing;
    else if (outcome === 'invalid') this.fillInvalid(record, decoder);
    else this.fill(record, decoder);
    if (this.hooks.mayBreakAt(offset) || (outcome === 'ok' && this.hooks.mayBreakOn?.(decoder.instruction))) {
      this.askBefore(record);
    }
    return record;
  }

  /** Has `stopsHere` asked in front of a record. */
  private askBefore(record: number): void {
    const { u32 } = this.state;
    u32[(record + RECORD.original) >>> 2] = u32[(record + RECORD.handler) >>> 2] as number;
    u32[(record + RECORD.handler) >>> 2] = FIXED_HANDLER.breakpoint;
  }

  /** Sets handler and operands from the instruction that the decoder has just decoded. */
  private fill(record: number, decoder: InstructionDecoder): void {
    const key = decoder.formKey();
    const handler = this.handlerOfForm.get(key) ?? this.handlerFor(key, decoder);
    this.state.u32[(record + RECORD.handler) >>> 2] = handler;
    if (handler !== FIXED_HANDLER.slow) fillOperands(this.state, record, decoder.instruction);
  }

  /** The handler of a form that is met for the first time. */
  private handlerFor(key: number, decoder: InstructionDecoder): number {
    const { instruction } = decoder;
    const meaning = meaningOn(this.cpu.model, instruction.code, instruction.mnemonic);
    const semantics = meaning === undefined ? undefined : this.semantics.get(meaning);
    const form = semantics && !FAR_THROUGH_MEMORY.has(instruction.code) ? decoder.form() : undefined;
    const isStaged = semantics && form?.operands.every((operand) => operand.kind !== 'other');
    const isKnown = isStaged && form && meaning !== undefined;
    const handler = isKnown ? this.handlers.add({ form, meaning, semantics }) : FIXED_HANDLER.slow;
    this.handlerOfForm.set(key, handler);
    return handler;
  }

  /** #UD, or #GP(0) for an instruction that is too long (SDM Vol. 3A, "Interrupt 13"). */
  private fillInvalid(record: number, decoder: InstructionDecoder): void {
    const { u32 } = this.state;
    const fault = decoder.isTooLong() ? generalProtection() : exception(VECTOR.ud);
    u32[(record + RECORD.handler) >>> 2] = FIXED_HANDLER.slow;
    u32[(record + RECORD.instruction) >>> 2] =
      this.instructions.push({ instruction: decoder.decoded(), execute: () => fault }) - 1;
  }

  // ---- called from WebAssembly

  private slow(record: number): number {
    const { u32 } = this.state;
    const { instruction, execute } = this.instructionOf(record);
    this.accessing = 0;
    const outcome = execute(this.cpu, instruction);
    if (typeof outcome === 'object') return this.failed(outcome, record);
    if (outcome === NEXT.sequential) this.advance(instruction.length);
    if (u32[OFFSET.attention >>> 2] !== 0) {
      u32[OFFSET.exitCode >>> 2] = EXIT.attention;
      return 0;
    }
    return this.core.lookup();
  }

  /** The decoded instruction of a record; staged ones that give up (`Stage.slowIf`) are decoded when that happens. */
  private instructionOf(record: number): SlowRecord {
    const { u32, u16 } = this.state;
    const slot = (record + RECORD.instruction) >>> 2;
    const known = this.instructions[u32[slot] as number];
    if (known) return known;
    const offset = u16[(record + RECORD.offset) >>> 1] as number;
    const physical = (u32[(record + RECORD.page) >>> 2] as number) * PAGE + offset;
    const decoder = new InstructionDecoder(this.state.get32('codeMode') as CodeMode, this.codeBytes(physical), offset);
    decoder.next();
    const decoded = decoder.decoded();
    decoder.free();
    u32[slot] = this.remember(decoded);
    return this.instructions[u32[slot] as number] as SlowRecord;
  }

  /** @returns the number that RECORD.instruction gets */
  private remember(instruction: DecodedInstruction): number {
    return this.instructions.push({ instruction, execute: this.slowInstruction(instruction) }) - 1;
  }

  private slowInstruction({ code, mnemonic: written }: DecodedInstruction): SlowInstruction {
    const mnemonic = meaningOn(this.cpu.model, code, written);
    if (mnemonic === undefined || mnemonic === Mnemonic.INVALID) return () => exception(VECTOR.ud);
    const what = `instruction ${Mnemonic[mnemonic]?.toLowerCase()}`;
    return this.slowTable.get(mnemonic) ?? (() => ({ kind: 'unimplemented', what }));
  }

  /** RIP += length, truncated to 32 bits outside 64-bit mode. */
  private advance(length: number): void {
    const { u32 } = this.state;
    const low = (u32[OFFSET.rip >>> 2] as number) + length;
    u32[OFFSET.rip >>> 2] = low;
    if (low <= 0xffff_ffff) return;
    const high = (OFFSET.rip >>> 2) + 1;
    u32[high] = u32[OFFSET.codeMode >>> 2] === CODE_MODE.code64 ? (u32[high] as number) + 1 : 0;
  }

  /** The target of a near branch when it lies in the branch's page; remembers it in the record. */
  private link(record: number): number {
    const { state } = this;
    const { u32 } = state;
    const target = state.view.getBigInt64(record + RECORD.immediate, true);
    const slot = (record + RECORD.target) >>> 2;
    const mode = state.get32('codeMode') as CodeMode;
    // Outside 64-bit mode a target may wrap at the operand size, so only plain cases are linked.
    const wraps =
      mode !== CODE_MODE.code64 && state.get64('rip') !== BigInt.asUintN(32, state.get64('codeBase') + target);
    if (target < 0n || target >= BigInt(PAGE) || wraps) {
      u32[slot] = LINK.lookup;
      return 0;
    }
    if (!this.cache.hasRoom(ROOM)) return 0;
    const page = u32[(record + RECORD.page) >>> 2] as number;
    const found = this.recordAt(state.get32('codeTable'), page * PAGE + Number(target), mode);
    u32[slot] = found;
    return found;
  }

  /** Record of the staged instruction whose access was served last; 0 when `state.rip` is up to date. */
  private accessing = 0;

  private access(low: number, high: number, what: number, record: number): number {
    const { mmu } = this.cpu;
    this.accessing = record;
    const host = mmu.access(low >>> 0, high >>> 0, what & 0xff, (what & ACCESS_FLAGS.write) !== 0);
    if (host === 0) this.fault = this.accessFault(what);
    // What a device has done, or something watched, is to be looked at before the next instruction.
    else if (host === OFFSET.bounce && this.state.get32('attention') !== 0) this.kick();
    return host;
  }

  /** For compiled code, which is left when the access itself dropped code: it may be the code that is running. */
  private touch(low: number, high: number, what: number): number {
    const { u32 } = this.state;
    u32[OFFSET.codeDropped >>> 2] = 0;
    const budget = u32[OFFSET.budget >>> 2] as number;
    const host = this.cpu.mmu.touch(low >>> 0, high >>> 0, what & 0xff, (what & ACCESS_FLAGS.write) !== 0);
    if (host < 0) return TOUCH.interpret;
    if (host === 0) {
      this.fault = this.accessFault(what);
      return TOUCH.fault;
    }
    if (u32[OFFSET.codeDropped >>> 2] !== 0) return TOUCH.interpret;
    // A walk has taken time from the slice. The rest of the block, less than a page, is counted already.
    const left = u32[OFFSET.budget >>> 2] as number;
    return left !== budget && left < PAGE ? TOUCH.interpret : host;
  }

  /** @param what ACCESS_FLAGS of the access that faulted */
  private accessFault(what: number): Fault | undefined {
    const { fault } = this.cpu.mmu;
    // The MMU knows no segments: an address that is not canonical is #SS(0) through the stack segment.
    const isStack = (what & ACCESS_FLAGS.stack) !== 0 && fault?.kind === 'exception' && fault.vector === VECTOR.gp;
    return isStack ? exception(VECTOR.ss, 0) : fault;
  }

  private commit(): void {
    this.cpu.mmu.commit();
    if (this.state.get32('attention') !== 0) this.kick();
  }

  /** Makes `run` return before the next instruction. */
  kick(): void {
    const { state } = this;
    state.setFloat('granted', state.getFloat('granted') - state.get32('budget'));
    state.set32('budget', 0);
  }

  /** Instructions begun since `run` that are not in `state.retired` yet, the one in hand included. */
  get executed(): number {
    return this.state.getFloat('granted') - this.state.get32('budget');
  }

  /** Adds what the last `run` executed to `state.retired`. */
  retire(): void {
    this.state.setFloat('retired', this.state.getFloat('retired') + this.executed);
    this.state.setFloat('granted', 0);
    this.state.set32('budget', 0);
  }

  /** Linear address of the instruction in hand, also inside callbacks of staged ones. */
  linearOfInstruction(): bigint {
    const { state, accessing } = this;
    if (accessing === 0) return this.linearRip();
    return this.toLinear(state.get64('codeBase') + BigInt(state.view.getUint16(accessing + RECORD.offset, true)));
  }

  /** Linear address of `state.rip`. */
  linearRip(): bigint {
    return this.toLinear(this.state.get64('rip'));
  }

  private toLinear(rip: bigint): bigint {
    const { state } = this;
    if (state.get32('codeMode') === CODE_MODE.code64) return BigInt.asUintN(64, rip);
    return BigInt.asUintN(32, rip + state.get64('segmentBase', SEGMENT.cs));
  }

  nameOf(instruction: DecodedInstruction): string {
    return Mnemonic[instruction.mnemonic]?.toLowerCase() ?? '?';
  }

  private segment(segment: number, offset: number, sizeAndWrite: number): number {
    const fault = checkSegmentAccess(
      this.state,
      segment,
      offset >>> 0,
      sizeAndWrite & 0xff,
      (sizeAndWrite & 0x100) !== 0,
    );
    if (!fault) return 1;
    this.fault = fault;
    return 0;
  }

  private raise(vector: number): void {
    this.fault = exception(vector, WITH_ERROR_CODE.has(vector) ? 0 : undefined);
  }

  // ---- instructions that cross into another page

  private crossing(stub: number): number {
    const { state, cpu } = this;
    const { u32, u16 } = state;
    const mode = state.get32('codeMode') as CodeMode;
    const page = u32[(stub + RECORD.page) >>> 2] as number;
    const offset = u16[(stub + RECORD.offset) >>> 1] as number;
    const base = state.get64('codeBase') + BigInt(PAGE);
    const next =
      mode === CODE_MODE.code64
        ? BigInt.asUintN(64, base)
        : BigInt.asUintN(32, base + state.get64('segmentBase', SEGMENT.cs));
    this.accessing = 0;
    const second = cpu.mmu.fetch(next);
    if (second < 0) return this.failed(cpu.mmu.fault);
    const secondPage = Math.floor(second / PAGE);
    const key = secondPage * 2 ** 26 + stub;
    const known = this.crossings.get(key);
    if (known && u32[(known + RECORD.handler) >>> 2] !== FIXED_HANDLER.stale) return known;
    if (!this.cache.hasRoom(2)) {
      // The caller does not come back to the stub: a fresh look-up starts over with an empty cache.
      this.flush();
      state.set32('exitCode', EXIT.resolve);
      return 0;
    }
    const record = this.decodeCrossing(page, offset, second, mode);
    this.crossings.set(key, record);
    return record;
  }

  private decodeCrossing(page: number, offset: number, second: number, mode: CodeMode): number {
    const head = this.codeBytes(page * PAGE + offset);
    const bytes = new Uint8Array(head.length + LONGEST_INSTRUCTION);
    bytes.set(head);
    bytes.set(this.codeBytes(second).subarray(0, LONGEST_INSTRUCTION), head.length);
    const decoder = new InstructionDecoder(mode, bytes, offset);
    decoder.next();
    const length = Math.max(1, decoder.instruction.length);
    const record = this.cache.record(page, offset, 0);
    this.cache.cover(record, page, offset, PAGE - offset);
    this.cache.cover(record, Math.floor(second / PAGE), 0, Math.max(0, offset + length - PAGE));
    const { u32, u16 } = this.state;
    u16[(record + RECORD.offset) >>> 1] = offset;
    u16[(record + RECORD.nextOffset) >>> 1] = offset + length;
    this.state.bytes[record + RECORD.length] = length;
    this.fill(record, decoder);
    u32[(record + RECORD.instruction) >>> 2] = this.remember(decoder.decoded());
    u32[(record + RECORD.next) >>> 2] = this.gotoRecord(page, offset + length);
    u32[(record + RECORD.target) >>> 2] = LINK.lookup;
    if (this.hooks.mayBreakOn?.(decoder.instruction)) this.askBefore(record);
    decoder.free();
    this.handlers.compile();
    return record;
  }
}
