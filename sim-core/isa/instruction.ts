/** What a slow (TypeScript) instruction knows of its encoding: a plain copy of iced-x86's decoded instruction. */

import type { Mnemonic, Register } from 'iced-x86';

/** Width of an operand in bytes; 0 when the operand has no size (an address of INVLPG or LEA). */
export type OperandSize = 0 | 1 | 2 | 4 | 6 | 8 | 10 | 16 | 32 | 64;

export type Operand =
  | { readonly kind: 'register'; readonly register: Register; readonly size: OperandSize }
  | { readonly kind: 'memory'; readonly memory: MemoryOperand; readonly size: OperandSize }
  | { readonly kind: 'immediate'; readonly value: bigint; readonly size: OperandSize }
  /** Target of a near branch: an offset in the code segment. */
  | { readonly kind: 'near'; readonly target: bigint }
  | { readonly kind: 'far'; readonly selector: number; readonly offset: number };

export interface MemoryOperand {
  /** Segment register index (SEGMENT): the default one or the override. */
  readonly segment: number;
  /** iced-x86 registers; Register.None (0) when absent. RIP-relative addresses have base RIP and the displacement. */
  readonly base: Register;
  readonly index: Register;
  readonly scale: 1 | 2 | 4 | 8;
  /** Sign-extended displacement; for RIP-relative operands relative to the instruction's *end*. */
  readonly displacement: bigint;
  /** 2, 4 or 8 bytes. */
  readonly addressSize: 2 | 4 | 8;
}

export interface DecodedInstruction {
  readonly mnemonic: Mnemonic;
  /** iced-x86 Code: the exact encoding form. */
  readonly code: number;
  /** Length in bytes, 1…15. */
  readonly length: number;
  readonly operands: readonly Operand[];
  /** Effective operand size in bytes (2, 4 or 8) and address size (2, 4 or 8). */
  readonly operandSize: 2 | 4 | 8;
  readonly addressSize: 2 | 4 | 8;
  readonly rep: boolean;
  readonly repne: boolean;
  readonly lock: boolean;
  /** The encoding, for messages. */
  readonly bytes: Uint8Array;
}
