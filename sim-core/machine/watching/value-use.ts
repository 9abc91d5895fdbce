/** Which instructions may read or write a watched register, MSR or VMCS field, as their encodings tell. */

import { type Instruction, Mnemonic } from 'iced-x86';
import { isIntricate, registerUse } from './register-use.ts';
import { keepsItsValue, type ValueWatch } from './watched-values.ts';

/** What an instruction may do to something watched, as its encoding tells. */
export interface Use {
  readonly reads: boolean;
  readonly writes: boolean;
  /** It may write without naming it: told when the value is another one afterwards. */
  readonly mayChange?: boolean;
}

/** It does nothing to it. */
export const NONE: Use = { reads: false, writes: false };
/** Instructions beside WRMSR that write MSRs, by MSR index. */
const MSR_WRITERS: ReadonlyMap<number, readonly Mnemonic[]> = new Map([
  [0xc000_0100, [Mnemonic.Wrfsbase]],
  [0xc000_0101, [Mnemonic.Wrgsbase, Mnemonic.Swapgs]],
  [0xc000_0102, [Mnemonic.Swapgs]],
]);
/** The segment registers that take an MSR's value along when they are loaded. */
const MSR_SEGMENTS: ReadonlyMap<number, string> = new Map([
  [0xc000_0100, 'fs'],
  [0xc000_0101, 'gs'],
]);
/** VMX instructions that may change fields of the current VMCS without naming them. */
const VMX_INSTRUCTIONS: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Vmread,
  Mnemonic.Vmwrite,
  Mnemonic.Vmlaunch,
  Mnemonic.Vmresume,
  Mnemonic.Vmptrld,
  Mnemonic.Vmclear,
  Mnemonic.Vmxon,
  Mnemonic.Invept,
  Mnemonic.Invvpid,
  Mnemonic.Vmcall,
]);

export const isUse = ({ reads, writes, mayChange }: Use): boolean => reads || writes || mayChange === true;

/** What an instruction may do to what a watch is on. */
export function useFor(watch: ValueWatch): (instruction: Instruction) => Use {
  if (watch.kind === 'register') {
    const named = registerUse(watch.name);
    return (instruction) => ({ ...named(instruction), mayChange: isIntricate(instruction) });
  }
  if (watch.kind === 'field') {
    return ({ mnemonic }) => ({
      reads: mnemonic === Mnemonic.Vmread,
      writes: mnemonic === Mnemonic.Vmwrite,
      mayChange: VMX_INSTRUCTIONS.has(mnemonic),
    });
  }
  const writers = MSR_WRITERS.get(watch.index) ?? [];
  const segment = MSR_SEGMENTS.get(watch.index);
  const segmentUse = segment === undefined ? undefined : registerUse(segment);
  const keeps = keepsItsValue(watch);
  return (instruction) => ({
    reads: instruction.mnemonic === Mnemonic.Rdmsr,
    writes: instruction.mnemonic === Mnemonic.Wrmsr || writers.includes(instruction.mnemonic),
    mayChange: keeps && (isIntricate(instruction) || (segmentUse?.(instruction).writes ?? false)),
  });
}
