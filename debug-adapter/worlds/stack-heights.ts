/**
 * What a function does to the stack up to each of its instructions: how far RSP (and RBP, where it is the frame
 * pointer) is from where the return address lies. Read from the code along all its ways, where there is no call-frame
 * information.
 */

import { Decoder, DecoderOptions, FlowControl, type Instruction, Mnemonic, OpKind, Register } from 'iced-x86';

/** Bytes from where the return address is; undefined where the code does not tell. */
export interface StackHeight {
  readonly sp: number | undefined;
  readonly fp: number | undefined;
  /** Where registers that belong to the caller have been pushed, by their names. */
  readonly saved: ReadonlyMap<string, number>;
}

/** Larger functions take too long. */
const LARGEST = 0x8000;

/** By the addresses of instructions. */
export type StackHeights = ReadonlyMap<bigint, StackHeight>;

/** Registers that a called function has to leave as they were (x86-64 psABI, 3.2.1; of i386 the first ones). */
const PRESERVED: ReadonlyMap<Register, string> = new Map([
  [Register.RBX, 'rbx'],
  [Register.RBP, 'rbp'],
  [Register.R12, 'r12'],
  [Register.R13, 'r13'],
  [Register.R14, 'r14'],
  [Register.R15, 'r15'],
  [Register.EBX, 'rbx'],
  [Register.EBP, 'rbp'],
  [Register.ESI, 'rsi'],
  [Register.EDI, 'rdi'],
]);
const STACK_POINTERS: readonly Register[] = [Register.RSP, Register.ESP, Register.SP];
const FRAME_POINTERS: readonly Register[] = [Register.RBP, Register.EBP, Register.BP];
const READS_ONLY: readonly Mnemonic[] = [Mnemonic.Cmp, Mnemonic.Test, Mnemonic.Push, Mnemonic.Call, Mnemonic.Jmp];

type Effect = (instruction: Instruction, before: StackHeight) => StackHeight;

/** What adds a number to the stack pointer, or makes it anew. */
function moved(before: StackHeight, sp: number | undefined): StackHeight {
  return { ...before, sp };
}

const plus = (height: number | undefined, more: number): number | undefined =>
  height === undefined ? undefined : height + more;

function pushed(instruction: Instruction, before: StackHeight): StackHeight {
  const sp = plus(before.sp, instruction.stackPointerIncrement);
  const name = instruction.op0Kind === OpKind.Register ? PRESERVED.get(instruction.op0Register) : undefined;
  if (name === undefined || sp === undefined || before.saved.has(name)) return moved(before, sp);
  return { sp, fp: before.fp, saved: new Map([...before.saved, [name, sp]]) };
}

const without = (saved: StackHeight['saved'], name: string | undefined): StackHeight['saved'] =>
  new Map([...saved].filter(([each]) => each !== name));

function popped(instruction: Instruction, before: StackHeight): StackHeight {
  const { op0Kind, op0Register: register } = instruction;
  const sp = plus(before.sp, instruction.stackPointerIncrement);
  if (op0Kind !== OpKind.Register) return moved(before, sp);
  if (STACK_POINTERS.includes(register)) return moved(before, undefined);
  const fp = FRAME_POINTERS.includes(register) ? undefined : before.fp;
  return { sp, fp, saved: without(before.saved, PRESERVED.get(register)) };
}

/** LEAVE: what the frame pointer led to is the caller's frame pointer. */
const left = ({ fp, saved }: StackHeight, word: 4 | 8): StackHeight => ({
  sp: plus(fp, word),
  fp: undefined,
  saved: without(saved, 'rbp'),
});

/** `add rsp, 8`, `sub rsp, 8`. */
const summed =
  (sign: 1 | -1): Effect =>
  (instruction, before) => {
    const { op1Kind } = instruction;
    const isNumber = op1Kind !== OpKind.Register && op1Kind !== OpKind.Memory;
    return moved(
      before,
      isNumber ? plus(before.sp, sign * Number(BigInt.asIntN(64, instruction.immediate(1)))) : undefined,
    );
  };

/** `mov rsp, rbp`, `lea rsp, [rbp-16]`, `mov rbp, rsp`. */
function assigned(instruction: Instruction, before: StackHeight): StackHeight {
  const { mnemonic, op1Kind, op0Register: to } = instruction;
  const isAddress = mnemonic === Mnemonic.Lea && instruction.memoryIndex === Register.None;
  const from = isAddress
    ? instruction.memoryBase
    : op1Kind === OpKind.Register
      ? instruction.op1Register
      : Register.None;
  const distance = isAddress ? Number(BigInt.asIntN(64, instruction.memoryDisplacement)) : 0;
  const base = STACK_POINTERS.includes(from) ? before.sp : FRAME_POINTERS.includes(from) ? before.fp : undefined;
  const height = plus(base, distance);
  return STACK_POINTERS.includes(to) ? moved(before, height) : { ...before, fp: height };
}

const EFFECTS: ReadonlyMap<Mnemonic, Effect> = new Map([
  [Mnemonic.Add, summed(1)],
  [Mnemonic.Sub, summed(-1)],
  [Mnemonic.Mov, assigned],
  [Mnemonic.Lea, assigned],
]);

function after(instruction: Instruction, before: StackHeight, word: 4 | 8): StackHeight {
  const { mnemonic, op0Kind, op0Register: register } = instruction;
  if (mnemonic === Mnemonic.Leave) return left(before, word);
  if (mnemonic === Mnemonic.Enter) return { sp: undefined, fp: undefined, saved: before.saved };
  if (mnemonic === Mnemonic.Pop) return popped(instruction, before);
  // A call leaves the stack as it was when it comes back.
  const isCall = instruction.flowControl === FlowControl.Call || instruction.flowControl === FlowControl.IndirectCall;
  if (isCall) return before;
  if (instruction.stackPointerIncrement !== 0) return pushed(instruction, before);
  if (op0Kind !== OpKind.Register || READS_ONLY.includes(mnemonic)) return before;
  if (STACK_POINTERS.includes(register))
    return EFFECTS.get(mnemonic)?.(instruction, before) ?? moved(before, undefined);
  if (!FRAME_POINTERS.includes(register)) return before;
  return mnemonic === Mnemonic.Mov || mnemonic === Mnemonic.Lea
    ? assigned(instruction, before)
    : { ...before, fp: undefined };
}

const ENDS: readonly FlowControl[] = [
  FlowControl.Return,
  FlowControl.UnconditionalBranch,
  FlowControl.IndirectBranch,
  FlowControl.Exception,
];
const BRANCHES: readonly FlowControl[] = [FlowControl.UnconditionalBranch, FlowControl.ConditionalBranch];
const AT_ENTRY: StackHeight = { sp: 0, fp: undefined, saved: new Map() };

/** A stretch of code. */
export interface Code {
  readonly start: bigint;
  readonly bytes: Uint8Array;
}

/** Follows a function's ways from instruction to instruction. */
class Analysis {
  readonly heights = new Map<bigint, StackHeight>();
  private readonly parts: readonly Code[];
  private readonly decoders: readonly Decoder[];
  private readonly word: 4 | 8;
  private readonly open: [address: bigint, height: StackHeight][] = [];
  /** Behind instructions that no other follows. */
  private readonly gaps: bigint[] = [];
  /** At jumps through tables: what is in the gaps begins so. */
  private atTable: StackHeight | undefined;

  constructor(parts: readonly Code[], bitness: 32 | 64) {
    this.parts = parts;
    this.decoders = parts.map(({ bytes }) => new Decoder(bitness, bytes, DecoderOptions.None));
    this.word = bitness === 64 ? 8 : 4;
  }

  run(start: bigint): void {
    this.follow(start, AT_ENTRY);
    while (this.atTable) {
      const gap = this.gaps.pop();
      if (gap === undefined) break;
      this.follow(gap, this.atTable);
    }
    for (const decoder of this.decoders) decoder.free();
  }

  private follow(start: bigint, height: StackHeight): void {
    this.open.push([start, height]);
    for (let next = this.open.pop(); next; next = this.open.pop()) {
      if (!this.heights.has(next[0])) this.step(...next);
    }
  }

  private step(address: bigint, height: StackHeight): void {
    const instruction = this.decode(address);
    // Behind the last instruction of a part a call may return.
    this.heights.set(address, height);
    if (!instruction) return;
    const { flowControl } = instruction;
    if (BRANCHES.includes(flowControl)) this.open.push([instruction.nearBranchTarget, height]);
    // With nothing on the stack it is a call of another function.
    if (flowControl === FlowControl.IndirectBranch && height.sp !== 0) this.atTable ??= height;
    if (instruction.isInvalid || ENDS.includes(flowControl)) this.gaps.push(instruction.nextIP);
    else this.open.push([instruction.nextIP, after(instruction, height, this.word)]);
    instruction.free();
  }

  private decode(address: bigint): Instruction | undefined {
    const index = this.parts.findIndex(
      ({ start, bytes }) => address >= start && address < start + BigInt(bytes.length),
    );
    const [part, decoder] = [this.parts[index], this.decoders[index]];
    if (!part || !decoder) return undefined;
    decoder.position = Number(address - part.start);
    decoder.ip = address;
    return decoder.decode();
  }
}

/**
 * @param parts of the function: the first one begins with its first instruction, others are what a compiler has moved
 * away from it
 */
export function stackHeights(parts: readonly Code[], bitness: 32 | 64): StackHeights {
  const size = parts.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const [first] = parts;
  if (!first || size > LARGEST) return new Map();
  const analysis = new Analysis(parts, bitness);
  analysis.run(first.start);
  return analysis.heights;
}
