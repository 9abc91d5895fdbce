/** The samples on VMXray print what they print under Bochs, and end as they say. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Machine } from '../../sim-core/machine/api.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { EXIT } from '../../sim-core/vmx/exit-reasons.ts';
import { ENCODING } from '../../sim-core/vmx/fields.ts';
import { SAMPLES, type Sample } from './samples.ts';

const MEMORY = 64 * 2 ** 20;
const INSTRUCTION_LIMIT = 20_000_000;
/** first-vmm's exits by basic exit reason, as its summary under Bochs has them. */
const FIRST_VMM_EXITS = { 10: 2, 12: 1, 28: 2, 30: 285, 31: 3, 32: 1, 48: 4 };

const read = (path: string): Uint8Array => new Uint8Array(readFileSync(path));

function boot(sample: Sample): Machine {
  const machine = createMachine({ memory: MEMORY });
  const modules = sample.modules.map((path) => ({ name: basename(path), bytes: read(path), commandLine: '' }));
  machine.boot({ name: sample.name, image: read(sample.kernel), commandLine: '', modules });
  return machine;
}

describe('samples on the whole machine', () => {
  for (const sample of Object.values(SAMPLES)) {
    it(`${sample.name} prints and ends as under Bochs`, () => {
      const machine = boot(sample);
      let serial = '';
      machine.serial.onOutput = (byte) => {
        serial += String.fromCharCode(byte);
      };
      const stop = machine.run(INSTRUCTION_LIMIT);
      assert.equal(serial, readFileSync(sample.expectedOutput, 'utf8'));
      assert.deepEqual(stop, { kind: 'debugExit', value: sample.exitValue });
    });
  }

  it('first-vmm has the VM exits that its summary says', () => {
    const machine = boot(SAMPLES.firstVmm);
    machine.run(INSTRUCTION_LIMIT);
    assert.deepEqual(Object.fromEntries(machine.vmx.exitCounts), FIRST_VMM_EXITS);
  });

  it('two-guests runs both guests, each under its VPID, by turns that the preemption timer ends', () => {
    const machine = boot(SAMPLES.twoGuests);
    const turns: bigint[] = [];
    machine.onVmEntry = () => {
      const vpid = machine.vmx.read(ENCODING.VIRTUAL_PROCESSOR_ID) ?? 0n;
      if (turns.at(-1) !== vpid) turns.push(vpid);
      return false;
    };
    machine.run(INSTRUCTION_LIMIT);
    assert.deepEqual(turns.slice(0, 4), [1n, 2n, 1n, 2n]);
    assert.equal(machine.vmx.exitCounts.get(EXIT.HLT), 2);
    assert.ok((machine.vmx.exitCounts.get(EXIT.VMX_PREEMPTION_TIMER) ?? 0) > 20);
    assert.equal(machine.vmx.knownVmcses.length, 2);
  });

  it('migration runs its guest on one virtual processor and then on the other, which share no memory', () => {
    const machine = boot(SAMPLES.migration);
    const entries: bigint[] = [];
    machine.onVmEntry = () => {
      const eptPointer = machine.vmx.read(ENCODING.EPT_POINTER) ?? 0n;
      if (entries.at(-1) !== eptPointer) entries.push(eptPointer);
      return false;
    };
    machine.run(INSTRUCTION_LIMIT);
    assert.equal(entries.length, 2);
    // SDM Vol. 3C, "Extended-Page-Table Pointer (EPTP)": bit 6 enables accessed and dirty flags.
    assert.ok(entries.every((eptPointer) => (eptPointer & 0x40n) !== 0n));
  });

  it('broken-entry fails the check on the host TR selector and no other', () => {
    const machine = boot(SAMPLES.brokenEntry);
    machine.onVmEntryFailure = () => true;
    const stop = machine.run(INSTRUCTION_LIMIT);
    assert.ok(stop.kind === 'vmEntryFailure', stop.kind);
    assert.deepEqual(stop.failure.outcome, { vmInstructionError: 8 });
    const fields = stop.failure.checks.map((check) => check.fields);
    assert.deepEqual(fields, [[{ name: 'HOST_TR_SELECTOR', value: 0n }]]);
  });

  it('stale-tlb uses one stale translation: that of its window', () => {
    const machine = boot(SAMPLES.staleTlb);
    const uses: string[] = [];
    machine.onStaleUse = ({ accessed, access, write }) => {
      uses.push(`${access} of 0x${accessed.toString(16)}, by ${write?.by}`);
      return false;
    };
    machine.watchTables(true);
    assert.equal(machine.run(INSTRUCTION_LIMIT).kind, 'debugExit');
    assert.deepEqual(uses, ['read of 0x8000000000, by instruction']);
  });
});
