import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONTROL_FIELDS } from '../sim-core/vmx/controls.ts';

/** How docs/limits.md names the fields of controls, each at the beginning of an item of its list. */
const HEADINGS = new Map([
  ['SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS', 'Processor-based, secondary'],
  ['PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS', 'Processor-based, primary'],
  ['TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS', 'Processor-based, tertiary'],
  ['PRIMARY_VM_EXIT_CONTROLS', 'VM exit'],
  ['SECONDARY_VM_EXIT_CONTROLS', 'VM exit'],
  ['VM_ENTRY_CONTROLS', 'VM entry'],
  ['PIN_BASED_VM_EXECUTION_CONTROLS', 'Pin-based'],
]);

describe('docs/limits.md', () => {
  const text = readFileSync(join(import.meta.dirname, '../docs/limits.md'), 'utf8');
  const list = text.slice(
    text.indexOf('These controls cannot be turned on'),
    text.indexOf('The format of a VMCS region'),
  );
  const items = list.split(/\n- /).map((item) => item.replace(/\s+/g, ' '));

  it('names the controls that cannot be turned on, and no others', () => {
    for (const { field, bits } of CONTROL_FIELDS) {
      const heading = HEADINGS.get(field) ?? field;
      const item = items.find((candidate) => candidate.startsWith(heading)) ?? '';
      // “Activate …” controls bring fields: “Load IA32_FRED” is a control of two of them.
      const named = bits.filter(({ title }) => new RegExp(`(: |, |them )${literal(title)}(,|\\.|$)`).test(item));
      const absent = bits.filter(({ simulated }) => !simulated);
      assert.deepEqual(
        named.map(({ title }) => title),
        absent.map(({ title }) => title),
        field,
      );
    }
  });
});

const literal = (title: string): string => title.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
