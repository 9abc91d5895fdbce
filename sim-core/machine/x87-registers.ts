/** The x87 registers as a debugger shows and names them: in the manual's words, and in the order of FXSAVE's area. */

import { setControl } from '../cpu/x87/control-instructions.ts';
import { fullTags, readStackBits, setTags, summarise, writeStackBits } from '../cpu/x87/registers.ts';
import type { StateField } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type BitField, bits, flag } from '../vmx/bits.ts';
import type { MachineRegister } from './registers.ts';

/** SDM Vol. 1, "x87 FPU Control Word" and "x87 FPU Status Register". */
const FCW: readonly BitField[] = [
  ...['IM', 'DM', 'ZM', 'OM', 'UM', 'PM'].map((name, bit) => flag(name, bit)),
  bits('PC', 9, 8, { 0: 'single precision', 2: 'double precision', 3: 'double extended precision' }),
  bits('RC', 11, 10, { 0: 'to nearest', 1: 'down', 2: 'up', 3: 'toward zero' }),
];
const FSW: readonly BitField[] = [
  ...['IE', 'DE', 'ZE', 'OE', 'UE', 'PE', 'SF', 'ES', 'C0', 'C1', 'C2'].map((name, bit) => flag(name, bit)),
  bits('TOP', 13, 11),
  flag('C3', 14),
  flag('B', 15),
];

/** @param set takes what fits into the register */
function register(
  name: string,
  width: number,
  read: (state: State) => bigint,
  set: (state: State, value: bigint) => void,
  layout: readonly BitField[] = [],
): MachineRegister {
  const write: MachineRegister['write'] = ({ state }, value) => set(state, BigInt.asUintN(width, value));
  return { name, group: 'float', bits: width, layout, read, write };
}

const word = (
  name: string,
  read: (state: State) => number,
  set: (state: State, value: number) => void,
  layout?: readonly BitField[],
): MachineRegister =>
  register(
    name,
    16,
    (state) => BigInt(read(state)),
    (state, value) => set(state, Number(value)),
    layout,
  );

const storedWord = (name: string, field: StateField, mask = 0xffff): MachineRegister =>
  word(
    name,
    (state) => state.get32(field),
    (state, value) => state.set32(field, value & mask),
  );

const pointer = (name: string, field: StateField): MachineRegister =>
  register(
    name,
    64,
    (state) => state.get64(field),
    (state, value) => state.set64(field, value),
  );

/** The opcode without the five bits that all x87 opcodes share. */
const OPCODE_BITS = 0x7ff;

/** ST(i) are the bits of a register, whether or not FTW has it as empty. */
export const X87_REGISTERS: readonly MachineRegister[] = [
  ...Array.from({ length: 8 }, (_, i) =>
    register(
      `st${i}`,
      80,
      (state) => readStackBits(state, i),
      (state, value) => writeStackBits(state, i, value),
    ),
  ),
  word('fcw', (state) => state.get32('x87Control'), setControl, FCW),
  word(
    'fsw',
    (state) => state.get32('x87Status'),
    (state, value) => {
      state.set32('x87Status', value);
      summarise(state);
    },
    FSW,
  ),
  word('ftw', fullTags, setTags),
  storedWord('fop', 'x87Opcode', OPCODE_BITS),
  pointer('fip', 'x87Ip'),
  storedWord('fcs', 'x87Cs'),
  pointer('fdp', 'x87Dp'),
  storedWord('fds', 'x87Ds'),
];
