/** WAITPKG: UMONITOR, UMWAIT and TPAUSE (SDM Vol. 2B, "TPAUSE", "UMONITOR", "UMWAIT"). */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { type Fault, generalProtection } from '../mmu/fault.ts';
import { CR4 } from '../state/control-bits.ts';
import { GPR, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import { spend } from '../state/time.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { destinationInformation } from './instruction-information.ts';
import type { InterceptQuery } from './intercepts.ts';
import { readTimeStampCounter } from './msrs.ts';
import { readOperand, sizeOf } from './operands.ts';
import { writeStatusFlags } from './rflags.ts';
import { segmentAddress } from './segments.ts';
import type { NamedInstructions } from './table.ts';

/**
 * The longest wait, in cycles. The manual lets a wait end early for reasons of the processor's own; this one keeps
 * timers and devices from being noticed late.
 */
const LONGEST_WAIT = 1000;
/** IA32_UMWAIT_CONTROL bits 31:2: the system's limit, in multiples of 4 ticks; 0 sets none. */
const LIMIT = 0xffff_fffcn;
/** The operand's only defined bit chooses the state: C0.1 or C0.2, which are the same here. */
const STATE_BITS = 1n;
const SEGMENT_PREFIXES: ReadonlyMap<number, SegmentIndex> = new Map([
  [0x26, SEGMENT.es],
  [0x2e, SEGMENT.cs],
  [0x36, SEGMENT.ss],
  [0x3e, SEGMENT.ds],
  [0x64, SEGMENT.fs],
  [0x65, SEGMENT.gs],
]);

const ask = (cpu: Cpu, query: InterceptQuery): Fault | undefined =>
  cpu.state.get32('nonRoot') === 0 ? undefined : cpu.intercepts.instruction(query);

/** #UD where the hypervisor does not enable the three instructions. */
const requireEnabled = (cpu: Cpu): Fault | undefined => ask(cpu, { kind: 'waitpkg' });

/** RDTSC’s rule: CR4.TSD lets only CPL 0 tell the time. */
const requireTime = ({ state }: Cpu): Fault | undefined =>
  (state.low('cr4') & CR4.tsd) !== 0 && state.get32('cpl') !== 0 ? generalProtection() : undefined;

/** The segment of an address that no ModRM byte forms, as MONITOR’s: DS, or the last override. */
export function addressSegment({ bytes }: DecodedInstruction): SegmentIndex {
  let segment: SegmentIndex = SEGMENT.ds;
  for (const byte of bytes) {
    if (byte === 0x0f) break;
    segment = SEGMENT_PREFIXES.get(byte) ?? segment;
  }
  return segment;
}

/** Checks the address as a read of one byte. What is monitored does not matter: see `waitUntil`. */
function umonitor(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const problem = requireEnabled(cpu);
  if (problem) return problem;
  const offset = readOperand(cpu, instruction, 0);
  if (typeof offset === 'object') return offset;
  const linear = segmentAddress(cpu.state, addressSegment(instruction), offset, 1, false);
  if (typeof linear === 'object') return linear;
  const value = cpu.mmu.read(linear, 1);
  return typeof value === 'object' ? value : NEXT.sequential;
}

const wait =
  (kind: 'umwait' | 'tpause') =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state } = cpu;
    const information = destinationInformation(instruction, sizeOf(instruction, 0));
    const problem = requireEnabled(cpu) ?? requireTime(cpu) ?? ask(cpu, { kind, information });
    if (problem) return problem;
    const chosen = readOperand(cpu, instruction, 0);
    if (typeof chosen === 'object') return chosen;
    if ((chosen & ~STATE_BITS) !== 0n) return generalProtection();
    const deadline = (BigInt(state.low('gpr', GPR.rdx)) << 32n) | BigInt(state.low('gpr', GPR.rax));
    waitUntil(cpu, deadline);
    return NEXT.sequential;
  };

/**
 * Lets time pass until the TSC reaches the deadline or the system’s limit, at most for LONGEST_WAIT; an interrupt that
 * asks ends the wait, whatever RFLAGS.IF. CF says that the limit has ended it, the other status flags are 0. A store to
 * the monitored line ends UMWAIT at the latest with LONGEST_WAIT, as every wait ends.
 */
function waitUntil(cpu: Cpu, deadline: bigint): void {
  const { state } = cpu;
  writeStatusFlags(state, 0);
  if (state.get32('interruptRequest') !== 0 || state.get32('nmiRequest') !== 0) return;
  const left = deadline - readTimeStampCounter(cpu);
  if (left <= 0n) return;
  const limit = state.get64('msrUmwaitControl') & LIMIT;
  const limited = limit !== 0n && limit < left;
  const wanted = Number(limited ? limit : left);
  spend(state, Math.min(wanted, LONGEST_WAIT));
  if (limited && wanted <= LONGEST_WAIT) writeStatusFlags(state, 1);
}

export const WAIT_INSTRUCTIONS: NamedInstructions = {
  Umonitor: umonitor,
  Umwait: wait('umwait'),
  Tpause: wait('tpause'),
};
