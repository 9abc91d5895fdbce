/** VM entry with random VMCS contents: it succeeds, or it fails and names a check; the simulator survives either. */

import assert from 'node:assert/strict';
import { generator } from '../mmu/test-tables.ts';
import { STATE_END, STATE_START } from '../state/layout.ts';
import { ENTRY_CHECKS } from './entry-checks.ts';
import { ENCODING, type FieldName, VMCS_FIELDS } from './fields.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';

const SEED = 20_261_122;
const CASES = 1500;
const WRITABLE = VMCS_FIELDS.filter(({ area }) => area !== 'readOnly');
const CHECK_IDS: ReadonlySet<string> = new Set(ENTRY_CHECKS.map(({ id }) => id));

/** Random bits, extremes, the old value with some bits turned, or an address of the small memory. */
function randomValue(random: (limit: number) => number, bytes: number, old: bigint): bigint {
  const word = (): bigint =>
    (BigInt(random(2 ** 31)) << 33n) ^ (BigInt(random(2 ** 31)) << 11n) ^ BigInt(random(2 ** 31));
  const kinds: readonly (() => bigint)[] = [
    word,
    () => 0n,
    () => (1n << 64n) - 1n,
    () => old ^ (1n << BigInt(random(8 * bytes))),
    () => old ^ (1n << BigInt(random(8 * bytes))) ^ (1n << BigInt(random(8 * bytes))),
    () => BigInt(random(64) * 4096),
    () => BigInt(random(16)),
  ];
  return BigInt.asUintN(8 * bytes, (kinds[random(kinds.length)] ?? word)());
}

interface Outcome {
  readonly what: 'entered' | 'failed' | 'invalid';
  readonly check: string | undefined;
}

/** A processor in front of VMLAUNCH, to be put back there. */
function prepared(): { readonly processor: TestProcessor; readonly reset: () => void } {
  const processor = new TestProcessor();
  processor.prepare();
  const { state, physical, vmx, mmu, failures, exits } = processor;
  const registers = state.bytes.slice(STATE_START, STATE_END);
  const memory = physical.peek(0, state.ramSize);
  const history = vmx.snapshot();
  const reset = (): void => {
    state.bytes.set(registers, STATE_START);
    physical.poke(0, memory);
    vmx.restore(history);
    vmx.stateReplaced();
    mmu.tlb.invalidateAll();
    mmu.forgetFastTranslations();
    failures.length = 0;
    exits.length = 0;
  };
  return { processor, reset };
}

/** Some fields of a VMCS that would enter are changed; all of them once in a while. */
function attempt(processor: TestProcessor, random: (limit: number) => number): Outcome {
  const changes = random(10) === 0 ? WRITABLE.length : 1 + random(4);
  for (let i = 0; i < changes; i++) {
    const field = WRITABLE[changes === WRITABLE.length ? i : random(WRITABLE.length)];
    if (!field) throw new RangeError('no field');
    const old = processor.field(field.name as FieldName);
    processor.vmx.write(ENCODING[field.name], randomValue(random, field.bytes, old));
  }
  for (let i = 0; i < 16; i++) processor.physical.write(AT.msrList + 4 * i, 4, random(2 ** 31));
  const foretold = processor.vmx.checkEntry();
  processor.execute(CODE.vmlaunch);
  const failure = processor.failures[0];
  if (processor.state.get32('nonRoot') !== 0) {
    assert.equal(foretold, undefined);
    // Events that are due, then a way out.
    processor.boundary();
    if (processor.state.get32('nonRoot') !== 0) processor.execute(CODE.cpuid);
    return { what: 'entered', check: undefined };
  }
  // An entry can end in the guest and leave it at once, by an event that it injects.
  if (!failure && processor.exits.length > 0) return { what: 'entered', check: undefined };
  const [check] = failure?.checks ?? [];
  if (foretold) assert.equal(check?.id, foretold.checks[0]?.id);
  return { what: failure ? 'failed' : 'invalid', check: check?.id };
}

describe('VM entry with random VMCS contents', () => {
  it(`succeeds or names a check (seed ${SEED})`, () => {
    const random = generator(SEED);
    const named = new Set<string>();
    const { processor, reset } = prepared();
    let entered = 0;
    for (let i = 0; i < CASES; i++) {
      reset();
      const { what, check } = attempt(processor, random);
      if (what === 'entered') {
        entered++;
        continue;
      }
      assert.equal(what, 'failed', `seed ${SEED} case ${i}`);
      assert.ok(check !== undefined, `seed ${SEED} case ${i}: no check is named`);
      named.add(check);
    }
    const ofTable = [...named].filter((id) => CHECK_IDS.has(id));
    assert.ok(entered > CASES / 20 && ofTable.length > 60, `${entered} entered, ${ofTable.length} checks met`);
  });
});
