/** x87 control instructions (SDM Vol. 2A, FCLEX … FSTSW, WAIT) and the images of the environment in memory. */

import type { DecodedInstruction } from '../../isa/instruction.ts';
import { exception, type Fault, VECTOR } from '../../mmu/fault.ts';
import { CR0, RFLAGS } from '../../state/control-bits.ts';
import { OFFSET } from '../../state/layout.ts';
import type { State } from '../../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from '../cpu.ts';
import { operandAddress, readMemoryOperand, writeMemoryOperand, writeOperand } from '../operands.ts';
import type { NamedInstructions } from '../table.ts';
import { readArea, writeArea } from './area.ts';
import { ALL_EXCEPTIONS } from './float80.ts';
import { control, hasMemoryOperand, memorySize, pendingError, waiting } from './instruction.ts';
import { ALL_EMPTY, DEFAULT_CONTROL, fullTags, STATUS, setTags, summarise, topOf } from './registers.ts';

/** Control-word bits that can be written; bit 6 reads as 1. */
const CONTROL_BITS = 0x1f3f;
const CONTROL_ONES = 0x40;

export function setControl(state: State, value: number): void {
  state.set32('x87Control', (value & CONTROL_BITS) | CONTROL_ONES);
  summarise(state);
}

function initialise(state: State): void {
  state.set32('x87Control', DEFAULT_CONTROL);
  state.set32('x87Status', 0);
  state.set32('x87Tag', ALL_EMPTY);
  for (const field of ['x87Opcode', 'x87Cs', 'x87Ds'] as const) state.set32(field, 0);
  for (const field of ['x87Ip', 'x87Dp'] as const) state.set64(field, 0n);
}

const fninit: SlowInstruction = ({ state }) => {
  initialise(state);
  return NEXT.sequential;
};

/** FNCLEX clears the exception flags, SF, ES and B. */
const fnclex: SlowInstruction = ({ state }) => {
  const cleared = ALL_EXCEPTIONS | 0x40 | STATUS.summary | STATUS.busy;
  state.set32('x87Status', state.get32('x87Status') & ~cleared);
  return NEXT.sequential;
};

const storeWord =
  (field: 'x87Control' | 'x87Status'): SlowInstruction =>
  (cpu, instruction) => {
    const value = BigInt(cpu.state.get32(field));
    const fault = hasMemoryOperand(instruction)
      ? writeMemoryOperand(cpu, instruction, 0, 2, value)
      : writeOperand(cpu, instruction, 0, value);
    return fault ?? NEXT.sequential;
  };

function fldcw(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const value = readMemoryOperand(cpu, instruction, 0, 2);
  if (typeof value === 'object') return value;
  setControl(cpu.state, Number(value));
  return NEXT.sequential;
}

// ---- the environment

/** Real-address and virtual-8086 mode have linear addresses in the place of selectors and offsets. */
const isRealFormat = (state: State): boolean =>
  (state.low('cr0') & CR0.pe) === 0 || (state.get32('rflagsSystem') & RFLAGS.vm) !== 0;

interface Pointers {
  readonly ip: number;
  readonly cs: number;
  readonly dp: number;
  readonly ds: number;
  readonly opcode: number;
}

const readPointers = (state: State): Pointers => ({
  ip: state.low('x87Ip'),
  cs: state.get32('x87Cs'),
  dp: state.low('x87Dp'),
  ds: state.get32('x87Ds'),
  opcode: state.get32('x87Opcode'),
});

const linearPointer = (selector: number, offset: number): number => ((selector << 4) + offset) >>> 0;

/** The four units behind the tag word (SDM Vol. 1, figures "… x87 FPU State Image in Memory"). */
function packPointers(state: State, wide: boolean): readonly number[] {
  const { ip, cs, dp, ds, opcode } = readPointers(state);
  if (isRealFormat(state)) {
    const [code, data] = [linearPointer(cs, ip), linearPointer(ds, dp)];
    const high = (linear: number) => (wide ? (linear >>> 16) << 12 : ((linear >>> 16) & 0xf) << 12);
    return [code & 0xffff, high(code) | opcode, data & 0xffff, high(data)];
  }
  return wide ? [ip, cs | (opcode << 16), dp, 0xffff_0000 | ds] : [ip & 0xffff, cs, dp & 0xffff, ds];
}

function unpackPointers(state: State, units: readonly number[], wide: boolean): Pointers {
  const [first = 0, second = 0, third = 0, fourth = 0] = units;
  if (isRealFormat(state)) {
    const linear = (low: number, high: number) => ((low & 0xffff) | ((high >>> 12) << 16)) >>> 0;
    return { ip: linear(first, second), cs: 0, dp: linear(third, fourth), ds: 0, opcode: second & 0x7ff };
  }
  const opcode = wide ? (second >>> 16) & 0x7ff : 0;
  return { ip: first, cs: second & 0xffff, dp: third, ds: fourth & 0xffff, opcode };
}

/** The environment's seven units, of 4 bytes or of 2. */
const UNITS = 7;

function packEnvironment(state: State, wide: boolean): Uint8Array {
  const words = [state.get32('x87Control'), state.get32('x87Status'), fullTags(state)];
  const units = [...words.map((word) => (wide ? 0xffff_0000 | word : word)), ...packPointers(state, wide)];
  const image = new Uint8Array(UNITS * (wide ? 4 : 2));
  const view = new DataView(image.buffer);
  units.forEach((unit, i) => {
    if (wide) view.setUint32(4 * i, unit, true);
    else view.setUint16(2 * i, unit, true);
  });
  return image;
}

function unpackEnvironment(state: State, image: Uint8Array, wide: boolean): void {
  const view = new DataView(image.buffer, image.byteOffset);
  const units = Array.from({ length: UNITS }, (_, i) =>
    wide ? view.getUint32(4 * i, true) : view.getUint16(2 * i, true),
  );
  const [controlWord = 0, statusWord = 0, tagWord = 0] = units;
  const { ip, cs, dp, ds, opcode } = unpackPointers(state, units.slice(3), wide);
  state.set32('x87Status', statusWord & 0xffff);
  setTags(state, tagWord & 0xffff);
  state.set64('x87Ip', BigInt(ip));
  state.set64('x87Dp', BigInt(dp));
  state.set32('x87Cs', cs);
  state.set32('x87Ds', ds);
  state.set32('x87Opcode', opcode);
  setControl(state, controlWord);
}

const ENVIRONMENT_SIZE = { wide: 28, narrow: 14 } as const;
const REGISTER_SIZE = 10;
const REGISTERS = 8;

/** Whether the image has units of 4 bytes. */
const isWide = (size: number): boolean => size === 28 || size === 108;

function store(cpu: Cpu, instruction: DecodedInstruction, image: Uint8Array): Fault | undefined {
  const linear = operandAddress(cpu, instruction, 0, image.length, true);
  return typeof linear === 'object' ? linear : writeArea(cpu, linear, image);
}

function fetch(cpu: Cpu, instruction: DecodedInstruction): Uint8Array | Fault {
  const size = memorySize(instruction);
  const linear = operandAddress(cpu, instruction, 0, size, false);
  return typeof linear === 'object' ? linear : readArea(cpu, linear, size);
}

/** FNSTENV masks all exceptions afterwards. */
function fnstenv(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const fault = store(cpu, instruction, packEnvironment(state, isWide(memorySize(instruction))));
  if (fault) return fault;
  setControl(state, state.get32('x87Control') | ALL_EXCEPTIONS);
  return NEXT.sequential;
}

function fldenv(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const image = fetch(cpu, instruction);
  if (!(image instanceof Uint8Array)) return image;
  unpackEnvironment(cpu.state, image, isWide(image.length));
  return NEXT.sequential;
}

/** Bytes of ST(i) in the state. */
export const stackBytes = (state: State, i: number): Uint8Array => {
  const from = OFFSET.x87 + 16 * ((topOf(state) + i) & 7);
  return state.bytes.subarray(from, from + REGISTER_SIZE);
};

/** FNSAVE initialises the unit afterwards. */
function fnsave(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const wide = isWide(memorySize(instruction));
  const environment = packEnvironment(state, wide);
  const image = new Uint8Array(environment.length + REGISTERS * REGISTER_SIZE);
  image.set(environment);
  for (let i = 0; i < REGISTERS; i++) image.set(stackBytes(state, i), environment.length + REGISTER_SIZE * i);
  const fault = store(cpu, instruction, image);
  if (fault) return fault;
  initialise(state);
  return NEXT.sequential;
}

function frstor(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const image = fetch(cpu, instruction);
  if (!(image instanceof Uint8Array)) return image;
  const wide = isWide(image.length);
  const start = ENVIRONMENT_SIZE[wide ? 'wide' : 'narrow'];
  unpackEnvironment(state, image.subarray(0, start), wide);
  for (let i = 0; i < REGISTERS; i++) {
    const from = start + REGISTER_SIZE * i;
    stackBytes(state, i).set(image.subarray(from, from + REGISTER_SIZE));
  }
  return NEXT.sequential;
}

/** WAIT: #NM when both CR0.MP and CR0.TS are set. */
const wait: SlowInstruction = ({ state }) => {
  const both = CR0.mp | CR0.ts;
  if ((state.low('cr0') & both) === both) return exception(VECTOR.nm);
  return pendingError(state) ?? NEXT.sequential;
};

/** FENI, FDISI and FSETPM of the 8087 and 80287 do nothing. */
const nothing = control(() => NEXT.sequential);

export const X87_CONTROL: NamedInstructions = {
  Fninit: control(fninit), Fnclex: control(fnclex), Fldcw: waiting(fldcw),
  Fnstcw: control(storeWord('x87Control')), Fnstsw: control(storeWord('x87Status')),
  Fnstenv: control(fnstenv), Fldenv: waiting(fldenv), Fnsave: control(fnsave), Frstor: waiting(frstor),
  Fneni: nothing, Fndisi: nothing, Fnsetpm: nothing, Wait: wait,
}; // biome-ignore format: a table reads better in rows
