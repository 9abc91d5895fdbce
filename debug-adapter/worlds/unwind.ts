import type { Target } from '../running/target.ts';
import { FormatError } from '../symbols/byte-reader.ts';
import { type FrameRules, RETURN_ADDRESS_64, type RegisterRule } from '../symbols/dwarf/call-frames.ts';
import { bytesOf, compute, type ExpressionContext, Unavailable } from '../symbols/dwarf/location-expressions.ts';
import type { Activation } from '../symbols/dwarf/scopes.ts';
import { findCodeFrame } from './code-frames.ts';
import { findEventFrame } from './event-frames.ts';
import { orcRules } from './orc-frames.ts';
import { vmcsField, type WorldView } from './world-view.ts';

/** One activation of a function in one world. */
export interface Frame {
  readonly view: WorldView;
  /** 0 is where the world executes; callers follow. */
  readonly depth: number;
  /** Linear address of the next instruction: in callers the return address. */
  readonly pc: bigint;
  /** An address inside the instruction that is under way: in callers within the call. */
  readonly lookupPc: bigint;
  /** In callers: not a call, but an exception or interrupt led away from here. */
  readonly interrupted?: boolean;
  /** The caller's stack pointer after the return; undefined when the caller cannot be found. */
  readonly callerSp: bigint | undefined;
  /** Registers as this activation has them; others are as the world has them. */
  readonly restored: ReadonlyMap<string, bigint>;
  /** Where on the stack the activations that it has called have put its registers: linear addresses. */
  readonly saved: ReadonlyMap<string, bigint>;
  /** It has ended by calling another function: the one that had called it. Nothing of it is left. */
  readonly endedInto?: Frame;
  /** Of the functions inlined here the one that is meant, and the one inlined into it that is under way. */
  readonly activation?: Activation;
  readonly inlined?: Activation;
}

const vectorNames = Array.from({ length: 16 }, (_, number) => `xmm${number}`);
/** DWARF's register numbers (x86-64 psABI figure 3.36; i386 psABI table 2.14, whose vector registers begin at 21). */
const NAMES_64 = ['rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip'.split(' '), vectorNames].flat();
const NAMES_32 = 'rax rcx rdx rbx rsp rbp rsi rdi rip'.split(' ');
const FIRST_VECTOR_32 = 21;

/** The name of a register by DWARF's number in code with addresses of so many bytes. */
export const registerName = (number: number, addressSize: number): string | undefined =>
  addressSize === 8 ? NAMES_64[number] : (NAMES_32[number] ?? vectorNames[number - FIRST_VECTOR_32]);

/** A stack with more frames than this is shown up to here. */
export const DEEPEST = 50_000;

/** The register's value in the frame. */
export function frameRegister(frame: Frame, name: string): bigint | undefined {
  return frame.restored.get(name) ?? frame.view.register(name);
}

/**
 * Changes a register of a frame: in callers where the functions that they have called keep it.
 * @returns why it cannot be changed, or undefined when it was
 */
export function setFrameRegister(
  { view, depth, saved, endedInto }: Frame,
  name: string,
  value: bigint,
): string | undefined {
  if (depth === 0) return view.setRegister(name, value);
  if (endedInto) return 'its function has ended by calling another one';
  const place = saved.get(name);
  if (place === undefined) return 'it belongs to a caller, whose registers are not live';
  const size = view.bitness === 64 ? 8 : 4;
  if (view.read(place, size).length < size) return 'it is not mapped RAM';
  view.write(place, bytesOf(BigInt.asUintN(8 * size, value), size));
  return undefined;
}

/** Where a world executes. */
export function innermostFrame(view: WorldView): Frame {
  const { pc } = view;
  return { view, depth: 0, pc, lookupPc: pc, callerSp: undefined, restored: new Map(), saved: new Map() };
}

/**
 * The activations of a world, the innermost first: by call-frame information, else by frame pointers. They are looked
 * for one after the other, as they are asked for.
 */
export function* unwind(target: Target, view: WorldView): Generator<Frame, void> {
  let next: Frame | undefined = innermostFrame(view);
  while (next) {
    const caller: Frame | undefined = next.depth + 1 < DEEPEST ? callerOf(target, next) : undefined;
    yield { ...next, callerSp: caller && frameRegister(caller, 'rsp') };
    next = caller;
  }
}

/** So many of the innermost activations, or all that there are. */
export function innermostFrames(target: Target, view: WorldView, count: number): Frame[] {
  const frames: Frame[] = [];
  for (const frame of unwind(target, view)) if (frames.push(frame) >= count) break;
  return frames;
}

/** The activation that called another one; undefined when it cannot be found. */
export function callerOf(target: Target, frame: Frame): Frame | undefined {
  const caller = isOutermost(target, frame) ? undefined : findCaller(target, frame);
  // A handler may have a stack of its own, anywhere.
  if (!caller || (!caller.interrupted && !caller.otherStack && caller.sp <= (frameRegister(frame, 'rsp') ?? 0n)))
    return undefined;
  const { pc, restored, saved, interrupted = false } = caller;
  const lookupPc = interrupted ? pc : pc - 1n;
  const { view, depth } = frame;
  return { view, depth: depth + 1, pc, lookupPc, interrupted, callerSp: undefined, restored, saved };
}

/** The function that VM exits enter has no caller: its stack begins at HOST_RSP. */
function isOutermost(target: Target, { view, lookupPc }: Frame): boolean {
  const program = target.programAt(view, lookupPc);
  if (view.world !== 'vmm' || (program && orcRules(view, program, lookupPc))) return false;
  const handler = vmcsField(view.machine, 'HOST_RIP');
  if (handler === undefined) return false;
  const home = target.functionAt(view, handler);
  // VM exits may also go on in the middle of the function that entered the guest: that one has a caller.
  return home?.start === handler && target.functionAt(view, lookupPc)?.start === handler;
}

interface Caller {
  readonly pc: bigint;
  readonly sp: bigint;
  readonly restored: Map<string, bigint>;
  readonly saved: Map<string, bigint>;
  /** By an exception or interrupt. */
  readonly interrupted?: boolean;
  /** The function under way has changed to another stack. */
  readonly otherStack?: boolean;
}

/**
 * By call-frame information, unless the kernel's own table tells of another frame: it knows better of assembly language
 * inside functions.
 */
function rulesAt(target: Target, frame: Frame): FrameRules | undefined {
  const program = target.programAt(frame.view, frame.lookupPc);
  const rules = program?.frameRules(frame.lookupPc);
  const orc = program && orcRules(frame.view, program, frame.lookupPc);
  if (!rules || !orc) return rules ?? orc;
  const [cfa, other] = [rules, orc].map((each) => attempt(() => cfaOf(frame, each)));
  return cfa === other ? rules : orc;
}

function findCaller(target: Target, frame: Frame): Caller | undefined {
  const rules = rulesAt(target, frame);
  const caller = rules
    ? byRules(frame, rules)
    : (byEventFrame(target, frame) ?? byCode(target, frame) ?? byFramePointer(target, frame));
  if (caller && isKnown(target, frame, caller)) return caller;
  // The rules of a function that has run a guest go by registers that are still the guest's.
  return rules?.cfa ? byCallOnStack(target, frame) : undefined;
}

const isKnown = (target: Target, { view }: Frame, { pc, interrupted }: Caller): boolean =>
  target.programAt(view, interrupted ? pc : pc - 1n) !== undefined;

function byEventFrame(target: Target, frame: Frame): Caller | undefined {
  const event = findEventFrame(target, frame);
  const pc = event?.values.get('rip');
  const sp = event?.values.get('rsp');
  if (!event || pc === undefined || sp === undefined) return undefined;
  const restored = new Map([...frame.restored, ...event.values]);
  return { pc, sp, restored, saved: new Map([...frame.saved, ...event.saved]), interrupted: true };
}

export function readWord(view: WorldView, address: bigint, size: 4 | 8): bigint | undefined {
  const bytes = view.read(address, size);
  if (bytes.length < size) return undefined;
  const data = new DataView(bytes.buffer, bytes.byteOffset, size);
  return size === 8 ? data.getBigUint64(0, true) : BigInt(data.getUint32(0, true));
}

const addressSizeOf = (rules: FrameRules): 4 | 8 => (rules.returnRegister === RETURN_ADDRESS_64 ? 8 : 4);

/** What expressions of call-frame information may ask: registers and memory only. */
function ruleContext(frame: Frame, addressSize: 4 | 8): ExpressionContext {
  const none = (): never => {
    throw new Unavailable('call-frame information refers to itself');
  };
  return {
    unit: undefined,
    addressSize,
    place: (address) => address,
    threadLocal: none,
    register: (number) => requiredRegister(frame, number, addressSize),
    read: (address, bytes) => {
      const found = frame.view.read(address, bytes);
      if (found.length < bytes) throw new Unavailable('unreadable');
      return found;
    },
    frameBase: none,
    cfa: none,
    entryValue: none,
    parameterValue: none,
  };
}

/** A register of a frame by DWARF's number. @throws Unavailable when it is not known. */
export function requiredRegister(frame: Frame, number: number, addressSize: number): bigint {
  if (frame.endedInto) throw new Unavailable('its function has ended by calling another one');
  const name = registerName(number, addressSize);
  const value = name === undefined ? undefined : frameRegister(frame, name);
  if (value === undefined) throw new Unavailable('not saved');
  return value;
}

/** The canonical frame address; undefined where neither call-frame information nor the code leads to it. */
export function frameCfa(target: Target, frame: Frame): bigint | undefined {
  const rules = target.programAt(frame.view, frame.lookupPc)?.frameRules(frame.lookupPc);
  if (rules) return attempt(() => cfaOf(frame, rules));
  const found = frame.endedInto ? undefined : findCodeFrame(target, frame);
  return found && found.returnAddress + (frame.view.bitness === 64 ? 8n : 4n);
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof Unavailable || error instanceof FormatError) return undefined;
    throw error;
  }
}

function cfaOf(frame: Frame, { cfa, ...rules }: FrameRules): bigint {
  const size = addressSizeOf({ cfa, ...rules });
  if (!cfa) throw new Unavailable('there is no rule for the canonical frame address');
  if ('expression' in cfa) return compute(cfa.expression, ruleContext(frame, size));
  return BigInt.asUintN(8 * size, requiredRegister(frame, cfa.register, size) + cfa.offset);
}

function byRules(frame: Frame, rules: FrameRules): Caller | undefined {
  const size = addressSizeOf(rules);
  const cfa = attempt(() => cfaOf(frame, rules));
  if (cfa === undefined) return undefined;
  const restored = new Map(frame.restored);
  const saved = new Map(frame.saved);
  for (const [number, rule] of rules.registers) {
    const name = registerName(number, size);
    if (name === undefined) continue;
    const address = attempt(() => savedAddress(frame, rule, cfa, size));
    const value =
      address === undefined ? attempt(() => ruleValue(frame, rule, cfa, size)) : readWord(frame.view, address, size);
    if (address !== undefined) saved.set(name, address);
    if (value === undefined) restored.delete(name);
    else restored.set(name, value);
  }
  const pc = restored.get('rip');
  if (pc === undefined || pc === 0n) return undefined;
  // What was interrupted has its stack pointer where the rule says, if there is one.
  const sp = rules.ofSignal && rules.registers.has(STACK_POINTER[size]) ? (restored.get('rsp') ?? cfa) : cfa;
  restored.set('rsp', sp);
  const otherStack = rules.cfa !== undefined && 'expression' in rules.cfa;
  return { pc, sp, restored, saved, interrupted: rules.ofSignal, otherStack };
}

/** DWARF's number of the stack pointer, by the size of addresses. */
const STACK_POINTER = { 8: 7, 4: 4 } as const;

/** Where on the stack a rule finds a register; undefined when the rule gives the value itself. */
function savedAddress(frame: Frame, rule: RegisterRule, cfa: bigint, size: 4 | 8): bigint | undefined {
  if (rule.kind === 'offset') return BigInt.asUintN(8 * size, cfa + rule.offset);
  return rule.kind === 'expression' ? compute(rule.expression, ruleContext(frame, size), cfa) : undefined;
}

function ruleValue(frame: Frame, rule: RegisterRule, cfa: bigint, size: 4 | 8): bigint | undefined {
  if (rule.kind === 'value') return cfa + rule.offset;
  if (rule.kind === 'valueExpression') return compute(rule.expression, ruleContext(frame, size), cfa);
  return rule.kind === 'register' ? requiredRegister(frame, rule.register, size) : undefined;
}

/** By what the function's code has done to the stack. */
function byCode(target: Target, frame: Frame): Caller | undefined {
  const found = findCodeFrame(target, frame);
  if (!found) return undefined;
  const size = frame.view.bitness === 64 ? 8 : 4;
  const caller = callerAt(frame, found.returnAddress, size, undefined);
  if (!caller || !isKnown(target, frame, caller)) return undefined;
  for (const [name, at] of found.saved) {
    const value = readWord(frame.view, at, size);
    if (value === undefined) continue;
    caller.restored.set(name, value);
    caller.saved.set(name, at);
  }
  return caller;
}

const ENDBR = [0xf3, 0x0f, 0x1e];
const PUSH_RBP = 0x55;
const RETURNS = [0xc3, 0xc2];
/** A frame pointer further above the stack pointer than this is no frame pointer. */
const LARGEST_FRAME = 0x10_0000n;

/**
 * Without call-frame information: at a function's first instructions and at its return the return address is on top of
 * the stack; elsewhere RBP, if it is a frame pointer, leads to it.
 */
function byFramePointer(target: Target, frame: Frame): Caller | undefined {
  const { view } = frame;
  const size = view.bitness === 64 ? 8 : 4;
  const sp = frame.depth === 0 ? view.sp : (frameRegister(frame, 'rsp') ?? 0n);
  const pushed = frame.depth === 0 ? pushedAtStart(target, frame) : undefined;
  if (pushed !== undefined) {
    const at = sp + BigInt(pushed * size);
    return callerAt(frame, at, size, pushed === 1 ? readWord(view, sp, size) : undefined);
  }
  const leaf = frame.depth === 0 && hasNoFramePointer(target, frame) ? byLeaf(target, frame, sp, size) : undefined;
  if (leaf) return leaf;
  const rbp = frameRegister(frame, 'rbp') ?? 0n;
  if (rbp < sp || rbp - sp > LARGEST_FRAME) return undefined;
  return callerAt(frame, rbp + BigInt(size), size, readWord(view, rbp, size));
}

/** How many words lie above the return address at the edges of a function; undefined in its middle. */
function pushedAtStart(target: Target, { view, pc }: Frame): 0 | 1 | undefined {
  const start = target.functionAt(view, pc)?.start;
  const code = view.read(pc, 1);
  if (code[0] !== undefined && RETURNS.includes(code[0])) return 0;
  if (start === undefined || pc - start > 5n) return undefined;
  const head = view.read(start, 5);
  const prefix = ENDBR.every((byte, index) => head[index] === byte) ? 4 : 0;
  if (pc <= start + BigInt(prefix)) return 0;
  return head[prefix] === PUSH_RBP && pc === start + BigInt(prefix + 1) ? 1 : undefined;
}

/** Whether a function does not begin with PUSH RBP: compilers leave frame pointers out of functions that call none. */
function hasNoFramePointer(target: Target, { view, pc }: Frame): boolean {
  const start = target.functionAt(view, pc)?.start;
  if (start === undefined) return false;
  const head = view.read(start, 5);
  return head[ENDBR.every((byte, index) => head[index] === byte) ? 4 : 0] !== PUSH_RBP;
}

/** RBP is still the caller's: the return address is on top of the stack, or where this function was called from. */
function byLeaf(target: Target, frame: Frame, sp: bigint, size: 4 | 8): Caller | undefined {
  const called = byCallOnStack(target, frame);
  const back = readWord(frame.view, sp, size);
  const home = back === undefined ? undefined : target.functionAt(frame.view, back - 1n);
  return called ?? (home && callerAt(frame, sp, size, undefined));
}

const CALL_RELATIVE = 0xe8;
const CALL_SIZE = 5;
/** A function written in assembly language pushes at most so many words. */
const MOST_WORDS = 40;

/** The lowest word on the stack that is the return address of a call of this very function. */
function byCallOnStack(target: Target, frame: Frame): Caller | undefined {
  const { view, lookupPc } = frame;
  const home = target.functionAt(view, lookupPc);
  if (!home || view.bitness !== 64) return undefined;
  const sp = frameRegister(frame, 'rsp') ?? 0n;
  const stack = view.read(sp, 8 * MOST_WORDS);
  const words = new DataView(stack.buffer, stack.byteOffset);
  for (let offset = 0; offset + 8 <= stack.length; offset += 8) {
    const back = words.getBigUint64(offset, true);
    if (back !== home.start + BigInt.asIntN(32, back - home.start)) continue;
    const at = sp + BigInt(offset);
    const call = view.read(back - BigInt(CALL_SIZE), CALL_SIZE);
    if (call.length < CALL_SIZE || call[0] !== CALL_RELATIVE) continue;
    const distance = new DataView(call.buffer, call.byteOffset).getInt32(1, true);
    if (back + BigInt(distance) !== home.start) continue;
    const pushesRbp = view.read(home.start, 1)[0] === PUSH_RBP;
    return callerAt(frame, at, 8, pushesRbp ? readWord(view, at - 8n, 8) : undefined);
  }
  return undefined;
}

function callerAt(frame: Frame, at: bigint, size: 4 | 8, rbp: bigint | undefined): Caller | undefined {
  const pc = readWord(frame.view, at, size);
  if (pc === undefined || !followsCall(frame.view, pc)) return undefined;
  const restored = new Map(frame.restored);
  const saved = new Map(frame.saved);
  const sp = at + BigInt(size);
  restored.set('rip', pc);
  restored.set('rsp', sp);
  if (rbp !== undefined) {
    restored.set('rbp', rbp);
    saved.set('rbp', at - BigInt(size));
  }
  return { pc, sp, restored, saved };
}

/** Whether the bytes before an address can be a call: CALL rel, or CALL r/m (FF /2) of 2 to 7 bytes. */
function followsCall(view: WorldView, pc: bigint): boolean {
  const before = view.read(pc - 7n, 7);
  if (before.length < 7) return false;
  if (before[2] === 0xe8 || before[4] === 0xe8) return true;
  return [0, 1, 2, 3, 4, 5].some((at) => before[at] === 0xff && (((before[at + 1] ?? 0) >> 3) & 7) === 2);
}
