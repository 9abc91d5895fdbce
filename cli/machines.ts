/** The machine that the options of `vmxray run` and its kin describe. */

import path from 'node:path';
import { createThreadedMachine } from '../debug-adapter/compiling/thread.ts';
import type { Machine } from '../sim-core/machine/api.ts';
import { hashOf } from '../sim-core/machine/history/hash.ts';
import type { RecordedBoot, RecordedFile } from '../sim-core/machine/history/recording.ts';
import { makeDeviceConfigs } from './devices.ts';
import { bootRequestOf, readInput } from './images.ts';
import type { RunOptions } from './options.ts';
import { recordBoot } from './record.ts';
import { readSnapshot } from './recorded.ts';

const COM1_INTERRUPT_ENABLE = 0x3f9;

/** At power-up, with nothing loaded. @throws UsageError for devices that cannot be made */
function machineOf(options: RunOptions): Machine {
  return createThreadedMachine({
    memory: options.memory,
    cpuModel: options.cpu,
    cpus: options.cpus,
    quantum: options.quantum,
    compile: !options.interpret,
    devices: makeDeviceConfigs(options.devices),
    iommu: options.iommu,
    ...(options.startTime === undefined ? {} : { startTime: options.startTime }),
  });
}

export interface Started {
  readonly machine: Machine;
  /** For debuggers; a snapshot is enough without. */
  readonly image: { readonly path: string; readonly bytes: Uint8Array } | undefined;
  /** What a recording of the run, or a snapshot, says of its beginning. Ask before the run: files may change later. */
  readonly recorded: () => RecordedBoot & { readonly snapshot?: RecordedFile };
}

/** Boots the image, or goes on from the snapshot. @throws UsageError, ImageError */
export async function startMachine(options: RunOptions): Promise<Started> {
  const started = options.snapshot === undefined ? boot(options) : await goOn(options, options.snapshot);
  started.machine.onDeviceComplaint = (text) => process.stderr.write(`vmxray: ${text}\n`);
  if (options.debugConsole) started.machine.onDebugConsole = (byte) => process.stderr.write(Uint8Array.of(byte));
  return started;
}

function boot(options: RunOptions): Started {
  const machine = machineOf(options);
  const request = bootRequestOf(options);
  machine.boot(request);
  const image = { path: path.resolve(options.image), bytes: request.image };
  return { machine, image, recorded: () => recordBoot(options, request) };
}

async function goOn({ image, interpret }: RunOptions, file: string): Promise<Started> {
  const { snapshot, bytes, source } = await readSnapshot(file);
  const { boot: saved } = snapshot;
  const given = image === '' ? undefined : { path: path.resolve(image), bytes: readInput(image, 'image') };
  const hash = given ? hashOf(given.bytes) : saved.image.hash;
  if (hash !== saved.image.hash) {
    throw source.error(`it is of another image: ${saved.image.path}, hash ${saved.image.hash}; ${image} has ${hash}`);
  }
  const machine = source.makeMachine(saved, !interpret);
  source.restore(machine, snapshot);
  const begun = { path: path.resolve(file), hash: hashOf(bytes) };
  return { machine, image: given, recorded: () => ({ ...saved, snapshot: begun }) };
}

/** A halted processor that takes interrupts goes on when COM1 is set to interrupt for received bytes. */
export function inputCanWake({ processors, cpu }: Machine): boolean {
  return processors.some(({ wakesUp }) => wakesUp) && (cpu.ports.read(COM1_INTERRUPT_ENABLE, 1) & 1) !== 0;
}
