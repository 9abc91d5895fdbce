/** Whether an instruction of the guest would cause a VM exit under the current VMCS, and why; nothing is executed. */

import { Mnemonic, Register } from 'iced-x86';
import type { InterceptQuery } from '../cpu/intercepts.ts';
import type { DecodedInstruction, Operand } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import type { ExceptionFault, VmExitFault } from '../mmu/fault.ts';
import { GPR } from '../state/layout.ts';
import { EXIT } from './exit-reasons.ts';

/** What decides beside the VMCS. */
export interface ForecastGuest {
  /** General-purpose register by number; undefined when its value is not known. */
  gpr(number: number): bigint | undefined;
  readonly cpl: number;
}

/** The intercepts of the VMX unit (cpu/intercepts.ts). */
export type AskIntercepts = (query: InterceptQuery) => VmExitFault | ExceptionFault | undefined;

export type ExitForecast =
  | { readonly kind: 'exits'; readonly reason: number; readonly cause: string }
  /** An exception comes first, or the control that the instruction needs is 0. */
  | { readonly kind: 'faults'; readonly cause: string }
  /** It could exit, and does not as the VMCS is now. */
  | { readonly kind: 'stays' };

type Question = (instruction: DecodedInstruction, guest: ForecastGuest) => InterceptQuery | undefined;

const plain =
  (query: InterceptQuery): Question =>
  () =>
    query;

const low32 = (value: bigint | undefined): number | undefined =>
  value === undefined ? undefined : Number(BigInt.asUintN(32, value));

/** RDMSR and WRMSR: the index is in ECX. */
const msr =
  (kind: 'rdmsr' | 'wrmsr'): Question =>
  (_, guest) => {
    const index = low32(guest.gpr(GPR.rcx));
    return index === undefined ? undefined : { kind, msr: index };
  };

/** IN and OUT: the port is an immediate or in DX. */
const port =
  (input: boolean): Question =>
  ({ operands }, guest) => {
    const [at, data] = input ? [operands[1], operands[0]] : [operands[0], operands[1]];
    const immediate = at?.kind === 'immediate';
    const number = immediate ? Number(at.value & 0xffn) : low32(guest.gpr(GPR.rdx));
    const size = data?.kind === 'register' ? data.size : 0;
    if (number === undefined || (size !== 1 && size !== 2 && size !== 4)) return undefined;
    return { kind: 'io', port: number & 0xffff, size, input, string: false, rep: false, immediate };
  };

const CONTROL: ReadonlyMap<number, 0 | 3 | 4> = new Map([
  [Register.CR0, 0],
  [Register.CR3, 3],
  [Register.CR4, 4],
]);
const registerOf = (operand: Operand | undefined): number => (operand?.kind === 'register' ? operand.register : 0);

/** MOV to and from control and debug registers; other forms of MOV ask nothing. */
const mov: Question = ({ operands }, guest) => {
  const [to, from] = [registerOf(operands[0]), registerOf(operands[1])];
  const written = CONTROL.get(to);
  const read = CONTROL.get(from);
  const gpr = REGISTERS.get(written === undefined && !isDebug(to) ? to : from)?.number;
  if (gpr === undefined) return undefined;
  if (written !== undefined) {
    const value = guest.gpr(gpr);
    return value === undefined ? undefined : { kind: 'writeCr', cr: written, gpr, value };
  }
  if (read !== undefined) return { kind: 'readCr', cr: read, gpr, value: 0n };
  if (isDebug(to)) return { kind: 'movDr', dr: to - Register.DR0, gpr, read: false };
  return isDebug(from) ? { kind: 'movDr', dr: from - Register.DR0, gpr, read: true } : undefined;
};
const isDebug = (register: number): boolean => register >= Register.DR0 && register <= Register.DR7;

const table = (instruction: Extract<InterceptQuery, { kind: 'descriptorTable' }>['instruction']): Question => {
  return () => ({ kind: 'descriptorTable', instruction, displacement: 0n, information: 0 });
};

const QUESTIONS: ReadonlyMap<number, Question> = new Map<number, Question>([
  [Mnemonic.Cpuid, plain({ kind: 'cpuid' })],
  [Mnemonic.Hlt, plain({ kind: 'hlt' })],
  [Mnemonic.Invd, plain({ kind: 'invd' })],
  [Mnemonic.Wbinvd, plain({ kind: 'wbinvd' })],
  [Mnemonic.Rdtsc, plain({ kind: 'rdtsc' })],
  [Mnemonic.Rdtscp, plain({ kind: 'rdtscp' })],
  [Mnemonic.Rdpmc, plain({ kind: 'rdpmc' })],
  [Mnemonic.Pause, plain({ kind: 'pause' })],
  [Mnemonic.Monitor, plain({ kind: 'monitor' })],
  [Mnemonic.Mwait, plain({ kind: 'mwait' })],
  [Mnemonic.Xsetbv, plain({ kind: 'xsetbv' })],
  [Mnemonic.Clts, plain({ kind: 'clts' })],
  [Mnemonic.Invlpg, plain({ kind: 'invlpg', linearAddress: 0n })],
  [Mnemonic.Invpcid, plain({ kind: 'invpcid', displacement: 0n, information: 0 })],
  [Mnemonic.Rdmsr, msr('rdmsr')],
  [Mnemonic.Wrmsr, msr('wrmsr')],
  [Mnemonic.In, port(true)],
  [Mnemonic.Out, port(false)],
  [Mnemonic.Mov, mov],
  [Mnemonic.Lgdt, table('lgdt')],
  [Mnemonic.Lidt, table('lidt')],
  [Mnemonic.Sgdt, table('sgdt')],
  [Mnemonic.Sidt, table('sidt')],
  [Mnemonic.Lldt, table('lldt')],
  [Mnemonic.Ltr, table('ltr')],
  [Mnemonic.Sldt, table('sldt')],
  [Mnemonic.Str, table('str')],
]);

/** VMX instructions that exit whatever the VMCS says (SDM Vol. 3C, "Instructions That Cause VM Exits Unconditionally"). */
const ALWAYS: ReadonlyMap<number, number> = new Map([
  [Mnemonic.Vmcall, EXIT.VMCALL],
  [Mnemonic.Vmclear, EXIT.VMCLEAR],
  [Mnemonic.Vmlaunch, EXIT.VMLAUNCH],
  [Mnemonic.Vmptrld, EXIT.VMPTRLD],
  [Mnemonic.Vmptrst, EXIT.VMPTRST],
  [Mnemonic.Vmresume, EXIT.VMRESUME],
  [Mnemonic.Vmxoff, EXIT.VMXOFF],
  [Mnemonic.Vmxon, EXIT.VMXON],
  [Mnemonic.Invept, EXIT.INVEPT],
  [Mnemonic.Invvpid, EXIT.INVVPID],
]);

/** Instructions that a CPL above 0 stops with #GP before VMX is asked. */
const PRIVILEGED: ReadonlySet<number> = new Set([
  Mnemonic.Hlt, Mnemonic.Invd, Mnemonic.Wbinvd, Mnemonic.Xsetbv, Mnemonic.Clts, Mnemonic.Invlpg, Mnemonic.Invpcid,
  Mnemonic.Rdmsr, Mnemonic.Wrmsr, Mnemonic.Mov, Mnemonic.Lgdt, Mnemonic.Lidt, Mnemonic.Lldt, Mnemonic.Ltr,
]); // biome-ignore format: a list reads better in rows

/**
 * @returns undefined for instructions that no control makes exit, and where a register that decides is not known.
 * Memory operands that EPT refuses are no part of the forecast.
 */
export function forecastExit(
  instruction: DecodedInstruction,
  guest: ForecastGuest,
  ask: AskIntercepts,
): ExitForecast | undefined {
  const { mnemonic } = instruction;
  const always = ALWAYS.get(mnemonic);
  if (always !== undefined) {
    return { kind: 'exits', reason: always, cause: 'VMX instructions always cause VM exits in VMX non-root operation' };
  }
  const query = QUESTIONS.get(mnemonic)?.(instruction, guest);
  if (query === undefined) return undefined;
  if (guest.cpl > 0 && PRIVILEGED.has(mnemonic)) {
    return { kind: 'faults', cause: `#GP(0) comes first: CPL is ${guest.cpl}` };
  }
  const answer = ask(query);
  if (answer === undefined) return { kind: 'stays' };
  if (answer.kind === 'vmExit') return { kind: 'exits', reason: answer.reason, cause: answer.cause };
  return { kind: 'faults', cause: '#UD: the control that enables the instruction is 0' };
}
