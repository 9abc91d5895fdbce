import assert from 'node:assert/strict';
import { readRflags, writeRflags } from '../cpu/rflags.ts';
import type { MemoryFault } from '../mmu/fault.ts';
import { ACTIVITY } from '../state/layout.ts';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { EXIT } from './exit-reasons.ts';
import { AT, TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

const VM_EXIT = { kind: 'vmExit' };
const base = vmcsWith({});
/** Virtual-APIC page, APIC-access page and posted-interrupt descriptor. */
const VIRTUAL = 0x1_2000;
const ACCESS = 0x1_4000;
const DESCRIPTOR = 0x1_6040;

/** A guest with a TPR shadow and more secondary controls. */
const controls = (more: number, pin = 0): FieldChanges => ({
  PIN_BASED_VM_EXECUTION_CONTROLS: base.PIN_BASED_VM_EXECUTION_CONTROLS | pin,
  PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS:
    (base.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS | PRIMARY.USE_TPR_SHADOW) >>> 0,
  SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: base.SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS | more,
  VIRTUAL_APIC_ADDRESS: BigInt(VIRTUAL),
  APIC_ACCESS_ADDRESS: BigInt(ACCESS),
});

function guest(changes: FieldChanges, task = 0): TestProcessor {
  const processor = new TestProcessor();
  processor.physical.write(VIRTUAL + 0x80, 4, task);
  processor.enter(changes);
  return processor;
}

const isFault = (value: bigint | MemoryFault): value is MemoryFault => typeof value === 'object';
const DELIVERY = SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;
const withDelivery = (more = 0, changes: FieldChanges = {}): FieldChanges => ({
  ...controls(DELIVERY | more, PIN.EXTERNAL_INTERRUPT_EXITING),
  ...changes,
});
/** mov cr8, rax; mov rax, cr8 */
const MOV_TO_CR8 = [0x44, 0x0f, 0x22, 0xc0];
const MOV_FROM_CR8 = [0x44, 0x0f, 0x20, 0xc0];
const RDMSR = [0x0f, 0x32];
const WRMSR = [0x0f, 0x30];

describe('TPR shadow', () => {
  it('gives CR8 bits 7:4 of the virtual task priority', () => {
    const processor = guest(controls(0), 0x53);
    processor.execute(MOV_FROM_CR8);
    assert.equal(processor.gpr('rax'), 5n);
    processor.setGpr('rax', 0xcn);
    processor.execute(MOV_TO_CR8);
    assert.equal(processor.physical.read(VIRTUAL + 0x80, 4), 0xc0);
    assert.equal(processor.boundary(), undefined);
  });

  it('exits after the instruction that takes the priority below the threshold', () => {
    const processor = guest({ ...controls(0), TPR_THRESHOLD: 5 }, 0x50);
    processor.setGpr('rax', 4n);
    assert.equal(processor.execute(MOV_TO_CR8), 'done');
    assert.deepEqual(processor.boundary(), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 43n);
    assert.equal(processor.field('GUEST_RIP'), 0x20_0004n, 'trap-like');
    assert.match(processor.exits[0]?.cause ?? '', /priority 4 is below TPR_THRESHOLD, 5/);
  });

  it('exits right after a VM entry with APIC accesses virtualized and a priority below the threshold', () => {
    const processor = guest({ ...controls(SECONDARY.VIRTUALIZE_APIC_ACCESSES), TPR_THRESHOLD: 1 });
    assert.deepEqual(processor.boundary(), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 43n);
    assert.equal(processor.field('GUEST_RIP'), 0x20_0000n);
  });
});

describe('Accesses to the APIC-access page', () => {
  const virtualized = controls(SECONDARY.VIRTUALIZE_APIC_ACCESSES);

  it('read the virtual task priority, and exit for any other register', () => {
    const processor = guest(virtualized, 0x77);
    assert.equal(processor.mmu.read(BigInt(ACCESS + 0x80), 4), 0x77n);
    const other = processor.mmu.read(BigInt(ACCESS + 0x20), 4);
    assert.ok(isFault(other));
    assert.deepEqual(processor.fault(other, 3), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 44n);
    assert.equal(processor.field('EXIT_QUALIFICATION'), 0x0020n);
    assert.equal(processor.field('GUEST_LINEAR_ADDRESS'), BigInt(ACCESS + 0x20));
  });

  it('tell writes and fetches apart in the qualification', () => {
    for (const [type, access] of [
      [1n, (p: TestProcessor) => p.mmu.write(BigInt(ACCESS + 0x300), 4, 0n)],
      [2n, (p: TestProcessor) => (p.mmu.fetch(BigInt(ACCESS + 0x300)) < 0 ? p.mmu.lastFault() : undefined)],
    ] as const) {
      const processor = guest(virtualized);
      const fault = access(processor);
      assert.ok(fault);
      processor.fault(fault);
      assert.equal(processor.field('EXIT_QUALIFICATION'), 0x300n | (type << 12n));
    }
  });

  it('exit when they are wider than 4 bytes or leave the register’s 4 bytes', () => {
    const processor = guest(virtualized);
    assert.ok(isFault(processor.mmu.read(BigInt(ACCESS + 0x80), 8)));
    assert.ok(isFault(processor.mmu.read(BigInt(ACCESS + 0x82), 4)));
    assert.equal(processor.mmu.read(BigInt(ACCESS + 0x82), 2), 0n);
  });

  it('during event delivery have type 3', () => {
    const processor = guest({ ...virtualized, GUEST_RSP: BigInt(ACCESS + 0x340) });
    const read = processor.mmu.read(BigInt(ACCESS + 0x20), 4, true);
    assert.ok(isFault(read) && read.kind === 'vmExit');
    processor.cpu.intercepts.exitForFault(read, { vector: 0x40, type: 0 });
    assert.equal(processor.field('EXIT_QUALIFICATION'), 0x3020n);
    assert.equal(processor.field('IDT_VECTORING_INFORMATION'), 0x8000_0040n);
  });

  it('reach the registers with “APIC-register virtualization”; writes that need the hypervisor exit after it', () => {
    const both = SECONDARY.VIRTUALIZE_APIC_ACCESSES | SECONDARY.APIC_REGISTER_VIRTUALIZATION;
    const processor = guest(controls(both));
    processor.physical.write(VIRTUAL + 0x200, 4, 0xabcd);
    assert.equal(processor.mmu.read(BigInt(ACCESS + 0x200), 4), 0xabcdn);
    assert.ok(processor.mmu.write(BigInt(ACCESS + 0x200), 4, 0n), 'IRR is read-only');
    assert.equal(processor.mmu.write(BigInt(ACCESS + 0xd0), 4, 0x0100_0000n), undefined);
    assert.deepEqual(processor.boundary(), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 56n);
    assert.equal(processor.field('EXIT_QUALIFICATION'), 0xd0n);
    assert.equal(processor.physical.read(VIRTUAL + 0xd0, 4), 0x0100_0000);
  });
});

describe('x2APIC mode virtualization', () => {
  const mode = SECONDARY.VIRTUALIZE_X2APIC_MODE;
  const bitmaps: FieldChanges = { MSR_BITMAP_ADDRESS: BigInt(AT.bitmaps) };
  const x2apic = (more: number): FieldChanges => {
    const changes = controls(mode | more, more & DELIVERY ? PIN.EXTERNAL_INTERRUPT_EXITING : 0);
    const field = 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
    return { ...changes, ...bitmaps, [field]: (Number(changes[field]) | PRIMARY.USE_MSR_BITMAPS) >>> 0 };
  };
  const rdmsr = (processor: TestProcessor, msr: number): unknown => {
    processor.setGpr('rcx', BigInt(msr));
    return processor.execute(RDMSR);
  };
  const wrmsr = (processor: TestProcessor, msr: number, value: bigint): unknown => {
    processor.setGpr('rcx', BigInt(msr));
    processor.setGpr('rdx', 0n);
    processor.setGpr('rax', value);
    return processor.execute(WRMSR);
  };

  it('reads MSR 808H from the virtual-APIC page, and all with “APIC-register virtualization”', () => {
    const processor = guest(x2apic(0), 0x30);
    assert.equal(rdmsr(processor, 0x808), 'done');
    assert.equal(processor.gpr('rax'), 0x30n);
    const all = guest(x2apic(SECONDARY.APIC_REGISTER_VIRTUALIZATION));
    all.physical.write64(VIRTUAL + 0x3f0, 0x1234_5678_9abc_def0n);
    assert.equal(rdmsr(all, 0x83f), 'done');
    assert.equal(all.gpr('rdx'), 0x1234_5678n);
  });

  it('faults writes with reserved bits', () => {
    const processor = guest(x2apic(DELIVERY));
    assert.notEqual(wrmsr(processor, 0x808, 0x100n), 'done');
  });

  it('turns MSR 83FH into a virtual interrupt, and 80BH into its end', () => {
    const processor = guest(x2apic(DELIVERY));
    assert.equal(wrmsr(processor, 0x83f, 0x61n), 'done');
    processor.boundary();
    assert.equal(processor.field('GUEST_INTERRUPT_STATUS'), 0x61n);
    assert.equal(processor.physical.read(VIRTUAL + 0x230, 4), 2, 'VIRR');
  });
});

describe('Virtual-interrupt delivery', () => {
  /** IDT with a present interrupt gate for every vector: the handler is at 30000H. */
  const withIdt = (processor: TestProcessor): TestProcessor => {
    for (let vector = 0; vector < 256; vector++) {
      processor.physical.write64(AT.idt + 16 * vector, 0x0003_8e00_0008_0000n);
      processor.physical.write64(AT.idt + 16 * vector + 8, 0n);
    }
    processor.physical.write64(AT.gdt + 8, 0x00af_9b00_0000_ffffn);
    return processor;
  };
  const pending = (vector: number, changes: FieldChanges = {}, task = 0): TestProcessor => {
    const processor = withIdt(new TestProcessor());
    processor.physical.write(VIRTUAL + 0x80, 4, task);
    processor.physical.write(VIRTUAL + 0x200 + ((vector >>> 5) << 4), 4, 1 << (vector & 31));
    processor.enter(withDelivery(0, { GUEST_INTERRUPT_STATUS: vector, GUEST_RFLAGS: 0x202n, ...changes }));
    return processor;
  };

  it('delivers what RVI requests and moves it into service', () => {
    const processor = pending(0x61);
    assert.deepEqual(processor.boundary(), { kind: 'delivered' });
    assert.equal(processor.state.get64('rip'), 0x3_0000n);
    assert.equal(processor.field('GUEST_INTERRUPT_STATUS'), 0x6100n, 'SVI');
    assert.equal(processor.physical.read(VIRTUAL + 0x130, 4), 2, 'VISR');
    assert.equal(processor.physical.read(VIRTUAL + 0x230, 4), 0, 'VIRR');
    assert.equal(processor.physical.read(VIRTUAL + 0xa0, 4), 0x60, 'VPPR');
    assert.equal(processor.boundary(), undefined);
  });

  it('waits for the priority, for RFLAGS.IF and for the interrupt window', () => {
    assert.equal(pending(0x61, {}, 0x60).boundary(), undefined, 'same class as the task priority');
    const masked = pending(0x61, { GUEST_RFLAGS: 2n });
    assert.equal(masked.boundary(), undefined);
    writeRflags(masked.state, readRflags(masked.state) | 0x200);
    assert.deepEqual(masked.boundary(), { kind: 'delivered' });
    assert.equal(pending(0x61, { GUEST_INTERRUPTIBILITY_STATE: 1 }).boundary(), undefined, 'STI');
  });

  it('wakes a guest that was entered halted', () => {
    const processor = pending(0x61, { GUEST_ACTIVITY_STATE: ACTIVITY.hlt });
    assert.deepEqual(processor.boundary(), { kind: 'delivered' });
    assert.equal(processor.state.get32('activity'), ACTIVITY.active);
  });

  it('ends the interrupt in service, with a VM exit where the EOI-exit bitmap says so', () => {
    const accesses = SECONDARY.VIRTUALIZE_APIC_ACCESSES;
    const end = (changes: FieldChanges): TestProcessor => {
      const processor = new TestProcessor();
      processor.physical.write(VIRTUAL + 0x130, 4, 2);
      processor.physical.write(VIRTUAL + 0x110, 4, 1);
      processor.enter(withDelivery(accesses, { GUEST_INTERRUPT_STATUS: 0x6100, ...changes }));
      assert.equal(processor.mmu.write(BigInt(ACCESS + 0xb0), 4, 0n), undefined);
      return processor;
    };
    const quiet = end({});
    assert.equal(quiet.boundary(), undefined);
    assert.equal(quiet.field('GUEST_INTERRUPT_STATUS'), 0x2000n, 'the next one in service');
    assert.equal(quiet.physical.read(VIRTUAL + 0xa0, 4), 0x20, 'VPPR');
    const exits = end({ EOI_EXIT_BITMAP_1: 1n << 33n });
    assert.deepEqual(exits.boundary(), VM_EXIT);
    assert.equal(exits.field('EXIT_REASON'), BigInt(EXIT.VIRTUALIZED_EOI));
    assert.equal(exits.field('EXIT_QUALIFICATION'), 0x61n);
  });

  it('sends an interrupt to itself through the ICR; other commands exit', () => {
    const accesses = SECONDARY.VIRTUALIZE_APIC_ACCESSES;
    const send = (command: bigint): TestProcessor => {
      const processor = guest(withDelivery(accesses));
      processor.mmu.write(BigInt(ACCESS + 0x300), 4, command);
      return processor;
    };
    const self = send(0x4_0071n);
    assert.equal(self.boundary(), undefined);
    assert.equal(self.field('GUEST_INTERRUPT_STATUS'), 0x71n);
    for (const command of [0x71n, 0x8_0071n, 0x4_0471n, 0x4_000fn]) {
      const other = send(command);
      assert.deepEqual(other.boundary(), VM_EXIT);
      assert.equal(other.field('EXIT_QUALIFICATION'), 0x300n);
    }
  });

  it('takes posted interrupts without a VM exit', () => {
    const changes = withDelivery(0, {
      PIN_BASED_VM_EXECUTION_CONTROLS:
        base.PIN_BASED_VM_EXECUTION_CONTROLS | PIN.EXTERNAL_INTERRUPT_EXITING | PIN.PROCESS_POSTED_INTERRUPTS,
      PRIMARY_VM_EXIT_CONTROLS: base.PRIMARY_VM_EXIT_CONTROLS | EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT_ON_EXIT,
      POSTED_INTERRUPT_NOTIFICATION_VECTOR: 0xf2,
      POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: BigInt(DESCRIPTOR),
    });
    const processor = guest(changes);
    processor.physical.write(DESCRIPTOR + 12, 4, 1 << 5);
    processor.physical.write(DESCRIPTOR + 32, 4, 1);
    processor.vector = 0xf2;
    processor.state.set32('interruptRequest', 1);
    processor.boundary();
    assert.equal(processor.exits.length, 0);
    assert.equal(processor.field('GUEST_INTERRUPT_STATUS'), 0x65n);
    assert.equal(processor.physical.read(DESCRIPTOR + 12, 4), 0);
    assert.equal(processor.physical.read(DESCRIPTOR + 32, 4), 0, 'outstanding notification');
    assert.equal(processor.physical.read(VIRTUAL + 0x230, 4), 1 << 5);
    processor.vector = 0x41;
    processor.state.set32('interruptRequest', 1);
    processor.boundary();
    assert.equal(processor.exits[0]?.interruptionInformation, 0x8000_0041);
  });
});

describe('Monitor trap flag', () => {
  const changes: FieldChanges = {
    PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS:
      (base.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS | PRIMARY.MONITOR_TRAP_FLAG) >>> 0,
  };

  it('is pending at once when VM entry injects the event of type 7', () => {
    const processor = new TestProcessor();
    processor.enter({ VM_ENTRY_INTERRUPTION_INFORMATION: 0x8000_0700 });
    assert.deepEqual(processor.boundary(), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 37n);
    assert.equal(processor.field('GUEST_RIP'), 0x20_0000n);
  });

  it('takes effect after the delivery of an event, and before pending debug exceptions, which it saves', () => {
    const processor = new TestProcessor();
    processor.enter(changes);
    assert.equal(processor.boundary(), undefined, 'no instruction has run yet');
    processor.state.set32('monitorTrap', 2);
    processor.state.set64('pendingDebug', 0x4000n);
    assert.deepEqual(processor.boundary(), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 37n);
    assert.equal(processor.field('GUEST_PENDING_DEBUG_EXCEPTIONS'), 0x4000n);
    assert.equal(processor.state.get32('monitorTrap'), 0);
  });
});
