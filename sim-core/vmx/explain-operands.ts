/** Whether what an instruction reads and writes would cause a VM exit or a fault; nothing is accessed. */

import {
  Decoder,
  DecoderError,
  Instruction,
  InstructionInfoFactory,
  MemorySizeExt,
  OpAccess,
  Register,
  type UsedMemory,
} from 'iced-x86';
import type { VectoredEvent } from '../cpu/intercepts.ts';
import type { ExceptionFault, MemoryFault, VmExitFault } from '../mmu/fault.ts';
import type { Access, Translation } from '../mmu/translation.ts';
import { EXIT } from './exit-reasons.ts';
import type { ExitForecast } from './explain-instruction.ts';
import { EXCEPTIONS } from './layouts.ts';

/** The guest as far as its memory operands depend on it. */
export interface OperandGuest {
  /** Where its next instruction is: linear address, and offset in CS. */
  readonly pc: bigint;
  readonly rip: bigint;
  readonly bitness: 16 | 32 | 64;
  readonly code: Uint8Array;
  /** By name in small letters, `fs.base` for segment bases; undefined when not known. */
  register(name: string): bigint | undefined;
  /** By the tables as they are, without looking at the TLB. */
  translate(linear: bigint, access: Access): Translation;
}

/** What VMX says to a fault and to an access. */
export interface OperandIntercepts {
  /** Why the event would cause a VM exit; undefined when the guest gets it. */
  whyEvent(event: VectoredEvent): string | undefined;
  /** The VM exit of an access to the APIC-access page; undefined where the access is no such one, or virtualized. */
  apicExit(physical: number, size: number, access: Access): VmExitFault | undefined;
}

interface OperandAccess {
  readonly linear: bigint;
  readonly size: number;
  readonly access: Access;
}

const READS: ReadonlySet<number> = new Set([OpAccess.Read, OpAccess.ReadWrite, OpAccess.ReadCondWrite]);
const WRITES: ReadonlySet<number> = new Set([OpAccess.Write, OpAccess.ReadWrite]);
const PAGE = 4096n;

/** What the next instruction accesses beside its own bytes, where registers and segment bases are known. */
function accessesOf(guest: OperandGuest): OperandAccess[] {
  const decoder = new Decoder(guest.bitness, guest.code, 0);
  decoder.ip = guest.rip;
  const instruction = new Instruction();
  const factory = new InstructionInfoFactory();
  try {
    decoder.decodeOut(instruction);
    if (decoder.lastError !== DecoderError.None) return [];
    const info = factory.info(instruction);
    const accesses = info.usedMemory().flatMap((memory) => accessesTo(memory, guest));
    info.free();
    return accesses;
  } finally {
    factory.free();
    instruction.free();
    decoder.free();
  }
}

function accessesTo(memory: UsedMemory, guest: OperandGuest): OperandAccess[] {
  const linear = linearAddress(memory, guest);
  const size = MemorySizeExt.size(memory.memorySize);
  const { access } = memory;
  memory.free();
  if (linear === undefined || size === 0) return [];
  const kinds: Access[] = [];
  if (READS.has(access)) kinds.push('read');
  if (WRITES.has(access)) kinds.push('write');
  return kinds.map((kind) => ({ linear, size, access: kind }));
}

function linearAddress({ base, index, scale, displacement, segment }: UsedMemory, guest: OperandGuest) {
  const value = (register: Register): bigint | undefined =>
    register === Register.None ? 0n : guest.register((Register[register] ?? '').toLowerCase());
  const parts = [value(base), value(index), segmentBase(segment, guest)];
  const [first, second, start] = parts;
  if (first === undefined || second === undefined || start === undefined) return undefined;
  const offset = BigInt.asUintN(addressBits(base, index, guest), first + second * BigInt(scale) + displacement);
  return BigInt.asUintN(guest.bitness === 64 ? 64 : 32, start + offset);
}

/** In 64-bit mode only FS and GS have a base. */
function segmentBase(segment: Register, guest: OperandGuest): bigint | undefined {
  const based = guest.bitness !== 64 || segment === Register.FS || segment === Register.GS;
  return based ? guest.register(`${(Register[segment] ?? '').toLowerCase()}.base`) : 0n;
}

/** 64 for RAX and its kin, 32 for EAX, 16 for BX: the registers of an address tell how wide it is. */
function addressBits(base: Register, index: Register, { bitness }: OperandGuest): number {
  const register = base === Register.None ? index : base;
  if (register === Register.None) return bitness;
  if (register >= Register.AX && register <= Register.R15W) return 16;
  return register >= Register.EAX && register <= Register.R15D ? 32 : 64;
}

/** The first access of the next instruction that faults or exits, its fetch included; undefined when none does. */
export function forecastAccesses(guest: OperandGuest, ask: OperandIntercepts): ExitForecast | undefined {
  const fetch = forecastAccess({ linear: guest.pc, size: 1, access: 'execute' }, guest, ask);
  if (fetch) return fetch;
  for (const access of accessesOf(guest)) {
    const forecast = forecastAccess(access, guest, ask);
    if (forecast) return forecast;
  }
  return undefined;
}

function forecastAccess(access: OperandAccess, guest: OperandGuest, ask: OperandIntercepts): ExitForecast | undefined {
  const { linear, size } = access;
  const last = linear + BigInt(size) - 1n;
  const addresses = last / PAGE === linear / PAGE ? [linear] : [linear, (last / PAGE) * PAGE];
  for (const address of addresses) {
    const { physical, fault, steps } = guest.translate(address, access.access);
    const words = `the ${access.access === 'execute' ? 'fetch' : access.access} of 0x${address.toString(16)}`;
    const problem = steps.find((step) => step.problem !== undefined);
    const why = problem ? ` (${problem.table} at 0x${problem.entryAddress.toString(16)}: ${problem.problem})` : '';
    if (fault) return forecastFault(fault, `${words}${why}`, ask);
    const exit = physical === undefined ? undefined : ask.apicExit(physical, size, access.access);
    if (exit) return { kind: 'exits', reason: exit.reason, cause: exit.cause };
  }
  return undefined;
}

/** @param cause what faults, as the beginning of a sentence */
function forecastFault(fault: MemoryFault, cause: string, ask: OperandIntercepts): ExitForecast {
  switch (fault.kind) {
    case 'eptViolation':
      return { kind: 'exits', reason: EXIT.EPT_VIOLATION, cause };
    case 'eptMisconfiguration':
      return { kind: 'exits', reason: EXIT.EPT_MISCONFIGURATION, cause };
    case 'vmExit':
      return { kind: 'exits', reason: fault.reason, cause: fault.cause };
    case 'exception':
      return forecastException(fault, cause, ask);
  }
}

/** An exception that an instruction raises: the guest's, or a VM exit by the exception bitmap. */
export function forecastException(
  { vector, errorCode, linearAddress }: ExceptionFault,
  cause: string,
  ask: Pick<OperandIntercepts, 'whyEvent'>,
  type: VectoredEvent['type'] = 3,
): ExitForecast {
  const event = { vector, type, ...(errorCode === undefined ? {} : { errorCode }) };
  const why = ask.whyEvent(linearAddress === undefined ? event : { ...event, linearAddress });
  const raises = `${cause} raises ${EXCEPTIONS[vector] ?? `exception ${vector}`}`;
  if (why === undefined) return { kind: 'faults', cause: raises };
  return { kind: 'exits', reason: EXIT.EXCEPTION_OR_NMI, cause: `${raises}, and ${why}` };
}
