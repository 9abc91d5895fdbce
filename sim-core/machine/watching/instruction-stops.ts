/** Kinds of instructions to stop in front of: which they are, and the argument that tells one from another. */

import { type Instruction, Mnemonic } from 'iced-x86';
import type { Cpu } from '../../cpu/cpu.ts';
import { readOperand } from '../../cpu/operands.ts';
import type { DecodedInstruction } from '../../isa/instruction.ts';
import { GPR } from '../../state/layout.ts';
import { registerUse } from './register-use.ts';
import type { InstructionStop } from './watch.ts';

/** Mnemonics that go by one name. */
export const MNEMONIC_GROUPS: Readonly<Record<string, readonly Mnemonic[]>> = {
  in: [Mnemonic.In, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd],
  out: [Mnemonic.Out, Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd],
  iret: [Mnemonic.Iret, Mnemonic.Iretd, Mnemonic.Iretq],
  sysret: [Mnemonic.Sysret, Mnemonic.Sysretq],
  sysexit: [Mnemonic.Sysexit, Mnemonic.Sysexitq],
};

type Argument = (cpu: Cpu, instruction: DecodedInstruction) => bigint | undefined;

const register =
  (number: number, bits: number): Argument =>
  ({ state }) =>
    BigInt.asUintN(bits, state.get64('gpr', number));
/** An operand that is a register or an immediate; memory is not read for it. */
const operand =
  (index: number): Argument =>
  (cpu, instruction) => {
    const value = instruction.operands[index]?.kind === 'memory' ? undefined : readOperand(cpu, instruction, index);
    return typeof value === 'bigint' ? value : undefined;
  };
const ecx = register(GPR.rcx, 32);
const dx = register(GPR.rdx, 16);

/** What the argument of an instruction is, by mnemonic. */
export const ARGUMENTS: ReadonlyMap<Mnemonic, { readonly what: string; readonly read: Argument }> = new Map([
  [Mnemonic.Vmread, { what: 'VMCS field', read: operand(1) }],
  [Mnemonic.Vmwrite, { what: 'VMCS field', read: operand(0) }],
  [Mnemonic.Rdmsr, { what: 'MSR', read: ecx }],
  [Mnemonic.Wrmsr, { what: 'MSR', read: ecx }],
  [Mnemonic.Xsetbv, { what: 'register number in ECX', read: ecx }],
  [Mnemonic.In, { what: 'port', read: (cpu, instruction) => BigInt.asUintN(16, operand(1)(cpu, instruction) ?? 0n) }],
  [Mnemonic.Out, { what: 'port', read: (cpu, instruction) => BigInt.asUintN(16, operand(0)(cpu, instruction) ?? 0n) }],
  ...[Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd, Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd].map(
    (mnemonic) => [mnemonic, { what: 'port', read: dx }] as const,
  ),
  [Mnemonic.Invept, { what: 'INVEPT type', read: operand(0) }],
  [Mnemonic.Invvpid, { what: 'INVVPID type', read: operand(0) }],
  [Mnemonic.Invpcid, { what: 'INVPCID type', read: operand(0) }],
  [Mnemonic.Cpuid, { what: 'leaf in EAX', read: register(GPR.rax, 32) }],
  [Mnemonic.Vmcall, { what: 'number in RAX', read: register(GPR.rax, 64) }],
  [Mnemonic.Int, { what: 'vector', read: operand(0) }],
]);

/** Whether an instruction may be one to stop at: asked once when it is decoded. */
export function decodesAs(stop: InstructionStop): (instruction: Instruction) => boolean {
  if (stop.kind === 'mnemonic') return ({ mnemonic }) => stop.mnemonics.has(mnemonic);
  const use = registerUse(stop.name);
  return (instruction) => (stop.write ? use(instruction).writes : use(instruction).reads);
}

/** Whether an instruction for which `decodesAs` holds is one to stop at now. */
export function stopsNow(stop: InstructionStop, cpu: Cpu, instruction: DecodedInstruction): boolean {
  if (stop.kind === 'register' || stop.argument === undefined) return true;
  return ARGUMENTS.get(instruction.mnemonic)?.read(cpu, instruction) === stop.argument;
}
