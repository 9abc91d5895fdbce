import { STAGED_INSTRUCTIONS } from '../cpu/staged-instructions.ts';
import type { Semantics } from '../engine/stage.ts';
import { SEMANTICS } from '../isa/semantics.ts';
import { VMX_SEMANTICS } from '../vmx/staged.ts';

/** All staged instructions, by mnemonic number. */
export const STAGED_SEMANTICS: ReadonlyMap<number, Semantics> = new Map([
  ...SEMANTICS,
  ...STAGED_INSTRUCTIONS,
  ...VMX_SEMANTICS,
]);
