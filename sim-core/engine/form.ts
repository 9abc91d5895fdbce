import type { CodeMode } from '../state/layout.ts';

/** Bytes that an instruction may have; more make it raise #GP(0) (SDM Vol. 3A, "Interrupt 13"). */
export const LONGEST_INSTRUCTION = 15;

/** What is known of an instruction before it runs, apart from its operand numbers: one interpreter handler per form. */
export interface Form {
  /** iced-x86 mnemonic number and name. */
  readonly mnemonic: number;
  readonly name: string;
  /** iced-x86 Code number: the exact encoding. */
  readonly code: number;
  readonly mode: CodeMode;
  readonly operands: readonly OperandForm[];
  /** How the memory operand's address is formed, when there is one. */
  readonly address: AddressForm | undefined;
  /** Effective operand size in bytes. */
  readonly operandSize: 2 | 4 | 8;
  readonly addressSize: 2 | 4 | 8;
  readonly flow: Flow;
  /** The repeat prefix of a string instruction with string operands. */
  readonly repeat: 'none' | 'rep' | 'repne';
  /** Whether the encoding has a VEX prefix: a destination of its own, and vector registers cleared above the result. */
  readonly vex: boolean;
}

/** Where control goes after the instruction. */
export type Flow = 'next' | 'jump' | 'conditional' | 'call' | 'indirect' | 'indirectCall' | 'return';

export type OperandForm =
  | { readonly kind: 'gpr'; readonly size: 1 | 2 | 4 | 8 }
  | { readonly kind: 'mm' | 'xmm' | 'ymm' }
  | { readonly kind: 'memory'; readonly size: number }
  | { readonly kind: 'immediate'; readonly size: 1 | 2 | 4 | 8 }
  | { readonly kind: 'near' }
  /** The selector of a segment register, which is read. */
  | { readonly kind: 'segment' }
  /** What RSI or RDI points to in 64-bit code, in a segment whose base is 0. */
  | { readonly kind: 'string'; readonly size: 1 | 2 | 4 | 8 }
  /** An operand that only slow instructions understand. */
  | { readonly kind: 'other' };

export interface AddressForm {
  readonly size: 2 | 4 | 8;
  readonly hasIndex: boolean;
  /** flat: base 0, no checks (64-bit DS, ES, SS, CS); based: FS or GS in 64-bit mode; checked: base and limit. */
  readonly segmentation: 'flat' | 'based' | 'checked';
}
