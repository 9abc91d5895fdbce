import { GPR } from '../sim-core/state/layout.ts';
import type { FrameRules, RegisterRule } from './symbols/call-frames.ts';
import { RETURN_ADDRESS_64 } from './symbols/call-frames.ts';
import type { Target } from './target.ts';
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
  /** The caller's stack pointer after the return; undefined when the caller cannot be found. */
  readonly callerSp: bigint | undefined;
  /** Registers as this activation has them; others are as the world has them. */
  readonly restored: ReadonlyMap<string, bigint>;
}

/** DWARF's register numbers (x86-64 psABI figure 3.36; i386 psABI table 2.14). */
const NAMES_64 = 'rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip'.split(' ');
const NAMES_32 = 'rax rcx rdx rbx rsp rbp rsi rdi rip'.split(' ');

const DEEPEST = 100;

/** The register's value in the frame. */
export function frameRegister(frame: Frame, name: string): bigint | undefined {
  return frame.restored.get(name) ?? frame.view.register(name);
}

/** The activations of a world, the innermost first: by call-frame information, else by frame pointers. */
export function unwind(target: Target, view: WorldView): Frame[] {
  const frames: Frame[] = [];
  let pc = view.pc;
  let restored: Map<string, bigint> = new Map();
  while (frames.length < DEEPEST) {
    const depth = frames.length;
    const lookupPc = depth === 0 ? pc : pc - 1n;
    const here: Frame = { view, depth, pc, lookupPc, callerSp: undefined, restored };
    const caller = isOutermost(target, here) ? undefined : findCaller(target, here);
    const sound = caller !== undefined && caller.sp > (frameRegister(here, 'rsp') ?? 0n);
    frames.push({ ...here, callerSp: sound ? caller.sp : undefined });
    if (!caller || !sound) break;
    pc = caller.pc;
    restored = caller.restored;
  }
  return frames;
}

/** The function that VM exits enter has no caller: its stack begins at HOST_RSP. */
function isOutermost(target: Target, { view, lookupPc }: Frame): boolean {
  if (view.world !== 'vmm') return false;
  const handler = vmcsField(view.machine, 'HOST_RIP');
  if (handler === undefined) return false;
  const home = target.functionAt('vmm', handler);
  return home !== undefined && home.start === target.functionAt('vmm', lookupPc)?.start;
}

interface Caller {
  readonly pc: bigint;
  readonly sp: bigint;
  readonly restored: Map<string, bigint>;
}

function findCaller(target: Target, frame: Frame): Caller | undefined {
  const program = target.programAt(frame.view.world, frame.lookupPc);
  const rules = program?.frameRules(frame.lookupPc);
  const caller = rules ? byRules(frame, rules) : byFramePointer(target, frame);
  if (!caller || target.programAt(frame.view.world, caller.pc - 1n) === undefined) return undefined;
  return caller;
}

export function readWord(view: WorldView, address: bigint, size: 4 | 8): bigint | undefined {
  const bytes = view.read(address, size);
  if (bytes.length < size) return undefined;
  const data = new DataView(bytes.buffer, bytes.byteOffset, size);
  return size === 8 ? data.getBigUint64(0, true) : BigInt(data.getUint32(0, true));
}

function byRules(frame: Frame, rules: FrameRules): Caller | undefined {
  const wide = rules.returnRegister === RETURN_ADDRESS_64;
  const names = wide ? NAMES_64 : NAMES_32;
  const size = wide ? 8 : 4;
  const base = rules.cfa && frameRegister(frame, names[rules.cfa.register] ?? '');
  if (base === undefined || !rules.cfa) return undefined;
  const cfa = BigInt.asUintN(8 * size, base + rules.cfa.offset);
  const restored = new Map(frame.restored);
  for (const [number, rule] of rules.registers) {
    const name = names[number];
    if (name === undefined) continue;
    const value = applyRule(frame, rule, cfa, size, names);
    if (value === undefined) restored.delete(name);
    else restored.set(name, value);
  }
  const pc = restored.get('rip');
  if (pc === undefined || pc === 0n) return undefined;
  restored.set('rsp', cfa);
  return { pc, sp: cfa, restored };
}

function applyRule(
  frame: Frame,
  rule: RegisterRule,
  cfa: bigint,
  size: 4 | 8,
  names: readonly string[],
): bigint | undefined {
  if (rule.kind === 'offset') return readWord(frame.view, cfa + rule.offset, size);
  if (rule.kind === 'value') return cfa + rule.offset;
  return rule.kind === 'register' ? frameRegister(frame, names[rule.register] ?? '') : undefined;
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
  const rbp = frameRegister(frame, 'rbp') ?? 0n;
  if (rbp < sp || rbp - sp > LARGEST_FRAME) return undefined;
  return callerAt(frame, rbp + BigInt(size), size, readWord(view, rbp, size));
}

/** How many words lie above the return address at the edges of a function; undefined in its middle. */
function pushedAtStart(target: Target, { view, pc }: Frame): 0 | 1 | undefined {
  const start = target.functionAt(view.world, pc)?.start;
  const code = view.read(pc, 1);
  if (code[0] !== undefined && RETURNS.includes(code[0])) return 0;
  if (start === undefined || pc - start > 5n) return undefined;
  const head = view.read(start, 5);
  const prefix = ENDBR.every((byte, index) => head[index] === byte) ? 4 : 0;
  if (pc <= start + BigInt(prefix)) return 0;
  return head[prefix] === PUSH_RBP && pc === start + BigInt(prefix + 1) ? 1 : undefined;
}

function callerAt(frame: Frame, at: bigint, size: 4 | 8, rbp: bigint | undefined): Caller | undefined {
  const pc = readWord(frame.view, at, size);
  if (pc === undefined || !followsCall(frame.view, pc)) return undefined;
  const restored = new Map(frame.restored);
  const sp = at + BigInt(size);
  restored.set('rip', pc);
  restored.set('rsp', sp);
  if (rbp !== undefined) restored.set('rbp', rbp);
  return { pc, sp, restored };
}

/** Whether the bytes before an address can be a call: CALL rel, or CALL r/m (FF /2) of 2 to 7 bytes. */
function followsCall(view: WorldView, pc: bigint): boolean {
  const before = view.read(pc - 7n, 7);
  if (before.length < 7) return false;
  if (before[2] === 0xe8 || before[4] === 0xe8) return true;
  return [0, 1, 2, 3, 4, 5].some((at) => before[at] === 0xff && (((before[at + 1] ?? 0) >> 3) & 7) === 2);
}

/** The general registers that a debugger lists first, in encoding order. */
export const GENERAL_NAMES: readonly string[] = Object.keys(GPR);
