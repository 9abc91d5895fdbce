/**
 * Watches memory, registers, MSRs, VMCS fields, ports and devices' accesses for the debugger. What is accessed is noted
 * while an instruction executes and judged at the boundary behind it, when the new values are there. Only pages that
 * hold watched bytes and instructions that name what is watched cost anything.
 */

import { Decoder, type Instruction, Mnemonic } from 'iced-x86';
import type { Cpu } from '../../cpu/cpu.ts';
import { BITNESS } from '../../isa/decoder.ts';
import type { DecodedInstruction } from '../../isa/instruction.ts';
import { AccessWatch, type WatchedAccess, type WatchedRange } from '../../mmu/access-watch.ts';
import type { CodeMode } from '../../state/layout.ts';
import { fieldByEncoding } from '../../vmx/fields.ts';
import type { VmxView } from '../../vmx/records.ts';
import type { World } from '../api.ts';
import { DeviceBytes } from './device-bytes.ts';
import { ARGUMENTS, decodesAs, stopsNow } from './instruction-stops.ts';
import { modifiesMemory } from './register-use.ts';
import { type TableEntryWatch, type TablePath, tablePath } from './table-path.ts';
import { isUse, NONE, type Use, useFor } from './value-use.ts';
import type { InstructionStop, Watch, WatchHit } from './watch.ts';
import { accessedPart, shownPart } from './watched-part.ts';
import { bytesOf, isValueWatch, keepsItsValue, readWatched, type ValueWatch } from './watched-values.ts';

/** What the watcher asks and tells the machine; everything is the selected processor's. */
export interface WatchedMachine {
  readonly cpu: Cpu;
  readonly vmx: VmxView;
  readonly world: World;
  readonly selected: number;
  /** Linear address of the instruction in hand. */
  instructionAddress(): bigint;
  /** Accesses to memory are told to another watch from now on. */
  watchAccesses(former: AccessWatch | undefined, watch: AccessWatch | undefined): void;
  /** Ends the slice behind the instruction in hand. */
  interrupt(): void;
}

/** An access of a device on its way to memory. */
export interface DeviceAccess {
  readonly requester: number;
  /** As the device says it, and where it leads; it lies in one page. */
  readonly address: bigint;
  readonly physical: number;
  readonly length: number;
  readonly write: boolean;
}

type WatchOf<Kind extends Watch['kind']> = Extract<Watch, { kind: Kind }>;

/** An instruction-wise watch or stop, or that an instruction may move the watched table entries. */
type Rule = { readonly use: (instruction: Instruction) => Use } & (
  | { readonly watch: ValueWatch }
  | { readonly stop: InstructionStop }
  | { readonly movesTables: true }
);

interface Note {
  readonly hit: Omit<WatchHit, 'before' | 'after'>;
  readonly before: Uint8Array | undefined;
  /** The same bytes now. */
  readonly read: () => Uint8Array | undefined;
  /** Told only when the value is another one, whatever the watch asks. */
  readonly onlyChanges: boolean;
  /** Void when the instruction does not complete. */
  readonly ofInstruction: boolean;
}

/** What an access to a watched range of memory means. */
interface RangeMeaning {
  readonly watch: WatchOf<'memory'> | TableEntryWatch;
  /** The range is an entry above the one that is watched. */
  readonly isUpper?: boolean;
}

/** VMX instructions after which the current VMCS may name other tables. */
const TABLE_MOVERS: ReadonlySet<Mnemonic> = new Set([
  Mnemonic.Vmptrld,
  Mnemonic.Vmclear,
  Mnemonic.Vmwrite,
  Mnemonic.Vmxon,
  Mnemonic.Vmxoff,
]);
const movesTables = ({ mnemonic }: Instruction): Use => ({ reads: false, writes: TABLE_MOVERS.has(mnemonic) });

const numberIn = (bytes: Uint8Array | undefined): bigint | undefined =>
  bytes === undefined || bytes.length > 64
    ? undefined
    : bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
const sameBytes = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
  a === b || (a !== undefined && a.length === b?.length && a.every((byte, i) => byte === b[i]));

export class Watcher {
  private readonly machine: WatchedMachine;
  private watches: readonly Watch[] = [];
  private rules: readonly Rule[] = [];
  private fields: readonly WatchOf<'field'>[] = [];
  /** Registers and MSRs, which transitions may change. */
  private values: readonly ValueWatch[] = [];
  private events: readonly WatchOf<'event'>[] = [];
  private ports: readonly WatchOf<'port'>[] = [];
  private devices: readonly WatchOf<'dma'>[] = [];
  private stops: readonly InstructionStop[] = [];
  private memory: readonly WatchOf<'memory'>[] = [];
  /** Where the watched table entries are now. */
  private paths = new Map<TableEntryWatch, TablePath>();
  /** A table, or what leads to it, may have changed. */
  private pathsChanged = false;
  private ranges = new Map<WatchedRange, RangeMeaning>();
  /** Of memory; undefined when none is watched. */
  private accessWatch: AccessWatch | undefined;
  /** Rules that fit decoded instructions. */
  private fitting = new WeakMap<DecodedInstruction, readonly { readonly rule: Rule; readonly use: Use }[]>();
  private notes: Note[] = [];
  private readonly deviceBytes = new DeviceBytes();
  /** Watched fields at the last VM entry, by processor. */
  private readonly entered = new Map<number, readonly (bigint | undefined)[]>();
  /** CPL and CR3 when a processor was last seen in a world. */
  private readonly contexts = new Map<string, { readonly cpl: number; readonly cr3: bigint }>();
  private contextChanged = false;

  constructor(machine: WatchedMachine) {
    this.machine = machine;
  }

  /** Replaces what is watched. @returns whether instructions must be decoded anew. */
  setWatches(watches: readonly Watch[]): boolean {
    const of = <Kind extends Watch['kind']>(kind: Kind): WatchOf<Kind>[] =>
      watches.filter((watch): watch is WatchOf<Kind> => watch.kind === kind);
    this.watches = watches;
    this.fields = of('field');
    this.values = [...of('register'), ...of('msr').filter(keepsItsValue)];
    this.events = of('event');
    this.ports = of('port');
    this.devices = of('dma');
    this.memory = of('memory');
    this.paths = new Map(of('tableEntry').map((watch) => [watch, tablePath(watch, this.machine)]));
    this.setRanges();
    this.notes = [];
    this.forgetState();
    return this.setRules();
  }

  /** Watches the memory that is asked for, and the table entries where they are now. */
  private setRanges(): void {
    const ofMemory = this.memory.map((watch) => [{ ...watch, reads: readsCount(watch) }, { watch }] as const);
    const ofTables = [...this.paths].flatMap(([watch, { last, upper }]) => [
      ...(last ? [[entryRange(last, readsCount(watch)), { watch, isUpper: false }] as const] : []),
      ...upper.map((entry) => [entryRange(entry, false), { watch, isUpper: true }] as const),
    ]);
    const former = this.accessWatch;
    this.ranges = new Map<WatchedRange, RangeMeaning>([...ofMemory, ...ofTables]);
    const tell = (access: WatchedAccess): void => this.memoryAccessed(access);
    this.accessWatch = this.ranges.size > 0 ? new AccessWatch([...this.ranges.keys()], tell) : undefined;
    this.machine.watchAccesses(former, this.accessWatch);
  }

  /** Looks for the watched table entries again. */
  private followTables(): void {
    this.pathsChanged = false;
    const paths = new Map([...this.paths.keys()].map((watch) => [watch, tablePath(watch, this.machine)]));
    const moved = [...paths].some(([watch, path]) => !samePath(path, this.paths.get(watch)));
    this.paths = paths;
    if (moved) this.setRanges();
  }

  /** Replaces the kinds of instructions to stop at. @returns whether instructions must be decoded anew. */
  setStops(stops: readonly InstructionStop[]): boolean {
    this.stops = stops;
    return this.setRules();
  }

  private setRules(): boolean {
    const had = this.rules.length > 0;
    const watched = this.watches.filter(isValueWatch);
    this.rules = [
      ...watched.map((watch) => ({ watch, use: useFor(watch) })),
      ...this.stops.map((stop) => {
        const fits = decodesAs(stop);
        return { stop, use: (instruction: Instruction): Use => ({ reads: false, writes: fits(instruction) }) };
      }),
      ...(this.paths.size > 0 ? [{ movesTables: true, use: movesTables } as const] : []),
    ];
    this.fitting = new WeakMap();
    return had || this.rules.length > 0;
  }

  // ---- instructions

  /** Whether `before` is to be asked in front of an instruction. */
  wants(instruction: Instruction): boolean {
    return this.rules.some(({ use }) => isUse(use(instruction)));
  }

  get hasRules(): boolean {
    return this.rules.length > 0;
  }

  private rulesFor(instruction: DecodedInstruction): readonly { readonly rule: Rule; readonly use: Use }[] {
    const known = this.fitting.get(instruction);
    if (known) return known;
    const mode = this.machine.cpu.state.get32('codeMode') as CodeMode;
    const decoder = new Decoder(BITNESS[mode], instruction.bytes, 0);
    const decoded = decoder.decode();
    const rules = this.rules.map((rule) => ({ rule, use: rule.use(decoded) })).filter(({ use }) => isUse(use));
    decoded.free();
    decoder.free();
    this.fitting.set(instruction, rules);
    return rules;
  }

  /** The kinds to stop at that the instruction in front of the processor is one of. */
  stopsAt(instruction: DecodedInstruction): InstructionStop[] {
    return this.rulesFor(instruction).flatMap(({ rule }) =>
      'stop' in rule && stopsNow(rule.stop, this.machine.cpu, instruction) ? [rule.stop] : [],
    );
  }

  /** The instruction is about to execute: notes what it does to watched registers, MSRs and fields. */
  before(instruction: DecodedInstruction): void {
    for (const { rule, use } of this.rulesFor(instruction)) {
      if ('stop' in rule) continue;
      if ('movesTables' in rule) {
        this.noteTables();
        continue;
      }
      const here = this.isHere(rule.watch);
      // VMWRITE changes the registers of a world that waits.
      if (!here && rule.watch.kind !== 'register') continue;
      const now = here ? use : { ...NONE, mayChange: use.mayChange ?? false };
      const { reads, writes, mayChange = false } = this.useNow(rule.watch, now, instruction);
      if (writes || mayChange) this.noteValue(rule.watch, 'write', !writes);
      if (reads) this.noteValue(rule.watch, 'read', false);
    }
  }

  /** What registers decide: whether the MSR or field that the instruction names is the one that is watched. */
  private useNow(watch: ValueWatch, use: Use, instruction: DecodedInstruction): Use {
    if (watch.kind === 'register' || !(use.reads || use.writes)) return use;
    const { cpu } = this.machine;
    const argument = ARGUMENTS.get(instruction.mnemonic)?.read(cpu, instruction);
    const isThis = argument === undefined || (watch.kind === 'msr' && Number(argument) === watch.index);
    if (watch.kind === 'msr') return isThis ? use : { ...NONE, mayChange: use.mayChange ?? false };
    // A guest's VMREAD and VMWRITE are about its shadow VMCS.
    const named = cpu.state.get32('nonRoot') === 0 && argument !== undefined && argument < 0x1_0000n;
    const field = named ? fieldByEncoding(Number(argument))?.field : undefined;
    return field?.encoding === watch.encoding ? use : { ...NONE, mayChange: use.mayChange ?? false };
  }

  private noteValue(watch: ValueWatch, access: 'read' | 'write', onlyChanges: boolean): void {
    this.note(this.valueNote(watch, access, 'instruction', onlyChanges));
  }

  private valueNote(
    watch: ValueWatch,
    access: 'read' | 'write',
    by: WatchHit['by'],
    onlyChanges: boolean,
    before = readWatched(watch, this.machine),
  ): Note {
    const { vmx } = this.machine;
    const vmcs = vmx.currentVmcs;
    // Another current VMCS is another guest's.
    const isOther = (): boolean => (watch.kind === 'field' || watch.world === 'guest') && vmx.currentVmcs !== vmcs;
    const read = (): Uint8Array | undefined => (isOther() ? before : readWatched(watch, this.machine));
    const hit = { watch, access, by, ...this.here() };
    return { hit, before, read, onlyChanges, ofInstruction: watch.kind !== 'field' && by === 'instruction' };
  }

  /** The instruction in hand has faulted: it has done nothing. */
  faulted(): void {
    if (this.notes.length > 0) this.notes = this.notes.filter(({ ofInstruction }) => !ofInstruction);
  }

  // ---- events, VM entries and VM exits

  /** An event may be delivered now, which changes registers without an instruction that names them. */
  beforeEvent(): void {
    for (const watch of this.values) this.expectChange(watch);
  }

  /** Notes a value; what has not changed at the next boundary is not told. */
  private expectChange(watch: ValueWatch): void {
    const isExpected = this.notes.some(({ hit, onlyChanges }) => onlyChanges && hit.watch === watch);
    const before = isExpected ? undefined : readWatched(watch, this.machine);
    if (before !== undefined) this.notes.push(this.valueNote(watch, 'write', 'processor', true, before));
  }

  /** Keeps of what `beforeEvent` noted only what has changed. */
  afterEvent(): void {
    if (this.values.length === 0) return;
    const changed = ({ onlyChanges, before, read }: Note): boolean => !onlyChanges || !sameBytes(before, read());
    this.notes = this.notes.filter(changed);
    if (this.notes.length > 0) this.machine.interrupt();
  }

  /** The guest still runs, and the instruction in hand, if there is one, will not complete. */
  beforeExit(): void {
    if (this.values.length === 0) return;
    this.faulted();
    for (const watch of this.values) this.expectChange(watch);
  }

  /** The guest begins to run. */
  afterEntry(): void {
    if (this.fields.length > 0) this.sampleFields();
  }

  /** The VMCS as it is while a guest runs: only the VM exit changes it. */
  private sampleFields(): void {
    const { selected, vmx } = this.machine;
    this.entered.set(
      selected,
      this.fields.map(({ encoding }) => vmx.read(encoding)),
    );
  }

  /** The host runs again: the processor has written fields and loaded registers. */
  afterExit(): void {
    if (this.notes.length > 0) this.machine.interrupt();
    const before = this.entered.get(this.machine.selected);
    this.entered.delete(this.machine.selected);
    this.fields.forEach((watch, i) => {
      const value = before?.[i];
      if (value === undefined || !this.isHere(watch)) return;
      const note = this.valueNote(watch, 'write', 'processor', true, bytesOf(value, 8));
      if (!sameBytes(note.before, note.read())) this.note(note);
    });
  }

  /** CPL, CR3 or the world may have changed. */
  noteContext(): void {
    if (this.events.length === 0 && this.paths.size === 0) return;
    this.contextChanged = this.events.length > 0;
    this.pathsChanged = this.paths.size > 0;
    this.machine.interrupt();
  }

  /** The roots of the watched table entries may be others behind the instruction in hand. */
  private noteTables(): void {
    this.pathsChanged = true;
    this.machine.interrupt();
  }

  private judgeContext(): WatchHit[] {
    this.contextChanged = false;
    const { cpu, selected, world } = this.machine;
    const key = `${selected} ${world}`;
    const before = this.contexts.get(key);
    const now = { cpl: cpu.state.get32('cpl'), cr3: cpu.state.get64('cr3') };
    this.contexts.set(key, now);
    if (!before) return [];
    const happened = { ring3: now.cpl === 3 && before.cpl !== 3, addressSpace: now.cr3 !== before.cr3 };
    return this.events.flatMap((watch): WatchHit[] => {
      if (!happened[watch.event] || !this.isHere(watch)) return [];
      const [old, value] = watch.event === 'ring3' ? [BigInt(before.cpl), 3n] : [before.cr3, now.cr3];
      return [{ watch, access: 'write', by: 'instruction', ...this.here(), before: old, after: value }];
    });
  }

  /** State was put back, or watching begins: what is known of the past is forgotten, the present is taken as it is. */
  forgetState(): void {
    this.forgetNotes();
    this.entered.clear();
    this.contexts.clear();
    this.contextChanged = false;
  }

  /** For each processor after `forgetState`, while it is the selected one. */
  adoptState(): void {
    if (this.fields.length > 0 && this.machine.world === 'guest') this.sampleFields();
    if (this.events.length > 0) this.judgeContext();
    if (this.paths.size > 0) this.followTables();
  }

  // ---- memory, devices, ports

  private memoryAccessed({ range, at, length, write, by }: WatchedAccess): void {
    const meaning = this.ranges.get(range);
    const address = at[range.space];
    if (!meaning || address === undefined) return;
    const { watch } = meaning;
    const from = by === 'instruction' ? by : 'processor';
    const alsoReads = write && watch.access === 'read' && by === 'instruction' && this.modifiesMemory();
    const access = write && !alsoReads ? 'write' : 'read';
    if (watch.kind === 'tableEntry') {
      if (write) this.pathsChanged = true;
      this.tableAccessed(watch, meaning.isUpper ?? false, access, from);
    } else if (this.isHere(watch) && asks(watch, access === 'write')) {
      this.noteMemory(watch, access, from, address, Number(at.hpa), length);
    }
  }

  /** @param isUpper an entry above the one that is watched: another one may be it afterwards */
  private tableAccessed(
    watch: TableEntryWatch,
    isUpper: boolean,
    access: WatchHit['access'],
    by: WatchHit['by'],
  ): void {
    const { last } = this.paths.get(watch) ?? {};
    const isKnown = this.notes.some(({ hit }) => hit.watch === watch && hit.access === access);
    if (isKnown || !last) return;
    const read = (): Uint8Array | undefined => {
      const now = this.paths.get(watch)?.last;
      return now && this.machine.cpu.mmu.physical.peek(now.address, now.length);
    };
    const hit = { watch, access, by, ...this.here(), address: BigInt(last.address), length: last.length } as const;
    this.note({ hit, before: read(), read, onlyChanges: isUpper, ofInstruction: by === 'instruction' });
  }

  /** Whether the instruction in hand reads the memory that it writes. */
  private modifiesMemory(): boolean {
    const { cpu } = this.machine;
    const bytes: number[] = [];
    for (let i = 0n; i < 15n; i++) {
      const { physical } = cpu.mmu.explain(this.machine.instructionAddress() + i, 'execute');
      if (physical === undefined) break;
      bytes.push(cpu.mmu.physical.peek(physical, 1)[0] ?? 0);
    }
    return modifiesMemory(Uint8Array.from(bytes), BITNESS[cpu.state.get32('codeMode') as CodeMode]);
  }

  /** A device is about to access memory. */
  deviceAccessed({ requester, address, physical, length, write }: DeviceAccess): void {
    for (const watch of this.devices) {
      const touches = address < watch.address + BigInt(watch.length) && watch.address < address + BigInt(length);
      if (watch.requester !== requester || !touches || !asks(watch, write)) continue;
      this.noteMemory(watch, write ? 'write' : 'read', 'device', address, physical, length);
    }
    const hpa = BigInt(physical);
    for (const [range, { watch, isUpper = false }] of this.ranges) {
      const touches = hpa < range.address + BigInt(range.length) && range.address < hpa + BigInt(length);
      if (watch.kind === 'tableEntry') {
        if (touches && write) this.pathsChanged = true;
        if (touches && (write || range.reads)) this.tableAccessed(watch, isUpper, write ? 'write' : 'read', 'device');
        continue;
      }
      if (watch.space !== 'hpa' || watch.world !== undefined || !touches || !asks(watch, write)) continue;
      this.noteMemory(watch, write ? 'write' : 'read', 'device', hpa, physical, length);
    }
  }

  /** Device registers in memory are accessed, with this value. */
  deviceMemory(physical: number, size: number, value: number): void {
    if (this.notes.length > 0) this.deviceBytes.take(physical, size, value);
  }

  /** @param address of the access in the watch's space, at host-physical address `physical` */
  private noteMemory(
    watch: WatchOf<'memory' | 'dma'>,
    access: 'read' | 'write',
    by: WatchHit['by'],
    address: bigint,
    physical: number,
    length: number,
  ): void {
    const memory = this.machine.cpu.mmu.physical;
    const isRam = memory.isRam(physical, length);
    const shown = isRam ? shownPart(watch, address, length) : accessedPart(watch, address, length);
    const start = physical + Number(shown.address - address);
    const read = (): Uint8Array | undefined =>
      isRam ? memory.peek(start, shown.length) : this.deviceBytes.read(start, shown.length);
    const known = this.notes.some(
      ({ hit }) => hit.watch === watch && hit.access === access && hit.address === shown.address,
    );
    if (known) return;
    const hit = { watch, access, by, ...this.here(), ...shown };
    this.note({
      hit,
      before: isRam ? read() : undefined,
      read,
      onlyChanges: false,
      ofInstruction: by === 'instruction',
    });
  }

  /** Ports were accessed, with this value. */
  portAccessed(port: number, size: number, value: number, write: boolean): void {
    for (const watch of this.ports) {
      if (port >= watch.port + watch.ports || watch.port >= port + size || !this.isHere(watch)) continue;
      if (!asks(watch, write)) continue;
      const access = write ? 'write' : 'read';
      const hit = { watch, access, by: 'instruction', ...this.here(), address: BigInt(port), length: size } as const;
      const read = (): Uint8Array => bytesOf(BigInt(value), size);
      this.note({ hit, before: undefined, read, onlyChanges: false, ofInstruction: false });
    }
  }

  // ---- at the boundary

  private isHere(watch: Watch): boolean {
    return watch.world === undefined || watch.world === this.machine.world;
  }

  private here(): Pick<WatchHit, 'at' | 'world' | 'processor'> {
    return {
      at: this.machine.instructionAddress(),
      world: this.machine.world,
      processor: this.machine.selected,
    };
  }

  private note(note: Note): void {
    this.notes.push(note);
    this.machine.interrupt();
  }

  /** Whether `settle` has something to judge. */
  get isPending(): boolean {
    return this.notes.length > 0 || this.contextChanged || this.pathsChanged;
  }

  /** What has happened since the last boundary. */
  settle(): WatchHit[] {
    if (this.pathsChanged) this.followTables();
    const events = this.contextChanged ? this.judgeContext() : [];
    const hits = this.notes.flatMap(({ hit, before, read, onlyChanges }): WatchHit[] => {
      const after = read();
      // A value that is not known any more, or was not, is no change.
      const isSame = sameBytes(before, after) || (isValueWatch(hit.watch) && (!before || !after));
      if ((onlyChanges || hit.watch.access === 'change') && isSame) return [];
      if (hit.watch.kind !== 'event' && !asks(hit.watch, hit.access === 'write')) return [];
      return [{ ...hit, before: numberIn(before), after: numberIn(after) }];
    });
    this.forgetNotes();
    return [...hits, ...events];
  }

  private forgetNotes(): void {
    this.notes = [];
    this.deviceBytes.clear();
  }

  /** Forgets what has happened: in replays, and when the debugger itself did it. */
  discard(): void {
    this.forgetNotes();
    if (this.pathsChanged) this.followTables();
    if (this.contextChanged) this.judgeContext();
  }
}

const entryRange = ({ address, length }: { address: number; length: number }, reads: boolean): WatchedRange => ({
  space: 'hpa',
  address: BigInt(address),
  length,
  reads,
});
const samePath = (a: TablePath, b: TablePath | undefined): boolean => {
  const addresses = (path: TablePath | undefined): string =>
    [path?.last, ...(path?.upper ?? [])].map((entry) => entry?.address).join();
  return addresses(a) === addresses(b);
};

const readsCount = ({ access }: Watch): boolean => access === 'read' || access === 'readWrite';
const asks = (watch: Watch, write: boolean): boolean => (write ? watch.access !== 'read' : readsCount(watch));
