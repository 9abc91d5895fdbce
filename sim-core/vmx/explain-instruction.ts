/** Whether an instruction of the guest would cause a VM exit under the current VMCS, and why; nothing is executed. */

import { Mnemonic, Register } from 'iced-x86';
import type { InterceptQuery, VectoredEvent } from '../cpu/intercepts.ts';
import type { DecodedInstruction, Operand } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import {
  type ExceptionFault,
  exception,
  generalProtection,
  undefinedOpcode,
  VECTOR,
  type VmExitFault,
} from '../mmu/fault.ts';
import { RFLAGS } from '../state/control-bits.ts';
import { GPR } from '../state/layout.ts';
import { EXIT } from './exit-reasons.ts';
import { forecastException } from './explain-operands.ts';

/** What decides beside the VMCS. */
export interface ForecastGuest {
  /** General-purpose register by number; undefined when its value is not known. */
  gpr(number: number): bigint | undefined;
  readonly cpl: number;
  readonly rflags: bigint | undefined;
}

/** What VMX answers without doing anything. */
export interface AskIntercepts {
  /** As Intercepts.instruction (cpu/intercepts.ts). */
  whyInstruction(query: InterceptQuery): VmExitFault | ExceptionFault | undefined;
  /** Why the event would cause a VM exit; undefined when the guest gets it. */
  whyEvent(event: VectoredEvent): string | undefined;
  /** Why VMREAD or VMWRITE of the field would cause a VM exit; undefined when the shadow VMCS serves it. */
  whyShadow(encoding: bigint, write: boolean): string | undefined;
}

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

/** INS and OUTS: the port is in DX, the size in the mnemonic. A REP whose count is 0 accesses nothing. */
const stringPort =
  (input: boolean, size: 1 | 2 | 4): Question =>
  ({ rep, repne, addressSize }, guest) => {
    const repeated = rep || repne;
    const count = guest.gpr(GPR.rcx);
    const number = low32(guest.gpr(GPR.rdx));
    if (number === undefined || (repeated && count === undefined)) return undefined;
    if (repeated && BigInt.asUintN(8 * addressSize, count ?? 0n) === 0n) return undefined;
    return {
      kind: 'io',
      port: number & 0xffff,
      size,
      input,
      string: true,
      rep: repeated,
      immediate: false,
      addressSize,
    };
  };

const CONTROL: ReadonlyMap<number, 0 | 3 | 4 | 8> = new Map([
  [Register.CR0, 0],
  [Register.CR3, 3],
  [Register.CR4, 4],
  [Register.CR8, 8],
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
  [Mnemonic.Insb, stringPort(true, 1)],
  [Mnemonic.Insw, stringPort(true, 2)],
  [Mnemonic.Insd, stringPort(true, 4)],
  [Mnemonic.Outsb, stringPort(false, 1)],
  [Mnemonic.Outsw, stringPort(false, 2)],
  [Mnemonic.Outsd, stringPort(false, 4)],
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

/** Instructions whose purpose is an exception, with its type as an event. */
const RAISES: ReadonlyMap<number, readonly [fault: ExceptionFault, type: VectoredEvent['type']]> = new Map([
  [Mnemonic.Int3, [exception(VECTOR.bp), 6]],
  [Mnemonic.Int1, [exception(VECTOR.db), 5]],
  [Mnemonic.Into, [exception(VECTOR.of), 6]],
  [Mnemonic.Ud0, [undefinedOpcode(), 3]],
  [Mnemonic.Ud1, [undefinedOpcode(), 3]],
  [Mnemonic.Ud2, [undefinedOpcode(), 3]],
]);

/** INTO does something only with RFLAGS.OF. */
const isIdle = ({ mnemonic }: DecodedInstruction, { rflags }: ForecastGuest): boolean =>
  mnemonic === Mnemonic.Into && ((rflags ?? 0n) & BigInt(RFLAGS.of)) === 0n;

/** VMREAD r/m, field and VMWRITE field, r/m under VMCS shadowing. */
function forecastShadow(
  { mnemonic, operands }: DecodedInstruction,
  guest: ForecastGuest,
  ask: AskIntercepts,
): ExitForecast | undefined {
  const write = mnemonic === Mnemonic.Vmwrite;
  const number = REGISTERS.get(registerOf(operands[write ? 0 : 1]))?.number;
  const encoding = number === undefined ? undefined : guest.gpr(number);
  if (encoding === undefined) return undefined;
  const cause = ask.whyShadow(encoding, write);
  if (cause === undefined) return { kind: 'stays' };
  return { kind: 'exits', reason: write ? EXIT.VMWRITE : EXIT.VMREAD, cause };
}

/**
 * @returns undefined for instructions that no control makes exit, and where a register that decides is not known.
 * Memory operands are the business of explain-operands.ts.
 */
export function forecastExit(
  instruction: DecodedInstruction,
  guest: ForecastGuest,
  ask: AskIntercepts,
): ExitForecast | undefined {
  const { mnemonic } = instruction;
  if (mnemonic === Mnemonic.Vmread || mnemonic === Mnemonic.Vmwrite) return forecastShadow(instruction, guest, ask);
  const always = ALWAYS.get(mnemonic);
  if (always !== undefined) {
    return { kind: 'exits', reason: always, cause: 'VMX instructions always cause VM exits in VMX non-root operation' };
  }
  const [raised, type] = isIdle(instruction, guest) ? [] : (RAISES.get(mnemonic) ?? []);
  if (raised) return forecastException(raised, 'it', ask, type);
  const query = QUESTIONS.get(mnemonic)?.(instruction, guest);
  if (query === undefined) return undefined;
  if (guest.cpl > 0 && PRIVILEGED.has(mnemonic)) {
    return forecastException(generalProtection(), `its use at CPL ${guest.cpl}`, ask);
  }
  const answer = ask.whyInstruction(query);
  if (answer === undefined) return { kind: 'stays' };
  if (answer.kind === 'vmExit') return { kind: 'exits', reason: answer.reason, cause: answer.cause };
  return forecastException(answer, 'it, whose control is 0,', ask);
}
