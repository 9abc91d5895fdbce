/** Whether the guest's next instruction would exit: for the debug console, the disassembly and hovers. */

import { Mnemonic } from 'iced-x86';
import { LONGEST_INSTRUCTION } from '../../sim-core/engine/form.ts';
import { InstructionDecoder } from '../../sim-core/isa/decoder.ts';
import type { DecodedInstruction } from '../../sim-core/isa/instruction.ts';
import { CODE_MODE, type CodeMode, GPR } from '../../sim-core/state/layout.ts';
import { exitTitle } from '../../sim-core/vmx/exit-reasons.ts';
import { type ExitForecast, forecastExit } from '../../sim-core/vmx/explain-instruction.ts';
import { forecastAccesses, type OperandGuest } from '../../sim-core/vmx/explain-operands.ts';
import { readPlace } from '../expressions/environment.ts';
import type { Target } from '../running/target.ts';
import type { WorldView } from '../worlds/world-view.ts';

const MODES = { 16: CODE_MODE.code16stack16, 32: CODE_MODE.code32stack32, 64: CODE_MODE.code64 } as const;
const GPR_NAMES = Object.keys(GPR);

export interface Forecast {
  /** Address of the guest's next instruction, and its mnemonic in small letters. */
  readonly address: bigint;
  readonly mnemonic: string;
  /** Undefined when no control makes this instruction exit. */
  readonly forecast: ExitForecast | undefined;
}

/** Of the guest that runs or is suspended; undefined when there is none or its code cannot be read. */
export function forecastNext(target: Target): Forecast | undefined {
  const { vmx } = target.machine;
  const guest = target.view('guest');
  if (!guest.exists || vmx.currentVmcs === undefined) return undefined;
  const code = readPlace(target, { space: 'guest', address: guest.pc }, LONGEST_INSTRUCTION);
  const instruction = decodeFirst(code, MODES[guest.bitness]);
  const operands = forecastAccesses(operandGuest(target, guest, code), vmx);
  if (!instruction) {
    return code.length === 0 && operands ? { address: guest.pc, mnemonic: 'the fetch', forecast: operands } : undefined;
  }
  const own = forecastExit(
    instruction,
    {
      gpr: (number: number) => guest.register(GPR_NAMES[number] ?? ''),
      cpl: guest.context().cpl,
      rflags: guest.register('rflags'),
    },
    vmx,
  );
  // What a control decides comes before the operands; what it lets pass accesses them.
  const forecast = own === undefined || own.kind === 'stays' ? (operands ?? own) : own;
  return { address: guest.pc, mnemonic: (Mnemonic[instruction.mnemonic] ?? '').toLowerCase(), forecast };
}

function decodeFirst(code: Uint8Array, mode: CodeMode): DecodedInstruction | undefined {
  const decoder = new InstructionDecoder(mode, code, 0);
  const decoded = code.length > 0 && decoder.next() === 'ok' ? decoder.decoded() : undefined;
  decoder.free();
  return decoded;
}

const operandGuest = ({ machine }: Target, guest: WorldView, code: Uint8Array): OperandGuest => ({
  pc: guest.pc,
  rip: guest.register('rip') ?? 0n,
  bitness: guest.bitness,
  code,
  register: (name) => guest.register(name),
  translate: (linear, access) => machine.mmu.explain(linear, access, guest.context()),
});

/** One line. */
export function describeForecast({ mnemonic, forecast }: Forecast): string {
  if (!forecast) return `${mnemonic}: no control of the VMCS decides about a VM exit here`;
  if (forecast.kind === 'stays') return `${mnemonic} causes no VM exit under the current VMCS`;
  if (forecast.kind === 'faults') return `${mnemonic} causes no VM exit: ${forecast.cause}`;
  return `${mnemonic} causes a VM exit (${exitTitle(forecast.reason)}): ${forecast.cause}`;
}
