/** `vmxray run --verify`: compiled code against the interpreter, all the way through an image. */

import { instructionText } from '../sim-core/isa/text.ts';
import { createMachine } from '../sim-core/machine/machine.ts';
import { type Discrepancy, type StartMachine, Verification } from '../sim-core/machine/verify.ts';
import { writesImage } from '../sim-core/platform/device-text.ts';
import { makeDeviceConfigs } from './devices.ts';
import { EXIT_STATUS, exitStatus } from './exit-status.ts';
import { bootRequestOf } from './images.ts';
import { type RunOptions, UsageError } from './options.ts';
import { describeStop, summary } from './report.ts';
import { asFinal } from './run.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** The instruction and what differed after it, a line each. */
export function describeDiscrepancy(discrepancy: Discrepancy): string {
  const { instructions, isExact, address, bytes, bitness, differences } = discrepancy;
  const text = instructionText(bytes, bitness, address) ?? '(bytes that cannot be fetched or decoded)';
  const encoding = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const lines = differences.map(
    ({ name, values: [compiled, interpreted] }) =>
      `  ${name}: ${hex(compiled)} compiled, ${hex(interpreted)} interpreted\n`,
  );
  return (
    `compiled code and the interpreter disagree after ${instructions} instructions, ` +
    `over the ${isExact ? 'next one' : 'compiled block that ends with the next one'} at ${hex(address)}: ` +
    `${text} (${encoding})\n${lines.join('')}`
  );
}

const asJson = ({ instructions, isExact, address, differences }: Discrepancy) => ({
  stopReason: 'discrepancy',
  exitStatus: EXIT_STATUS.discrepancy.status,
  instructions,
  isExact,
  address: hex(address),
  differences: differences.map(({ name, values: [compiled, interpreted] }) => ({
    name,
    compiled: hex(compiled),
    interpreted: hex(interpreted),
  })),
});

/** @returns the process's exit status. @throws ImageError, UsageError */
export async function verify(options: RunOptions): Promise<number> {
  const writable = options.devices.find(writesImage);
  if (writable !== undefined) {
    throw new UsageError(`--verify runs the image several times: take write=on out of --device ${writable}`);
  }
  const started = performance.now();
  const request = bootRequestOf(options);
  const start: StartMachine = (config) => {
    const { memory, cpu, iommu } = options;
    // Each machine has disks of its own.
    const devices = makeDeviceConfigs(options.devices);
    const machine = createMachine({ memory, cpuModel: cpu, devices, iommu, ...config });
    machine.boot(request);
    return machine;
  };
  const output: number[] = [];
  const verification = new Verification(start, {
    maxInstructions: options.maxInstructions,
    onOutput: (byte) => output.push(byte),
  });
  const seconds = (): number => (performance.now() - started) / 1000;
  let outcome: ReturnType<Verification['advance']>;
  do {
    outcome = seconds() >= options.timeout ? { kind: 'limit' } : verification.advance();
    if (output.length > 0) process.stdout.write(Uint8Array.from(output.splice(0)));
  } while (outcome === undefined);
  if (outcome.kind === 'discrepancy') {
    process.stderr.write(`vmxray: ${describeDiscrepancy(outcome)}`);
    if (options.json) process.stdout.write(`${JSON.stringify(asJson(outcome))}\n`);
    return EXIT_STATUS.discrepancy.status;
  }
  const { machine } = verification;
  const final = asFinal(outcome);
  process.stderr.write(describeStop(final, machine));
  if (options.json) {
    process.stdout.write(`${JSON.stringify(summary(final, exitStatus(final), machine, seconds()))}\n`);
  }
  return exitStatus(final);
}
