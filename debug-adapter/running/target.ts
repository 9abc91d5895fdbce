import type { BootModule, BootRequest, Machine, MachineConfig, World } from '../../sim-core/machine/api.ts';
import { History, type HistoryOptions } from '../../sim-core/machine/history/history.ts';
import type { OutsideEvent } from '../../sim-core/machine/history/outside-event.ts';
import { type Position, same } from '../../sim-core/machine/history/position.ts';
import { checkBoot, restoreSnapshot, SnapshotError } from '../../sim-core/machine/history/snapshot.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { parseDevice } from '../../sim-core/platform/device-text.ts';
import type { DeviceConfig } from '../../sim-core/platform/devices.ts';
import type { ConsolePort } from '../../sim-core/platform/virtio/console.ts';
import { memoryImage } from '../../sim-core/platform/virtio/disk.ts';
import { nameOf } from '../../sim-core/vmx/bits.ts';
import { EXIT_REASONS, exitReasonByName } from '../../sim-core/vmx/exit-reasons.ts';
import { errors } from '../errors.ts';
import type { FileReader, LaunchArguments } from '../protocol.ts';
import {
  asRecorded,
  type Booted,
  bootAsRecorded,
  bootedWith,
  readRecording,
  startSeconds,
  traceSource,
} from '../requests/replay.ts';
import { readSnapshot, type SnapshotFile, snapshotSource } from '../requests/snapshots.ts';
import { FormatError } from '../symbols/byte-reader.ts';
import { openCompanions } from '../symbols/companions.ts';
import { type FileImage, memoryFile } from '../symbols/file-image.ts';
import { baseName } from '../symbols/paths.ts';
import { type FunctionRange, type LineRange, type Place, Program } from '../symbols/program.ts';
import { findModule } from '../worlds/linux-modules.ts';
import { LoadedProgram } from '../worlds/loaded-program.ts';
import { hex } from '../worlds/memory-reference.ts';
import {
  applies,
  appliesAt,
  demands,
  parseAddress,
  parseWhen,
  type SymbolContext,
  type When,
} from '../worlds/symbol-context.ts';
import { VirtualProcessors } from '../worlds/vcpus.ts';
import { type SuspendedGuest, WorldView } from '../worlds/world-view.ts';
import { Consoles } from './consoles.ts';
import { Disks } from './disks.ts';
import { Timeline } from './timeline.ts';

export { LoadedProgram } from '../worlds/loaded-program.ts';

export type MachineFactory = (config: MachineConfig) => Machine;

/** Whose symbols are asked for: those of what is shown now of a world, or of a view's. */
export type Where = World | SymbolContext;

const MEBIBYTE = 2 ** 20;
const DEFAULT_HISTORY_MB = 256;

/** A recorded run that is repeated, and the hash of the state at its end. */
export type Recorded = NonNullable<HistoryOptions['future']> & { readonly hash: string };

/** The machine that is debugged, with what is known of the programs on it. */
export class Target {
  readonly launch: LaunchArguments;
  readonly machine: Machine;
  readonly programs: readonly LoadedProgram[];
  /** Where the machine has been, unless the launch configuration wants no time travel. */
  readonly history: History | undefined;
  readonly timeline = new Timeline();
  /** Beside COM1. */
  readonly consoles: Consoles;
  readonly vcpus = new VirtualProcessors();
  /** The recorded run that is repeated, up to its end. */
  recorded: Recorded | undefined;
  /** What it was booted with; undefined in tests without a launch. */
  booted: Booted | undefined;
  /** Where it was asked whether the future may be forgotten. */
  private asked: Position | undefined;
  /** Told when a change in the past has made another future. */
  onFutureForgotten: (() => void) | undefined;

  constructor(
    launch: LaunchArguments,
    machine: Machine,
    programs: readonly LoadedProgram[],
    recorded?: Recorded,
    consoles = new Consoles([]),
  ) {
    this.launch = launch;
    this.consoles = consoles;
    this.machine = machine;
    this.programs = [...programs].sort((a, b) => demands(b.when) - demands(a.when));
    const { maxMemoryMB = DEFAULT_HISTORY_MB } = launch.history ?? {};
    this.recorded = recorded;
    if (!keepsHistory(launch) && !recorded) return;
    const clock = (): number => performance.now();
    const options = { maxMemory: maxMemoryMB * MEBIBYTE, clock, ...(recorded ? { future: recorded } : {}) };
    this.history = new History(machine.rewindable, options);
  }

  /** Runs the machine so that its history knows of it. */
  get driver(): Pick<Machine, 'run' | 'step'> {
    return this.history ?? this.machine;
  }

  /** The machine is on the way to a place of its history: nothing from outside may reach it. */
  isTravelling = false;
  /** How often the machine has been changed by hand. */
  changes = 0;

  /**
   * Changes the machine by hand. @throws changesThePast in the past, where it forgets what came after, unless the
   * change is tried again at the same place.
   */
  readonly apply = (event: OutsideEvent): void => {
    const { history } = this;
    this.changes++;
    if (!history) {
      this.machine.rewindable.applyEvent(event);
      return;
    }
    if (history.isInPast) {
      const here = history.position;
      const again = this.asked !== undefined && same(this.asked, here);
      this.asked = here;
      if (!again) throw errors.changesThePast(history.present.instructions - here.instructions);
      this.forgetFuture();
    }
    history.apply(event);
  };

  /** The machine is where the recorded run ended. @returns what is to be said of it */
  endRecording(): string {
    const { recorded } = this;
    this.recorded = undefined;
    if (!recorded) return '';
    const hash = stateHash(this.machine);
    return hash === recorded.hash
      ? `The recording ends here; the machine's state is the recorded one (${hash})`
      : `The recording ends here, but the machine's state (${hash}) is not the recorded one (${recorded.hash})`;
  }

  /** What came after this place has not happened. */
  forgetFuture(): void {
    if (!this.history?.isInPast) return;
    this.asked = undefined;
    this.recorded = undefined;
    this.history.forgetFuture();
    this.timeline.forgetAfter(this.history.position);
    this.onFutureForgotten?.();
  }

  /** Makes the machine the saved one, of the same image and make. What the debugger knew of its past is forgotten. */
  restore({ snapshot, file }: SnapshotFile): void {
    restoreSnapshot(this.machine, snapshot);
    this.timeline.clear();
    this.asked = undefined;
    this.recorded = undefined;
    if (this.booted) this.booted = { ...this.booted, snapshot: file };
    this.history?.beginAnew();
    this.onFutureForgotten?.();
  }

  view(world: World = this.machine.world): WorldView {
    return new WorldView(this.machine, world, this);
  }

  /** A virtual processor that does not run. */
  suspendedView(guest: SuspendedGuest): WorldView {
    return new WorldView(this.machine, 'guest', this, guest);
  }

  /** @throws unknownVcpu where it runs, or is none. */
  suspendedGuest(number: number): SuspendedGuest {
    const found = this.vcpus.suspended(this.machine).find((guest) => guest.number === number);
    if (!found) throw errors.unknownVcpu(number);
    return found;
  }

  /** Looks for programs that may be anywhere. @returns those that were found now */
  locatePrograms(): LoadedProgram[] {
    const searched = this.programs.filter((loaded) => loaded.isSearched);
    if (searched.length === 0) return [];
    const suspended = this.vcpus.suspended(this.machine).map((guest) => this.suspendedView(guest));
    const views = [this.view('guest'), this.view('vmm'), ...suspended];
    // A module is found by its kernel, which is looked for before.
    const kernelsFirst = searched.toSorted((a, b) => Number(a.program.elf.isObject) - Number(b.program.elf.isObject));
    return kernelsFirst.filter((loaded) => loaded.locate(views, (view, module) => findModule(this, view, module)));
  }

  /** Those of which it is known where they are. */
  get placedPrograms(): readonly LoadedProgram[] {
    return this.programs.filter(({ isMissing }) => !isMissing);
  }

  private loadedIn(where: Where): readonly LoadedProgram[] {
    const context = typeof where === 'string' ? this.view(where) : where;
    return this.placedPrograms.filter(({ when }) => applies(when, context));
  }

  /** Programs whose symbols hold somewhere, those that demand the most of the place first. */
  programsIn(where: Where): Program[] {
    return this.loadedIn(where).map(({ program }) => program);
  }

  programAt(where: Where, address: bigint): Program | undefined {
    return this.loadedIn(where).find(({ program, when }) => appliesAt(when, address) && program.contains(address))
      ?.program;
  }

  lineAt(where: Where, address: bigint): LineRange | undefined {
    return this.programAt(where, address)?.lineAt(address);
  }

  /** The line that a person sees where an instruction is about to execute. */
  statementAt(where: Where, address: bigint): LineRange | undefined {
    return this.programAt(where, address)?.statementAt(address);
  }

  functionAt(where: Where, address: bigint): FunctionRange | undefined {
    return this.programAt(where, address)?.functionAt(address);
  }

  /** 'main+0x12', or undefined when no symbol is near. */
  symbolName(where: Where, address: bigint): string | undefined {
    const symbol = this.programAt(where, address)?.symbolAt(address);
    if (!symbol) return undefined;
    return symbol.offset === 0n ? symbol.name : `${symbol.name}+${hex(symbol.offset)}`;
  }
}

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: MEBIBYTE, g: 2 ** 30 };

/** Reads '512M', '0x10000000', '1G'. @throws badLaunchValue. */
function parseSize(name: string, text: string): number {
  const match = /^\s*(0x[0-9a-f]+|\d+)\s*([kmg]?)(?:i?b)?\s*$/i.exec(text);
  const size = match ? Number(match[1]) * (UNITS[(match[2] ?? '').toLowerCase()] ?? 1) : Number.NaN;
  if (!Number.isFinite(size)) throw errors.badLaunchValue(name, `'${text}' is no size such as 256M or 1G`);
  if (size < MEBIBYTE || size > 3 * 2 ** 30 || size % 0x1_0000 !== 0) {
    throw errors.badLaunchValue(name, `${text} is not between 1M and 3G in steps of 64K`);
  }
  return size;
}

const DEFAULT_MEMORY = '256M';

/**
 * Reads the files of a launch, makes the machine and boots it.
 * @param complain told when a file fails that is read while the machine runs
 * @throws RequestError for everything that the launch configuration can have wrong.
 */
export async function loadTarget(
  files: FileReader,
  createMachine: MachineFactory,
  given: LaunchArguments,
  complain: (text: string) => void = () => {},
): Promise<Target> {
  const recording = given.replay === undefined ? undefined : await readRecording(files, given.replay);
  const from = given.snapshot ?? recording?.snapshot?.path;
  const saved = from === undefined ? undefined : await readSnapshot(files, from);
  const made = recording ?? saved?.snapshot.boot;
  const launch = made ? asRecorded(given, made) : given;
  if (typeof launch.program !== 'string' || launch.program === '') throw errors.noProgram();
  checkExitNames(launch.breakOnVmExit ?? []);
  const memory = parseSize('machine.memory', launch.machine?.memory ?? DEFAULT_MEMORY);
  const image = await readFile(files, 'The program', launch.program);
  const modules = await Promise.all((launch.modules ?? []).map((line) => readModule(files, line)));
  const programs = await readPrograms(files, launch, image);
  const texts = launch.machine?.devices ?? [];
  const consoles = new Consoles(texts);
  const source = recording ? traceSource(given.replay ?? '', recording) : saved && snapshotSource(saved);
  const disks = new Disks(files, { complain, goesBack: keepsHistory(launch) || recording !== undefined, source });
  const devices: DeviceConfig[] = [];
  for (const [at, text] of texts.entries()) devices.push(await readDevice(disks, text, consoles.portOf(at)));
  const { args: commandLine = '', format = 'auto' } = launch;
  const wanted = { name: baseName(launch.program), image, commandLine, modules, format };
  const request = recording ? bootAsRecorded(launch.replay ?? '', recording, wanted) : wanted;
  const machine = makeMachine(createMachine, launch, memory, devices);
  boot(machine, request);
  const booted = bootedWith(launch, request, memory, disks);
  if (saved) goOn(machine, saved, booted, recording);
  await consoles.connect(machine, launch.consoles ?? {}, files);
  const target = new Target(launch, machine, programs, recording, consoles);
  target.booted = saved ? { ...booted, snapshot: saved.file } : booted;
  return target;
}

/** Whether the session goes back in time, if it repeats no recording, which it can in any case. */
const keepsHistory = ({ history, noDebug }: LaunchArguments): boolean => history?.enabled ?? noDebug !== true;

/** @throws badSnapshot, badTrace */
function goOn(
  machine: Machine,
  { snapshot, file }: SnapshotFile,
  booted: Booted,
  recording?: Pick<Booted, 'snapshot'>,
): void {
  const begun = recording?.snapshot;
  if (recording && begun?.hash !== file.hash) {
    const which = begun === undefined ? 'no snapshot' : `the one at ${begun.path}`;
    throw errors.badSnapshot(file.path, `the recording began with ${which}`);
  }
  try {
    checkBoot(snapshot.boot, booted);
    restoreSnapshot(machine, snapshot);
  } catch (error) {
    throw error instanceof SnapshotError ? errors.badSnapshot(file.path, error.message) : error;
  }
}

function checkExitNames(names: readonly string[]): void {
  for (const name of names) {
    if (name === '*' || exitReasonByName(nameOf(name))) continue;
    const words = nameOf(name).split('_');
    const similar = EXIT_REASONS.filter((reason) => reason.name.split('_').some((part) => words.some(isLike(part))));
    throw errors.unknownExitReason(
      name,
      similar.slice(0, 4).map((reason) => reason.name),
    );
  }
}

/** Equal but for an ending: ACCESS and ACCESSES. */
const isLike =
  (part: string) =>
  (word: string): boolean =>
    Math.min(part.length, word.length) >= 3 && (part.startsWith(word) || word.startsWith(part));

async function readFile(files: FileReader, what: string, path: string): Promise<Uint8Array> {
  try {
    return await files.readFile(path);
  } catch (error) {
    throw errors.unreadableFile(what, path, error instanceof Error ? error.message : String(error));
  }
}

/** A file of which only parts are needed. */
const openFile = async (files: FileReader, path: string): Promise<FileImage | undefined> => files.openFile?.(path);

/** A file that may be missing. */
async function openIfThere(files: FileReader, path: string): Promise<FileImage | undefined> {
  try {
    return (await openFile(files, path)) ?? memoryFile(await files.readFile(path));
  } catch {
    return undefined;
  }
}

async function readModule(files: FileReader, line: string): Promise<BootModule> {
  const path = line.trim().split(/\s+/)[0] ?? '';
  const bytes = await readFile(files, 'The boot module', path);
  return { name: baseName(path), bytes, commandLine: line };
}

async function readPrograms(files: FileReader, launch: LaunchArguments, image: Uint8Array): Promise<LoadedProgram[]> {
  const mapPath = sourceMapper(launch.sourceMap ?? {});
  const programs: LoadedProgram[] = [];
  const read = async (path: string, bytes: Uint8Array | FileImage, entry: Entry): Promise<void> => {
    const image = bytes instanceof Uint8Array ? memoryFile(bytes) : bytes;
    const companions = await openCompanions(path, image, (other) => openIfThere(files, other));
    const name = entry.name ?? baseName(path);
    const at = (place: Place | undefined, required = true): Program | undefined =>
      readProgram(() => new Program(name, path, image, place, mapPath, companions), path, required);
    const known = placeOf(entry);
    const program = at(known, path !== launch.program);
    if (!program) return;
    const isSearched = entry.loadAddress === AUTOMATIC || (program.elf.isObject && known === undefined);
    programs.push(new LoadedProgram(program, entry.when, isSearched ? (place) => at(place) ?? program : undefined));
  };
  for (const { program, when, ...guest } of launch.guests ?? []) {
    const bytes = (await openFile(files, program)) ?? (await readFile(files, `The guest '${guest.name}'`, program));
    await read(program, bytes, { ...guest, when: parseWhen('guests[].when', when, 'guest') });
  }
  const world = programs.length > 0 ? 'vmm' : undefined;
  for (const entry of launch.symbols ?? []) {
    const { path, when, ...more } = typeof entry === 'string' ? { path: entry } : entry;
    const bytes = (await openFile(files, path)) ?? (await readFile(files, 'The symbol file', path));
    await read(path, bytes, { ...more, when: parseWhen('symbols[].when', when, world) });
  }
  await read(launch.program, image, { when: parseWhen('program', undefined, world) });
  return programs;
}

/** What a launch configuration says of a file with symbols. */
interface Entry {
  readonly name?: string;
  readonly loadAddress?: string;
  readonly sections?: Readonly<Record<string, string>>;
  readonly when: When;
}

/** As a load address: wherever the program is found. */
const AUTOMATIC = 'auto';

/** Undefined where nothing is said, or it is to be found. @throws badLaunchValue */
function placeOf({ loadAddress, sections }: Entry): Place | undefined {
  if (sections) {
    const places = Object.entries(sections).map(([section, at]) => [section, parseAddress(`sections.${section}`, at)]);
    return new Map(places as [string, bigint][]);
  }
  return loadAddress === undefined || loadAddress === AUTOMATIC ? undefined : parseAddress('loadAddress', loadAddress);
}

/** The boot image may be no ELF file (a flat binary): the loader judges it; a guest is given for its symbols only. */
function readProgram(read: () => Program, path: string, required: boolean): Program | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    if (required) throw errors.badSymbols(path, error.message);
    return undefined;
  }
}

function sourceMapper(map: Readonly<Record<string, string>>): (path: string) => string {
  const prefixes = Object.entries(map).sort(([a], [b]) => b.length - a.length);
  return (path) => {
    const found = prefixes.find(([from]) => path.startsWith(from));
    return found ? found[1] + path.slice(found[0].length) : path;
  };
}

/** A device of the launch configuration. */
async function readDevice(disks: Disks, text: string, port: ConsolePort | undefined): Promise<DeviceConfig> {
  try {
    const disk = await disks.open(text);
    return parseDevice(text, {
      disk: () => disk ?? memoryImage(new Uint8Array()),
      console: port && (() => port),
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw errors.badLaunchValue('machine.devices', error.message);
  }
}

function makeMachine(
  createMachine: MachineFactory,
  launch: LaunchArguments,
  memory: number,
  devices: readonly DeviceConfig[],
): Machine {
  const { cpus, cpuModel, vmx, quantum, iommu } = launch.machine ?? {};
  const startTime = startSeconds(launch);
  const config: MachineConfig = {
    memory,
    ...(cpus === undefined ? {} : { cpus }),
    ...(cpuModel === undefined ? {} : { cpuModel }),
    ...(vmx === undefined ? {} : { vmx }),
    ...(quantum === undefined ? {} : { quantum }),
    ...(startTime === undefined ? {} : { startTime }),
    devices,
    iommu: iommu ?? false,
  };
  try {
    return createMachine(config);
  } catch (error) {
    throw errors.badLaunchValue('machine', error instanceof Error ? error.message : String(error));
  }
}

function boot(machine: Machine, request: BootRequest): void {
  try {
    machine.boot(request);
  } catch (error) {
    throw errors.badImage(request.name, error instanceof Error ? error.message : String(error));
  }
}
