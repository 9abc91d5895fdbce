/** A VMCS field's value for people: named bits from the field and control tables. */

import { cite } from '../sdm.ts';
import { type BitField, type DecodedBits, decodeBits, describeBits } from './bits.ts';
import { controlField, controlLayout } from './controls.ts';
import { type FieldName, fieldOf, type VmcsField } from './fields.ts';

/** The named bits of a field; empty for a plain number. */
export const layoutOf = (name: FieldName): readonly BitField[] => controlLayout(name) ?? fieldOf(name).layout;

export const decodeField = (name: FieldName, value: bigint): DecodedBits[] => decodeBits(layoutOf(name), value);

/** One line of words; empty when nothing is named. */
export const describeField = (name: FieldName, value: bigint): string => describeBits(layoutOf(name), value);

/** What a control does; undefined for other bits. */
export const controlDocumentation = (field: FieldName, title: string): string | undefined =>
  controlField(field)?.bits.find((control) => control.title === title)?.documentation;

/** A control's state with its place: '“HLT exiting” (bit 7 of PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) is 1'. */
export function controlState(field: FieldName, mask: number, state: 0 | 1): string {
  const bit = 31 - Math.clz32(mask);
  const title = controlField(field)?.bits.find((control) => control.bit === bit)?.title ?? `bit ${bit}`;
  return `“${title}” (bit ${bit} of ${field}) is ${state}`;
}

/** A few lines for hovers: encoding, width, group, what it is, where the manual describes it. */
export function documentField(field: VmcsField): string {
  const width = field.width === 'natural' ? 'natural width' : `${field.width} bits`;
  const encoding = `0x${field.encoding.toString(16).padStart(4, '0').toUpperCase()}`;
  const access = field.area === 'readOnly' ? ', read-only' : '';
  return `${field.name} (${encoding}, ${width}${access})\n${field.documentation}\n${cite(field.sdm)}`;
}
