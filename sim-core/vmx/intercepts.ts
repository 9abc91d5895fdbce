/** Which instructions and events cause VM exits, and why (SDM Vol. 3C, "VMX Non-Root Operation"). */

import type { Cpu } from '../cpu/cpu.ts';
import type { InterceptQuery, VectoredEvent } from '../cpu/intercepts.ts';
import { type ExceptionFault, undefinedOpcode, VECTOR, type VmExitFault } from '../mmu/fault.ts';
import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import { CR0 } from '../state/control-bits.ts';
import { PIN, PRIMARY, SECONDARY } from './controls.ts';
import { controlState, describeField } from './describe.ts';
import { secondaryControls } from './exit.ts';
import { EXIT } from './exit-reasons.ts';
import { FIELD_OFFSET as F } from './fields.ts';
import { EXCEPTIONS } from './layouts.ts';
import type { CurrentVmcs } from './vmcs.ts';

type Answer = VmExitFault | ExceptionFault | undefined;
type Query<Kind extends InterceptQuery['kind']> = Extract<InterceptQuery, { kind: Kind }>;

type Intercept<Q> = (query: Q, vmcs: CurrentVmcs, physical: PhysicalMemory, cpu: Cpu) => Answer;
type InterceptTable = { readonly [Kind in InterceptQuery['kind']]: Intercept<Query<Kind>> };

const vmExit = (reason: number, cause: string, qualification = 0n): VmExitFault => ({
  kind: 'vmExit',
  reason,
  qualification,
  cause,
});

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const primaryOf = (vmcs: CurrentVmcs): number => vmcs.get32(F.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);

/** An instruction that always exits: the answer never changes. */
const always = (reason: number, name: string): (() => Answer) => {
  const answer = vmExit(reason, `${name} always causes a VM exit`);
  return () => answer;
};
const PRIMARY_FIELD = 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const SECONDARY_FIELD = 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const primaryIs = (mask: number, state: 0 | 1): string => controlState(PRIMARY_FIELD, mask, state);

/** An instruction that one primary control makes exit. */
const byPrimary = (mask: number, reason: number) => {
  const answer = vmExit(reason, primaryIs(mask, 1));
  return (_: unknown, vmcs: CurrentVmcs): Answer => (primaryOf(vmcs) & mask ? answer : undefined);
};
const never = (): undefined => undefined;

const rdtsc = byPrimary(PRIMARY.RDTSC_EXITING, EXIT.RDTSC);
const rdtscp = byPrimary(PRIMARY.RDTSC_EXITING, EXIT.RDTSCP);
const wbinvdExit = vmExit(EXIT.WBINVD, controlState(SECONDARY_FIELD, SECONDARY.WBINVD_EXITING, 1));
const mwait = byPrimary(PRIMARY.MWAIT_EXITING, EXIT.MWAIT);
const pause = byPrimary(PRIMARY.PAUSE_EXITING, EXIT.PAUSE);

/** Indices in `pauseLoop`. */
const LOOP = { first: 0, last: 1 } as const;

/** PAUSE-loop exiting: PAUSEs at CPL 0 less than PLE_GAP apart, for longer than PLE_WINDOW. */
function pauseLoop(vmcs: CurrentVmcs, { state, clock }: Cpu): Answer {
  const watched = (secondaryControls(vmcs) & SECONDARY.PAUSE_LOOP_EXITING) !== 0 && state.get32('cpl') === 0;
  if (!watched) return undefined;
  const now = clock.cycles();
  const continues = now - state.getFloat('pauseLoop', LOOP.last) <= vmcs.get32(F.PLE_GAP);
  state.setFloat('pauseLoop', now, LOOP.last);
  if (!continues) state.setFloat('pauseLoop', now, LOOP.first);
  const lasted = now - state.getFloat('pauseLoop', LOOP.first);
  const window = vmcs.get32(F.PLE_WINDOW);
  return lasted > window
    ? vmExit(EXIT.PAUSE, `a PAUSE loop has lasted ${lasted} cycles, PLE_WINDOW is ${window}`)
    : undefined;
}

function writeCr(query: Query<'writeCr'>, vmcs: CurrentVmcs): Answer {
  const { cr, gpr, value } = query;
  const cause = crWriteCause(cr, value, vmcs);
  return cause === undefined ? undefined : vmExit(EXIT.CR_ACCESS, cause, BigInt(cr | (gpr << 8)));
}

function crWriteCause(cr: 0 | 3 | 4 | 8, value: bigint, vmcs: CurrentVmcs): string | undefined {
  if (cr === 8) return primaryOf(vmcs) & PRIMARY.CR8_LOAD_EXITING ? primaryIs(PRIMARY.CR8_LOAD_EXITING, 1) : undefined;
  if (cr === 3) {
    if ((primaryOf(vmcs) & PRIMARY.CR3_LOAD_EXITING) === 0 || isCr3Target(value, vmcs)) return undefined;
    const targets = vmcs.get32(F.CR3_TARGET_COUNT);
    return `${primaryIs(PRIMARY.CR3_LOAD_EXITING, 1)}, and ${hex(value)} is none of the ${targets} CR3-target values`;
  }
  const [mask, shadow] = maskAndShadow(cr, vmcs);
  const changed = (value ^ shadow) & mask;
  if (changed === 0n) return undefined;
  return maskCause(cr, value, changed, mask, shadow);
}

/** Why a write of CR0 or CR4 exits: bits that the host owns and that the guest does not read so. */
function maskCause(cr: 0 | 4, value: bigint, changed: bigint, mask: bigint, shadow: bigint): string {
  const names = describeField(`GUEST_CR${cr}`, changed);
  return (
    `the value ${hex(value)} differs from CR${cr}_READ_SHADOW ${hex(shadow)} in bits ${hex(changed)} ` +
    `${names ? `(${names}) ` : ''}that CR${cr}_GUEST_HOST_MASK ${hex(mask)} gives to the host`
  );
}

const maskAndShadow = (cr: 0 | 4, vmcs: CurrentVmcs): [bigint, bigint] =>
  cr === 0
    ? [vmcs.get64(F.CR0_GUEST_HOST_MASK), vmcs.get64(F.CR0_READ_SHADOW)]
    : [vmcs.get64(F.CR4_GUEST_HOST_MASK), vmcs.get64(F.CR4_READ_SHADOW)];

function isCr3Target(value: bigint, vmcs: CurrentVmcs): boolean {
  const targets = [F.CR3_TARGET_VALUE_0, F.CR3_TARGET_VALUE_1, F.CR3_TARGET_VALUE_2, F.CR3_TARGET_VALUE_3];
  return targets.slice(0, vmcs.get32(F.CR3_TARGET_COUNT)).some((target) => vmcs.get64(target) === value);
}

const CR_ACCESS_TYPE = { from: 1 << 4, clts: 2 << 4, lmsw: 3 << 4 } as const;

function readCr(query: Query<'readCr'>, vmcs: CurrentVmcs): Answer {
  const { cr, gpr } = query;
  const qualification = BigInt(cr | CR_ACCESS_TYPE.from | (gpr << 8));
  if (cr === 3 && primaryOf(vmcs) & PRIMARY.CR3_STORE_EXITING) {
    return vmExit(EXIT.CR_ACCESS, primaryIs(PRIMARY.CR3_STORE_EXITING, 1), qualification);
  }
  if (cr === 8 && primaryOf(vmcs) & PRIMARY.CR8_STORE_EXITING) {
    return vmExit(EXIT.CR_ACCESS, primaryIs(PRIMARY.CR8_STORE_EXITING, 1), qualification);
  }
  return undefined;
}

function clts(_: unknown, vmcs: CurrentVmcs): Answer {
  const owned = vmcs.get32(F.CR0_GUEST_HOST_MASK) & vmcs.get32(F.CR0_READ_SHADOW) & CR0.ts;
  if (owned === 0) return undefined;
  return vmExit(
    EXIT.CR_ACCESS,
    'CR0.TS is set in CR0_GUEST_HOST_MASK and CR0_READ_SHADOW',
    BigInt(CR_ACCESS_TYPE.clts),
  );
}

/** LMSW loads bits 3:0 and cannot clear PE. */
function lmsw(query: Query<'lmsw'>, vmcs: CurrentVmcs): Answer {
  const mask = vmcs.get32(F.CR0_GUEST_HOST_MASK);
  const shadow = vmcs.get32(F.CR0_READ_SHADOW);
  const setsPe = query.source & ~shadow & CR0.pe;
  const changed = (((query.source ^ shadow) & (CR0.mp | CR0.em | CR0.ts)) | setsPe) & mask;
  if (changed === 0) return undefined;
  const cause = maskCause(0, BigInt(query.source & 0xf), BigInt(changed), BigInt(mask), BigInt(shadow));
  const memory = query.linearAddress === undefined ? 0 : 1 << 6;
  const qualification = BigInt(CR_ACCESS_TYPE.lmsw | memory) | (BigInt(query.source & 0xffff) << 16n);
  const exit = vmExit(EXIT.CR_ACCESS, cause, qualification);
  return query.linearAddress === undefined ? exit : { ...exit, guestLinearAddress: query.linearAddress };
}

function movDr({ dr, gpr, read }: Query<'movDr'>, vmcs: CurrentVmcs): Answer {
  if ((primaryOf(vmcs) & PRIMARY.MOV_DR_EXITING) === 0) return undefined;
  return vmExit(EXIT.MOV_DR, primaryIs(PRIMARY.MOV_DR_EXITING, 1), BigInt(dr | (read ? 1 << 4 : 0) | (gpr << 8)));
}

/** One bit of a bitmap in memory. */
const bitmapBit = (physical: PhysicalMemory, bitmap: bigint, bit: number): boolean =>
  ((physical.read(Number(bitmap) + (bit >>> 3), 1) >>> (bit & 7)) & 1) === 1;
const bitmapCause = (name: string, bitmap: bigint, bit: number): string =>
  `bit ${bit} of the ${name} at ${hex(bitmap)} is 1 (byte ${hex(bitmap + BigInt(bit >>> 3))}, bit ${bit & 7})`;

/** Where the four MSR bitmaps lie in their page. */
const MSR_BITMAP = { low: 0, high: 0x400, write: 0x800, size: 0x2000 } as const;

function msrAccess(query: Query<'rdmsr' | 'wrmsr'>, vmcs: CurrentVmcs, physical: PhysicalMemory): Answer {
  const cause = msrCause(query.msr, query.kind === 'wrmsr', vmcs, physical);
  if (cause === undefined) return undefined;
  return vmExit(query.kind === 'wrmsr' ? EXIT.WRMSR : EXIT.RDMSR, cause);
}

function msrCause(msr: number, write: boolean, vmcs: CurrentVmcs, physical: PhysicalMemory): string | undefined {
  if ((primaryOf(vmcs) & PRIMARY.USE_MSR_BITMAPS) === 0) return primaryIs(PRIMARY.USE_MSR_BITMAPS, 0);
  const low = msr >>> 0 < MSR_BITMAP.size;
  const index = low ? msr : (msr >>> 0) - 0xc000_0000;
  if (index < 0 || index >= MSR_BITMAP.size) return `MSR ${hex(msr >>> 0)} is outside the ranges of the MSR bitmaps`;
  const page = vmcs.get64(F.MSR_BITMAP_ADDRESS);
  const bitmap = page + BigInt((low ? MSR_BITMAP.low : MSR_BITMAP.high) + (write ? MSR_BITMAP.write : 0));
  if (!bitmapBit(physical, bitmap, index)) return undefined;
  return bitmapCause(`${write ? 'write' : 'read'} bitmap for ${low ? 'low' : 'high'} MSRs`, bitmap, index);
}

function io(query: Query<'io'>, vmcs: CurrentVmcs, physical: PhysicalMemory): Answer {
  const cause = ioCause(query.port, query.size, vmcs, physical);
  if (cause === undefined) return undefined;
  const flags =
    (query.size - 1) |
    (query.input ? 1 << 3 : 0) |
    (query.string ? 1 << 4 : 0) |
    (query.rep ? 1 << 5 : 0) |
    (query.immediate ? 1 << 6 : 0);
  const exit = vmExit(EXIT.IO_INSTRUCTION, cause, BigInt(flags) | (BigInt(query.port) << 16n));
  if (!query.string) return exit;
  // INS always uses ES; the segment is reported for OUTS.
  const segment = query.input ? 0 : (query.segment ?? 0);
  const instructionInformation = (Math.log2(query.addressSize ?? 2) - 1) * 2 ** 7 + segment * 2 ** 15;
  return { ...exit, instructionInformation, guestLinearAddress: query.linearAddress ?? 0n };
}

function ioCause(port: number, size: number, vmcs: CurrentVmcs, physical: PhysicalMemory): string | undefined {
  const primary = primaryOf(vmcs);
  if ((primary & PRIMARY.USE_IO_BITMAPS) === 0) {
    return primary & PRIMARY.UNCONDITIONAL_IO_EXITING ? primaryIs(PRIMARY.UNCONDITIONAL_IO_EXITING, 1) : undefined;
  }
  if (port + size > 0x1_0000) return 'the access wraps around the 16-bit port space';
  for (let at = port; at < port + size; at++) {
    const upper = at >= 0x8000;
    const bitmap = vmcs.get64(upper ? F.IO_BITMAP_B_ADDRESS : F.IO_BITMAP_A_ADDRESS);
    if (bitmapBit(physical, bitmap, at & 0x7fff)) {
      return bitmapCause(`I/O bitmap ${upper ? 'B' : 'A'}`, bitmap, at & 0x7fff);
    }
  }
  return undefined;
}

function descriptorTable(query: Query<'descriptorTable'>, vmcs: CurrentVmcs): Answer {
  if ((secondaryControls(vmcs) & SECONDARY.DESCRIPTOR_TABLE_EXITING) === 0) return undefined;
  const system = ['sldt', 'str', 'lldt', 'ltr'].includes(query.instruction);
  const reason = system ? EXIT.LDTR_OR_TR_ACCESS : EXIT.GDTR_OR_IDTR_ACCESS;
  return {
    ...vmExit(reason, controlState(SECONDARY_FIELD, SECONDARY.DESCRIPTOR_TABLE_EXITING, 1), query.displacement),
    instructionInformation: query.information >>> 0,
  };
}

function invpcid(query: Query<'invpcid'>, vmcs: CurrentVmcs): Answer {
  if ((secondaryControls(vmcs) & SECONDARY.ENABLE_INVPCID) === 0) return undefinedOpcode();
  if ((primaryOf(vmcs) & PRIMARY.INVLPG_EXITING) === 0) return undefined;
  return {
    ...vmExit(EXIT.INVPCID, primaryIs(PRIMARY.INVLPG_EXITING, 1), query.displacement),
    instructionInformation: query.information,
  };
}

function invlpg(query: Query<'invlpg'>, vmcs: CurrentVmcs): Answer {
  if ((primaryOf(vmcs) & PRIMARY.INVLPG_EXITING) === 0) return undefined;
  return vmExit(EXIT.INVLPG, primaryIs(PRIMARY.INVLPG_EXITING, 1), query.linearAddress);
}

/** #UD unless a secondary control enables the instruction. */
const enabledBy =
  (mask: number) =>
  (_: unknown, vmcs: CurrentVmcs): Answer =>
    secondaryControls(vmcs) & mask ? undefined : undefinedOpcode();

const random = (mask: number, reason: number) => {
  const answer = vmExit(reason, controlState(SECONDARY_FIELD, mask, 1));
  return ({ information }: Query<'rdrand' | 'rdseed'>, vmcs: CurrentVmcs): Answer =>
    secondaryControls(vmcs) & mask ? { ...answer, instructionInformation: information } : undefined;
};

/** UMWAIT and TPAUSE, which “enable user wait and pause” has let through already. */
const timedWait = (reason: number) => {
  const answer = vmExit(reason, primaryIs(PRIMARY.RDTSC_EXITING, 1));
  return ({ information }: Query<'umwait' | 'tpause'>, vmcs: CurrentVmcs): Answer =>
    primaryOf(vmcs) & PRIMARY.RDTSC_EXITING ? { ...answer, instructionInformation: information } : undefined;
};

/** What each question of the processor is answered. */
export const INTERCEPTS: InterceptTable = {
  cpuid: always(EXIT.CPUID, 'CPUID'),
  getsec: always(EXIT.GETSEC, 'GETSEC'),
  invd: always(EXIT.INVD, 'INVD'),
  xsetbv: always(EXIT.XSETBV, 'XSETBV'),
  hlt: byPrimary(PRIMARY.HLT_EXITING, EXIT.HLT),
  rdpmc: byPrimary(PRIMARY.RDPMC_EXITING, EXIT.RDPMC),
  pause: (query, vmcs, _, cpu) => pause(query, vmcs) ?? pauseLoop(vmcs, cpu),
  monitor: byPrimary(PRIMARY.MONITOR_EXITING, EXIT.MONITOR),
  mwait: (query, vmcs) => {
    const exit = mwait(query, vmcs);
    return exit && query.armed ? { ...exit, qualification: 1n } : exit;
  },
  rdtsc,
  rdtscp: (query, vmcs) =>
    secondaryControls(vmcs) & SECONDARY.ENABLE_RDTSCP ? rdtscp(query, vmcs) : undefinedOpcode(),
  wbinvd: (_, vmcs) => (secondaryControls(vmcs) & SECONDARY.WBINVD_EXITING ? wbinvdExit : undefined),
  rsm: never,
  rdrand: random(SECONDARY.RDRAND_EXITING, EXIT.RDRAND),
  rdseed: random(SECONDARY.RDSEED_EXITING, EXIT.RDSEED),
  rdpid: enabledBy(SECONDARY.ENABLE_RDTSCP),
  waitpkg: enabledBy(SECONDARY.ENABLE_USER_WAIT_AND_PAUSE),
  umwait: timedWait(EXIT.UMWAIT),
  tpause: timedWait(EXIT.TPAUSE),
  // No component belongs to IA32_XSS, so that the XSS-exiting bitmap has nothing to choose from.
  xsaves: enabledBy(SECONDARY.ENABLE_XSAVESXRSTORS),
  iret: never,
  clts,
  lmsw,
  readCr,
  writeCr,
  movDr,
  invlpg,
  invpcid,
  rdmsr: msrAccess,
  wrmsr: msrAccess,
  io,
  descriptorTable,
};

const pinIs1 = (mask: number): string => controlState('PIN_BASED_VM_EXECUTION_CONTROLS', mask, 1);

/** Why an event causes a VM exit, in words; undefined when it does not. */
export function eventCause(event: VectoredEvent, vmcs: CurrentVmcs): string | undefined {
  const pin = vmcs.get32(F.PIN_BASED_VM_EXECUTION_CONTROLS);
  switch (event.type) {
    case 0:
      return pin & PIN.EXTERNAL_INTERRUPT_EXITING ? pinIs1(PIN.EXTERNAL_INTERRUPT_EXITING) : undefined;
    case 2:
      return pin & PIN.NMI_EXITING ? pinIs1(PIN.NMI_EXITING) : undefined;
    case 4:
      return undefined;
    default:
      return event.vector === VECTOR.pf ? pageFaultCause(event, vmcs) : exceptionCause(event.vector, vmcs);
  }
}

function exceptionCause(vector: number, vmcs: CurrentVmcs): string | undefined {
  if (((vmcs.get32(F.EXCEPTION_BITMAP) >>> vector) & 1) === 0) return undefined;
  return `bit ${vector} (${EXCEPTIONS[vector] ?? vector}) of EXCEPTION_BITMAP is 1`;
}

/** Page faults exit by bit 14 when the masked error code matches, by its opposite otherwise. */
function pageFaultCause(event: VectoredEvent, vmcs: CurrentVmcs): string | undefined {
  const bit = (vmcs.get32(F.EXCEPTION_BITMAP) >>> VECTOR.pf) & 1;
  const mask = vmcs.get32(F.PAGE_FAULT_ERROR_CODE_MASK);
  const match = vmcs.get32(F.PAGE_FAULT_ERROR_CODE_MATCH);
  const matches = ((event.errorCode ?? 0) & mask) >>> 0 === match;
  if (matches !== (bit === 1)) return undefined;
  const comparison = `error code ${hex(event.errorCode ?? 0)} & mask ${hex(mask)} ${matches ? '=' : '≠'} ${hex(match)}`;
  return `bit 14 (#PF) of EXCEPTION_BITMAP is ${bit} and ${comparison}`;
}
