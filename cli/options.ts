/** The command line of `vmxray`. */

import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { MODEL_NAMES } from '../sim-core/cpu/models.ts';
import { IMAGE_FORMATS, type ImageFormat } from '../sim-core/loaders/boot-request.ts';
import { DEVICE_KINDS } from '../sim-core/platform/devices.ts';
import { MOST_PROCESSORS } from '../sim-core/state/layout.ts';
import { exitStatusHelp } from './exit-status.ts';
import type { TraceKinds } from './trace/tracer.ts';

/** Wrong arguments: the message says what is wrong and what would be right. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export interface RunOptions {
  readonly image: string;
  readonly commandLine: string;
  /** 'path arguments…' each. */
  readonly modules: readonly string[];
  readonly format: 'auto' | ImageFormat;
  /** Bytes. */
  readonly memory: number;
  /** Infinity: no limit. */
  readonly maxInstructions: number;
  /** Seconds of real time; Infinity: no limit. */
  readonly timeout: number;
  readonly json: boolean;
  /** Name of a processor model (sim-core/cpu/models.ts). */
  readonly cpu: string;
  /** Number of processors. */
  readonly cpus: number;
  /** Cycles of a processor's turn. */
  readonly quantum: number;
  /** End the run at the first access through a TLB entry that the tables no longer bear out. */
  readonly stopOnStale: boolean;
  /** PCI devices as text (sim-core/platform/device-text.ts). */
  readonly devices: readonly string[];
  /** What guests write to ports E9h and 402h goes to standard error. */
  readonly debugConsole: boolean;
  /** What the real-time clock shows at power-up: seconds since 1970; undefined: the machine's default. */
  readonly startTime: number | undefined;
  /** Devices' accesses go through VT-d. */
  readonly iommu: boolean;
  /** Keep hot code in the interpreter, too. */
  readonly interpret: boolean;
  /** Run compiled and interpreted at once, and compare. */
  readonly verify: boolean;
  /** Where to write the recording of the run. */
  readonly record: string | undefined;
  /** The snapshot to begin with; then `image`, unless it is empty, is only held against it. */
  readonly snapshot: string | undefined;
}

export interface SnapshotOptions {
  /** With the place of the snapshot as `maxInstructions`. */
  readonly run: RunOptions;
  readonly output: string;
}

export interface DapOptions {
  /** Undefined: standard input and output. */
  readonly port: number | undefined;
}

const TRACE_FORMATS = ['text', 'perfetto'] as const;

export interface TraceOptions {
  readonly run: RunOptions;
  readonly kinds: TraceKinds;
  readonly format: (typeof TRACE_FORMATS)[number];
  /** Instructions since boot. */
  readonly from: number;
  /** Infinity: to the end. */
  readonly to: number;
  /** Undefined: standard output. */
  readonly output: string | undefined;
}

export interface GdbOptions {
  readonly run: RunOptions;
  /** 0: any free one. */
  readonly port: number;
}

/** The first model is the default. */
const DEFAULT_MODEL = MODEL_NAMES[0] ?? '';

export const HELP = `Usage: vmxray <command> [options]

  vmxray run IMAGE [options]    run an image; its serial port is standard input and output
    --cmdline S                 command line for the kernel
    --module 'FILE [args]'      boot module; may be repeated
    --initrd FILE               initial RAM disk: the first module
    --format F                  auto (default), ${IMAGE_FORMATS.join(', ')}
                                (flat is raw code: 32-bit mode at 1 MiB)
    --memory N                  RAM, as 512M or 1G (default 512M; 1M to 3G, a multiple of 64K)
    --cpus N                    processors (default 1, at most ${MOST_PROCESSORS})
    --quantum N                 cycles that a processor runs before the next one's turn (default 20000)
    --cpu MODEL                 processor model: ${MODEL_NAMES.join(', ')} (default ${DEFAULT_MODEL})
    --device D                  PCI device, may be repeated: ${DEVICE_KINDS.join(', ')};
                                options behind commas, as in edu,dma_mask=0xffffffff
    --disk FILE                 disk image for a virtio-blk device; what the guest writes is forgotten
                                (to keep it: --device virtio-blk,file=FILE,write=on)
    --cdrom FILE                ISO image in a CD-ROM drive; an ISO image in place of a kernel means the same
    --bios FILE                 start this PC firmware (SeaBIOS's bios-256k.bin) in place of an image: it boots the
                                disk; without an image the SeaBIOS of Debian's package seabios does
    --debug-console             show on standard error what guests write to ports E9h and 402h
    --start-time T              what the real-time clock shows at power-up, as 2026-01-01T00:00:00Z (the default)
    --iommu                     put VT-d between the devices and memory
    --interpret                 do not compile hot code: slower, for comparing
    --verify                    run twice at once, compiled and interpreted, and compare the machines all the way;
                                standard input is not read
    --record FILE               write a recording of the run, with its input, for vmxray replay and the debugger
    --snapshot FILE             go on from a snapshot in place of an image's start: its machine, memory and devices;
                                give the image as well to be told when the snapshot is of another one
    --stop-on-stale             stop at the first use of a stale translation, and tell which write made it stale
    --max-instructions N        stop after N instructions since the machine's start
    --timeout S                 stop after S seconds
    --json                      end with a line of JSON: stop reason, instructions, seconds, mips, VM exits
  vmxray snapshot IMAGE [options]
                                run an image, and save the whole machine to go on from there with --snapshot, here
                                or elsewhere; the options are those of run, and:
    --at N                      after N instructions since the machine's start
    -o FILE                     the snapshot to write
  vmxray trace IMAGE [options]  run an image and write down what happens; the options are those of run, but for
                                --ram and --image-format in place of --memory and --format, and:
    --exits                     VM exits and VM entries (the default, and fast)
    --instructions              every instruction
    --memory                    what instructions, the processor and devices read and write in memory
    --devices                   accesses to I/O ports and to devices in memory
    --from N, --to N            only from the Nth instruction on, and up to the Nth
    --format F                  text (default), or perfetto: JSON trace events for ui.perfetto.dev
    -o FILE                     write there; without it the serial port goes to standard error
  vmxray gdb IMAGE [options]    the same machine for gdb's 'target remote', which also steps it backwards;
                                the options are those of run, and:
    --port N                    TCP port on 127.0.0.1 (default 1234; 0 takes any free one)
  vmxray replay FILE            repeat a recorded run, and compare the state at its end with the recorded one
  vmxray dap [--port N]         Debug Adapter Protocol on standard input and output, or on 127.0.0.1:N
  vmxray --help | --version

On a terminal, Ctrl-A x ends the run and Ctrl-A Ctrl-A sends Ctrl-A.

Exit statuses of run:
${exitStatusHelp()}
`;

const MIB = 2 ** 20;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1024, M: MIB, G: 1024 * MIB };
const GRANULE = 65_536;

/** '512M' → bytes. @throws UsageError */
export function parseMemory(text: string): number {
  const match = /^(\d+)([KMG]?)B?$/i.exec(text);
  const bytes = match ? Number(match[1]) * (UNITS[(match[2] ?? '').toUpperCase()] ?? 1) : Number.NaN;
  if (!(bytes >= MIB && bytes <= 3072 * MIB && bytes % GRANULE === 0)) {
    throw new UsageError(`--memory ${text}: give a size from 1M to 3G in steps of 64K, for example 512M`);
  }
  return bytes;
}

function positive(option: string, text: string | undefined, integer: boolean): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const value = Number(text);
  if (text.trim() !== '' && value > 0 && (!integer || Number.isInteger(value))) return value;
  throw new UsageError(`${option} ${text}: give a positive ${integer ? 'whole number' : 'number of seconds'}`);
}

function parseFormat(text: string): RunOptions['format'] {
  const formats = ['auto', ...IMAGE_FORMATS] as const;
  const found = formats.find((format) => format === text);
  if (!found) throw new UsageError(`--format ${text}: choose from ${formats.join(', ')}`);
  return found;
}

/** '2026-01-01T00:00:00Z' → seconds since 1970. @throws UsageError */
function parseTime(text: string): number {
  const milliseconds = Date.parse(text);
  if (milliseconds >= 0) return Math.floor(milliseconds / 1000);
  throw new UsageError(`--start-time ${text}: give a date from 1970 on, as 2026-01-01T00:00:00Z`);
}

/** parseArgs with its complaints as UsageError. */
const parse: typeof parseArgs = (config) => {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
};

/** What every command that runs an image takes. */
const RUN_OPTIONS = {
  cmdline: { type: 'string', default: '' },
  module: { type: 'string', multiple: true, default: [] as string[] },
  initrd: { type: 'string' },
  format: { type: 'string', default: 'auto' },
  memory: { type: 'string', default: '512M' },
  cpus: { type: 'string', default: '1' },
  quantum: { type: 'string', default: '20000' },
  cpu: { type: 'string', default: DEFAULT_MODEL },
  device: { type: 'string', multiple: true, default: [] as string[] },
  disk: { type: 'string', multiple: true, default: [] as string[] },
  cdrom: { type: 'string', multiple: true, default: [] as string[] },
  bios: { type: 'string' },
  'debug-console': { type: 'boolean', default: false },
  'start-time': { type: 'string' },
  iommu: { type: 'boolean', default: false },
  interpret: { type: 'boolean', default: false },
  verify: { type: 'boolean', default: false },
  record: { type: 'string' },
  snapshot: { type: 'string' },
  'stop-on-stale': { type: 'boolean', default: false },
  'max-instructions': { type: 'string' },
  timeout: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

/** The values that parseArgs gives for RUN_OPTIONS. */
type RunValues = ReturnType<typeof parseArgs<{ options: typeof RUN_OPTIONS }>>['values'];

/** @throws UsageError */
export function parseRun(args: readonly string[]): RunOptions {
  const { values, positionals } = parse({ args: [...args], allowPositionals: true, options: RUN_OPTIONS });
  if (values.record !== undefined) refuse(values, ['verify'], 'with --record');
  if (values.snapshot !== undefined) refuse(values, ['verify'], 'with --snapshot');
  return runOptions('run', values, positionals);
}

/** Options that say what machine there is, and what it boots: a snapshot knows. */
const OF_THE_MACHINE = [
  'cmdline', 'module', 'initrd', 'format', 'memory', 'cpus', 'quantum', 'cpu', 'device', 'disk', 'cdrom', 'bios',
  'start-time', 'iommu',
] as const satisfies readonly (keyof RunValues)[]; // biome-ignore format: a list reads better in rows

/** A machine that goes on from a snapshot is the one that was saved. @throws UsageError for options that say another */
function refuseMachine(values: RunValues): void {
  const given = OF_THE_MACHINE.find((name) => {
    const option: { readonly type: string; readonly default?: unknown } = RUN_OPTIONS[name];
    return String(values[name] ?? '') !== String(option.default ?? '');
  });
  if (given !== undefined) {
    throw new UsageError(`--${given} has no meaning with --snapshot, which holds the whole machine: leave it out`);
  }
}

/** Where Debian's packages seabios and qemu-system-data put the firmware. */
const SEABIOS = ['/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/bios-256k.bin'];

/** A disk without an image to boot is booted by firmware, which is looked for when it is not given. */
function withFirmware(values: RunValues, positionals: readonly string[]): RunValues {
  const boots = values.disk.length + values.cdrom.length > 0;
  if (values.bios !== undefined || positionals.length > 0 || !boots) return values;
  const bios = SEABIOS.find((file) => existsSync(file));
  if (bios === undefined) {
    throw new UsageError("there is no SeaBIOS to boot the disk: install Debian's package seabios, or give --bios FILE");
  }
  return { ...values, bios };
}

/** ISO 9660's mark in the first volume descriptor. */
const ISO_MARK = { offset: 0x8001, text: 'CD001' } as const;

/** What cannot be read is for others to complain about. */
function isIso(file: string): boolean {
  try {
    const bytes = Buffer.alloc(ISO_MARK.text.length);
    const descriptor = openSync(file, 'r');
    readSync(descriptor, bytes, 0, bytes.length, ISO_MARK.offset);
    closeSync(descriptor);
    return bytes.toString('latin1') === ISO_MARK.text;
  } catch {
    return false;
  }
}

function runOptions(command: string, first: RunValues, words: readonly string[]): RunOptions {
  // An ISO image is no kernel: firmware starts it from a CD-ROM drive.
  const isDisc = first.bios === undefined && first.format === 'auto' && words.length === 1 && isIso(words[0] ?? '');
  const positionals = isDisc ? [] : words;
  const values = withFirmware(isDisc ? { ...first, cdrom: [...first.cdrom, ...words] } : first, positionals);
  if (values.snapshot !== undefined) refuseMachine(values);
  const [leading, ...rest] = values.bios === undefined ? positionals : [values.bios, ...positionals];
  const image = leading ?? (values.snapshot === undefined ? undefined : '');
  if (image === undefined) throw new UsageError(`${command} needs an image: vmxray ${command} kernel.elf`);
  if (rest.length > 0) {
    throw new UsageError(
      values.bios === undefined
        ? `${command} takes one image, not also '${rest.join("', '")}': the kernel's arguments go to --cmdline`
        : `--bios boots what is on a disk, not '${rest.join("', '")}': give that to --disk`,
    );
  }
  const cpus = positive('--cpus', values.cpus, true);
  if (cpus > MOST_PROCESSORS) throw new UsageError(`--cpus ${values.cpus}: there may be ${MOST_PROCESSORS} at most`);
  if (!MODEL_NAMES.includes(values.cpu)) {
    throw new UsageError(`--cpu ${values.cpu}: choose from ${MODEL_NAMES.join(', ')}`);
  }
  return {
    image,
    commandLine: values.cmdline,
    modules: [...(values.initrd === undefined ? [] : [values.initrd]), ...values.module],
    format: values.bios === undefined ? parseFormat(values.format) : 'firmware',
    memory: parseMemory(values.memory),
    maxInstructions: positive('--max-instructions', values['max-instructions'], true),
    timeout: positive('--timeout', values.timeout, false),
    json: values.json,
    cpu: values.cpu,
    cpus,
    quantum: positive('--quantum', values.quantum, true),
    devices: [
      ...values.device,
      ...values.disk.map((file) => `virtio-blk,file=${file}`),
      ...values.cdrom.map((file) => `ide-cd,file=${file}`),
    ],
    debugConsole: values['debug-console'],
    startTime: values['start-time'] === undefined ? undefined : parseTime(values['start-time']),
    iommu: values.iommu,
    interpret: values.interpret,
    verify: values.verify,
    record: values.record,
    snapshot: values.snapshot,
    stopOnStale: values['stop-on-stale'],
  };
}

const SNAPSHOT_OPTIONS = {
  ...RUN_OPTIONS,
  at: { type: 'string' },
  output: { type: 'string', short: 'o' },
} as const;

/** @throws UsageError */
export function parseSnapshotCommand(args: readonly string[]): SnapshotOptions {
  const { values, positionals } = parse({ args: [...args], allowPositionals: true, options: SNAPSHOT_OPTIONS });
  refuse(values, ['verify', 'record', 'max-instructions', 'json'], 'for a snapshot');
  const { at, output } = values;
  if (at === undefined) throw new UsageError('snapshot needs --at N: the instruction after which it is made');
  if (output === undefined) throw new UsageError('snapshot needs -o FILE: where to write it');
  return {
    run: { ...runOptions('snapshot', values, positionals), maxInstructions: positive('--at', at, true) },
    output,
  };
}

/** @returns the recording to repeat. @throws UsageError */
export function parseReplay(args: readonly string[]): string {
  const { positionals } = parse({ args: [...args], allowPositionals: true, options: {} });
  const [file, ...rest] = positionals;
  if (file === undefined || rest.length > 0)
    throw new UsageError('replay takes one recording: vmxray replay run.vmxtrace');
  return file;
}

/** @throws UsageError */
export function parseDap(args: readonly string[]): DapOptions {
  const { values } = parse({ args: [...args], options: { port: { type: 'string' } } });
  return { port: values.port === undefined ? undefined : parsePort(values.port) };
}

/** Two options of run have other names here, since trace uses theirs. */
const { memory: RAM, format: IMAGE_FORMAT, ...COMMON_OPTIONS } = RUN_OPTIONS;
const TRACE_OPTIONS = {
  ...COMMON_OPTIONS,
  ram: RAM,
  'image-format': IMAGE_FORMAT,
  exits: { type: 'boolean', default: false },
  instructions: { type: 'boolean', default: false },
  memory: { type: 'boolean', default: false },
  devices: { type: 'boolean', default: false },
  from: { type: 'string' },
  to: { type: 'string' },
  format: { type: 'string', default: 'text' },
  output: { type: 'string', short: 'o' },
} as const;

/** @throws UsageError */
export function parseTrace(args: readonly string[]): TraceOptions {
  const { values, positionals } = parse({ args: [...args], allowPositionals: true, options: TRACE_OPTIONS });
  refuse(values, ['verify', 'stop-on-stale', 'json', 'max-instructions', 'record'], 'for a trace');
  const format = TRACE_FORMATS.find((each) => each === values.format);
  if (!format) throw new UsageError(`--format ${values.format}: choose from ${TRACE_FORMATS.join(', ')}`);
  const { instructions, exits, memory, devices } = values;
  const run = { ...values, memory: values.ram, format: values['image-format'] };
  return {
    run: runOptions('trace', run, positionals),
    kinds: { instructions, memory, devices, exits: exits || !(instructions || memory || devices) },
    format,
    from: values.from === undefined ? 0 : positive('--from', values.from, true),
    to: positive('--to', values.to, true),
    output: values.output,
  };
}

/** Options of run that have no meaning elsewhere. */
function refuse<Values extends object>(values: Values, names: readonly (keyof Values & string)[], where: string): void {
  const unfit = names.find((name) => values[name] !== undefined && values[name] !== false);
  if (unfit) throw new UsageError(`--${unfit} has no meaning ${where}`);
}

const GDB_OPTIONS = { ...RUN_OPTIONS, port: { type: 'string', default: '1234' } } as const;

/** @throws UsageError */
export function parseGdb(args: readonly string[]): GdbOptions {
  const { values, positionals } = parse({ args: [...args], allowPositionals: true, options: GDB_OPTIONS });
  const unfit = ['verify', 'stop-on-stale', 'json', 'timeout', 'max-instructions', 'record'] as const;
  refuse(values, unfit, 'while gdb runs the machine');
  return { run: runOptions('gdb', values, positionals), port: parsePort(values.port) };
}

function parsePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && text !== '' && port >= 0 && port <= 65_535) return port;
  throw new UsageError(`--port ${text}: give a TCP port from 0 (any free one) to 65535`);
}
