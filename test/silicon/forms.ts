import {
  Code,
  CodeExt,
  EncodingKind,
  OpCodeOperandKind as Kind,
  MemorySizeExt,
  Mnemonic,
  type OpCodeInfo,
} from 'iced-x86';
import { FAR_THROUGH_MEMORY } from '../../sim-core/isa/semantics.ts';
import { MODES, type TestMode } from './layout.ts';

/** Encodings under test, found in iced-x86's opcode table: nothing is listed that can be derived. */

/** How one operand is to be filled. */
export type OperandSource =
  | { readonly kind: 'gpr'; readonly size: 1 | 2 | 4 | 8 }
  | { readonly kind: 'xmm' | 'ymm' }
  | { readonly kind: 'mm' }
  /** Memory addressed by a vector of indices of `width` bytes. */
  | { readonly kind: 'vsib'; readonly register: 'xmm' | 'ymm'; readonly width: 4 | 8 }
  /** ST(i), or always ST(0). */
  | { readonly kind: 'st'; readonly fixed: boolean }
  | { readonly kind: 'fixed'; readonly register: 'AL' | 'CL' | 'AX' | 'DX' | 'EAX' | 'RAX' }
  | { readonly kind: 'memory'; readonly size: number }
  /** Immediate of `size` bytes, sign-extended to `extended` bytes. */
  | { readonly kind: 'immediate'; readonly size: 1 | 2 | 4 | 8; readonly extended: 1 | 2 | 4 | 8 }
  | { readonly kind: 'one' }
  /** Near branch to an offset of 2, 4 or 8 bytes. */
  | { readonly kind: 'branch'; readonly size: 2 | 4 | 8 }
  /** [rSI] or [rDI] of a string instruction, [rBX + AL] of XLAT. */
  | { readonly kind: 'string'; readonly index: 'rsi' | 'rdi' | 'rbx' };

export interface TestForm {
  readonly mode: TestMode;
  /** Tells forms apart; part of the seed, so that a form's cases do not depend on which others are tested. */
  readonly id: number;
  readonly code: Code;
  readonly mnemonic: string;
  /** The manual's notation. */
  readonly text: string;
  readonly operands: readonly OperandSource[];
  readonly canLock: boolean;
  readonly canRepeat: boolean;
}

const gpr = (size: 1 | 2 | 4 | 8): OperandSource => ({ kind: 'gpr', size });
const immediate = (size: 1 | 2 | 4 | 8, extended: 1 | 2 | 4 | 8 = size): OperandSource => ({
  kind: 'immediate', size, extended,
}); // biome-ignore format: one line says it
const MM: OperandSource = { kind: 'mm' };
const XMM: OperandSource = { kind: 'xmm' };
const YMM: OperandSource = { kind: 'ymm' };

/** Operand kinds with one meaning. */
const SIMPLE = new Map<Kind, OperandSource>([
  [Kind.r8_reg, gpr(1)], [Kind.r8_opcode, gpr(1)],
  [Kind.r16_reg, gpr(2)], [Kind.r16_rm, gpr(2)], [Kind.r16_opcode, gpr(2)],
  [Kind.r32_reg, gpr(4)], [Kind.r32_rm, gpr(4)], [Kind.r32_opcode, gpr(4)],
  [Kind.r64_reg, gpr(8)], [Kind.r64_rm, gpr(8)], [Kind.r64_opcode, gpr(8)],
  [Kind.mm_reg, MM], [Kind.mm_rm, MM],
  [Kind.st0, { kind: 'st', fixed: true }], [Kind.sti_opcode, { kind: 'st', fixed: false }],
  [Kind.r32_vvvv, gpr(4)], [Kind.r64_vvvv, gpr(8)],
  [Kind.xmm_reg, XMM], [Kind.xmm_rm, XMM], [Kind.xmm_vvvv, XMM], [Kind.xmm_is4, XMM],
  [Kind.ymm_reg, YMM], [Kind.ymm_rm, YMM], [Kind.ymm_vvvv, YMM], [Kind.ymm_is4, YMM],
  [Kind.mem_vsib32x, { kind: 'vsib', register: 'xmm', width: 4 }],
  [Kind.mem_vsib32y, { kind: 'vsib', register: 'ymm', width: 4 }],
  [Kind.mem_vsib64x, { kind: 'vsib', register: 'xmm', width: 8 }],
  [Kind.mem_vsib64y, { kind: 'vsib', register: 'ymm', width: 8 }],
  [Kind.al, { kind: 'fixed', register: 'AL' }], [Kind.cl, { kind: 'fixed', register: 'CL' }],
  [Kind.dx, { kind: 'fixed', register: 'DX' }],
  [Kind.ax, { kind: 'fixed', register: 'AX' }], [Kind.eax, { kind: 'fixed', register: 'EAX' }],
  [Kind.rax, { kind: 'fixed', register: 'RAX' }],
  [Kind.imm8, immediate(1)], [Kind.imm8_const_1, { kind: 'one' }],
  [Kind.imm8sex16, immediate(1, 2)], [Kind.imm8sex32, immediate(1, 4)], [Kind.imm8sex64, immediate(1, 8)],
  [Kind.imm16, immediate(2)], [Kind.imm32, immediate(4)], [Kind.imm32sex64, immediate(4, 8)],
  [Kind.imm64, immediate(8)],
  [Kind.br16_1, { kind: 'branch', size: 2 }], [Kind.br16_2, { kind: 'branch', size: 2 }],
  [Kind.br32_1, { kind: 'branch', size: 4 }], [Kind.br32_4, { kind: 'branch', size: 4 }],
  [Kind.br64_1, { kind: 'branch', size: 8 }], [Kind.br64_4, { kind: 'branch', size: 8 }],
  [Kind.seg_rSI, { kind: 'string', index: 'rsi' }], [Kind.es_rDI, { kind: 'string', index: 'rdi' }],
  [Kind.seg_rDI, { kind: 'string', index: 'rdi' }], [Kind.seg_rBX_al, { kind: 'string', index: 'rbx' }],
]); // biome-ignore format: a table reads better in rows

/** Operand kinds that are a register or memory. */
const EITHER = new Map<Kind, OperandSource>([
  [Kind.r8_or_mem, gpr(1)],
  [Kind.r16_or_mem, gpr(2)],
  [Kind.r32_or_mem, gpr(4)],
  [Kind.r64_or_mem, gpr(8)],
  [Kind.mm_or_mem, MM],
  [Kind.xmm_or_mem, XMM],
  [Kind.ymm_or_mem, YMM],
]);

/**
 * Every encoding for a mode of the given mnemonics, once with each register-or-memory operand as a register and
 * once as memory. Encodings with operands of other kinds are left out.
 * @param mnemonics iced-x86 numbers
 */
export function formsOf(mnemonics: ReadonlySet<number>, mode: TestMode): TestForm[] {
  const forms: TestForm[] = [];
  const codes = Code as unknown as Readonly<Record<string, number>>;
  for (const code of Object.values(codes)) {
    if (typeof code !== 'number') continue;
    const info = CodeExt.opCode(code);
    if (mnemonics.has(info.mnemonic) && isUsable(code, info, mode)) forms.push(...formsOfEncoding(code, info, mode));
    info.free();
  }
  return forms;
}

const NEAR_TRANSFERS = new Set<number>([Mnemonic.Jmp, Mnemonic.Call, Mnemonic.Ret]);
const SHORT_TARGETS = new Set<Kind>([Kind.br16_1, Kind.br16_2]);

/** Near transfers of 16 bits outside 16-bit code: they go to the lowest 64 KiB, where nothing can be mapped. */
const leavesForLowMemory = (info: OpCodeInfo): boolean =>
  SHORT_TARGETS.has(info.op0Kind) || (NEAR_TRANSFERS.has(info.mnemonic) && info.operandSize === 16);

const ENCODINGS: ReadonlySet<EncodingKind> = new Set([EncodingKind.Legacy, EncodingKind.VEX]);

function isUsable(code: Code, info: OpCodeInfo, mode: TestMode): boolean {
  const isCurrent = ENCODINGS.has(info.encoding) && info.decoderOption === 0;
  if (!isCurrent || FAR_THROUGH_MEMORY.has(code)) return false;
  switch (MODES[mode].bitness) {
    case 16:
      return info.mode16 && info.intelDecoder16;
    case 32:
      return info.mode32 && info.intelDecoder32 && !leavesForLowMemory(info);
    case 64:
      return info.mode64 && info.intelDecoder64 && !leavesForLowMemory(info);
  }
}

function formsOfEncoding(code: Code, info: OpCodeInfo, mode: TestMode): TestForm[] {
  const kinds = Array.from({ length: info.opCount }, (_, i) => info.opKind(i));
  const memory: OperandSource = { kind: 'memory', size: MemorySizeExt.size(info.memorySize) };
  const choices = kinds.map((kind): readonly OperandSource[] => {
    const simple = SIMPLE.get(kind);
    if (simple) return [simple];
    if (kind === Kind.mem || kind === Kind.mem_offs) return [memory];
    const register = EITHER.get(kind);
    return register ? [register, memory] : [];
  });
  return product(choices).map((operands, variant) => ({
    mode,
    id: code * 16 + variant,
    code,
    mnemonic: Mnemonic[info.mnemonic] ?? '?',
    text: info.instructionString,
    operands,
    canLock: info.canUseLockPrefix && operands[0]?.kind === 'memory',
    canRepeat: info.canUseRepPrefix && operands.some((operand) => operand.kind === 'string'),
  }));
}

/** All ways to take one of each list. */
function product<T>(lists: readonly (readonly T[])[]): T[][] {
  return lists.reduce<T[][]>((heads, list) => heads.flatMap((head) => list.map((item) => [...head, item])), [[]]);
}
