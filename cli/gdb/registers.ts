/**
 * The registers that gdb sees, and the target description that tells it of them: the features that gdb knows (i386
 * core, SSE, AVX, segments), then the system registers, then the fields of the current VMCS.
 */

import type { Machine } from '../../sim-core/machine/api.ts';
import type { OutsideEvent } from '../../sim-core/machine/history/outside-event.ts';
import { MACHINE_REGISTERS, type MachineRegister, registerByName } from '../../sim-core/machine/registers.ts';
import type { BitField } from '../../sim-core/vmx/bits.ts';
import { VMCS_FIELDS, type VmcsField } from '../../sim-core/vmx/fields.ts';

export interface GdbRegister {
  /** As gdb names it. */
  readonly name: string;
  readonly bits: number;
  /** Type in the target description. */
  readonly type: string;
  readonly group?: string;
  /** Undefined: there is no value now. */
  read(machine: Machine): bigint | undefined;
  /** What comes from outside when it is set; undefined: it cannot be set. */
  readonly event?: (value: bigint, machine: Machine) => OutsideEvent;
}

interface Feature {
  readonly name: string;
  /** XML of the types that its registers use. */
  readonly types: string;
  readonly registers: readonly GdbRegister[];
  /** Its registers come with the 'g' packet; others one by one, with 'p'. */
  readonly inBlock: boolean;
}

/** @param name as in machine/registers.ts */
function machineRegister(name: string, type: string, gdbName = name): GdbRegister {
  const register = registerByName(name) as MachineRegister;
  const { bits } = register;
  const base = { name: gdbName, bits, type, read: (machine: Machine) => register.read(machine.state) };
  return register.write ? { ...base, event: (value) => ({ kind: 'register', name: register.name, value }) } : base;
}

/** @param bits as gdb knows the register, zero-extended */
const widened = (name: string, bits: number, type: string): GdbRegister => ({ ...machineRegister(name, type), bits });

/** A register of the x87, 32 bits wide for gdb but for the stack's. */
const x87Register = (name: string, gdbName: string): GdbRegister => ({
  ...machineRegister(name, 'int', gdbName),
  bits: 32,
  group: 'float',
});
/** gdb has the offset in the code or data segment, 32 bits; where there is more, setting it leaves the rest. */
function x87Offset(name: string, gdbName: string): GdbRegister {
  const whole = registerByName(name) as MachineRegister;
  const read = ({ state }: Machine): bigint => BigInt.asUintN(32, whole.read(state));
  return {
    ...x87Register(name, gdbName),
    read,
    event: (value, machine) => ({
      kind: 'register',
      name,
      value: whole.read(machine.state) - read(machine) + value,
    }),
  };
}

const stackRegister = (i: number): GdbRegister => ({ ...machineRegister(`st${i}`, 'i387_ext'), group: 'float' });

/** RIP as a linear address, as gdb's breakpoints are: in the modes with segments, CS has a base. */
const INSTRUCTION_POINTER: GdbRegister = {
  ...machineRegister('rip', 'code_ptr'),
  read: (machine) => linearRip(machine),
  event: setRip,
};

/** Goes on at a linear address: CS stays as it is. */
export function setRip(address: bigint, machine: Machine): OutsideEvent {
  const base = linearRip(machine) - machine.state.get64('rip');
  return { kind: 'register', name: 'rip', value: BigInt.asUintN(64, address - base) };
}

/** The linear address of the selected processor's next instruction. */
export const linearRip = ({ processors, selected }: Machine): bigint => processors[selected]?.rip ?? 0n;

/** In the order that gdb's own i386 core feature has. */
const CORE: readonly GdbRegister[] = [
  ...'rax rbx rcx rdx rsi rdi'.split(' ').map((name) => machineRegister(name, 'int64')),
  ...['rbp', 'rsp'].map((name) => machineRegister(name, 'data_ptr')),
  ...Array.from({ length: 8 }, (_, i) => machineRegister(`r${i + 8}`, 'int64')),
  INSTRUCTION_POINTER,
  machineRegister('eflags', 'eflags_bits'),
  ...'cs ss ds es fs gs'.split(' ').map((name) => widened(name, 32, 'int32')),
  ...Array.from({ length: 8 }, (_, i) => stackRegister(i)),
  x87Register('fcw', 'fctrl'),
  x87Register('fsw', 'fstat'),
  x87Register('ftw', 'ftag'),
  x87Register('fcs', 'fiseg'),
  x87Offset('fip', 'fioff'),
  x87Register('fds', 'foseg'),
  x87Offset('fdp', 'fooff'),
  x87Register('fop', 'fop'),
];

const NUMBERS = Array.from({ length: 16 }, (_, i) => i);

const SSE: readonly GdbRegister[] = [
  ...NUMBERS.map((i) => ({ ...machineRegister(`xmm${i}`, 'vec128'), group: 'vector' })),
  { ...machineRegister('mxcsr', 'i386_mxcsr'), group: 'vector' },
];

/** The upper half of YMM i. */
function upperHalf(i: number): GdbRegister {
  const whole = registerByName(`ymm${i}`) as MachineRegister;
  const event = (value: bigint, { state }: Machine): OutsideEvent => ({
    kind: 'register',
    name: whole.name,
    value: (value << 128n) | BigInt.asUintN(128, whole.read(state)),
  });
  return { name: `ymm${i}h`, bits: 128, type: 'uint128', read: ({ state }) => whole.read(state) >> 128n, event };
}

const SEGMENT_BASES = [machineRegister('fs.base', 'int', 'fs_base'), machineRegister('gs.base', 'int', 'gs_base')];

const identifier = (name: string): string => name.replace(/[^A-Za-z0-9]+/g, '_').replace(/^_+|_+$/g, '');

/** XML of a type that shows named bits. */
function flagsType(id: string, bytes: number, layout: readonly BitField[]): string {
  const fields = layout.map(({ name, low, width = 1 }) => {
    return `<field name="${identifier(name)}" start="${low}" end="${low + width - 1}"/>`;
  });
  return `<flags id="${id}" size="${bytes}">${fields.join('')}</flags>`;
}

/** Wider fields are numbers: to gdb, a register that holds an address is better one number. */
const WIDEST_FLAG = 8;

/** What gdb can show as named bits: it takes no others than 32 and 64 bits wide. */
const hasNamedBits = ({ layout, bits }: MachineRegister): boolean =>
  layout.length > 0 && (bits === 32 || bits === 64) && layout.every(({ width = 1 }) => width <= WIDEST_FLAG);

/** Registers of machine/registers.ts that gdb has no feature for. */
const SYSTEM_SOURCES: readonly MachineRegister[] = MACHINE_REGISTERS.filter(
  ({ name, group, partOf }) =>
    partOf === undefined &&
    (group === 'control' || group === 'debug' || group === 'msr' || (group === 'segment' && isSystemPart(name))),
);

/** Selectors of the data segments are in the core feature, the bases of FS and GS in one of their own. */
function isSystemPart(name: string): boolean {
  return !/^([cdefgs]s|fs\.base|gs\.base)$/.test(name);
}

function systemRegister(source: MachineRegister): GdbRegister {
  const name = identifier(source.name);
  const bits = source.bits > 32 ? 64 : source.bits > 16 ? 32 : source.bits > 8 ? 16 : 8;
  const type = hasNamedBits(source) ? `${name}_bits` : `uint${bits}`;
  return { ...machineRegister(source.name, type, name), bits, group: 'system' };
}

function vmcsRegister({ name, encoding, bytes }: VmcsField): GdbRegister {
  return {
    name: `vmcs_${name.toLowerCase()}`,
    bits: 8 * bytes,
    type: `uint${8 * bytes}`,
    group: 'vmcs',
    read: ({ vmx }) => vmx.read(encoding),
    event: (value) => ({ kind: 'field', encoding, value }),
  };
}

const VECTOR_TYPES =
  '<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>' +
  '<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>' +
  '<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>' +
  '<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>' +
  '<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>' +
  '<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>' +
  '<flags id="i386_mxcsr" size="4"><field name="IE" start="0" end="0"/><field name="DE" start="1" end="1"/>' +
  '<field name="ZE" start="2" end="2"/><field name="OE" start="3" end="3"/><field name="UE" start="4" end="4"/>' +
  '<field name="PE" start="5" end="5"/><field name="DAZ" start="6" end="6"/></flags>';

const FEATURES: readonly Feature[] = [
  {
    name: 'org.gnu.gdb.i386.core',
    types: flagsType('eflags_bits', 4, (registerByName('rflags') as MachineRegister).layout),
    registers: CORE,
    inBlock: true,
  },
  { name: 'org.gnu.gdb.i386.sse', types: VECTOR_TYPES, registers: SSE, inBlock: true },
  { name: 'org.gnu.gdb.i386.avx', types: '', registers: NUMBERS.map(upperHalf), inBlock: true },
  { name: 'org.gnu.gdb.i386.segments', types: '', registers: SEGMENT_BASES, inBlock: true },
  {
    name: 'org.vmxray.system',
    types: SYSTEM_SOURCES.filter(hasNamedBits)
      .map((source) => flagsType(`${identifier(source.name)}_bits`, source.bits / 8, source.layout))
      .join(''),
    registers: SYSTEM_SOURCES.map(systemRegister),
    inBlock: true,
  },
  { name: 'org.vmxray.vmcs', types: '', registers: VMCS_FIELDS.map(vmcsRegister), inBlock: false },
];

/** By the number that gdb gives them: their order in the target description. */
export const GDB_REGISTERS: readonly GdbRegister[] = FEATURES.flatMap(({ registers }) => registers);
/** The first so many come with the 'g' packet. */
export const BLOCK_LENGTH = FEATURES.filter(({ inBlock }) => inBlock).flatMap(({ registers }) => registers).length;

/** target.xml. */
export function targetDescription(): string {
  const features = FEATURES.map(({ name, types, registers }) => {
    const rows = registers.map((register) => {
      const group = register.group === undefined ? '' : ` group="${register.group}"`;
      return `<reg name="${register.name}" bitsize="${register.bits}" type="${register.type}"${group}/>\n`;
    });
    return `<feature name="${name}">${types}\n${rows.join('')}</feature>\n`;
  });
  return (
    '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n' +
    `<target version="1.0"><architecture>i386:x86-64</architecture>\n${features.join('')}</target>\n`
  );
}
