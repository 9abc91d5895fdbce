import assert from 'node:assert/strict';
import { RequestError } from '../errors.ts';
import { applies, appliesAt, describeWhen, parseWhen, type SymbolContext } from './symbol-context.ts';

const GUEST: SymbolContext = { world: 'guest', vpid: 2, eptp: 0x12_301en, cr3: 0x5000n };
const VMM: SymbolContext = { world: 'vmm', vpid: 0, eptp: 0n, cr3: 0x5000n };

describe('where symbols hold', () => {
  const holds = (when: Parameters<typeof parseWhen>[1]): boolean[] => {
    const parsed = parseWhen('when', when, undefined);
    return [applies(parsed, GUEST), applies(parsed, VMM)];
  };

  it('is everywhere when nothing is said', () => assert.deepEqual(holds(undefined), [true, true]));
  it('is a world', () => {
    assert.deepEqual(holds({ mode: 'guest' }), [true, false]);
    assert.deepEqual(holds({ mode: 'vmm' }), [false, true]);
  });
  it('is a guest, by VPID or EPT pointer', () => {
    assert.deepEqual(holds({ vpid: 2 }), [true, false]);
    assert.deepEqual(holds({ vpid: 1 }), [false, false]);
    assert.deepEqual(holds({ vpid: 0 }), [false, false], 'VPIDs are of guests');
    assert.deepEqual(holds({ eptp: '0x12401e' }), [false, false]);
    assert.deepEqual(holds({ eptp: '0x12300e' }), [true, false], 'the table counts, not memory type and levels');
  });
  it('is an address space, whatever the PCID and bit 63 of CR3 are', () => {
    assert.deepEqual(holds({ cr3: '0x8000000000005123' }), [true, true]);
    assert.deepEqual(holds({ cr3: '0x6000', mode: 'guest' }), [false, false]);
  });
  it('is a range of addresses, without its end', () => {
    const when = parseWhen('when', { from: '0x1000', to: '0x2000' }, undefined);
    assert.deepEqual(
      [0xfffn, 0x1000n, 0x1fffn, 0x2000n].map((address) => appliesAt(when, address)),
      [false, true, true, false],
    );
  });
  it('is told in words', () => {
    assert.equal(describeWhen(parseWhen('when', { vpid: 2, from: '0x1000' }, 'guest')), 'guest, VPID 2, 0x1000–');
    assert.equal(describeWhen({}), 'everywhere');
  });
  it('is refused with what is wrong', () => {
    const problem = (when: object): string => {
      try {
        parseWhen('guests[].when', when, 'guest');
      } catch (error) {
        if (error instanceof RequestError) return error.message;
      }
      return 'none';
    };
    assert.match(problem({ mode: 'host' }), /guests\[\]\.when\.mode.*'host'/);
    assert.match(problem({ vpid: 70_000 }), /vpid.*70000/);
    assert.match(problem({ eptp: 'here' }), /eptp.*'here' is no address/);
  });
});
