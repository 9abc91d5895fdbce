/** Which VMCS field holds a register of a world while that world does not run. */

import { ENCODING, type FieldName } from '../vmx/fields.ts';
import type { World } from './api.ts';
import { MACHINE_REGISTERS } from './registers.ts';

/** GUEST_CS_SELECTOR holds `cs`, HOST_FS_BASE holds `fs.base`, …: derived from the names where they agree. */
function fieldsOf(prefix: 'GUEST' | 'HOST'): ReadonlyMap<string, FieldName> {
  const spellings: Readonly<Record<string, string>> = {
    rip: 'RIP',
    rsp: 'RSP',
    rflags: 'RFLAGS',
    efer: 'IA32_EFER',
    xcr0: '',
  };
  const map = new Map<string, FieldName>();
  for (const { name, partOf } of MACHINE_REGISTERS) {
    if (partOf !== undefined) continue;
    const [segment, piece] = name.split('.');
    const segmentField =
      piece === undefined ? `${name}_SELECTOR` : `${segment}_${piece === 'rights' ? 'access_rights' : piece}`;
    const candidates = [spellings[name] ?? name, segmentField].map((stem) => `${prefix}_${stem.toUpperCase()}`);
    const found = candidates.find((candidate) => candidate in ENCODING);
    if (found !== undefined) map.set(name, found as FieldName);
  }
  return map;
}

const FIELDS: Readonly<Record<World, ReadonlyMap<string, FieldName>>> = {
  guest: fieldsOf('GUEST'),
  vmm: fieldsOf('HOST'),
};

/** @param register by debugger name, a whole one; undefined: no field holds it */
export const fieldOfRegister = (world: World, register: string): FieldName | undefined => FIELDS[world].get(register);
