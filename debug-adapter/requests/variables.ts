import type { DebugProtocol } from '@vscode/debugprotocol';
import {
  MACHINE_REGISTERS,
  type MachineRegister,
  REGISTER_GROUPS,
  type RegisterGroup,
} from '../../sim-core/machine/registers.ts';
import { cite } from '../../sim-core/sdm.ts';
import { type BitField, decodeBits, describeBits, insert, widthOf } from '../../sim-core/vmx/bits.ts';
import { describeField, layoutOf } from '../../sim-core/vmx/describe.ts';
import { FIELD_GROUPS, type FieldGroup, VMCS_FIELDS, type VmcsField } from '../../sim-core/vmx/fields.ts';
import { errors } from '../errors.ts';
import { OF_THE_PROCESSOR, TargetEnvironment } from '../expressions/environment.ts';
import { type Environment, evaluate } from '../expressions/evaluate.ts';
import { parseExpression } from '../expressions/parser.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { VariableList } from '../references.ts';
import type { Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import { exitSummary } from '../stops/stop-texts.ts';
import { floatOf } from '../symbols/dwarf/float.ts';
import type { VariableEntry } from '../symbols/dwarf/scopes.ts';
import { FrameScope } from '../views/frame-scope.ts';
import { hex } from '../worlds/memory-reference.ts';
import { type Frame, frameRegister, setFrameRegister } from '../worlds/unwind.ts';
import { withoutWords } from './edited-value.ts';
import { ScopeList } from './program-variables.ts';

/** Hexadecimal in the register's full width, so that columns line up and high bits show. */
const fullHex = (value: bigint, bits: number): string =>
  `0x${BigInt.asUintN(bits, value)
    .toString(16)
    .padStart(Math.ceil(bits / 4), '0')}`;

/** A value that has named bits. */
interface WholeValue {
  read(): bigint;
  /** @throws RequestError. Undefined: it cannot be changed. */
  readonly write: ((value: bigint) => void) | undefined;
  /** What new values of bits may refer to. */
  readonly environment: () => Environment;
}

/** The named bits of a value, to be opened below it. */
export function bitList(layout: readonly BitField[], whole: WholeValue): VariableList {
  const { write } = whole;
  const variables = (): DebugProtocol.Variable[] =>
    decodeBits(layout, whole.read()).map((part) => ({
      name: part.name,
      value: part.meaning,
      type: `bit ${part.bits}`,
      variablesReference: 0,
      ...(write ? {} : { presentationHint: { attributes: ['readOnly'] } }),
    }));
  if (!write) return { variables };
  const set = (name: string, expression: string): { value: string } => {
    const field = layout.find((candidate) => candidate.name === name);
    if (!field) throw errors.unknownVariable(name);
    const part = namedValue(field, expression) ?? evaluate(parseExpression(expression), whole.environment()).number;
    if (part < 0n || part >> BigInt(widthOf(field)) !== 0n) throw errors.notWritable(name, tooLarge(field, part));
    write(insert(field, whole.read(), part));
    return { value: decodeBits([field], whole.read())[0]?.meaning ?? '' };
  };
  return { variables, set };
}

/** The value that a field has a name for: as it is shown. */
function namedValue({ values = {} }: BitField, name: string): bigint | undefined {
  const found = Object.entries(values).find(([, meaning]) => meaning === name.trim());
  return found && BigInt(found[0]);
}

const tooLarge = (field: BitField, part: bigint): string => {
  const width = widthOf(field);
  return `${part} does not fit into ${width === 1 ? 'one bit' : `${width} bits`}`;
};

const REGISTERS_OF: ReadonlyMap<string, readonly MachineRegister[]> = new Map(
  Object.keys(REGISTER_GROUPS).map((name) => [
    name,
    MACHINE_REGISTERS.filter(({ group, partOf }) => group === name && partOf === undefined),
  ]),
);

/** Of the double extended-precision format. */
const EXTENDED_BYTES = 10;

/** Registers of one group as a frame has them. */
class RegisterList implements VariableList {
  private readonly session: Session;
  private readonly target: Target;
  private readonly frame: Frame;
  private readonly group: RegisterGroup;

  constructor(session: Session, target: Target, frame: Frame, group: RegisterGroup) {
    this.session = session;
    this.target = target;
    this.frame = frame;
    this.group = group;
  }

  private get registers(): readonly MachineRegister[] {
    return REGISTERS_OF.get(this.group) ?? [];
  }

  variables(): DebugProtocol.Variable[] {
    return this.registers.flatMap((register) => {
      const value = frameRegister(this.frame, register.name);
      return value === undefined ? [] : [this.describe(register, value)];
    });
  }

  private describe(register: MachineRegister, value: bigint): DebugProtocol.Variable {
    const { name, bits, layout } = register;
    const words = layout.length > 0 ? describeBits(layout, value) : this.meaning(value, bits);
    const whole: WholeValue = {
      read: () => frameRegister(this.frame, name) ?? 0n,
      write: register.write && ((changed) => this.write(name, changed)),
      environment: () => new TargetEnvironment(this.target, this.frame),
    };
    const { world, space, suspended } = this.frame.view;
    return {
      name,
      value: words === '' ? fullHex(value, bits) : `${fullHex(value, bits)} ${words}`,
      type: `${bits} bits`,
      ...(suspended ? {} : { evaluateName: this.frame.view.current ? name : `${world}.${name}` }),
      variablesReference: layout.length > 0 ? this.session.references.add(bitList(layout, whole)) : 0,
      ...(bits === 64 && layout.length === 0 ? { memoryReference: `${space}:${hex(value)}` } : {}),
      ...(register.write ? {} : { presentationHint: { attributes: ['readOnly'] } }),
    };
  }

  /** What is at an address; the number in a register of the x87 stack. */
  private meaning(value: bigint, bits: number): string {
    if (bits === 8 * EXTENDED_BYTES) return `${floatOf(value, EXTENDED_BYTES)}`;
    const name = bits === 64 && value > 0xfffn ? this.target.symbolName(this.frame.view, value) : undefined;
    return name === undefined ? '' : `<${name}>`;
  }

  set(name: string, expression: string): { value: string } {
    const register = this.registers.find((candidate) => candidate.name === name);
    if (!register) throw errors.unknownVariable(name);
    const environment = new TargetEnvironment(this.target, this.frame);
    const shown = this.describe(register, frameRegister(this.frame, name) ?? 0n).value;
    const { number } = evaluate(parseExpression(withoutWords(shown, expression)), environment);
    this.write(name, number);
    // Of a caller the frame knows the one from before.
    const now = this.frame.depth > 0 ? number : (frameRegister(this.frame, name) ?? number);
    return { value: fullHex(now, register.bits) };
  }

  private write(name: string, value: bigint): void {
    const problem = setFrameRegister(this.frame, name, value);
    if (problem !== undefined) throw errors.notWritable(name, problem);
  }
}

/** The value of a VMCS field in words: its bits, or the symbol that an address leads to. */
export function fieldWords(target: Target, field: VmcsField, value: bigint): string {
  const words = describeField(field.name, value);
  if (words !== '' || field.width !== 'natural') return words;
  const world = field.area === 'host' ? 'vmm' : field.area === 'guest' ? 'guest' : undefined;
  const name = world && value > 0xfffn ? target.symbolName(world, value) : undefined;
  return name === undefined ? '' : `<${name}>`;
}

/** Sets a VMCS field. @throws notWritable, noVmcs. @returns the value that it holds now. */
export function setField(target: Target, field: VmcsField, value: bigint): bigint {
  if (field.area === 'readOnly') throw errors.notWritable(field.name, OF_THE_PROCESSOR);
  const cut = BigInt.asUintN(8 * field.bytes, value);
  const { vmx, selected } = target.machine;
  if (vmx.currentVmcs === undefined) throw errors.noVmcs();
  target.apply({ kind: 'field', encoding: field.encoding, value: cut, processor: selected });
  return cut;
}

const FIELDS_OF: ReadonlyMap<string, readonly VmcsField[]> = new Map(
  Object.keys(FIELD_GROUPS).map((name) => [name, VMCS_FIELDS.filter(({ group }) => group === name)]),
);

class FieldList implements VariableList {
  private readonly session: Session;
  private readonly target: Target;
  private readonly group: FieldGroup;

  constructor(session: Session, target: Target, group: FieldGroup) {
    this.session = session;
    this.target = target;
    this.group = group;
  }

  private get fields(): readonly VmcsField[] {
    return FIELDS_OF.get(this.group) ?? [];
  }

  /** How many fields the VMCS has of the group. */
  get count(): number {
    const { vmx } = this.target.machine;
    return this.fields.filter(({ encoding }) => vmx.read(encoding) !== undefined).length;
  }

  variables(): DebugProtocol.Variable[] {
    return this.fields.flatMap((field) => {
      const value = this.target.machine.vmx.read(field.encoding);
      return value === undefined ? [] : [this.describe(field, value)];
    });
  }

  private describe(field: VmcsField, value: bigint): DebugProtocol.Variable {
    const words = fieldWords(this.target, field, value);
    const layout = layoutOf(field.name);
    const whole: WholeValue = {
      read: () => this.target.machine.vmx.read(field.encoding) ?? 0n,
      write: field.area === 'readOnly' ? undefined : (changed) => setField(this.target, field, changed),
      environment: () => new TargetEnvironment(this.target),
    };
    const text = fullHex(value, 8 * field.bytes);
    return {
      name: field.name,
      value: words === '' ? text : `${text} ${words}`,
      type: `${cite(field.sdm)}: ${field.documentation}`,
      evaluateName: `vmcs.${field.name}`,
      variablesReference: layout.length > 0 ? this.session.references.add(bitList(layout, whole)) : 0,
      ...(field.area === 'readOnly' ? { presentationHint: { attributes: ['readOnly'] } } : {}),
    };
  }

  set(name: string, expression: string): { value: string } {
    const field = VMCS_FIELDS.find((candidate) => candidate.name === name && candidate.group === this.group);
    if (!field) throw errors.unknownVariable(name);
    const shown = this.describe(field, this.target.machine.vmx.read(field.encoding) ?? 0n).value;
    const environment = new TargetEnvironment(this.target);
    const { number } = evaluate(parseExpression(withoutWords(shown, expression)), environment);
    return { value: fullHex(setField(this.target, field, number), 8 * field.bytes) };
  }
}

/** The VMCS: a line for each group of the manual. */
function vmcsList(session: Session, target: Target): VariableList {
  return {
    variables: () =>
      (Object.entries(FIELD_GROUPS) as [FieldGroup, string][]).map(([group, title]) => {
        const list = new FieldList(session, target, group);
        const { count } = list;
        return {
          name: title,
          value: `${count} fields`,
          variablesReference: session.references.add(list),
          namedVariables: count,
          presentationHint: { kind: 'virtual', attributes: ['readOnly'] },
        };
      }),
  };
}

function lastExitList(target: Target): VariableList {
  const line = (name: string, value: string): DebugProtocol.Variable => ({ name, value, variablesReference: 0 });
  return {
    variables: () => {
      const exit = target.machine.vmx.lastExit;
      if (!exit) return [];
      const summary = exitSummary(exit);
      return [
        line('Reason', `${exit.reason} ${summary.id}`),
        line('Meaning', summary.text),
        line('Cause', exit.cause),
        line('Qualification', hex(exit.qualification)),
        line('Guest RIP', hex(exit.guestRip)),
        line('Guest linear address', hex(exit.guestLinearAddress)),
        line('Guest-physical address', hex(exit.guestPhysicalAddress)),
        line('Interruption information', hex(exit.interruptionInformation >>> 0)),
        line('IDT-vectoring information', hex(exit.idtVectoringInformation >>> 0)),
        line('Instruction length', String(exit.instructionLength)),
        line('Instruction information', hex(exit.instructionInformation >>> 0)),
        line('At instruction', String(exit.instructions)),
      ];
    },
  };
}

/** The variables of the program: none where it has no debug information. */
function programScopes(session: Session, target: Target, frame: Frame): DebugProtocol.Scope[] {
  const scope = new FrameScope(target, frame);
  const context = { target, references: session.references, scope };
  const parameters = scope.variables.filter(({ isParameter }) => isParameter);
  const locals = scope.variables.filter(({ isParameter }) => !isParameter);
  const of = (name: string, entries: readonly VariableEntry[], hint?: string, expensive = false) => ({
    name,
    ...(hint === undefined ? {} : { presentationHint: hint }),
    variablesReference: session.references.add(new ScopeList(context, entries)),
    namedVariables: entries.length,
    expensive,
  });
  const { globals } = scope;
  return [
    ...(locals.length > 0 ? [of('Locals', locals, 'locals')] : []),
    ...(parameters.length > 0 ? [of('Arguments', parameters, 'arguments')] : []),
    ...(globals.length > 0 ? [of('Globals of the source file', globals, undefined, true)] : []),
  ];
}

function scopesOf(session: Session, target: Target, frame: Frame): DebugProtocol.Scope[] {
  const scope = (name: string, list: VariableList, expensive: boolean): DebugProtocol.Scope => ({
    name,
    variablesReference: session.references.add(list),
    expensive,
    ...(expensive ? {} : { presentationHint: 'registers' }),
  });
  const groups = (Object.entries(REGISTER_GROUPS) as [RegisterGroup, string][]).map(([group, title]) =>
    scope(title, new RegisterList(session, target, frame, group), group !== 'general'),
  );
  const scopes = [...programScopes(session, target, frame), ...groups];
  if (target.machine.vmx.currentVmcs !== undefined) scopes.push(scope('VMCS', vmcsList(session, target), true));
  if (target.machine.vmx.lastExit) scopes.push(scope('Last VM exit', lastExitList(target), true));
  return scopes;
}

export const variableRequests: HandlerTable = {
  scopes: handler({ frameId: 'number' }, (session, { frameId }, command) => {
    const target = session.stoppedTarget(command);
    const entry = session.frames.entry(frameId);
    // Clients ask for the scopes of the frame that a person looks at.
    session.focusHere();
    return { scopes: entry.kind === 'label' ? [] : scopesOf(session, target, entry.frame) };
  }),

  variables: handler(
    { variablesReference: 'number', filter: 'string?', start: 'number?', count: 'number?' },
    (session, { variablesReference, filter, start = 0, count = 0 }, command) => {
      session.stoppedTarget(command);
      const list = session.references.get(variablesReference);
      if (filter === 'indexed') return { variables: list.indexed?.(start, count) ?? [] };
      const all = [...list.variables(), ...(filter === 'named' ? [] : (list.indexed?.(0, 0) ?? []))];
      return { variables: all.slice(start, count > 0 ? start + count : all.length) };
    },
  ),

  setVariable: handler(
    { variablesReference: 'number', name: 'string', value: 'string' },
    (session, { variablesReference, name, value }, command) => {
      session.stoppedTarget(command);
      const list = session.references.get(variablesReference);
      if (!list.set) throw errors.notWritable(name, 'it is a part of another value');
      const now = list.set(name, value);
      session.afterwards(() => session.changed());
      return now;
    },
  ),
};
