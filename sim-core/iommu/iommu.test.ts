import assert from 'node:assert/strict';
import { describeBits } from '../vmx/bits.ts';
import { FAULT_ROWS } from './fault-reasons.ts';
import { GLOBAL, REGISTERS } from './registers.ts';
import { DEVICE, READ_WRITE, TABLE, TestIommu } from './test-iommu.ts';

const PAGE = 0x20_0000n;
const TRANSLATION = BigInt(GLOBAL.translation);
const part = (value: bigint, high: number, low: number): bigint => BigInt.asUintN(high - low + 1, value >> BigInt(low));

describe('IOMMU registers', () => {
  it('tell what is there: 64 Ki domains, 39 and 48 bits, 2 MiB and 1 GiB pages, 8 fault records', () => {
    const test = new TestIommu();
    const capability = test.read('CAP');
    assert.equal(part(capability, 2, 0), 6n);
    assert.equal(part(capability, 7, 7), 0n, 'no caching mode');
    assert.equal(part(capability, 12, 8), 6n);
    assert.equal(part(capability, 21, 16), 47n);
    assert.equal(part(capability, 33, 24) * 16n, 0x220n);
    assert.equal(part(capability, 37, 34), 3n);
    assert.equal(part(capability, 47, 40), 7n);
    const extended = test.read('ECAP');
    assert.deepEqual(
      [1, 3, 4, 6, 43, 46].map((bit) => part(extended, bit, bit)),
      [1n, 1n, 1n, 1n, 1n, 1n],
    );
    assert.deepEqual(
      [2, 29, 40, 47].map((bit) => part(extended, bit, bit)),
      [0n, 0n, 0n, 0n],
      'DT, PRS, PASID, FSTS',
    );
    assert.equal(part(extended, 17, 8) * 16n, 0xf0n);
  });

  it('have no two at the same offset', () => {
    const words = Object.values(REGISTERS).flatMap(({ offset, size }) =>
      size === 8 ? [offset, offset + 4] : [offset],
    );
    assert.equal(new Set(words).size, words.length);
  });

  it('keep what is for reading, and take whole words only', () => {
    const test = new TestIommu();
    const before = test.read('CAP');
    test.write('CAP', 0n);
    assert.equal(test.read('CAP'), before);
    test.iommu.write(REGISTERS.FEDATA.offset, 1, 0x55);
    assert.equal(test.read('FEDATA'), 0n);
    assert.equal(test.iommu.read(REGISTERS.CAP.offset + 3, 1), 0x22);
  });

  it('show in GSTS what GCMD asked for', () => {
    const test = new TestIommu();
    test.write('GCMD', 0x4000_0000n);
    assert.equal(test.read('GSTS'), 0x4000_0000n);
    test.write('GCMD', 0x8000_0000n);
    assert.equal(test.read('GSTS'), 0xc000_0000n);
    test.write('GCMD', 0n);
    assert.equal(test.read('GSTS'), 0x4000_0000n, 'the root table stays set');
  });

  it('have fault reasons that differ', () => {
    const codes = FAULT_ROWS.map(([, code]) => code);
    assert.equal(new Set(codes).size, codes.length);
  });
});

describe('translation in legacy mode', () => {
  it('leaves addresses alone while it is off', () => {
    assert.equal(new TestIommu().translate(0x1234_5678n), 0x1234_5678n);
  });

  it('maps pages of 4 KiB, 2 MiB and 1 GiB', () => {
    const test = new TestIommu().legacy();
    assert.equal(test.translate(PAGE + 0x123n, true), 0x1_0123n);
    test.put(TABLE.pd, 2, 0x60_0000n | 0x80n | READ_WRITE);
    assert.equal(test.translate(0x41_2345n), 0x61_2345n);
    test.put(TABLE.pdpt, 1, 0x4000_0000n | 0x80n | READ_WRITE);
    assert.equal(test.translate(0x4765_4321n), 0x4765_4321n);
  });

  it('has three levels where the context entry says 39 bits', () => {
    const test = new TestIommu().legacy();
    test.put(TABLE.context, 2 * DEVICE, TABLE.pdpt | 1n);
    test.put(TABLE.context, 2 * DEVICE + 1, (5n << 8n) | 1n);
    assert.equal(test.translate(PAGE), 0x1_0000n);
    assert.equal(test.translate(1n << 39n), undefined);
    assert.equal(test.reason, 0x04);
  });

  it('passes addresses through where the context entry says so', () => {
    const test = new TestIommu().legacy();
    test.put(TABLE.context, 2 * DEVICE, 0b1001n);
    assert.equal(test.translate(0x9_8765n), 0x9_8765n);
  });

  it('refuses with the reason of the specification', () => {
    const cases: readonly (readonly [string, number, (test: TestIommu) => void])[] = [
      ['root entry not present', 0x01, (test) => test.put(TABLE.root, 0, 0n)],
      ['context entry not present', 0x02, (test) => test.put(TABLE.context, 2 * DEVICE, 0n)],
      ['address width of 57 bits', 0x03, (test) => test.put(TABLE.context, 2 * DEVICE + 1, 3n)],
      ['translation with device TLB', 0x03, (test) => test.put(TABLE.context, 2 * DEVICE, TABLE.pml4 | 0b0101n)],
      ['write to a page for reading', 0x05, (test) => test.put(TABLE.pt, 0, 0x1_0001n)],
      ['write below a table for reading', 0x05, (test) => test.put(TABLE.pd, 1, TABLE.pt | 1n)],
      ['second-stage table without memory', 0x07, (test) => test.put(TABLE.pd, 1, 0x7fff_f003n)],
      ['root table without memory', 0x08, (test) => test.write('RTADDR', 0x7fff_f000n)],
      ['context table without memory', 0x09, (test) => test.put(TABLE.root, 0, 0x7fff_f001n)],
      ['reserved bit of the root entry', 0x0a, (test) => test.put(TABLE.root, 1, 1n)],
      ['reserved bit of the context entry', 0x0b, (test) => test.put(TABLE.context, 2 * DEVICE, TABLE.pml4 | 0x11n)],
      ['2-MiB page that is not aligned', 0x0c, (test) => test.put(TABLE.pd, 1, 0x1083n)],
      ['page bit in a PML4 entry', 0x0c, (test) => test.put(TABLE.pml4, 0, TABLE.pdpt | 0x83n)],
      ['address bits beyond memory', 0x0c, (test) => test.put(TABLE.pt, 0, (1n << 51n) | READ_WRITE)],
      ['page in the interrupt address range', 0x0e, (test) => test.put(TABLE.pt, 0, 0xfee0_0003n)],
    ];
    for (const [name, reason, change] of cases) {
      const test = new TestIommu().legacy();
      change(test);
      test.write('GCMD', BigInt(GLOBAL.setRootTable) | TRANSLATION);
      assert.equal(test.translate(PAGE, true), undefined, name);
      assert.equal(test.reason, reason, name);
      assert.equal(part(test.record(0)[1], 39, 32), BigInt(reason), name);
    }
  });

  it('refuses reads of what may only be written', () => {
    const test = new TestIommu().legacy(5n, 0x1_0002n);
    assert.equal(test.translate(PAGE, true), 0x1_0000n);
    assert.equal(test.translate(PAGE), undefined);
    assert.equal(test.reason, 0x06);
  });

  it('refuses reads in the interrupt address range', () => {
    const test = new TestIommu().legacy();
    assert.equal(test.translate(0xfee0_0000n), undefined);
    assert.equal(test.reason, 0x0e);
  });

  it('tells the debugger the way: each entry that was read', () => {
    const test = new TestIommu().legacy(5n, 0n);
    test.translate(PAGE + 8n, true);
    const [fault] = test.faults;
    assert.equal(fault?.requester, DEVICE);
    assert.equal(fault?.address, PAGE + 8n);
    assert.deepEqual(
      fault?.steps.map((step) => step.split(' at ')[0]),
      ['root entry', 'context entry', 'SS-PML4E', 'SS-PDPTE', 'SS-PDE', 'SS-PTE'],
    );
  });
});

describe('fault recording', () => {
  it('keeps page, requester, kind and reason, and raises the fault event once', () => {
    const test = new TestIommu().legacy();
    test.write('FEDATA', 0x44n);
    test.write('FEADDR', 0xfee0_2000n);
    test.write('FECTL', 0n);
    test.translate(0x7000_1234n);
    test.translate(0x7000_2000n, true);
    const [information, upper] = test.record(0);
    assert.equal(information, 0x7000_1000n);
    assert.equal(part(upper, 15, 0), BigInt(DEVICE));
    assert.equal(part(upper, 39, 32), 6n);
    assert.equal(part(upper, 62, 62), 1n, 'a read');
    assert.equal(part(upper, 63, 63), 1n);
    assert.equal(part(test.record(1)[1], 62, 62), 0n, 'a write');
    assert.deepEqual(
      test.messages.map(({ destination, vector }) => [destination, vector]),
      [[2, 0x44]],
    );
    assert.equal(test.read('FSTS'), 2n, 'pending, first in register 0');
  });

  it('leaves the event pending while it is masked', () => {
    const test = new TestIommu().legacy();
    test.translate(0n);
    assert.equal(test.read('FECTL'), 0xc000_0000n);
    test.write('FECTL', 0n);
    assert.equal(test.read('FECTL'), 0n);
    assert.equal(test.messages.length, 1);
  });

  it('overflows when all registers are full, and goes on when they are cleared', () => {
    const test = new TestIommu().legacy();
    for (let i = 0; i < 9; i++) test.translate(BigInt(i) << 32n);
    assert.equal(test.read('FSTS') & 3n, 3n);
    for (let i = 0; i < 8; i++) test.clearRecord(i);
    assert.equal(test.read('FSTS') & 3n, 1n);
    test.translate(0n);
    assert.equal(part(test.record(0)[1], 63, 63), 0n, 'nothing is recorded while PFO is set');
    test.write('FSTS', 1n);
    assert.equal(test.read('FSTS') & 3n, 0n);
    test.translate(0n);
    assert.equal(part(test.record(0)[1], 63, 63), 1n);
  });

  it('does not record what FPD disables', () => {
    const test = new TestIommu().legacy();
    test.put(TABLE.context, 2 * DEVICE, TABLE.pml4 | 3n);
    assert.equal(test.translate(0n), undefined);
    assert.equal(test.read('FSTS'), 0n);
    assert.equal(test.faults.length, 1, 'the debugger is told all the same');
  });

  it('survives a storm of faults', () => {
    const test = new TestIommu().legacy();
    for (let i = 0; i < 10_000; i++) assert.equal(test.translate(BigInt(i) << 30n, true), undefined);
    assert.equal(test.read('FSTS') & 1n, 1n);
  });
});

describe('what the IOMMU remembers', () => {
  const remembering = (): TestIommu => {
    const test = new TestIommu().legacy();
    assert.equal(test.translate(PAGE), 0x1_0000n);
    test.put(TABLE.pt, 0, 0x9_0003n);
    assert.equal(test.translate(PAGE), 0x1_0000n, 'stale until it is invalidated');
    return test;
  };
  const iotlb = (test: TestIommu, granularity: bigint, domain: bigint, pages = 0n): void => {
    test.write('IVA', pages);
    test.write('IOTLB', (1n << 63n) | (granularity << 60n) | (domain << 32n));
    assert.equal(part(test.read('IOTLB'), 63, 63), 0n);
    assert.equal(part(test.read('IOTLB'), 58, 57), granularity);
  };

  it('goes by global, domain-selective and page-selective invalidation', () => {
    for (const [granularity, domain, pages] of [
      [1n, 0n, 0n],
      [2n, 5n, 0n],
      [3n, 5n, PAGE],
    ] as const) {
      const test = remembering();
      iotlb(test, granularity, domain, pages);
      assert.equal(test.translate(PAGE), 0x9_0000n);
    }
  });

  it('stays when another domain or page is invalidated', () => {
    for (const [granularity, domain, pages] of [
      [2n, 6n, 0n],
      [3n, 6n, PAGE],
      [3n, 5n, PAGE + 0x1000n],
    ] as const) {
      const test = remembering();
      iotlb(test, granularity, domain, pages);
      assert.equal(test.translate(PAGE), 0x1_0000n);
    }
  });

  it('goes by the address mask: 2^AM pages', () => {
    const test = remembering();
    test.put(TABLE.pt, 3, 0xa_0003n);
    test.translate(PAGE + 0x3000n);
    test.put(TABLE.pt, 3, 0xb_0003n);
    iotlb(test, 3n, 5n, PAGE | 2n);
    assert.equal(test.translate(PAGE), 0x9_0000n);
    assert.equal(test.translate(PAGE + 0x3000n), 0xb_0000n);
  });

  it('keeps tables with the invalidation hint, and forgets them without', () => {
    const move = (test: TestIommu, hint: bigint): bigint | undefined => {
      test.put(0x1_1000n, 0, 0xc_0003n);
      test.put(TABLE.pd, 1, 0x1_1003n);
      iotlb(test, 3n, 5n, PAGE | hint);
      return test.translate(PAGE);
    };
    assert.equal(move(remembering(), 1n << 6n), 0x9_0000n, 'the old table, read anew');
    assert.equal(move(remembering(), 0n), 0xc_0000n);
  });

  it('includes context entries', () => {
    const test = remembering();
    test.put(TABLE.context, 2 * DEVICE, 0n);
    iotlb(test, 1n, 0n);
    assert.equal(test.translate(PAGE), 0x9_0000n);
    test.write('CCMD', (1n << 63n) | (3n << 61n) | (BigInt(DEVICE) << 16n) | 6n);
    assert.equal(test.translate(PAGE), 0x9_0000n, 'another domain');
    test.write('CCMD', (1n << 63n) | (3n << 61n) | (BigInt(DEVICE) << 16n) | 5n);
    assert.equal(part(test.read('CCMD'), 60, 59), 3n);
    assert.equal(test.translate(PAGE), undefined);
    assert.equal(test.reason, 2);
  });

  it('includes nothing that faulted: a new mapping needs no invalidation', () => {
    const test = new TestIommu().legacy(5n, 0n);
    assert.equal(test.translate(PAGE), undefined);
    test.put(TABLE.pt, 0, 0x1_0003n);
    assert.equal(test.translate(PAGE), 0x1_0000n);
  });

  it('is shared by the devices of a domain', () => {
    const test = remembering();
    test.put(TABLE.context, 2 * 0x28, TABLE.pml4 | 1n);
    test.put(TABLE.context, 2 * 0x28 + 1, (5n << 8n) | 2n);
    assert.equal(test.iommu.translate(0x28, PAGE, false), 0x1_0000n);
  });
});

describe('queued invalidation', () => {
  const CONTEXT_GLOBAL = [0x11n, 0n] as const;
  const IOTLB_GLOBAL = [0x12n, 0n] as const;

  it('executes descriptors, and a wait descriptor writes its status and interrupts', () => {
    const test = new TestIommu().legacy();
    test.translate(PAGE);
    test.put(TABLE.pt, 0, 0x9_0003n);
    test.write('IEADDR', 0xfee0_1000n);
    test.write('IEDATA', 0x55n);
    test.write('IECTL', 0n);
    test.queue(CONTEXT_GLOBAL, IOTLB_GLOBAL, [(0xcafen << 32n) | 0x35n, 0x1_2340n]);
    assert.equal(test.read('IQH'), 48n);
    assert.equal(test.physical.read(0x1_2340, 4), 0xcafe);
    assert.equal(test.read('ICS'), 1n);
    assert.deepEqual(
      test.messages.map(({ vector }) => vector),
      [0x55],
    );
    assert.equal(test.translate(PAGE), 0x9_0000n);
    test.write('ICS', 1n);
    assert.equal(test.read('ICS'), 0n);
  });

  it('goes around at the end of the queue', () => {
    const test = new TestIommu().legacy();
    for (let i = 0; i < 300; i++) test.queue(IOTLB_GLOBAL);
    assert.equal(test.read('IQH'), BigInt((300 * 16) % 4096));
    assert.equal(test.read('FSTS'), 0n);
  });

  it('stops at garbage with the reason, and goes on when it is repaired and IQE cleared', () => {
    const cases = [
      ['type 0', [0x10n, 0n], 3n],
      ['type 15', [0x1fn, 0n], 3n],
      ['device TLB, which does not exist', [0x3n, 0n], 3n],
      ['reserved bits', [0x12n | (1n << 8n), 0n], 4n],
      ['upper half of a context-cache descriptor', [0x11n, 1n], 4n],
      ['PASID cache in a queue of 128-bit descriptors', [0x37n, 0n], 5n],
    ] as const;
    for (const [name, descriptor, error] of cases) {
      const test = new TestIommu().legacy();
      test.write('FECTL', 0n);
      test.queue(IOTLB_GLOBAL, descriptor, IOTLB_GLOBAL);
      assert.equal(test.read('IQH'), 16n, name);
      assert.equal(test.read('FSTS'), 0x10n, name);
      assert.equal(test.read('IQERCD'), error, name);
      assert.equal(test.messages.length, 1, 'fault event');
      test.put(TABLE.queue, 2, IOTLB_GLOBAL[0]);
      test.put(TABLE.queue, 3, 0n);
      test.write('FSTS', 0x10n);
      assert.equal(test.read('IQH'), 48n, name);
    }
  });

  it('stops at a tail beyond the queue or inside a descriptor, and where there is no memory', () => {
    const beyond = new TestIommu().legacy();
    beyond.queue();
    beyond.write('IQT', 0x2000n);
    assert.equal(beyond.read('IQERCD'), 1n);
    assert.equal(describeBits(REGISTERS.IQERCD.fields, 1n), 'the tail is beyond the queue');
    const nowhere = new TestIommu().legacy();
    nowhere.write('IQA', 0x7000_0000n);
    nowhere.write('GCMD', BigInt(GLOBAL.queuedInvalidation));
    nowhere.write('IQT', 16n);
    assert.equal(nowhere.read('IQERCD'), 2n);
    const wide = new TestIommu().legacy();
    wide.write('IQA', TABLE.queue | 0x800n);
    wide.write('GCMD', BigInt(GLOBAL.queuedInvalidation));
    wide.write('IQT', 16n);
    assert.equal(wide.read('IQERCD'), 6n);
  });

  it('takes the place of the registers: theirs are not performed', () => {
    const test = new TestIommu().legacy();
    test.queue();
    test.translate(PAGE);
    test.put(TABLE.pt, 0, 0x9_0003n);
    test.write('IOTLB', (1n << 63n) | (1n << 60n));
    assert.equal(part(test.read('IOTLB'), 58, 57), 0n);
    assert.equal(test.translate(PAGE), 0x1_0000n);
  });
});

describe('scalable mode', () => {
  it('goes by PASID directory and table, and keeps accessed and dirty flags', () => {
    const test = new TestIommu().scalable(5n, 1n << 9n);
    assert.equal(test.translate(PAGE), 0x1_0000n);
    assert.equal(test.get(TABLE.pt, 0), 0x1_0103n);
    assert.equal(test.get(TABLE.pml4, 0) & 0x300n, 0x100n);
    assert.equal(test.translate(PAGE, true), 0x1_0000n);
    assert.equal(test.get(TABLE.pt, 0), 0x1_0303n, 'also of a page that is in the IOTLB');
  });

  it('leaves the flags alone otherwise', () => {
    const test = new TestIommu().scalable();
    assert.equal(test.translate(PAGE, true), 0x1_0000n);
    assert.equal(test.get(TABLE.pt, 0), 0x1_0003n);
  });

  it('reads the upper half of the root entry for devices from 16', () => {
    const test = new TestIommu().scalable();
    test.put(TABLE.root, 1, TABLE.context | 1n);
    assert.equal(test.iommu.translate(0x80 | DEVICE, PAGE, false), 0x1_0000n);
  });

  it('refuses with reasons of its own', () => {
    const cases: readonly (readonly [string, number, (test: TestIommu) => void])[] = [
      ['root table without memory', 0x38, (test) => test.write('RTADDR', 0x7fff_f400n)],
      ['table mode that does not exist', 0x30, (test) => test.write('RTADDR', TABLE.root | 0x800n)],
      ['root entry not present', 0x39, (test) => test.put(TABLE.root, 0, 0n)],
      ['context table without memory', 0x40, (test) => test.put(TABLE.root, 0, 0x7fff_f001n)],
      ['context entry not present', 0x41, (test) => test.put(TABLE.context, 4 * DEVICE, 0n)],
      ['PASIDs, which are not there', 0x42, (test) => test.put(TABLE.context, 4 * DEVICE, TABLE.directory | 9n)],
      ['RID_PASID beyond the directory', 0x48, (test) => test.put(TABLE.context, 4 * DEVICE + 1, 0x2000n)],
      ['directory without memory', 0x50, (test) => test.put(TABLE.context, 4 * DEVICE, 0x7fff_f001n)],
      ['directory entry not present', 0x51, (test) => test.put(TABLE.directory, 0, 0n)],
      ['PASID table without memory', 0x58, (test) => test.put(TABLE.directory, 0, 0x7fff_f001n)],
      ['PASID entry not present', 0x59, (test) => test.put(TABLE.pasids, 0, 0n)],
      ['first stage', 0x5b, (test) => test.put(TABLE.pasids, 0, (1n << 6n) | (2n << 2n) | 1n)],
      ['no permission', 0x85, (test) => test.put(TABLE.pt, 0, 0x1_0001n)],
      ['reserved bits', 0x7a, (test) => test.put(TABLE.pt, 0, (1n << 62n) | 0x1_0003n)],
    ];
    for (const [name, reason, change] of cases) {
      const test = new TestIommu().scalable();
      change(test);
      test.write('GCMD', BigInt(GLOBAL.setRootTable) | TRANSLATION);
      assert.equal(test.translate(PAGE, true), undefined, name);
      assert.equal(test.reason, reason, name);
    }
  });
});

describe('interrupt remapping', () => {
  /** Present, fixed, edge, vector 41h, physical destination 3. */
  const ENTRY = (3n << 40n) | (0x41n << 16n) | 1n;
  const request = (index: number): bigint =>
    0xfee0_0010n | (BigInt(index & 0x7fff) << 5n) | (BigInt(index >> 15) << 2n);
  const send = (test: TestIommu, address: bigint, data = 0): boolean => test.iommu.interrupt(DEVICE, address, data);

  it('delivers what the entry says, whatever the message says', () => {
    const test = new TestIommu().interrupts();
    test.put(TABLE.interrupts, 2 * 9, ENTRY | (1n << 4n) | (1n << 5n));
    assert.equal(send(test, request(9), 0xffff), true);
    assert.deepEqual(test.messages, [{ destination: 3, logical: false, deliveryMode: 1, vector: 0x41, level: true }]);
  });

  it('adds the subhandle where it is valid', () => {
    const test = new TestIommu().interrupts();
    test.put(TABLE.interrupts, 2 * 12, ENTRY);
    assert.equal(send(test, request(10) | 8n, 2), true);
    assert.equal(send(test, request(10) | 8n, 0x1_0002), false);
    assert.equal(test.reason, 0x20);
  });

  it('has 32-bit destinations in extended mode', () => {
    const test = new TestIommu().interrupts(0x800n);
    test.put(TABLE.interrupts, 0, (0x1234_5678n << 32n) | (0x41n << 16n) | 1n);
    assert.equal(send(test, request(0)), true);
    assert.equal(test.messages[0]?.destination, 0x1234_5678);
  });

  it('blocks the compatibility format unless CFI lets it through', () => {
    const test = new TestIommu().interrupts();
    assert.equal(send(test, 0xfee0_0000n, 0x33), false);
    assert.equal(test.reason, 0x25);
    test.write('GCMD', BigInt(GLOBAL.interruptRemapping | GLOBAL.compatibilityInterrupts));
    assert.equal(send(test, 0xfee0_0000n, 0x33), true);
    const extended = new TestIommu().interrupts(0x800n);
    extended.write('GCMD', BigInt(GLOBAL.interruptRemapping | GLOBAL.compatibilityInterrupts));
    assert.equal(send(extended, 0xfee0_0000n, 0x33), false, 'never in extended mode');
  });

  it('refuses with the reason of the specification, and records the index', () => {
    const cases: readonly (readonly [string, number, bigint, bigint])[] = [
      ['entry not present', 0x22, 0n, 0n],
      ['reserved bit', 0x24, ENTRY | (1n << 12n), 0n],
      ['destination bits that xAPIC does not have', 0x24, ENTRY | (1n << 33n), 0n],
      ['another requester', 0x26, ENTRY, (1n << 18n) | 0x28n],
      ['another bus', 0x26, ENTRY, (2n << 18n) | 0x0102n],
      ['source validation type 3', 0x24, ENTRY, 3n << 18n],
    ];
    for (const [name, reason, low, high] of cases) {
      const test = new TestIommu().interrupts();
      test.put(TABLE.interrupts, 2 * 7, low);
      test.put(TABLE.interrupts, 2 * 7 + 1, high);
      assert.equal(send(test, request(7)), false, name);
      assert.equal(test.reason, reason, name);
      assert.equal(part(test.record(0)[0], 63, 48), 7n, name);
    }
    const test = new TestIommu().interrupts();
    assert.equal(send(test, request(256)), false, 'beyond the table');
    assert.equal(test.reason, 0x21);
    assert.equal(send(test, request(0x8000)), false);
    test.write('IRTA', 0x7fff_f007n);
    test.write('GCMD', BigInt(GLOBAL.setInterruptTable | GLOBAL.interruptRemapping));
    assert.equal(send(test, request(0)), false);
    assert.equal(test.reason, 0x23);
  });

  it('checks the requester: all bits, or without function bits, or by bus', () => {
    for (const high of [(1n << 18n) | 0x20n, (1n << 18n) | (3n << 16n) | 0x27n, (2n << 18n) | 0x0001n, 0n]) {
      const test = new TestIommu().interrupts();
      test.put(TABLE.interrupts, 0, ENTRY);
      test.put(TABLE.interrupts, 1, high);
      assert.equal(send(test, request(0)), true, high.toString(16));
    }
  });

  it('remembers entries until they are invalidated', () => {
    const test = new TestIommu().interrupts();
    test.put(TABLE.interrupts, 8, ENTRY);
    send(test, request(4));
    test.put(TABLE.interrupts, 8, ENTRY + (1n << 16n));
    send(test, request(4));
    test.queue([(5n << 32n) | 0x14n, 0n]);
    test.write('GCMD', BigInt(GLOBAL.interruptRemapping | GLOBAL.queuedInvalidation));
    send(test, request(4));
    test.queue([(5n << 32n) | (1n << 27n) | 0x14n, 0n]);
    send(test, request(4));
    assert.deepEqual(
      test.messages.map(({ vector }) => vector),
      [0x41, 0x41, 0x41, 0x42],
      'index 5 with mask 1: 4 and 5',
    );
  });

  it('posts: sets the request bit, and notifies once', () => {
    const test = new TestIommu().interrupts();
    const low = (TABLE.posted & 0xffff_ffffn) << 32n;
    test.put(TABLE.interrupts, 0, low | (0x91n << 16n) | (1n << 15n) | 1n);
    // Notification vector F2h to the processor with APIC id 1 (bits 15:8).
    test.put(TABLE.posted, 4, (0x100n << 32n) | (0xf2n << 16n));
    assert.equal(send(test, request(0)), true);
    assert.equal(send(test, request(0)), true);
    assert.equal(test.get(TABLE.posted, 2), 1n << 17n, 'bit 91h');
    assert.equal(test.get(TABLE.posted, 4) & 1n, 1n, 'outstanding');
    assert.deepEqual(
      test.messages.map(({ destination, vector }) => [destination, vector]),
      [[1, 0xf2]],
    );
  });

  it('posts without notification while that is suppressed, but for urgent ones', () => {
    for (const [urgent, count] of [
      [0n, 0],
      [1n << 14n, 1],
    ] as const) {
      const test = new TestIommu().interrupts();
      test.put(TABLE.interrupts, 0, (TABLE.posted << 32n) | (0x91n << 16n) | (1n << 15n) | urgent | 1n);
      test.put(TABLE.posted, 4, (0xf2n << 16n) | 2n);
      assert.equal(send(test, request(0)), true);
      assert.equal(test.messages.length, count);
    }
  });
});

describe('the IOMMU as a whole', () => {
  it('explains a walk without a trace', () => {
    const test = new TestIommu().scalable(5n, 1n << 9n);
    const { physical, domain, steps } = test.iommu.explain(DEVICE, PAGE, true);
    assert.equal(physical, 0x1_0000n);
    assert.equal(domain?.id, 5);
    assert.equal(steps.length, 8);
    assert.equal(test.get(TABLE.pt, 0), 0x1_0003n);
    assert.equal(test.iommu.caches.all.length, 0);
  });

  it('is restored from a snapshot: registers, and what it remembers', () => {
    const test = new TestIommu();
    const initial = structuredClone(test.iommu.snapshot());
    test.legacy();
    test.translate(PAGE);
    const saved = structuredClone(test.iommu.snapshot());
    test.iommu.restore(initial);
    assert.equal(test.translate(PAGE), PAGE);
    test.put(TABLE.pt, 0, 0n);
    test.iommu.restore(saved);
    assert.equal(test.translate(PAGE), 0x1_0000n);
  });
});
