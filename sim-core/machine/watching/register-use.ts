/** Which instructions read or write a register, for watching it: decided when an instruction is decoded. */

import { Decoder, type Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register, RegisterExt } from 'iced-x86';
import { registerByName } from '../registers.ts';

export interface RegisterUse {
  readonly reads: boolean;
  readonly writes: boolean;
}

/** Instructions that store the vector registers and MXCSR, as far as their masks say. */
const SAVES: readonly Mnemonic[] = [
  ...[Mnemonic.Fxsave, Mnemonic.Fxsave64, Mnemonic.Xsave, Mnemonic.Xsave64, Mnemonic.Xsaveopt, Mnemonic.Xsaveopt64],
  ...[Mnemonic.Xsavec, Mnemonic.Xsavec64, Mnemonic.Xsaves, Mnemonic.Xsaves64],
];
/** Registers that iced-x86 does not count among those that an instruction uses. */
const HIDDEN: Readonly<Record<string, { readonly reads: readonly Mnemonic[]; readonly writes: readonly Mnemonic[] }>> =
  {
    gdtr: { reads: [Mnemonic.Sgdt], writes: [Mnemonic.Lgdt] },
    idtr: { reads: [Mnemonic.Sidt], writes: [Mnemonic.Lidt] },
    ldtr: { reads: [Mnemonic.Sldt], writes: [Mnemonic.Lldt] },
    tr: { reads: [Mnemonic.Str], writes: [Mnemonic.Ltr] },
    mxcsr: {
      reads: [Mnemonic.Stmxcsr, Mnemonic.Vstmxcsr, ...SAVES],
      // FXRSTOR and XRSTOR are intricate.
      writes: [Mnemonic.Ldmxcsr, Mnemonic.Vldmxcsr],
    },
    cpl: { reads: [], writes: [] },
    xcr0: { reads: [Mnemonic.Xgetbv], writes: [Mnemonic.Xsetbv] },
  };
/** RIP changes with every instruction; EFER is watched as the MSR that it is. */
const UNWATCHABLE: ReadonlySet<string> = new Set(['rip', 'efer']);
/** Instructions that may change registers and MSRs that they do not name. */
const INTRICATE: ReadonlySet<Mnemonic> = new Set([
  ...[Mnemonic.Int, Mnemonic.Int1, Mnemonic.Int3, Mnemonic.Into, Mnemonic.Iret, Mnemonic.Iretd, Mnemonic.Iretq],
  ...[Mnemonic.Syscall, Mnemonic.Sysret, Mnemonic.Sysretq, Mnemonic.Sysenter, Mnemonic.Sysexit, Mnemonic.Sysexitq],
  ...[Mnemonic.Retf, Mnemonic.Wrmsr, Mnemonic.Swapgs, Mnemonic.Wrfsbase, Mnemonic.Wrgsbase, Mnemonic.Lmsw],
  ...[Mnemonic.Fxrstor, Mnemonic.Fxrstor64, Mnemonic.Xrstor, Mnemonic.Xrstor64, Mnemonic.Xrstors, Mnemonic.Xrstors64],
  ...[Mnemonic.Vmlaunch, Mnemonic.Vmresume, Mnemonic.Vmwrite],
]);

/** Whether an instruction may change registers and MSRs that it does not name: far transfers, loads of many at once. */
export const isIntricate = (instruction: Instruction): boolean =>
  INTRICATE.has(instruction.mnemonic) ||
  instruction.isCallFar ||
  instruction.isCallFarIndirect ||
  instruction.isJmpFar ||
  instruction.isJmpFarIndirect ||
  // CR0.PG decides on IA32_EFER.LMA.
  (instruction.mnemonic === Mnemonic.Mov && instruction.op0Register === Register.CR0);

const ICED_NAMES = new Map(
  Object.entries(Register).flatMap(([name, value]) =>
    typeof value === 'number' ? [[name.toLowerCase(), value as Register] as const] : [],
  ),
);

const READS: ReadonlySet<OpAccess> = new Set([
  OpAccess.Read,
  OpAccess.CondRead,
  OpAccess.ReadWrite,
  OpAccess.ReadCondWrite,
]);
const WRITES: ReadonlySet<OpAccess> = new Set([
  OpAccess.Write,
  OpAccess.CondWrite,
  OpAccess.ReadWrite,
  OpAccess.ReadCondWrite,
]);

/** What a register is to iced-x86: a whole register, RFLAGS, or one of HIDDEN; undefined: it cannot be watched. */
type Identity = { readonly register: Register } | { readonly hidden: string } | 'rflags' | undefined;

function identify(name: string): Identity {
  const register = registerByName(name);
  // x87 instructions move the stack without naming its registers.
  if (!register || register.group === 'msr' || register.group === 'float') return undefined;
  const whole = (register.partOf ?? register.name).split('.')[0] as string;
  if (UNWATCHABLE.has(whole)) return undefined;
  if (whole === 'rflags') return 'rflags';
  if (Object.hasOwn(HIDDEN, whole)) return { hidden: whole };
  const iced = ICED_NAMES.get(whole);
  return iced === undefined ? undefined : { register: RegisterExt.fullRegister(iced) };
}

/** Whether instructions that use a register can be told. */
export const isWatchable = (name: string): boolean => identify(name) !== undefined;

/** @param name of a register that is watchable */
export function registerUse(name: string): (instruction: Instruction) => RegisterUse {
  const identity = identify(name);
  if (identity === undefined) throw new RangeError(`register ${name} cannot be watched`);
  if (identity === 'rflags') {
    return ({ rflagsModified, rflagsRead }) => ({ reads: rflagsRead !== 0, writes: rflagsModified !== 0 });
  }
  if ('hidden' in identity) {
    const { reads = [], writes = [] } = HIDDEN[identity.hidden] ?? {};
    return ({ mnemonic }) => ({ reads: reads.includes(mnemonic), writes: writes.includes(mnemonic) });
  }
  return (instruction) => useOf(instruction, identity.register);
}

function useOf(instruction: Instruction, register: Register): RegisterUse {
  const factory = new InstructionInfoFactory();
  const info = factory.info(instruction);
  const used = info.usedRegisters();
  const ways = used.filter((use) => RegisterExt.fullRegister(use.register) === register).map((use) => use.access);
  for (const use of used) use.free();
  info.free();
  factory.free();
  const isSaved = RegisterExt.isVectorRegister(register) && SAVES.includes(instruction.mnemonic);
  return { reads: isSaved || ways.some((way) => READS.has(way)), writes: ways.some((way) => WRITES.has(way)) };
}

/** Whether an instruction reads memory that it writes. */
export function modifiesMemory(bytes: Uint8Array, bitness: 16 | 32 | 64): boolean {
  const decoder = new Decoder(bitness, bytes, 0);
  const instruction = decoder.decode();
  const factory = new InstructionInfoFactory();
  const info = factory.info(instruction);
  const used = info.usedMemory();
  const modifies = used.some(({ access }) => READS.has(access) && WRITES.has(access));
  for (const use of used) use.free();
  for (const part of [info, factory, instruction, decoder]) part.free();
  return modifies;
}
