import { Mnemonic } from 'iced-x86';
import { MMX_INSTRUCTIONS } from '../../sim-core/cpu/mmx-instructions.ts';
import { byMnemonic } from '../../sim-core/cpu/table.ts';
import { VECTOR_INSTRUCTIONS } from '../../sim-core/cpu/vector-instructions.ts';
import { X87_INSTRUCTIONS } from '../../sim-core/cpu/x87/instructions.ts';
import { SEMANTICS } from '../../sim-core/isa/semantics.ts';

/** Slow instructions (sim-core/cpu) that user mode may execute and that depend on nothing but the compared state. */
const SLOW: readonly number[] = [
  Mnemonic.Movsb, Mnemonic.Movsw, Mnemonic.Movsd, Mnemonic.Movsq, Mnemonic.Stosb, Mnemonic.Stosw, Mnemonic.Stosd,
  Mnemonic.Stosq, Mnemonic.Lodsb, Mnemonic.Lodsw, Mnemonic.Lodsd, Mnemonic.Lodsq, Mnemonic.Cmpsb, Mnemonic.Cmpsw,
  Mnemonic.Cmpsd, Mnemonic.Cmpsq, Mnemonic.Scasb, Mnemonic.Scasw, Mnemonic.Scasd, Mnemonic.Scasq,
  Mnemonic.Cmpxchg8b, Mnemonic.Cmpxchg16b, Mnemonic.Enter, Mnemonic.Xlatb, Mnemonic.Pushfq, Mnemonic.Pushf,
  Mnemonic.Pushfd, Mnemonic.Ldmxcsr, Mnemonic.Stmxcsr, Mnemonic.Pdep, Mnemonic.Pext, Mnemonic.Crc32,
  Mnemonic.Aaa, Mnemonic.Aas, Mnemonic.Aam, Mnemonic.Aad, Mnemonic.Daa, Mnemonic.Das, Mnemonic.Salc, Mnemonic.Bound,
  Mnemonic.Popf, Mnemonic.Popfd, Mnemonic.Popfq, Mnemonic.Arpl, Mnemonic.Rdgsbase,
  Mnemonic.Pause, Mnemonic.Clflush, Mnemonic.Clflushopt, Mnemonic.Clwb, Mnemonic.Ud0, Mnemonic.Ud1, Mnemonic.Ud2,
]; // biome-ignore format: a list reads better in rows

/** Privileged instructions: what user mode gets is #GP, or #UD. */
const PRIVILEGED: readonly number[] = [
  Mnemonic.Clts, Mnemonic.Hlt, Mnemonic.Cli, Mnemonic.Sti, Mnemonic.Lgdt, Mnemonic.Lidt, Mnemonic.Lldt, Mnemonic.Ltr,
  Mnemonic.Lmsw, Mnemonic.Invlpg, Mnemonic.Invpcid, Mnemonic.Invd, Mnemonic.Wbinvd, Mnemonic.Wbnoinvd, Mnemonic.Rdmsr,
  Mnemonic.Wrmsr, Mnemonic.Swapgs, Mnemonic.Clac, Mnemonic.Stac, Mnemonic.Xsetbv, Mnemonic.Xsaves, Mnemonic.Xsaves64,
  Mnemonic.Xrstors, Mnemonic.Xrstors64, Mnemonic.In, Mnemonic.Out, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd,
  Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd, Mnemonic.Sysexit, Mnemonic.Sysexitq,
]; // biome-ignore format: a list reads better in rows

/** Why implemented instructions are not compared with silicon: names by reason. */
export const NOT_COMPARED: Readonly<Record<string, string>> = {
  'loads or stores segment registers and descriptors, which are the operating system’s':
    'Les Lds Lss Lfs Lgs Lar Lsl Verr Verw Sldt Str Sgdt Sidt Smsw Retf Iret Iretd Iretq',
  'calls or leaves the operating system, or calls a debugger': 'Syscall Sysret Sysretq Sysenter Int Int3 Int1 Into',
  'sets the base of thread-local storage, which the harness needs': 'Rdfsbase Wrfsbase Wrgsbase',
  'depends on the time, on chance or on the processor model':
    'Rdtsc Rdtscp Rdrand Rdseed Rdpid Cpuid Xgetbv Rdpmc Rdpkru Wrpkru Rdpru Serialize Tpause Umonitor Umwait',
  'stores an image whose layout and unused bytes depend on the processor model; test/system has it':
    'Fxsave Fxsave64 Fxrstor Fxrstor64 Xsave Xsave64 Xsaveopt Xsaveopt64 Xsavec Xsavec64 Xrstor Xrstor64',
  'is of one vendor, and the other answers with #UD':
    'Reservednop Monitor Mwait Getsec Rsm Vmmcall Vmrun Vmload Vmsave Stgi Clgi Skinit Invlpga',
};

const VECTORS: readonly number[] = byMnemonic(VECTOR_INSTRUCTIONS).map(([mnemonic]) => mnemonic);

const X87_AND_MMX: readonly number[] = byMnemonic({ ...X87_INSTRUCTIONS, ...MMX_INSTRUCTIONS }).map(
  ([mnemonic]) => mnemonic,
);

const numbers = Mnemonic as unknown as Readonly<Record<string, number>>;
const EXCLUDED: ReadonlySet<number | undefined> = new Set(
  Object.values(NOT_COMPARED).flatMap((names) => names.split(' ').map((name) => numbers[name])),
);

/** What the oracle tests: every staged instruction, and the slow ones above. */
export const TESTED_MNEMONICS: ReadonlySet<number> = new Set(
  [...SEMANTICS.keys(), ...SLOW, ...PRIVILEGED, ...VECTORS, ...X87_AND_MMX].filter((number) => !EXCLUDED.has(number)),
);
