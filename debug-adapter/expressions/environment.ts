import { readMsr } from '../../sim-core/cpu/msrs.ts';
import type { Machine, World } from '../../sim-core/machine/api.ts';
import type { PhysicalRange } from '../../sim-core/machine/history/memory-watch.ts';
import { registerByName } from '../../sim-core/machine/registers.ts';
import { EXIT, type ExitName } from '../../sim-core/vmx/exit-reasons.ts';
import { fieldByName } from '../../sim-core/vmx/fields.ts';
import { errors } from '../errors.ts';
import type { Target } from '../running/target.ts';
import { msrNumber } from '../stops/instruction-kinds.ts';
import type { Type } from '../symbols/dwarf/types.ts';
import { TypedValue } from '../symbols/typed-value.ts';
import { FrameScope } from '../views/frame-scope.ts';
import { formatSpace, type Place, SPACE_NAMES, wrap64 } from '../worlds/memory-reference.ts';
import { type MemoryAccess, MemoryStorage } from '../worlds/storage.ts';
import { type Frame, frameRegister, innermostFrame, setFrameRegister } from '../worlds/unwind.ts';
import { guestEptp, readPages, type WorldView, writePages } from '../worlds/world-view.ts';
import type { Environment, ProgramNames } from './evaluate.ts';
import { qualificationPart } from './exit-names.ts';

/** Names that stand for what the machine did last. */
const SPECIAL: Readonly<Record<string, (machine: Machine) => bigint | undefined>> = {
  reason: (machine) => number(machine.vmx.lastExit?.reason),
  qualification: (machine) => machine.vmx.lastExit?.qualification,
  instructions: (machine) => BigInt(machine.instructions),
  cycles: (machine) => BigInt(Math.floor(machine.cycles)),
  exits: (machine) => BigInt([...machine.vmx.exitCounts.values()].reduce((sum, count) => sum + count, 0)),
  entries: (machine) => BigInt(machine.vmx.entries),
  vpid: (machine) => (machine.world === 'guest' ? BigInt(machine.state.get32('vpid')) : 0n),
  eptp: (machine) => (machine.world === 'guest' ? machine.state.get64('eptp') : 0n),
  vmcs: (machine) => machine.vmx.currentVmcs ?? 0n,
};
/** Why a VM-exit information field cannot be changed. */
export const OF_THE_PROCESSOR = 'the processor writes it, and software reads it';
export const SPECIAL_NAMES: readonly string[] = Object.keys(SPECIAL);

const number = (value: number | undefined): bigint | undefined => (value === undefined ? undefined : BigInt(value));

/** Expressions as seen from a frame, or from the running world when there is none. */
export class TargetEnvironment implements Environment, ProgramNames {
  private readonly target: Target;
  private readonly view: WorldView;
  private readonly frame: Frame | undefined;
  private readonly extra: Readonly<Record<string, bigint>>;
  private knownScope: FrameScope | undefined;

  /** @param extra more names, such as the `hits` of a breakpoint. */
  constructor(target: Target, frame?: Frame, extra: Readonly<Record<string, bigint>> = {}) {
    this.target = target;
    this.frame = frame;
    this.view = frame?.view ?? target.view();
    this.extra = extra;
  }

  get program(): ProgramNames {
    return this;
  }

  /** Variables of the program where the expression is seen from. */
  private get scope(): FrameScope {
    this.knownScope ??= new FrameScope(this.target, this.frame ?? innermostFrame(this.view));
    return this.knownScope;
  }

  /** Names of the machine come before variables outside of functions, and behind those inside. */
  variable(name: string): TypedValue | undefined {
    if (this.extra[name] !== undefined) return undefined;
    const { scope } = this;
    const local = scope.local(name) ?? scope.ownMember(name);
    if (local) return local;
    const lower = name.toLowerCase();
    const isOfMachine = registerByName(name) || Object.hasOwn(SPECIAL, lower) || SCOPES.includes(lower);
    return isOfMachine ? undefined : (scope.global(name) ?? scope.enumerator(name));
  }

  type(name: string): Type | undefined {
    return this.scope.type(name);
  }

  valueAt(type: Type, place: Place): TypedValue {
    const { view } = this;
    const memory: MemoryAccess = {
      space: place.space === 'linear' ? view.space : formatSpace(place),
      read: (address, length) => readPlace(this.target, { ...place, address }, length, view),
      write: (address, bytes) => this.writeMemory({ ...place, address }, bytes),
    };
    return new TypedValue(type, new MemoryStorage(memory, place.address));
  }

  get wordBytes(): 4 | 8 {
    return this.view.bitness === 64 ? 8 : 4;
  }

  lookup(name: string): bigint | undefined {
    const plain = name.startsWith('$') ? name.slice(1) : name;
    const extra = this.extra[plain];
    if (extra !== undefined) return extra;
    const dot = plain.indexOf('.');
    const scoped = dot > 0 ? this.lookupIn(plain.slice(0, dot).toLowerCase(), plain.slice(dot + 1)) : undefined;
    if (scoped !== undefined) return scoped;
    if (registerByName(plain)) return this.register(plain);
    const special = SPECIAL[plain.toLowerCase()]?.(this.target.machine);
    return special ?? this.symbol(plain) ?? this.scope.functionNamed(plain);
  }

  private register(name: string): bigint | undefined {
    const value = this.frame ? frameRegister(this.frame, name.toLowerCase()) : this.view.register(name);
    if (value === undefined) throw errors.badExpression(`'${name}' is not known in this frame`);
    return value;
  }

  private lookupIn(scope: string, name: string): bigint | undefined {
    const { machine } = this.target;
    if (scope === 'qualification') return qualificationPart(machine.vmx.lastExit, name);
    if (scope === 'msr') {
      const index = msrNumber(name);
      return index === undefined ? undefined : readMsr(machine.cpu, index);
    }
    if (scope === 'exit') return number(EXIT[name.toUpperCase() as ExitName]);
    if (scope === 'vmcs') {
      const field = fieldByName(name);
      if (!field) throw errors.unknownField(name);
      const value = machine.vmx.read(field.encoding);
      if (value === undefined) throw errors.noVmcs();
      return value;
    }
    const world = worldOfScope(scope);
    if (!world || !registerByName(name)) return undefined;
    const view = this.target.view(world);
    if (!view.exists) throw world === 'guest' ? errors.noGuest() : errors.noVmcs();
    return view.register(name);
  }

  private symbol(name: string): bigint | undefined {
    for (const program of this.target.programsIn(this.view)) {
      const place = program.symbolNamed(name);
      if (place) return place.address;
    }
    for (const { program } of this.target.programs) {
      const place = program.symbolNamed(name);
      if (place) return place.address;
    }
    return undefined;
  }

  assign(name: string, value: bigint): string | undefined {
    const plain = name.startsWith('$') ? name.slice(1) : name;
    const dot = plain.indexOf('.');
    const scope = dot > 0 ? plain.slice(0, dot).toLowerCase() : '';
    if (scope === 'vmcs') return this.assignField(plain.slice(dot + 1), value);
    const world = worldOfScope(scope);
    if (world) return this.target.view(world).setRegister(plain.slice(dot + 1), value);
    if (!registerByName(plain)) return 'only registers, VMCS fields and memory can be';
    return this.frame ? setFrameRegister(this.frame, plain.toLowerCase(), value) : this.view.setRegister(plain, value);
  }

  private assignField(name: string, value: bigint): string | undefined {
    const field = fieldByName(name);
    if (!field) throw errors.unknownField(name);
    if (field.area === 'readOnly') return OF_THE_PROCESSOR;
    const cut = BigInt.asUintN(8 * field.bytes, value);
    const { vmx, selected } = this.target.machine;
    if (vmx.currentVmcs === undefined) return 'there is no current VMCS';
    this.target.apply({ kind: 'field', encoding: field.encoding, value: cut, processor: selected });
    return undefined;
  }

  readMemory(place: Place, bytes: number): Uint8Array {
    const found = readPlace(this.target, place, bytes, this.view);
    if (found.length < bytes) throw errors.unreadable(SPACE_NAMES[place.space], place.address, 'it is not mapped RAM');
    return found;
  }

  writeMemory(place: Place, bytes: Uint8Array): void {
    const readable = readPlace(this.target, place, bytes.length, this.view).length;
    if (readable < bytes.length) throw errors.notWritable(`0x${place.address.toString(16)}`, 'it is not mapped RAM');
    writePlace(this.target, place, bytes, this.view);
  }
}

export const SCOPE_NAMES = ['guest', 'vmm', 'host'] as const;
/** What a dot may follow that is no register. */
const SCOPES: readonly string[] = [...SCOPE_NAMES, 'vmcs', 'exit', 'msr', 'qualification'];
/** The world that `guest.` or `vmm.` in front of a register means. */
export function worldOfScope(scope: string): World | undefined {
  if (scope === 'guest') return 'guest';
  return scope === 'vmm' || scope === 'host' ? 'vmm' : undefined;
}

const PAGE = 4096;

type Translate = (address: bigint) => number | undefined;

/** Whose linear addresses a place is of. @param linear what `linear` means */
export function viewOfPlace(target: Target, { space, vcpu }: Place, linear = target.view()): WorldView {
  if (space === 'vmm' || space === 'guest') return target.view(space);
  return space === 'vcpu' ? target.suspendedView(target.suspendedGuest(vcpu ?? 0)) : linear;
}

/** How addresses of a space become physical. @param view what `linear` means; default the running world. */
function translator(target: Target, place: Place, view: WorldView): Translate {
  const { machine } = target;
  if (place.space === 'hpa') return Number;
  if (place.space === 'iova') {
    const { iommu } = machine;
    const { requester } = place;
    if (!iommu || requester === undefined) return Number;
    return (address) => {
      const { physical } = iommu.explain(requester, address, false);
      return physical === undefined ? undefined : Number(physical);
    };
  }
  if (place.space === 'gpa') {
    const eptp = machine.world === 'guest' ? machine.state.get64('eptp') : guestEptp(machine);
    if (eptp === 0n) return Number;
    return (address) => machine.mmu.explainEpt(Number(address), 'read', eptp).physical;
  }
  const seen = viewOfPlace(target, place, view);
  return (address) => (seen.exists ? seen.physical(address) : undefined);
}

/** Up to `length` bytes; fewer where there is no RAM behind the address. Never changes anything. */
export function readPlace(target: Target, place: Place, length: number, view = target.view()): Uint8Array {
  return readPages(wrap64(place.address), length, translator(target, place, view), target.machine);
}

/** Where memory is in RAM now. @throws unreadable */
export function physicalRanges(target: Target, place: Place, length: number): PhysicalRange[] {
  const translate = translator(target, place, target.view());
  const ranges: PhysicalRange[] = [];
  for (let done = 0; done < length; ) {
    const at = wrap64(place.address + BigInt(done));
    const size = Math.min(length - done, PAGE - Number(at % BigInt(PAGE)));
    const physical = translate(at);
    if (physical === undefined || !target.machine.physical.isRam(physical, size)) {
      throw errors.unreadable(SPACE_NAMES[place.space], at, 'it is not mapped RAM');
    }
    ranges.push({ physical, length: size });
    done += size;
  }
  return ranges;
}

/** @returns how many bytes were written. */
export function writePlace(target: Target, place: Place, bytes: Uint8Array, view = target.view()): number {
  const translate = translator(target, place, view);
  return writePages(wrap64(place.address), bytes, translate, target.machine, target.apply);
}
