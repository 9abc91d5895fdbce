/** The current VMCS's fields as properties, read straight from the cached VMCS in linear memory. */

import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type FieldName, VMCS_FIELDS } from './fields.ts';

/** Fields of 16 and 32 bits: their values are Numbers, those of the others BigInts. A test compares with the table. */
export type NumberField = Extract<
  FieldName,
  | `${string}_SELECTOR`
  | `${string}_LIMIT`
  | `${string}_ACCESS_RIGHTS`
  | `${string}_COUNT`
  | `${string}_INFORMATION`
  | `${string}_ERROR_CODE`
  | `${string}_ERROR_CODE_${'MASK' | 'MATCH'}`
  | `${string}_INSTRUCTION_LENGTH`
  | `${string}_SYSENTER_CS`
  | `PLE_${string}`
  | 'VIRTUAL_PROCESSOR_ID'
  | 'POSTED_INTERRUPT_NOTIFICATION_VECTOR'
  | 'EPTP_INDEX'
  | 'HLAT_PREFIX_SIZE'
  | 'LAST_PID_POINTER_INDEX'
  | 'VIRTUAL_TIMER_VECTOR'
  | 'GUEST_INTERRUPT_STATUS'
  | 'PML_INDEX'
  | 'GUEST_UINV'
  | 'PIN_BASED_VM_EXECUTION_CONTROLS'
  | 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS'
  | 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS'
  | 'EXCEPTION_BITMAP'
  | 'PRIMARY_VM_EXIT_CONTROLS'
  | 'VM_ENTRY_CONTROLS'
  | 'TPR_THRESHOLD'
  | 'INSTRUCTION_TIMEOUT_CONTROL'
  | 'VM_INSTRUCTION_ERROR'
  | 'EXIT_REASON'
  | 'GUEST_INTERRUPTIBILITY_STATE'
  | 'GUEST_ACTIVITY_STATE'
  | 'GUEST_SMBASE'
  | 'VMX_PREEMPTION_TIMER_VALUE'
>;

export type FieldValues = { readonly [Name in FieldName]: Name extends NumberField ? number : bigint };

/** Unsigned values; each property reads linear memory when it is used. */
export function vmcsValues(state: State): FieldValues {
  const properties: PropertyDescriptorMap = {};
  for (const field of VMCS_FIELDS) {
    const word = (OFFSET.vmcs + field.offset) >>> 2;
    const long = (OFFSET.vmcs + field.offset) >>> 3;
    const get = field.bytes === 8 ? () => state.u64[long] : () => state.u32[word];
    properties[field.name] = { get, enumerable: true };
  }
  // A prototype's properties are quick to find, a null object's of this size are not.
  return Object.create(Object.create(null, properties)) as FieldValues;
}
