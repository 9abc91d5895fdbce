import { errors, RequestError } from '../errors.ts';
import type { Target } from '../running/target.ts';
import { FormatError } from '../symbols/byte-reader.ts';
import { AT, TAG } from '../symbols/dwarf/constants.ts';
import { entryPoint, expressionAt } from '../symbols/dwarf/lists.ts';
import {
  bytesOf,
  compute,
  type ExpressionContext,
  locate,
  OPTIMISED_OUT,
  Unavailable,
} from '../symbols/dwarf/location-expressions.ts';
import { canMean } from '../symbols/dwarf/qualified-names.ts';
import type { Activation, VariableEntry } from '../symbols/dwarf/scopes.ts';
import { addressOfCall, calledBy, callSitesOf } from '../symbols/dwarf/tail-calls.ts';
import { strip, type Type } from '../symbols/dwarf/types.ts';
import type { Entry } from '../symbols/dwarf/unit.ts';
import type { Program } from '../symbols/program.ts';
import { madeValue, TypedValue } from '../symbols/typed-value.ts';
import {
  type MemoryAccess,
  NoStorage,
  type RegisterAccess,
  type Storage,
  storageOf,
  ValueStorage,
} from '../worlds/storage.ts';
import { logicalCaller } from '../worlds/tail-calls.ts';
import { threadLocalAddress } from '../worlds/thread-local.ts';
import { type Frame, frameCfa, frameRegister, registerName, requiredRegister } from '../worlds/unwind.ts';
import type { WorldView } from '../worlds/world-view.ts';

/** A world's linear memory. */
export function worldMemory(view: WorldView): MemoryAccess {
  return {
    space: view.space,
    read: (address, length) => view.read(address, length),
    write: (address, bytes) => {
      const readable = view.read(address, bytes.length).length;
      if (readable < bytes.length) throw errors.notWritable(`0x${address.toString(16)}`, 'it is not mapped RAM');
      view.write(address, bytes);
    },
  };
}

/** Entry values lead from frame to frame no further than this. */
const LONGEST_ENTRY_CHAIN = 16;

/** What DWARF expressions ask of a frame. */
class FrameContext implements ExpressionContext {
  readonly unit: Entry['unit'];
  private readonly program: Program;
  private readonly scope: FrameScope;
  private readonly depth: number;

  /** @param depth of entry values inside entry values. */
  constructor(scope: FrameScope, program: Program, unit: Entry['unit'], depth: number) {
    this.scope = scope;
    this.unit = unit;
    this.program = program;
    this.depth = depth;
  }

  get addressSize(): number {
    return this.unit.header.sizes.addressSize;
  }
  place(linked: bigint): bigint {
    return placeIn(this.program, this.scope.frame.view, linked);
  }
  threadLocal(offset: bigint): bigint {
    return threadLocalAddress(this.program, this.scope.frame.view, offset);
  }
  register(number: number): bigint {
    return requiredRegister(this.scope.frame, number, this.addressSize);
  }
  read(address: bigint, bytes: number): Uint8Array {
    const found = this.scope.frame.view.read(address, bytes);
    if (found.length < bytes) throw new Unavailable(`no memory at 0x${address.toString(16)}`);
    return found;
  }
  frameBase(): bigint {
    const home = this.scope.home;
    const attribute = home?.find(AT.frameBase)?.value;
    const expression = attribute && expressionAt(this.unit, attribute, this.scope.linkAddress);
    if (!expression) throw new Unavailable('the frame has no base here');
    return compute(expression, this);
  }
  cfa(): bigint {
    const cfa = frameCfa(this.scope.target, this.scope.frame);
    if (cfa === undefined) throw new Unavailable('the frame has no call-frame information');
    return cfa;
  }

  entryValue(expression: Uint8Array): bigint {
    return this.passed((parameter) => sameBytes(parameter.own(AT.location)?.raw, expression));
  }
  parameterValue(entry: number): bigint {
    return this.passed((parameter) => {
      const named = parameter.own(AT.callParameter) ?? parameter.own(AT.abstractOrigin);
      return named !== undefined && parameter.unit.referred(named)?.offset === entry;
    });
  }

  /** What the caller says that it passed: a parameter of the entry of its call. */
  private passed(isMeant: (parameter: Entry) => boolean): bigint {
    const { target, frame, home } = this.scope;
    const caller = logicalCaller(target, frame);
    if (!caller || !home || this.depth > LONGEST_ENTRY_CHAIN) throw new Unavailable(OPTIMISED_OUT);
    const start = entryPoint(home);
    if (start !== undefined && this.program.mayReenter(start)) throw new Unavailable(OPTIMISED_OUT);
    const scope = new FrameScope(target, caller);
    const site = scope.callSite(caller.pc, start, this.depth);
    const parameter = site?.children.find((child) => PARAMETERS.includes(child.tag) && isMeant(child));
    const value = parameter?.own(AT.callValue) ?? parameter?.own(AT.gnuCallSiteValue);
    if (!(value?.raw instanceof Uint8Array)) throw new Unavailable(OPTIMISED_OUT);
    return compute(value.raw, scope.context(this.depth + 1));
  }
}

const PARAMETERS: readonly number[] = [TAG.callSiteParameter, TAG.gnuCallSiteParameter];

function sameBytes(a: unknown, b: Uint8Array): boolean {
  return a instanceof Uint8Array && a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** Variables as the code of a frame sees them. */
export class FrameScope {
  readonly target: Target;
  readonly frame: Frame;
  readonly program: Program | undefined;
  private readonly memory: MemoryAccess;
  private knownActivation: Activation | undefined | 'unknown' = 'unknown';

  constructor(target: Target, frame: Frame) {
    this.target = target;
    this.frame = frame;
    this.program = target.programAt(frame.view, frame.lookupPc);
    this.memory = worldMemory(frame.view);
  }

  /** Where the frame executes, as the debug information counts. */
  get linkAddress(): bigint {
    return this.frame.lookupPc - (this.program?.offset ?? 0n);
  }

  get activation(): Activation | undefined {
    if (this.frame.activation) return this.frame.activation;
    if (this.knownActivation === 'unknown') {
      this.knownActivation = this.program && visibleActivations(this.program, this.frame)[0];
    }
    return this.knownActivation;
  }

  /** The function whose frame this is: of inlined ones the one that they were inlined into. */
  get home(): Entry | undefined {
    return this.read(undefined, () => this.program?.scopes.functionAt(this.linkAddress));
  }

  private read<T>(fallback: T, work: () => T): T {
    return this.program?.attempt('its description of variables', fallback, work) ?? fallback;
  }

  context(depth = 0): ExpressionContext {
    const { home, program } = this;
    if (!home || !program) throw new Unavailable('the function has no debug information');
    return new FrameContext(this, program, home.unit, depth);
  }

  /** Parameters and variables of the function and of the blocks around the place of execution. */
  get variables(): readonly VariableEntry[] {
    const { activation } = this;
    return activation ? this.read([], () => this.program?.scopes.variablesOf(activation) ?? []) : [];
  }

  /** Variables of the source file outside of functions. */
  get globals(): readonly VariableEntry[] {
    return this.read([], () => {
      const unit = this.program?.scopes.info.unitAt(this.linkAddress);
      return unit ? (this.program?.scopes.globalsOf(unit) ?? []) : [];
    });
  }

  local(name: string): TypedValue | undefined {
    const variable = this.variables.find((candidate) => candidate.name === name);
    return variable && this.value(variable.entry, name);
  }

  /** A variable outside of functions, of this program or, when it has none, of the world's others. */
  global(name: string): TypedValue | undefined {
    for (const program of this.programs) {
      const entry = program.attempt('its description of variables', undefined, () => this.globalEntry(program, name));
      if (entry) return this.globalValue(program, entry, name);
    }
    return undefined;
  }

  /** A member of the object whose method runs, as C++ lets its source name it. */
  ownMember(name: string): TypedValue | undefined {
    const self = this.local('this');
    try {
      return self?.target()?.memberNamed(name);
    } catch (error) {
      if (error instanceof Unavailable) return undefined;
      throw error;
    }
  }

  /** A constant of an enumeration. */
  enumerator(name: string): TypedValue | undefined {
    for (const program of this.programs) {
      const at = this.frame.lookupPc - program.offset;
      const found = program.attempt('its description of types', undefined, () =>
        program.scopes.enumeratorNamed(name, at),
      );
      if (found) return madeValue(found.type, found.value, { memory: this.memory });
    }
    return undefined;
  }

  /** Where a function begins that is no symbol: one of C++ or Rust. */
  functionNamed(name: string): bigint | undefined {
    for (const program of this.programs) {
      const found = name.includes('::')
        ? program.functionsNamed(name)[0]
        : program.functionNear(name, this.frame.lookupPc);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** A search through all debug information takes time: a symbol tells whether there is something to be found. */
  private globalEntry(program: Program, name: string): Entry | undefined {
    if (name.includes('::') || program.symbolNamed(name) || program.elf.threadLocal?.names().has(name)) {
      return program.scopes.globalNamed(name, this.frame.lookupPc - program.offset);
    }
    const own = program === this.program ? this.globals : [];
    return own.find((global) => canMean(global.name, name))?.entry;
  }

  private get programs(): readonly Program[] {
    const others = this.target.programsIn(this.frame.view).filter((program) => program !== this.program);
    return this.program ? [this.program, ...others] : others;
  }

  type(name: string): Type | undefined {
    for (const program of this.programs) {
      const found = program.attempt('its description of types', undefined, () =>
        program.scopes.typeNamed(name, this.frame.lookupPc - program.offset),
      );
      if (found) return found;
    }
    return undefined;
  }

  /** A variable of the frame's own program. Its storage tells when there is none. */
  value(entry: Entry, name: string): TypedValue {
    const { program } = this;
    const type = this.read<Type | undefined>(undefined, () => program?.scopes.types.type(entry.reference(AT.type)));
    const storage = this.guarded(() => this.storage(entry, type));
    return this.typed(type, storage, name, false);
  }

  private globalValue(program: Program, entry: Entry, name: string): TypedValue {
    const type = program.attempt('its description of types', undefined, () =>
      program.scopes.types.type(entry.reference(AT.type)),
    );
    const context = staticContext(entry.unit, program, this.frame.view, this.memory);
    const storage = this.guarded(() => this.storageIn(entry, type, context, 0n));
    return this.typed(type, storage, name, true);
  }

  private typed(type: Type | undefined, storage: Storage, name: string, isGlobal: boolean): TypedValue {
    const findPointee = (at: number): TypedValue | undefined => {
      const pointee = this.read(undefined, () => this.program?.scopes.info.entryAt(at));
      return pointee && this.value(pointee, pointee.name ?? '');
    };
    return new TypedValue(type ?? UNKNOWN, storage, { expression: name, findPointee, isGlobal });
  }

  private guarded(work: () => Storage): Storage {
    try {
      return work();
    } catch (error) {
      if (error instanceof Unavailable || error instanceof RequestError)
        return new NoStorage(this.memory, error.message);
      if (error instanceof FormatError)
        return new NoStorage(this.memory, `damaged debug information: ${error.message}`);
      throw error;
    }
  }

  private storage(entry: Entry, type: Type | undefined): Storage {
    return this.storageIn(entry, type, this.context(), this.linkAddress);
  }

  private storageIn(entry: Entry, type: Type | undefined, context: ExpressionContext, address: bigint): Storage {
    const constant = entry.find(AT.constantValue)?.value;
    if (constant) {
      const { raw } = constant;
      const size = (type && strip(type).size) ?? 8;
      if (typeof raw === 'bigint')
        return new ValueStorage(this.memory, bytesOf(entry.signedConstant(AT.constantValue) ?? raw, size));
      return new ValueStorage(this.memory, typeof raw === 'string' ? new TextEncoder().encode(`${raw}\0`) : raw);
    }
    const attribute = entry.find(AT.location);
    const expression = attribute && expressionAt(attribute.entry.unit, attribute.value, address);
    if (!expression) return new NoStorage(this.memory, OPTIMISED_OUT);
    return storageOf(locate(expression, context), this.memory, (number) => this.registerAccess(number));
  }

  private registerAccess(number: number): RegisterAccess {
    const { frame } = this;
    const addressSize = this.home?.unit.header.sizes.addressSize ?? 8;
    const name = registerName(number, addressSize) ?? `DWARF register ${number}`;
    return {
      name,
      read: () => requiredRegister(frame, number, addressSize),
      write: (value) => {
        const saved = frame.saved.get(name);
        if (saved !== undefined) this.memory.write(saved, bytesOf(value, addressSize));
        else {
          const isCallers = frame.depth > 0 && frameRegister(frame, name) !== frame.view.register(name);
          const problem = isCallers ? 'it belongs to a caller, whose registers are not live' : undefined;
          const refused = problem ?? frame.view.setRegister(name, value);
          if (refused !== undefined) throw errors.notWritable(name, refused);
        }
      },
    };
  }

  /**
   * The entry of the call that returns to an address of this frame's function.
   * @param callee where the called function begins: a call of another one, as by a tail call, tells nothing.
   */
  callSite(returnAddress: bigint, callee: bigint | undefined, depth: number): Entry | undefined {
    const { home, program } = this;
    if (!home || !program) return undefined;
    const wanted = returnAddress - program.offset;
    const site = [...callSitesOf(home)].find((each) => addressOfCall(each) === wanted);
    return site && this.calls(site, callee, depth) ? site : undefined;
  }

  private calls(site: Entry, callee: bigint | undefined, depth: number): boolean {
    const called = calledBy(site);
    if (called) return this.program?.beginning(called) === callee;
    const computed = site.own(AT.callTarget)?.raw ?? site.own(AT.gnuCallSiteTarget)?.raw;
    if (!(computed instanceof Uint8Array) || callee === undefined) return false;
    return compute(computed, this.context(depth + 1)) === callee + (this.program?.offset ?? 0n);
  }
}

const UNKNOWN: Type = { kind: 'void', name: 'unknown', size: undefined };

const UPPER_HALF = 1n << 63n;

/** Run-time address of a linked one: a Linux kernel's per-processor data lie at the GS base that it has for itself. */
function placeIn(program: Program, view: WorldView, linked: bigint): bigint {
  if (!program.isPerProcessor(linked)) return program.placeOf(linked);
  const base = view.register('gs.base') ?? 0n;
  return linked + (base >= UPPER_HALF ? base : (view.register('ia32_kernel_gs_base') ?? base));
}

/** For variables outside of functions: they depend on no frame. */
function staticContext(
  unit: Entry['unit'],
  program: Program,
  view: WorldView,
  memory: MemoryAccess,
): ExpressionContext {
  const none = (): never => {
    throw new Unavailable('it depends on a frame');
  };
  return {
    unit,
    addressSize: unit.header.sizes.addressSize,
    place: (linked) => placeIn(program, view, linked),
    threadLocal: (offset) => threadLocalAddress(program, view, offset),
    register: none,
    read: (address, bytes) => memory.read(address, bytes),
    frameBase: none,
    cfa: none,
    entryValue: none,
    parameterValue: none,
  };
}

/**
 * The activations of a frame that a person sees, the innermost first: at an inlined function's first instruction the
 * call is still to come, as in gdb.
 */
function visibleActivations(program: Program, frame: Frame): readonly Activation[] {
  const all = program.activationsAt(frame.lookupPc);
  if (frame.depth > 0) return all;
  const at = frame.pc - program.offset;
  const begun = all.findIndex(({ entry, start }) => entry.tag !== TAG.inlinedSubroutine || start !== at);
  return begun < 0 ? all : all.slice(begun);
}

/** A frame as the activations in it: inlined functions are frames to a person. */
export function inlineFrames(
  target: Target,
  frame: Frame,
  activations: readonly Activation[] = visibleOf(target, frame),
): Frame[] {
  if (activations.length === 0) return [frame];
  return activations.map((activation, index) => {
    const inner = activations[index - 1];
    return { ...frame, activation, ...(inner ? { inlined: inner } : {}) };
  });
}

function visibleOf(target: Target, frame: Frame): readonly Activation[] {
  const program = target.programAt(frame.view, frame.lookupPc);
  return program ? visibleActivations(program, frame) : [];
}
