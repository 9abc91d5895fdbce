/**
 * VMREAD and VMWRITE of the VMM in 64-bit mode, staged like ordinary instructions over the cached VMCS. Whatever is not
 * the plain case (another mode or privilege, no current VMCS, a field that does not exist or may not be written) is
 * left to the slow instructions, which decide it by the manual.
 */

import { Mnemonic } from 'iced-x86';
import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32, load16, load32, load64 } from '../engine/value.ts';
import { CODE_MODE, countOf, OFFSET, REGION } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { MISC } from './capabilities.ts';
import { fieldExists } from './controls.ts';
import { VMCS_FIELDS } from './fields.ts';

/**
 * Entry of the table encoding → field, 2 bytes each: the field's offset in the cached VMCS (a multiple of 8), bits 2:1
 * the bits that its width leaves out of 64 in units of 16, bit 0 whether VMWRITE may write it. 0: no such field here.
 */
const ENTRY = { writable: 1, missing: 6, offset: 0xff8 } as const;
const ENCODINGS = REGION.vmcsFields.size / 2;
const ZERO = i32(0);

/** Fills the table that the staged instructions look fields up in. */
export function fillFieldTable(state: State): void {
  const { start, size } = REGION.vmcsFields;
  state.u16.fill(0, start >>> 1, (start + size) >>> 1);
  for (const field of VMCS_FIELDS) {
    if (!fieldExists(field.name)) continue;
    const missing = (8 - field.bytes) / 2;
    const writable = field.area === 'readOnly' && !MISC.vmwriteAnyField ? 0 : ENTRY.writable;
    state.u16[(start >>> 1) + field.encoding] = field.offset | (missing << 1) | writable;
  }
}

/** The table entry of an encoding, after everything that makes the access a plain one has been checked. */
function fieldEntry(s: Stage, encoding: I64): I32 {
  const inRoot = load32(ZERO, OFFSET.vmxOn).and(load32(ZERO, OFFSET.nonRoot).or(load32(ZERO, OFFSET.cpl)).eqz());
  const hasVmcs = load64(ZERO, OFFSET.vmcsPointer).ne(-1);
  s.slowIf(inRoot.and(hasVmcs).and(encoding.ltU(ENCODINGS)).eqz());
  const entry = s.code.let(load16(encoding.wrap().shl(1), REGION.vmcsFields.start));
  s.slowIf(entry.eqz());
  return entry;
}

const fieldAddress = (s: Stage, entry: I32): I32 => s.code.let(entry.and(ENTRY.offset).add(OFFSET.vmcs));

/** VMsucceed: all six status flags are cleared. */
const succeed = (s: Stage): void => s.flags.unpack(i32(0));

const vmread: Semantics = (s) => {
  if (s.form.mode !== CODE_MODE.code64) return s.slowIf(i32(1));
  const entry = fieldEntry(s, s.operand(1, 'read').read() as I64);
  s.operand(0, 'write').write(s.code.let(load64(fieldAddress(s, entry))));
  succeed(s);
};

const vmwrite: Semantics = (s) => {
  if (s.form.mode !== CODE_MODE.code64) return s.slowIf(i32(1));
  const value = s.operand(1, 'read').read() as I64;
  const entry = fieldEntry(s, s.operand(0, 'read').read() as I64);
  const count = s.code.let(load32(ZERO, OFFSET.vmcsWriteCount));
  s.slowIf(
    entry
      .and(ENTRY.writable)
      .eqz()
      .or(count.geU(countOf('vmcsWrites'))),
  );
  const at = fieldAddress(s, entry);
  const missing = s.code.let(entry.and(ENTRY.missing).shl(3).extendU());
  const kept = s.code.let(value.shl(missing).shrU(missing));
  s.when(load64(at).ne(kept), () => {
    s.code.store(8, at, kept);
    s.code.store(4, count.shl(2), entry.and(ENTRY.offset), OFFSET.vmcsWrites);
    s.code.store(4, ZERO, count.add(1), OFFSET.vmcsWriteCount);
  });
  succeed(s);
};

export const VMX_SEMANTICS: ReadonlyMap<number, Semantics> = new Map([
  [Mnemonic.Vmread, vmread],
  [Mnemonic.Vmwrite, vmwrite],
]);
