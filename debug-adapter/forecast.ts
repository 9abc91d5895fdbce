/** Whether the guest's next instruction would exit: for the debug console, the disassembly and hovers. */

import { Mnemonic } from 'iced-x86';
import { InstructionDecoder } from '../sim-core/isa/decoder.ts';
import { CODE_MODE, GPR } from '../sim-core/state/layout.ts';
import { exitTitle } from '../sim-core/vmx/exit-reasons.ts';
import { type ExitForecast, forecastExit } from '../sim-core/vmx/explain-instruction.ts';
import { readPlace } from './environment.ts';
import type { Target } from './target.ts';

const MODES = { 16: CODE_MODE.code16stack16, 32: CODE_MODE.code32stack32, 64: CODE_MODE.code64 } as const;
const GPR_NAMES = Object.keys(GPR);
const LONGEST_INSTRUCTION = 15;

export interface Forecast {
  /** Address of the guest's next instruction, and its mnemonic in small letters. */
  readonly address: bigint;
  readonly mnemonic: string;
  /** Undefined when no control makes this instruction exit. */
  readonly forecast: ExitForecast | undefined;
}

/** Of the guest that runs or is suspended; undefined when there is none or its code cannot be read. */
export function forecastNext(target: Target): Forecast | undefined {
  const { machine } = target;
  const guest = target.view('guest');
  if (!guest.exists || machine.vmx.currentVmcs === undefined) return undefined;
  const bytes = readPlace(target, { space: 'guest', address: guest.pc }, LONGEST_INSTRUCTION);
  const decoder = new InstructionDecoder(MODES[guest.bitness], bytes, 0);
  const instruction = bytes.length > 0 && decoder.next() === 'ok' ? decoder.decoded() : undefined;
  decoder.free();
  if (!instruction) return undefined;
  const registers = { gpr: (number: number) => guest.register(GPR_NAMES[number] ?? ''), cpl: guest.context().cpl };
  const forecast = forecastExit(instruction, registers, (query) => machine.cpu.intercepts.instruction(query));
  return { address: guest.pc, mnemonic: (Mnemonic[instruction.mnemonic] ?? '').toLowerCase(), forecast };
}

/** One line. */
export function describeForecast({ mnemonic, forecast }: Forecast): string {
  if (!forecast) return `${mnemonic}: no control of the VMCS decides about a VM exit here`;
  if (forecast.kind === 'stays') return `${mnemonic} causes no VM exit under the current VMCS`;
  if (forecast.kind === 'faults') return `${mnemonic} causes no VM exit: ${forecast.cause}`;
  return `${mnemonic} causes a VM exit (${exitTitle(forecast.reason)}): ${forecast.cause}`;
}
