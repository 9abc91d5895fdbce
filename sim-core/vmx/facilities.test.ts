import assert from 'node:assert/strict';
import { MAPPING } from '../mmu/tlb.ts';
import { PAUSE_CYCLES } from '../state/time.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, SECONDARY } from './controls.ts';
import { EXIT } from './exit-reasons.ts';
import { ENCODING, FIELD_OFFSET } from './fields.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

const VM_EXIT = { kind: 'vmExit' };
const base = vmcsWith({});
const secondary = (more: number): FieldChanges => ({
  SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: base.SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS | more,
});
function guest(changes: FieldChanges): TestProcessor {
  const processor = new TestProcessor();
  processor.enter(changes);
  return processor;
}
const bits = (page: number, bit: number): [number, number] => [page + (bit >>> 3), 1 << (bit & 7)];
/** Data of the guest that no test's structure is in. */
const PAGE = 0x1_8000;

describe('VMCS shadowing', () => {
  const READ = 0x1_2000;
  const WRITE = 0x1_3000;
  const shadowing: FieldChanges = {
    ...secondary(SECONDARY.VMCS_SHADOWING),
    VMREAD_BITMAP_ADDRESS: BigInt(READ),
    VMWRITE_BITMAP_ADDRESS: BigInt(WRITE),
    VMCS_LINK_POINTER: BigInt(AT.otherVmcs),
  };
  const shadowed = (): TestProcessor => {
    const processor = new TestProcessor();
    processor.physical.write(AT.otherVmcs, 4, VMCS_REVISION + 2 ** 31);
    processor.enter(shadowing);
    return processor;
  };
  const RIP_AT = AT.otherVmcs + FIELD_OFFSET.GUEST_RIP;

  it('lets the guest read and write the VMCS that the link pointer names', () => {
    const processor = shadowed();
    processor.physical.write64(RIP_AT, 0x1234_5678_9abcn);
    assert.equal(processor.vmread(ENCODING.GUEST_RIP), 0x1234_5678_9abcn);
    assert.equal(processor.vmwrite(ENCODING.GUEST_RIP, 5n), 'ok');
    assert.equal(processor.physical.read64(RIP_AT), 5n);
    assert.equal(processor.field('GUEST_RIP'), 0x20_0000n, 'the current VMCS is another one');
    assert.equal(processor.vmread(0x7ffe), 12);
  });

  it('exits where the bitmaps say so, and for encodings above 7FFFH', () => {
    const reads = shadowed();
    reads.physical.write(bits(READ, ENCODING.GUEST_RIP)[0], 1, bits(READ, ENCODING.GUEST_RIP)[1]);
    reads.vmread(ENCODING.GUEST_RIP);
    assert.equal(reads.field('EXIT_REASON'), 23n);
    assert.match(reads.exits[0]?.cause ?? '', /^bit 26654 of the bitmap at VMREAD_BITMAP_ADDRESS/);
    const writes = shadowed();
    writes.physical.write(bits(WRITE, ENCODING.GUEST_RIP)[0], 1, bits(WRITE, ENCODING.GUEST_RIP)[1]);
    assert.equal(writes.vmread(ENCODING.GUEST_RIP), 0n);
    writes.vmwrite(ENCODING.GUEST_RIP, 0n);
    assert.equal(writes.field('EXIT_REASON'), 25n);
    const beyond = shadowed();
    beyond.vmread(0x8000);
    assert.equal(beyond.field('EXIT_REASON'), 23n);
  });

  it('fails without a link pointer', () => {
    const processor = guest({ ...shadowing, VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn });
    assert.equal(processor.vmread(ENCODING.GUEST_RIP), 'invalid');
  });

  it('makes shadow VMCSs current, which no VM entry can use', () => {
    const processor = new TestProcessor();
    processor.withPointer(CODE.vmxon, AT.vmxon);
    processor.physical.write(AT.otherVmcs, 4, VMCS_REVISION + 2 ** 31);
    processor.withPointer(CODE.vmclear, AT.otherVmcs);
    assert.equal(processor.withPointer(CODE.vmptrld, AT.otherVmcs), 'ok');
    processor.execute(CODE.vmlaunch);
    assert.equal(processor.status(), 'invalid');
  });
});

describe('Page-modification logging', () => {
  const LOG = 0x1_2000;
  const logging = (index: number): FieldChanges => ({
    ...secondary(SECONDARY.ENABLE_PML),
    EPT_POINTER: BigInt(AT.ept) | 0x5en,
    PML_ADDRESS: BigInt(LOG),
    PML_INDEX: index,
  });

  it('logs each page that becomes dirty, counting down', () => {
    const processor = guest(logging(511));
    assert.equal(processor.mmu.write(BigInt(PAGE + 0x123), 4, 1n), undefined);
    const first = Number(processor.field('PML_INDEX'));
    // The guest's paging structures and the page lie in one dirty 1-GiB EPT page: one entry.
    assert.equal(first, 510);
    const [logged] = [processor.physical.read64(LOG + 8 * 511)];
    assert.equal(logged & 0xfffn, 0n);
    assert.equal(processor.physical.read64(AT.eptPdpt) & 0x200n, 0x200n, 'dirty');
    processor.mmu.write(BigInt(PAGE + 0x1000), 4, 1n);
    assert.equal(Number(processor.field('PML_INDEX')), 510, 'dirty already');
  });

  it('exits before the write when the log is full, with the flag still clear', () => {
    const processor = guest(logging(0xffff));
    const fault = processor.mmu.write(BigInt(PAGE), 4, 1n);
    assert.ok(fault);
    assert.deepEqual(processor.fault(fault, 3), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 62n);
    assert.equal(processor.field('GUEST_RFLAGS') & 0x1_0000n, 0x1_0000n, 'RF, as for other faults of an access');
    assert.equal(processor.field('GUEST_RIP'), 0x20_0000n);
    assert.equal(processor.physical.read64(AT.eptPdpt) & 0x200n, 0n);
  });
});

describe('VM functions', () => {
  const LIST = 0x1_2000;
  const switching: FieldChanges = {
    ...secondary(SECONDARY.ENABLE_VM_FUNCTIONS),
    VM_FUNCTION_CONTROLS: 1n,
    EPTP_LIST_ADDRESS: BigInt(LIST),
  };
  const vmfunc = (processor: TestProcessor, leaf: bigint, index: bigint): unknown => {
    processor.setGpr('rax', leaf);
    processor.setGpr('rcx', index);
    return processor.execute(CODE.vmfunc);
  };

  it('are #UD outside the guest and without their control', () => {
    const root = new TestProcessor();
    root.prepare();
    assert.deepEqual(vmfunc(root, 0n, 0n), { kind: 'exception', vector: 6 });
    const off = guest({ EXCEPTION_BITMAP: 1 << 6 });
    assert.deepEqual(vmfunc(off, 0n, 0n), VM_EXIT);
    assert.equal(off.field('VM_EXIT_INTERRUPTION_INFORMATION'), 0x8000_0306n);
  });

  it('switch the EPT pointer at any privilege', () => {
    const processor = guest(switching);
    processor.physical.write64(LIST + 8 * 7, 0x2_201en);
    processor.physical.write64(0x2_2000, BigInt(AT.eptPdpt) | 7n);
    processor.state.set32('cpl', 3);
    assert.equal(vmfunc(processor, 0n, 7n), 'done');
    assert.equal(processor.field('EPT_POINTER'), 0x2_201en);
    assert.equal(processor.field('EPTP_INDEX'), 7n);
    processor.state.set32('cpl', 0);
    processor.mmu.updateContext();
    processor.mmu.read(0x1234n, 4);
    const roots = processor.mmu.tlb.entries().filter(({ kind }) => kind === MAPPING.combined);
    assert.deepEqual([...new Set(roots.map(({ eptRoot }) => eptRoot))], [0x2_2000]);
  });

  it('exit for other functions, entries beyond the list and invalid pointers', () => {
    for (const [leaf, index] of [
      [1n, 0n],
      [64n, 0n],
      [0n, 512n],
      [0n, 3n],
    ] as const) {
      const processor = guest(switching);
      processor.physical.write64(LIST + 8 * 3, 0x2_2007n);
      assert.deepEqual(vmfunc(processor, leaf, index), VM_EXIT);
      assert.equal(processor.field('EXIT_REASON'), 59n);
      assert.equal(processor.field('VM_EXIT_INSTRUCTION_LENGTH'), 3n);
    }
  });
});

describe('EPT-violation #VE', () => {
  const AREA = 0x1_2000;
  const converting: FieldChanges = {
    ...secondary(SECONDARY['EPT_VIOLATION_#VE']),
    VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS: BigInt(AREA),
    EPTP_INDEX: 9,
    // Seen in the exit instead of through the guest's IDT.
    EXCEPTION_BITMAP: 1 << 20,
  };
  /** The second gigabyte is not mapped; `entry` is its EPT entry. */
  const violate = (entry: bigint, busy = 0): TestProcessor => {
    const processor = new TestProcessor();
    processor.physical.write64(AT.pdpt + 8, 0x4000_0083n);
    processor.physical.write64(AT.eptPdpt + 8, entry);
    processor.physical.write(AREA + 4, 4, busy);
    processor.enter(converting);
    const fault = processor.mmu.read(0x4000_0010n, 4);
    assert.ok(typeof fault === 'object');
    assert.deepEqual(processor.fault(fault, 3), VM_EXIT);
    return processor;
  };

  it('fills its area and raises vector 20', () => {
    const processor = violate(0n);
    assert.equal(processor.field('EXIT_REASON'), 0n);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'), 0x8000_0314n);
    assert.equal(processor.physical.read(AREA, 4), 48);
    assert.equal(processor.physical.read(AREA + 4, 4), 0xffff_ffff);
    assert.equal(processor.physical.read64(AREA + 8), 0x181n);
    assert.equal(processor.physical.read64(AREA + 16), 0x4000_0010n);
    assert.equal(processor.physical.read64(AREA + 24), 0x4000_0010n);
    assert.equal(processor.physical.read(AREA + 32, 2), 9);
  });

  it('stays a VM exit while the area is busy and where the entry suppresses it', () => {
    assert.equal(violate(0n, 1).field('EXIT_REASON'), 48n);
    const suppressed = violate(1n << 63n);
    assert.equal(suppressed.field('EXIT_REASON'), 48n);
    assert.equal(suppressed.physical.read(AREA, 4), 0);
  });
});

describe('PAUSE-loop exiting', () => {
  const PAUSE = [0xf3, 0x90];

  it('exits when PAUSEs follow each other within the gap for longer than the window', () => {
    const processor = guest({
      ...secondary(SECONDARY.PAUSE_LOOP_EXITING),
      PLE_GAP: 10 + 2 * PAUSE_CYCLES,
      PLE_WINDOW: 25 + 3 * PAUSE_CYCLES,
    });
    const pause = (after: number): unknown => {
      processor.now += after;
      return processor.execute(PAUSE);
    };
    assert.equal(pause(0), 'done');
    assert.equal(pause(10), 'done');
    assert.equal(pause(11 + PAUSE_CYCLES), 'done', 'a new loop');
    assert.equal(pause(10), 'done');
    assert.equal(pause(10), 'done');
    processor.state.set32('cpl', 3);
    assert.equal(pause(10), 'done', 'only at CPL 0');
    processor.state.set32('cpl', 0);
    assert.deepEqual(pause(0), VM_EXIT, '30 cycles and four PAUSEs since the loop began');
    assert.equal(processor.field('EXIT_REASON'), 40n);
  });
});

describe('IA32_PERF_GLOBAL_CTRL', () => {
  const controls: FieldChanges = {
    VM_ENTRY_CONTROLS: base.VM_ENTRY_CONTROLS | ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    PRIMARY_VM_EXIT_CONTROLS:
      base.PRIMARY_VM_EXIT_CONTROLS | EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL | EXIT_CONTROL.SAVE_IA32_PERF_GLOBAL_CTRL,
    GUEST_IA32_PERF_GLOBAL_CTRL: 0x7_0000_0003n,
    HOST_IA32_PERF_GLOBAL_CTRL: 0x1_0000_000fn,
  };
  const control = (processor: TestProcessor): bigint => processor.state.get64('msrPerfGlobalCtrl');

  it('is loaded by VM entry, saved by VM exit and loaded by VM exit', () => {
    const processor = guest(controls);
    assert.equal(control(processor), 0x7_0000_0003n);
    processor.state.set64('msrPerfGlobalCtrl', 2n);
    processor.execute(CODE.cpuid);
    assert.equal(processor.field('GUEST_IA32_PERF_GLOBAL_CTRL'), 2n);
    assert.equal(control(processor), 0x1_0000_000fn);
  });

  it('is left alone without the controls', () => {
    const processor = guest({ GUEST_IA32_PERF_GLOBAL_CTRL: 1n });
    assert.equal(control(processor), 0xfn, 'SDM Vol. 3B: the general counters are enabled after power-up');
    processor.execute(CODE.cpuid);
    assert.equal(control(processor), 0xfn);
  });
});

describe('NMI unblocking by IRET', () => {
  const IRETQ = [0x48, 0xcf];
  const NMIS = PIN.NMI_EXITING | PIN.VIRTUAL_NMIS;
  const blocked = (pin: number): TestProcessor =>
    guest({
      PIN_BASED_VM_EXECUTION_CONTROLS: base.PIN_BASED_VM_EXECUTION_CONTROLS | pin,
      GUEST_INTERRUPTIBILITY_STATE: 8,
      EXCEPTION_BITMAP: 1 << 13,
      // The frame is all zeros: a null CS.
      GUEST_RSP: BigInt(PAGE),
    });

  it('is reported by the exit for a fault of IRET', () => {
    for (const pin of [0, NMIS]) {
      const processor = blocked(pin);
      assert.deepEqual(processor.execute(IRETQ), VM_EXIT);
      assert.equal(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'), 0x8000_1b0dn);
      assert.equal(processor.field('GUEST_INTERRUPTIBILITY_STATE'), 0n);
    }
  });

  it('does not happen with “NMI exiting” and without virtual NMIs', () => {
    const processor = blocked(PIN.NMI_EXITING);
    processor.execute(IRETQ);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'), 0x8000_0b0dn);
    assert.equal(processor.field('GUEST_INTERRUPTIBILITY_STATE'), 8n);
  });
});

describe('Inactive guests', () => {
  const external: FieldChanges = {
    PIN_BASED_VM_EXECUTION_CONTROLS:
      base.PIN_BASED_VM_EXECUTION_CONTROLS | PIN.EXTERNAL_INTERRUPT_EXITING | PIN.NMI_EXITING,
  };

  it('in shutdown ignore interrupts and take NMIs', () => {
    const processor = guest({ ...external, GUEST_ACTIVITY_STATE: 2 });
    processor.state.set32('interruptRequest', 1);
    assert.equal(processor.boundary(), undefined);
    processor.state.set32('nmiRequest', 1);
    assert.deepEqual(processor.boundary(), VM_EXIT);
    assert.equal(processor.field('GUEST_ACTIVITY_STATE'), 2n);
  });

  it('waiting for a SIPI ignore NMIs, too', () => {
    const processor = guest({ ...external, GUEST_ACTIVITY_STATE: 3 });
    processor.state.set32('interruptRequest', 1);
    processor.state.set32('nmiRequest', 1);
    assert.equal(processor.boundary(), undefined);
  });
});

describe('Instructions that controls enable', () => {
  const UD = 0x8000_0306n;

  it('RDPID, XSAVES, TPAUSE and UMONITOR are #UD in the guest otherwise', () => {
    for (const [code, control] of [
      // rdpid rax; xsaves [rbx]; tpause eax; umonitor rbx
      [[0xf3, 0x0f, 0xc7, 0xf8], SECONDARY.ENABLE_RDTSCP],
      [[0x0f, 0xc7, 0x2b], SECONDARY.ENABLE_XSAVESXRSTORS],
      [[0x66, 0x0f, 0xae, 0xf0], SECONDARY.ENABLE_USER_WAIT_AND_PAUSE],
      [[0xf3, 0x0f, 0xae, 0xf3], SECONDARY.ENABLE_USER_WAIT_AND_PAUSE],
    ] as const) {
      const off = guest({ EXCEPTION_BITMAP: 1 << 6, GUEST_CR4: 0x4_2020n });
      assert.deepEqual(off.execute(code), VM_EXIT);
      assert.equal(off.field('VM_EXIT_INTERRUPTION_INFORMATION'), UD);
      const on = guest({ ...secondary(control), EXCEPTION_BITMAP: 1 << 6, GUEST_CR4: 0x4_2020n });
      assert.equal(on.execute(code), 'done');
    }
  });
});

describe('Sub-page write permissions', () => {
  const SPPT = 0x3_0000;
  const SPP_BIT = 1n << 61n;
  const EPT_PAGE = 0x20_8000;
  const EPT_TABLES = 0x3_8000;

  /** A guest whose page EPT_PAGE is read-only for EPT, with bit 61 set as `spp` says. */
  const withTable = (spp = SPP_BIT, more: FieldChanges = {}): TestProcessor => {
    const processor = new TestProcessor();
    const { physical } = processor;
    // 4-KiB pages for the second 2 MiB: a page directory, then a page table.
    physical.write64(AT.eptPdpt, BigInt(EPT_TABLES) | 7n);
    for (let i = 0; i < 8; i++) physical.write64(EPT_TABLES + 8 * i, (BigInt(i) << 21n) | 0xb7n);
    physical.write64(EPT_TABLES + 8, BigInt(EPT_TABLES + 0x1000) | 7n);
    for (let i = 0; i < 512; i++) {
      physical.write64(EPT_TABLES + 0x1000 + 8 * i, BigInt(0x20_0000 + 4096 * i) | 0x37n);
    }
    physical.write64(EPT_TABLES + 0x1000 + 8 * 8, BigInt(EPT_PAGE - 0x20_0000) | 0x35n | spp);
    // The SPPT's three upper tables for guest-physical address 208000H, then the vector of its page: sub-pages 0 and 2.
    physical.write64(SPPT, BigInt(SPPT + 0x1000) | 1n);
    physical.write64(SPPT + 0x1000, BigInt(SPPT + 0x2000) | 1n);
    physical.write64(SPPT + 0x2000 + 8, BigInt(SPPT + 0x3000) | 1n);
    physical.write64(SPPT + 0x3000 + 8 * 8, 0x11n);
    processor.enter({
      ...secondary(SECONDARY.SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT),
      SUB_PAGE_PERMISSION_TABLE_POINTER: BigInt(SPPT),
      ...more,
    });
    return processor;
  };
  const write = (processor: TestProcessor, offset: number, size = 1) => {
    const fault = processor.mmu.write(BigInt(EPT_PAGE + offset), size, 0x5an);
    if (fault) processor.fault(fault);
    return fault;
  };

  it('let 128 bytes be written whose bit is set, at every write', () => {
    const processor = withTable();
    assert.equal(write(processor, 0), undefined);
    assert.equal(write(processor, 0x17f, 1), undefined);
    assert.equal(processor.physical.read(EPT_PAGE - 0x20_0000 + 0x17f, 1), 0x5a);
    processor.physical.write64(SPPT + 0x3000 + 8 * 8, 0n);
    assert.equal(write(processor, 0)?.kind, 'eptViolation', 'the table is asked each time');
  });

  it('leave an EPT violation elsewhere, and for a write that reaches into a forbidden sub-page', () => {
    for (const [offset, size] of [
      [0x80, 1],
      [0x7c, 8],
    ] as const) {
      const processor = withTable();
      assert.equal(write(processor, offset, size)?.kind, 'eptViolation');
      assert.equal(processor.field('EXIT_REASON'), BigInt(EXIT.EPT_VIOLATION));
      // A data write, readable and executable, of a linear address’s own translation.
      assert.equal(processor.field('EXIT_QUALIFICATION'), 0x1aan);
    }
  });

  it('ask nothing without bit 61 in the EPT entry, or without the control', () => {
    assert.equal(write(withTable(0n), 0)?.kind, 'eptViolation');
    assert.equal(write(withTable(SPP_BIT, secondary(0)), 0)?.kind, 'eptViolation');
  });

  it('exit for a miss and for reserved bits in the table', () => {
    for (const [at, value, qualification] of [
      [SPPT + 0x1000, 0n, 0x800n],
      [SPPT + 0x2000 + 8, BigInt(SPPT + 0x3000) | 3n, 0n],
      [SPPT + 0x3000 + 8 * 8, 0x13n, 0n],
    ] as const) {
      const processor = withTable();
      processor.physical.write64(at, value);
      assert.equal(write(processor, 8)?.kind, 'vmExit');
      assert.equal(processor.field('EXIT_REASON'), BigInt(EXIT.SPP_RELATED_EVENT));
      assert.equal(processor.field('EXIT_QUALIFICATION'), qualification);
      assert.equal(processor.field('GUEST_PHYSICAL_ADDRESS'), BigInt(EPT_PAGE + 8));
      assert.equal(processor.field('GUEST_LINEAR_ADDRESS'), BigInt(EPT_PAGE + 8));
      assert.equal(processor.field('GUEST_RFLAGS') & 0x1_0000n, 0x1_0000n, 'RF, as for other faults of an access');
    }
  });
});
