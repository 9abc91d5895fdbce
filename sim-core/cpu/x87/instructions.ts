import type { NamedInstructions } from '../table.ts';
import { X87_ARITHMETIC } from './arithmetic-instructions.ts';
import { X87_CONTROL } from './control-instructions.ts';
import { X87_TRANSFERS } from './transfer-instructions.ts';

/** The x87 instruction set and WAIT, by iced-x86 mnemonic names. */
export const X87_INSTRUCTIONS: NamedInstructions = { ...X87_ARITHMETIC, ...X87_CONTROL, ...X87_TRANSFERS };
