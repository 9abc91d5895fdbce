import assert from 'node:assert/strict';
import { VMCS_REVISION } from './capabilities.ts';
import type { EntryFacts } from './entry-check.ts';
import { explainCheck, failingChecks } from './entry-checks.ts';
import { entryRemedies } from './explain-entry.ts';
import type { FieldName } from './fields.ts';
import { FACTS as COMMON_FACTS, type FieldChanges, vmcsWith } from './test-vmcs.ts';

/** Every address may be that of a VMCS. */
const FACTS: EntryFacts = { ...COMMON_FACTS, read32: () => VMCS_REVISION };

/** One field broken, and the change that the manual's rule asks for. */
const CASES: readonly (readonly [string, FieldChanges, FieldName, RegExp])[] = [
  // SDM Vol. 3C 27.3.1.4: RFLAGS bit 1 must be 1, bit 15 is reserved.
  ['a reserved bit that must be 1', { GUEST_RFLAGS: 0n }, 'GUEST_RFLAGS', /^set bit 1\b/],
  ['a reserved bit that must be 0', { GUEST_RFLAGS: 0x8002n }, 'GUEST_RFLAGS', /^clear bit 15\b/],
  // 27.2.3: the selectors of CS and TR cannot be 0000H; RPL and TI must be 0.
  ['a null selector', { HOST_TR_SELECTOR: 0 }, 'HOST_TR_SELECTOR', /^set bit 3\b/],
  ['a selector with RPL 3', { HOST_CS_SELECTOR: 0xb }, 'HOST_CS_SELECTOR', /^set HOST_CS_SELECTOR to 0x8\b/],
  // 27.2.2: CR4.VMXE is fixed to 1 in VMX operation.
  ['CR4 without VMXE', { HOST_CR4: 0x20n }, 'HOST_CR4', /^set bit 13 \(VMXE\) of HOST_CR4/],
  // 27.2.2: canonical addresses.
  ['an address that is not canonical', { HOST_GDTR_BASE: 1n << 47n }, 'HOST_GDTR_BASE', /^clear bit 47 of/],
];

describe('what would satisfy a failed VM-entry check', () => {
  for (const [name, changes, field, action] of CASES) {
    it(`${name}: a change of ${field}`, () => {
      const values = vmcsWith(changes);
      const check = failingChecks(values, FACTS).find((candidate) => candidate.fields.includes(field));
      assert.ok(check, 'no check fails');
      const remedies = entryRemedies(explainCheck(check, values, FACTS), FACTS);
      const remedy = remedies.find((candidate) => candidate.field === field);
      assert.ok(remedy, 'no remedy');
      assert.match(remedy.text, action);
      const repaired = { ...values, [field]: typeof values[field] === 'number' ? Number(remedy.value) : remedy.value };
      assert.ok(!failingChecks(repaired, FACTS).includes(check), remedy.text);
    });
  }

  it('says nothing for a failure that no check row stands for', () => {
    const failed = { id: 'entry.msrLoad', explanation: '', section: '', fields: [] };
    assert.deepEqual(entryRemedies(failed, FACTS), []);
  });
});
