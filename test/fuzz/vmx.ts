/** Turns VMX on in a machine in 64-bit mode, by instructions as a hypervisor would. */

import { readRflags, writeRflags } from '../../sim-core/cpu/rflags.ts';
import type { Machine } from '../../sim-core/machine/api.ts';
import { CR0, CR4 } from '../../sim-core/state/control-bits.ts';
import { GPR } from '../../sim-core/state/layout.ts';
import { allowedSettings, CR0_FIXED, VMCS_REVISION } from '../../sim-core/vmx/capabilities.ts';
import { ENCODING, type FieldName } from '../../sim-core/vmx/fields.ts';
import { type FieldChanges, VALID_CHANGES } from '../../sim-core/vmx/test-vmcs.ts';
import { AT, CODE_SIZE, DATA_SIZE } from './places.ts';
import type { Random } from './random.ts';

/** VMXON [rbx]; VMCLEAR [rbp]; VMPTRLD [rbp], as nasm encodes it. */
const TURN_ON = [0xf3, 0x0f, 0xc7, 0x33, 0x66, 0x0f, 0xc7, 0x75, 0x00, 0x0f, 0xc7, 0x75, 0x00];
/** MOV RCX, [RSI]; MOV RAX, [RSI+8]; VMWRITE RCX, RAX; ADD RSI, 16; DEC EDI; JNZ to the start. */
const WRITE_FIELDS = [
  0x48, 0x8b, 0x0e, 0x48, 0x8b, 0x46, 0x08, 0x0f, 0x79, 0xc8, 0x48, 0x83, 0xc6, 0x10, 0xff, 0xcf, 0x75, 0xee,
]; // biome-ignore format: bytes
const VMLAUNCH = [0x0f, 0x01, 0xc2];
const CR0_OF_VMX = BigInt(CR0.pe | CR0.et | CR0.ne) | CR0_FIXED.mustBeOne;
const FIXED_FLAG = 2;
const LOCKED_OPEN = 5n;
const ALL_ACCESS_WRITE_BACK = 0xb7n;

/** Fields whose bits are chosen at random among the allowed ones. */
const CONTROLS = [
  'PIN_BASED_VM_EXECUTION_CONTROLS', 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
  'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
] as const satisfies readonly FieldName[]; // biome-ignore format: a list reads better in rows

/** Fields that hold the address of a bitmap or page. */
const PAGES = [
  'IO_BITMAP_A_ADDRESS', 'IO_BITMAP_B_ADDRESS', 'MSR_BITMAP_ADDRESS', 'VIRTUAL_APIC_ADDRESS',
  'VMREAD_BITMAP_ADDRESS', 'VMWRITE_BITMAP_ADDRESS',
] as const satisfies readonly FieldName[]; // biome-ignore format: a list reads better in rows

/** A field's controls of VALID_CHANGES and, with a quarter of the probability each, further ones. */
function someControls(field: (typeof CONTROLS)[number], random: Random): FieldChanges {
  const { mustBeOne, mayBeOne } = allowedSettings(field);
  const more = random.next() & random.next() & mayBeOne;
  return { [field]: (Number(VALID_CHANGES[field]) | mustBeOne | more) >>> 0 };
}

function fieldsOf(random: Random): FieldChanges {
  const inCode = () => BigInt(AT.code + random.below(CODE_SIZE));
  const stack = () => BigInt(AT.data + random.below(DATA_SIZE));
  return {
    ...VALID_CHANGES,
    ...(random.below(2) === 0 ? someControls(random.pick(CONTROLS), random) : {}),
    ...Object.fromEntries(PAGES.map((field) => [field, BigInt(AT.bitmaps)] as const)),
    EXCEPTION_BITMAP: random.below(2) === 0 ? 0 : random.next(),
    EPT_POINTER: BigInt(AT.ept) | 0x1en,
    HOST_CR3: BigInt(AT.tables), HOST_RIP: inCode(), HOST_RSP: stack(),
    HOST_GDTR_BASE: BigInt(AT.gdt), HOST_IDTR_BASE: BigInt(AT.idt), HOST_TR_BASE: BigInt(AT.tss),
    GUEST_CR3: BigInt(AT.tables), GUEST_RIP: inCode(), GUEST_RSP: stack(),
    GUEST_GDTR_BASE: BigInt(AT.gdt), GUEST_GDTR_LIMIT: 0x1ff,
    GUEST_IDTR_BASE: BigInt(AT.idt), GUEST_IDTR_LIMIT: 0xfff, GUEST_TR_BASE: BigInt(AT.tss), GUEST_TR_LIMIT: 0xff,
  }; // biome-ignore format: a table reads better in rows
}

/**
 * Turns VMX on, makes a VMCS current and, with `launch`, enters its guest; RIP is in random code either way.
 * @throws when the instructions that every case has do not do what they should
 */
export function enterVmx(machine: Machine, random: Random, launch: boolean): void {
  const { state, physical } = machine;
  const registers = state.elements('gpr');
  const rip = state.get64('rip');
  const flags = readRflags(state);
  const fields = Object.entries(fieldsOf(random));
  physical.write64(AT.ept, BigInt(AT.ept + 0x1000) | 7n);
  physical.write64(AT.ept + 0x1000, ALL_ACCESS_WRITE_BACK);
  physical.write(AT.vmxon, 4, VMCS_REVISION);
  physical.write(AT.vmcs, 4, VMCS_REVISION);
  fields.forEach(([name, value], i) => {
    physical.write64(AT.fields + 16 * i, BigInt(ENCODING[name as FieldName]));
    physical.write64(AT.fields + 16 * i + 8, BigInt(value));
  });
  physical.write64(AT.data, BigInt(AT.vmxon));
  physical.write64(AT.data + 8, BigInt(AT.vmcs));
  physical.poke(AT.stub, Uint8Array.from([...TURN_ON, ...WRITE_FIELDS, ...(launch ? VMLAUNCH : [])]));
  state.set64('cr0', state.get64('cr0') | CR0_OF_VMX);
  state.set64('cr4', state.get64('cr4') | BigInt(CR4.vmxe));
  state.set64('msrFeatureControl', LOCKED_OPEN);
  state.set64('gpr', BigInt(AT.data), GPR.rbx);
  state.set64('gpr', BigInt(AT.data + 8), GPR.rbp);
  state.set64('gpr', BigInt(AT.fields), GPR.rsi);
  state.set64('gpr', BigInt(fields.length), GPR.rdi);
  state.set64('rip', BigInt(AT.stub));
  // No single steps yet.
  writeRflags(state, FIXED_FLAG);
  machine.run(3 + 6 * fields.length);
  if (state.get64('rip') !== BigInt(AT.stub + TURN_ON.length + WRITE_FIELDS.length)) {
    throw new Error(`VMX is not on: RIP ${state.get64('rip').toString(16)}`);
  }
  if (launch) machine.run(1);
  else state.set64('rip', rip);
  writeRflags(state, flags);
  registers.forEach((value, i) => {
    if (i !== GPR.rsp) state.set64('gpr', value, i);
  });
}
