/** The machine that the options of `vmxray run` and its kin describe. */

import type { Machine } from '../sim-core/machine/api.ts';
import { createMachine } from '../sim-core/machine/machine.ts';
import { makeDeviceConfigs } from './devices.ts';
import type { RunOptions } from './options.ts';

const COM1_INTERRUPT_ENABLE = 0x3f9;

/** At power-up, with nothing loaded. @throws UsageError for devices that cannot be made */
export function machineOf(options: RunOptions): Machine {
  const machine = createMachine({
    memory: options.memory,
    cpuModel: options.cpu,
    cpus: options.cpus,
    quantum: options.quantum,
    compile: !options.interpret,
    devices: makeDeviceConfigs(options.devices),
    iommu: options.iommu,
    ...(options.startTime === undefined ? {} : { startTime: options.startTime }),
  });
  if (options.debugConsole) machine.onDebugConsole = (byte) => process.stderr.write(Uint8Array.of(byte));
  return machine;
}

/** A halted processor that takes interrupts goes on when COM1 is set to interrupt for received bytes. */
export function inputCanWake({ processors, cpu }: Machine): boolean {
  return processors.some(({ wakesUp }) => wakesUp) && (cpu.ports.read(COM1_INTERRUPT_ENABLE, 1) & 1) !== 0;
}
