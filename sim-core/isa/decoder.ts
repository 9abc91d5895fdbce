import {
  Code,
  CodeExt,
  Decoder,
  DecoderError,
  EncodingKind,
  FlowControl,
  Instruction,
  MemorySizeExt,
  Mnemonic,
  OpKind,
  Register,
} from 'iced-x86';
import { type AddressForm, type Flow, type Form, LONGEST_INSTRUCTION, type OperandForm } from '../engine/form.ts';
import { CODE_MODE, type CodeMode, SEGMENT } from '../state/layout.ts';
import type { DecodedInstruction, MemoryOperand, Operand, OperandSize } from './instruction.ts';
import { REGISTERS } from './registers.ts';

/** Facts of an encoding that iced-x86 computes slowly, kept per Code number. */
interface CodeFacts {
  readonly operandSize: 0 | 2 | 4 | 8;
  readonly addressSize: 0 | 2 | 4 | 8;
  readonly encoding: EncodingKind;
}

const facts: (CodeFacts | undefined)[] = [];

function factsOf(code: number): CodeFacts {
  let known = facts[code];
  if (!known) {
    const info = CodeExt.opCode(code);
    known = {
      operandSize: (info.operandSize / 8) as 0,
      addressSize: (info.addressSize / 8) as 0,
      encoding: info.encoding,
    };
    info.free();
    facts[code] = known;
  }
  return known;
}

export const BITNESS: Readonly<Record<CodeMode, 16 | 32 | 64>> = {
  [CODE_MODE.code16stack16]: 16,
  [CODE_MODE.code16stack32]: 16,
  [CODE_MODE.code32stack16]: 32,
  [CODE_MODE.code32stack32]: 32,
  [CODE_MODE.code64]: 64,
};

/** Immediate kinds: size in bytes after extension. */
const IMMEDIATE_SIZE = new Map<number, 1 | 2 | 4 | 8>([
  [OpKind.Immediate8, 1],
  [OpKind.Immediate8_2nd, 1],
  [OpKind.Immediate16, 2],
  [OpKind.Immediate32, 4],
  [OpKind.Immediate64, 8],
  [OpKind.Immediate8to16, 2],
  [OpKind.Immediate8to32, 4],
  [OpKind.Immediate8to64, 8],
  [OpKind.Immediate32to64, 8],
]);
/** Implicit memory operands of string instructions: address size in bytes. */
const STRING_ADDRESS_SIZE = new Map<number, 2 | 4 | 8>([
  [OpKind.MemorySegSI, 2],
  [OpKind.MemorySegESI, 4],
  [OpKind.MemorySegRSI, 8],
  [OpKind.MemorySegDI, 2],
  [OpKind.MemorySegEDI, 4],
  [OpKind.MemorySegRDI, 8],
  [OpKind.MemoryESDI, 2],
  [OpKind.MemoryESEDI, 4],
  [OpKind.MemoryESRDI, 8],
]);
/** String instructions that are staged. */
const STAGED_STRINGS: ReadonlySet<number> = new Set([
  Code.Movsb_m8_m8, Code.Movsw_m16_m16, Code.Movsd_m32_m32, Code.Movsq_m64_m64,
  Code.Stosb_m8_AL, Code.Stosw_m16_AX, Code.Stosd_m32_EAX, Code.Stosq_m64_RAX,
]); // biome-ignore format: a table reads better in rows
/** Instructions that read a segment register: MOV and nothing else is staged. */
const READS_SELECTOR: ReadonlySet<number> = new Set([Code.Mov_rm16_Sreg, Code.Mov_r32m16_Sreg, Code.Mov_r64m16_Sreg]);
const FLOW = new Map<number, Flow>([
  [FlowControl.UnconditionalBranch, 'jump'],
  [FlowControl.ConditionalBranch, 'conditional'],
  [FlowControl.Call, 'call'],
  [FlowControl.IndirectBranch, 'indirect'],
  [FlowControl.IndirectCall, 'indirectCall'],
  [FlowControl.Return, 'return'],
]);
const LEGACY_PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
const NEAR = new Set<number>([OpKind.NearBranch16, OpKind.NearBranch32, OpKind.NearBranch64]);
const FAR = new Set<number>([OpKind.FarBranch16, OpKind.FarBranch32]);

/**
 * iced-x86's decoder over code of one mode. Instruction pointers given and returned are offsets within the page (so
 * that decoded pages do not depend on where they are mapped).
 */
export class InstructionDecoder {
  readonly instruction: Instruction;
  private readonly decoder: Decoder;
  private readonly mode: CodeMode;
  private readonly bytes: Uint8Array;
  private readonly start: number;
  private readonly ownsInstruction: boolean;

  /** @param bytes code from page offset `start` on. @param instruction one to decode into, which stays the caller's */
  constructor(mode: CodeMode, bytes: Uint8Array, start: number, instruction?: Instruction) {
    this.instruction = instruction ?? new Instruction();
    this.ownsInstruction = instruction === undefined;
    this.mode = mode;
    this.bytes = bytes;
    this.start = start;
    this.decoder = new Decoder(BITNESS[mode], bytes, 0);
    this.decoder.ip = BigInt(start);
  }

  /** Decodes the next instruction into `instruction`. */
  next(): 'ok' | 'invalid' | 'truncated' {
    this.decoder.decodeOut(this.instruction);
    switch (this.decoder.lastError) {
      case DecoderError.None:
        return 'ok';
      case DecoderError.NoMoreBytes:
        return 'truncated';
      default:
        return 'invalid';
    }
  }

  /**
   * Whether the instruction that `next` found invalid would be a valid one without some of its prefixes, and is too long
   * only with them.
   */
  isTooLong(): boolean {
    const start = this.offset - this.start;
    for (let skipped = 1; LEGACY_PREFIXES.has(this.bytes[start + skipped - 1] ?? 0); skipped++) {
      const from = start + skipped;
      const rest = new Decoder(BITNESS[this.mode], this.bytes.subarray(from, from + LONGEST_INSTRUCTION), 0);
      const instruction = rest.decode();
      const length = rest.lastError === DecoderError.None ? instruction.length : 0;
      instruction.free();
      rest.free();
      if (length > 0) return skipped + length > LONGEST_INSTRUCTION;
    }
    return false;
  }

  free(): void {
    this.decoder.free();
    if (this.ownsInstruction) this.instruction.free();
  }

  /** Page offset of the instruction last decoded. */
  get offset(): number {
    return Number(this.instruction.ip);
  }

  get hasMemoryOperand(): boolean {
    const { instruction } = this;
    for (let i = 0; i < instruction.opCount; i++) if (instruction.opKind(i) === OpKind.Memory) return true;
    return false;
  }

  /** Identifies the form, in 25 bits: two instructions with the same key have the same handler. */
  formKey(): number {
    const { instruction } = this;
    const key = instruction.code | (this.mode << 13);
    const count = instruction.opCount;
    for (let i = 0; i < count; i++) {
      const kind = instruction.opKind(i);
      if (kind === OpKind.Memory) return key | this.addressKey(i);
      const size = STRING_ADDRESS_SIZE.get(kind);
      if (size !== undefined) return key | this.stringKey(size);
    }
    return key;
  }

  private stringKey(addressSize: 2 | 4 | 8): number {
    const { instruction } = this;
    const repeat = (instruction.hasRepPrefix ? 1 : 0) | (instruction.hasRepnePrefix ? 2 : 0);
    return ((addressSize >> 2) << 19) | (this.isBased() << 22) | (repeat << 23);
  }

  /** 1 when the memory operand's segment has a base in 64-bit mode. */
  private isBased(): 0 | 1 {
    const segment = this.instruction.memorySegment;
    return segment === Register.FS || segment === Register.GS ? 1 : 0;
  }

  /** @param i number of the memory operand */
  private addressKey(i: number): number {
    const { instruction } = this;
    const hasIndex = instruction.memoryIndex === Register.None ? 0 : 1;
    return ((i + 1) << 16) | ((this.memoryAddressSize() >> 2) << 19) | (hasIndex << 21) | (this.isBased() << 22);
  }

  form(): Form {
    const { instruction } = this;
    const operands = Array.from({ length: instruction.opCount }, (_, i) => this.operandForm(i));
    return {
      mnemonic: instruction.mnemonic,
      name: Mnemonic[instruction.mnemonic] ?? '?',
      code: instruction.code,
      mode: this.mode,
      operands,
      address: this.hasMemoryOperand ? this.addressForm() : undefined,
      operandSize: this.operandSize(),
      addressSize: this.addressSize(),
      repeat: instruction.hasRepnePrefix ? 'repne' : instruction.hasRepPrefix ? 'rep' : 'none',
      flow: FLOW.get(instruction.flowControl) ?? 'next',
      vex: factsOf(instruction.code).encoding === EncodingKind.VEX,
    };
  }

  private operandForm(i: number): OperandForm {
    const { instruction } = this;
    // Mnemonics are shared with EVEX encodings, which have operands of other kinds.
    if (factsOf(instruction.code).encoding > EncodingKind.VEX) return { kind: 'other' };
    const kind = instruction.opKind(i);
    if (kind === OpKind.Register) {
      const location = REGISTERS.get(instruction.opRegister(i));
      if (location?.kind === 'gpr') return { kind: 'gpr', size: location.size as 1 | 2 | 4 | 8 };
      if (location?.kind === 'mm') return { kind: 'mm' };
      if (location?.kind === 'segment' && READS_SELECTOR.has(instruction.code)) return { kind: 'segment' };
      return location?.kind === 'xmm' || location?.kind === 'ymm' ? { kind: location.kind } : { kind: 'other' };
    }
    if (kind === OpKind.Memory) return { kind: 'memory', size: MemorySizeExt.size(instruction.memorySize) };
    if (NEAR.has(kind)) return { kind: 'near' };
    if (STRING_ADDRESS_SIZE.has(kind)) return this.stringForm(kind);
    const size = IMMEDIATE_SIZE.get(kind);
    return size === undefined ? { kind: 'other' } : { kind: 'immediate', size };
  }

  private stringForm(kind: OpKind): OperandForm {
    const { instruction } = this;
    const isPlain = STRING_ADDRESS_SIZE.get(kind) === 8 && this.isBased() === 0;
    if (!isPlain || !STAGED_STRINGS.has(instruction.code)) return { kind: 'other' };
    return { kind: 'string', size: MemorySizeExt.size(instruction.memorySize) as 1 | 2 | 4 | 8 };
  }

  private addressForm(): AddressForm {
    const { instruction } = this;
    return {
      size: this.memoryAddressSize(),
      hasIndex: instruction.memoryIndex !== Register.None,
      segmentation: this.mode !== CODE_MODE.code64 ? 'checked' : this.isBased() ? 'based' : 'flat',
    };
  }

  private memoryAddressSize(): 2 | 4 | 8 {
    const { instruction } = this;
    const register = instruction.memoryBase || instruction.memoryIndex;
    if (register === Register.RIP) return 8;
    if (register === Register.EIP) return 4;
    const location = REGISTERS.get(register);
    // Without a base, a gather's index says nothing: it is a vector.
    if (location?.kind === 'gpr') return location.size as 2 | 4 | 8;
    const size = instruction.memoryDisplSize;
    return size === 8 || size === 4 || size === 2 ? size : ((BITNESS[this.mode] / 8) as 2);
  }

  private operandSize(): 2 | 4 | 8 {
    const known = factsOf(this.instruction.code).operandSize;
    if (known !== 0) return known;
    return BITNESS[this.mode] === 16 ? 2 : 4;
  }

  private addressSize(): 2 | 4 | 8 {
    const { instruction } = this;
    for (let i = 0; i < instruction.opCount; i++) {
      const kind = instruction.opKind(i);
      if (kind === OpKind.Memory) return this.memoryAddressSize();
      const size = STRING_ADDRESS_SIZE.get(kind);
      if (size !== undefined) return size;
    }
    return factsOf(instruction.code).addressSize || ((BITNESS[this.mode] / 8) as 2);
  }

  /** A plain copy for slow instructions and people. */
  decoded(): DecodedInstruction {
    const { instruction } = this;
    const from = this.offset - this.start;
    return {
      mnemonic: instruction.mnemonic,
      code: instruction.code,
      length: instruction.length,
      operands: Array.from({ length: instruction.opCount }, (_, i) => this.operand(i)),
      operandSize: this.operandSize(),
      addressSize: this.addressSize(),
      rep: instruction.hasRepPrefix,
      repne: instruction.hasRepnePrefix,
      lock: instruction.hasLockPrefix,
      bytes: this.bytes.slice(from, from + instruction.length),
    };
  }

  private operand(i: number): Operand {
    const { instruction } = this;
    const kind = instruction.opKind(i);
    if (kind === OpKind.Register) {
      const register = instruction.opRegister(i);
      return { kind: 'register', register, size: (REGISTERS.get(register)?.size ?? this.operandSize()) as OperandSize };
    }
    if (NEAR.has(kind)) return { kind: 'near', target: BigInt.asIntN(64, instruction.nearBranchTarget) };
    if (FAR.has(kind)) {
      const offset = kind === OpKind.FarBranch16 ? instruction.farBranch16 : instruction.farBranch32;
      return { kind: 'far', selector: instruction.farBranchSelector, offset };
    }
    const size = IMMEDIATE_SIZE.get(kind);
    if (size !== undefined) return { kind: 'immediate', value: instruction.immediate(i), size };
    return {
      kind: 'memory',
      memory: this.memoryOperand(kind),
      size: MemorySizeExt.size(instruction.memorySize) as OperandSize,
    };
  }

  private memoryOperand(kind: OpKind): MemoryOperand {
    const { instruction } = this;
    const string = STRING_ADDRESS_SIZE.get(kind);
    const segment =
      kind === OpKind.MemoryESDI || kind === OpKind.MemoryESEDI || kind === OpKind.MemoryESRDI
        ? SEGMENT.es
        : (REGISTERS.get(instruction.memorySegment)?.number ?? SEGMENT.ds);
    if (string !== undefined) {
      return { segment, base: Register.None, index: Register.None, scale: 1, displacement: 0n, addressSize: string };
    }
    const relative = instruction.memoryBase === Register.RIP || instruction.memoryBase === Register.EIP;
    const displacement = BigInt.asIntN(64, instruction.memoryDisplacement);
    return {
      segment,
      base: instruction.memoryBase,
      index: instruction.memoryIndex,
      scale: instruction.memoryIndexScale as 1 | 2 | 4 | 8,
      displacement: relative ? displacement - BigInt(this.offset + instruction.length) : displacement,
      addressSize: this.memoryAddressSize(),
    };
  }
}
