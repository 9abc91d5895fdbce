import { ARITHMETIC_INSTRUCTIONS } from './arithmetic-instructions.ts';
import { CONTROL_INSTRUCTIONS } from './control-instructions.ts';
import type { SlowInstructionTable } from './cpu.ts';
import { DESCRIPTOR_INSTRUCTIONS } from './descriptor-instructions.ts';
import { FAR_TRANSFERS } from './far-transfers.ts';
import { FPU_INSTRUCTIONS } from './fpu-instructions.ts';
import { MMX_INSTRUCTIONS } from './mmx-instructions.ts';
import { PORT_INSTRUCTIONS } from './port-instructions.ts';
import { STRING_INSTRUCTIONS } from './string-instructions.ts';
import { SYSTEM_CALLS } from './system-calls.ts';
import { SYSTEM_INSTRUCTIONS } from './system-instructions.ts';
import { byMnemonic } from './table.ts';
import { VECTOR_INSTRUCTIONS } from './vector-instructions.ts';
import { WAIT_INSTRUCTIONS } from './wait-instructions.ts';
import { X87_INSTRUCTIONS } from './x87/instructions.ts';
import { XSAVE_INSTRUCTIONS } from './xsave-instructions.ts';

/** All slow instructions outside VMX, by iced-x86 mnemonic. */
export const CPU_INSTRUCTIONS: SlowInstructionTable = new Map(
  [
    ARITHMETIC_INSTRUCTIONS,
    CONTROL_INSTRUCTIONS,
    DESCRIPTOR_INSTRUCTIONS,
    FAR_TRANSFERS,
    FPU_INSTRUCTIONS,
    MMX_INSTRUCTIONS,
    PORT_INSTRUCTIONS,
    STRING_INSTRUCTIONS,
    SYSTEM_CALLS,
    SYSTEM_INSTRUCTIONS,
    VECTOR_INSTRUCTIONS,
    WAIT_INSTRUCTIONS,
    XSAVE_INSTRUCTIONS,
    X87_INSTRUCTIONS,
  ].flatMap(byMnemonic),
);
