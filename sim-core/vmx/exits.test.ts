import assert from 'node:assert/strict';
import { readRflags, writeRflags } from '../cpu/rflags.ts';
import { ACTIVITY, MONITOR_TRAP, SEGMENT } from '../state/layout.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { EXIT, type ExitName } from './exit-reasons.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

const VM_EXIT = { kind: 'vmExit' };
const base = vmcsWith({});
const PIN_FIELD = 'PIN_BASED_VM_EXECUTION_CONTROLS';
const pin = (more: number): FieldChanges => ({ [PIN_FIELD]: base[PIN_FIELD] | more });
const PRIMARY_FIELD = 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const primary = (more: number): FieldChanges => ({ [PRIMARY_FIELD]: (base[PRIMARY_FIELD] | more) >>> 0 });
const SECONDARY_FIELD = 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const secondary = (more: number): FieldChanges => ({ [SECONDARY_FIELD]: base[SECONDARY_FIELD] | more });
const exitControls = (more: number): FieldChanges => ({
  PRIMARY_VM_EXIT_CONTROLS: base.PRIMARY_VM_EXIT_CONTROLS | more,
});

interface Case {
  readonly what: string;
  readonly code: readonly number[];
  readonly changes?: FieldChanges;
  readonly before?: (processor: TestProcessor) => void;
  readonly reason: ExitName;
  readonly qualification?: bigint;
  readonly information?: number;
  readonly linear?: bigint;
  readonly cause: RegExp;
}

/** Sets bit `bit` of the bitmap page at AT.bitmaps + offset. */
const setBit = (offset: number, bit: number) => (processor: TestProcessor) =>
  processor.physical.write(AT.bitmaps + offset + (bit >>> 3), 1, 1 << (bit & 7));
const withGpr =
  (name: 'rax' | 'rcx' | 'rdx', value: bigint) =>
  (processor: TestProcessor): void =>
    processor.setGpr(name, value);
const both =
  (...all: ((processor: TestProcessor) => void)[]) =>
  (processor: TestProcessor): void => {
    for (const one of all) one(processor);
  };

const IO_BITMAPS: FieldChanges = {
  ...primary(PRIMARY.USE_IO_BITMAPS),
  IO_BITMAP_A_ADDRESS: BigInt(AT.bitmaps),
  IO_BITMAP_B_ADDRESS: BigInt(AT.bitmaps + 0x1000),
};
const MSR_BITMAPS: FieldChanges = { ...primary(PRIMARY.USE_MSR_BITMAPS), MSR_BITMAP_ADDRESS: BigInt(AT.bitmaps) };

const CASES: readonly Case[] = [
  { what: 'CPUID', code: CODE.cpuid, reason: 'CPUID', cause: /always/ },
  { what: 'INVD', code: [0x0f, 0x08], reason: 'INVD', cause: /always/ },
  {
    what: 'HLT',
    code: [0xf4],
    changes: primary(PRIMARY.HLT_EXITING),
    reason: 'HLT',
    cause: /“HLT exiting” \(bit 7 of PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS\) is 1/,
  },
  { what: 'PAUSE', code: [0xf3, 0x90], changes: primary(PRIMARY.PAUSE_EXITING), reason: 'PAUSE', cause: /PAUSE/ },
  { what: 'RDTSC', code: [0x0f, 0x31], changes: primary(PRIMARY.RDTSC_EXITING), reason: 'RDTSC', cause: /RDTSC/ },
  {
    what: 'RDTSCP',
    code: [0x0f, 0x01, 0xf9],
    changes: { ...primary(PRIMARY.RDTSC_EXITING), ...secondary(SECONDARY.ENABLE_RDTSCP) },
    reason: 'RDTSCP',
    cause: /RDTSC exiting/,
  },
  { what: 'RDPMC', code: [0x0f, 0x33], changes: primary(PRIMARY.RDPMC_EXITING), reason: 'RDPMC', cause: /RDPMC/ },
  {
    what: 'WBINVD',
    code: [0x0f, 0x09],
    changes: secondary(SECONDARY.WBINVD_EXITING),
    reason: 'WBINVD',
    cause: /WBINVD/,
  },
  {
    what: 'MONITOR',
    code: [0x0f, 0x01, 0xc8],
    changes: primary(PRIMARY.MONITOR_EXITING),
    before: both(withGpr('rax', 0x8000n), withGpr('rcx', 0n), withGpr('rdx', 0n)),
    reason: 'MONITOR',
    cause: /MONITOR/,
  },
  { what: 'MWAIT', code: [0x0f, 0x01, 0xc9], changes: primary(PRIMARY.MWAIT_EXITING), reason: 'MWAIT', cause: /MWAIT/ },
  {
    what: 'MWAIT after MONITOR',
    code: [0x0f, 0x01, 0xc9],
    changes: primary(PRIMARY.MWAIT_EXITING),
    before: both(withGpr('rax', 0x8000n), withGpr('rcx', 0n), withGpr('rdx', 0n), (processor) => {
      processor.execute([0x0f, 0x01, 0xc8]);
      processor.state.set64('rip', 0x20_0000n);
    }),
    reason: 'MWAIT',
    qualification: 1n,
    cause: /MWAIT/,
  },
  {
    what: 'RDRAND R9D',
    code: [0x41, 0x0f, 0xc7, 0xf1],
    changes: secondary(SECONDARY.RDRAND_EXITING),
    reason: 'RDRAND',
    // Register 9, 32 bits.
    information: (9 << 3) | (1 << 11),
    cause: /RDRAND exiting/,
  },
  {
    what: 'RDSEED RDX',
    code: [0x48, 0x0f, 0xc7, 0xfa],
    changes: secondary(SECONDARY.RDSEED_EXITING),
    reason: 'RDSEED',
    information: (2 << 3) | (2 << 11),
    cause: /RDSEED exiting/,
  },
  {
    what: 'TPAUSE R9D',
    code: [0x66, 0x41, 0x0f, 0xae, 0xf1],
    changes: { ...primary(PRIMARY.RDTSC_EXITING), ...secondary(SECONDARY.ENABLE_USER_WAIT_AND_PAUSE) },
    reason: 'TPAUSE',
    information: (9 << 3) | (1 << 11),
    cause: /RDTSC exiting/,
  },
  {
    what: 'UMWAIT EDX',
    code: [0xf2, 0x0f, 0xae, 0xf2],
    changes: { ...primary(PRIMARY.RDTSC_EXITING), ...secondary(SECONDARY.ENABLE_USER_WAIT_AND_PAUSE) },
    reason: 'UMWAIT',
    information: (2 << 3) | (1 << 11),
    cause: /RDTSC exiting/,
  },
  {
    what: 'INVLPG [rbx]',
    code: [0x0f, 0x01, 0x3b],
    changes: primary(PRIMARY.INVLPG_EXITING),
    reason: 'INVLPG',
    qualification: BigInt(AT.data),
    cause: /INVLPG exiting/,
  },
  {
    what: 'INVPCID rdx, [rbx+8]',
    code: [0x66, 0x0f, 0x38, 0x82, 0x53, 0x08],
    changes: { ...primary(PRIMARY.INVLPG_EXITING), ...secondary(SECONDARY.ENABLE_INVPCID) },
    reason: 'INVPCID',
    qualification: 8n,
    // 64-bit address, DS, no index, base 3, Reg2 RDX.
    information: (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23) | (2 << 28),
    cause: /INVLPG exiting/,
  },
  {
    what: 'MOV CR0, RAX that changes a host-owned bit',
    code: [0x0f, 0x22, 0xc0],
    changes: { CR0_GUEST_HOST_MASK: 0x20n, CR0_READ_SHADOW: 0x20n },
    before: withGpr('rax', 0x8005_0013n),
    reason: 'CR_ACCESS',
    qualification: 0n,
    cause: /CR0_READ_SHADOW 0x\w+ in bits 0x20 \(NE\)/,
  },
  {
    what: 'MOV CR4, RDX that changes a host-owned bit',
    code: [0x0f, 0x22, 0xe2],
    changes: { CR4_GUEST_HOST_MASK: 0x2000n, CR4_READ_SHADOW: 0n },
    before: withGpr('rdx', 0x2020n),
    reason: 'CR_ACCESS',
    qualification: 0x204n,
    cause: /CR4_READ_SHADOW 0x\w+ in bits 0x2000 \(VMXE\)/,
  },
  {
    what: 'MOV CR3, RCX of a value that is no target',
    code: [0x0f, 0x22, 0xd9],
    changes: { ...primary(PRIMARY.CR3_LOAD_EXITING), CR3_TARGET_COUNT: 1, CR3_TARGET_VALUE_0: 0x3000n },
    before: withGpr('rcx', 0x4000n),
    reason: 'CR_ACCESS',
    qualification: 0x103n,
    cause: /“CR3-load exiting” \(bit 15 of PRIMARY.* is none of the \d CR3-target values/,
  },
  {
    what: 'MOV RDX, CR3',
    code: [0x0f, 0x20, 0xda],
    changes: primary(PRIMARY.CR3_STORE_EXITING),
    reason: 'CR_ACCESS',
    qualification: 0x213n,
    cause: /CR3-store exiting/,
  },
  {
    what: 'MOV CR8, RAX',
    code: [0x44, 0x0f, 0x22, 0xc0],
    changes: primary(PRIMARY.CR8_LOAD_EXITING),
    reason: 'CR_ACCESS',
    qualification: 8n,
    cause: /CR8-load exiting/,
  },
  {
    what: 'MOV RAX, CR8',
    code: [0x44, 0x0f, 0x20, 0xc0],
    changes: primary(PRIMARY.CR8_STORE_EXITING),
    reason: 'CR_ACCESS',
    qualification: 0x18n,
    cause: /CR8-store exiting/,
  },
  {
    what: 'CLTS with TS owned and set in the shadow',
    code: [0x0f, 0x06],
    changes: { CR0_GUEST_HOST_MASK: 8n, CR0_READ_SHADOW: 8n },
    reason: 'CR_ACCESS',
    qualification: 0x20n,
    cause: /CR0\.TS/,
  },
  {
    what: 'LMSW CX that changes TS',
    code: [0x0f, 0x01, 0xf1],
    changes: { CR0_GUEST_HOST_MASK: 8n, CR0_READ_SHADOW: 0n },
    before: withGpr('rcx', 9n),
    reason: 'CR_ACCESS',
    qualification: 0x9_0030n,
    cause: /bits 0x8 \(TS\) that CR0_GUEST_HOST_MASK/,
  },
  {
    what: 'MOV DR7, RAX',
    code: [0x0f, 0x23, 0xf8],
    changes: primary(PRIMARY.MOV_DR_EXITING),
    reason: 'MOV_DR',
    qualification: 7n,
    cause: /MOV-DR exiting/,
  },
  {
    what: 'MOV RCX, DR0',
    code: [0x0f, 0x21, 0xc1],
    changes: primary(PRIMARY.MOV_DR_EXITING),
    reason: 'MOV_DR',
    qualification: 0x110n,
    cause: /MOV-DR exiting/,
  },
  {
    what: 'OUT 0x80, AL unconditionally',
    code: [0xe6, 0x80],
    changes: primary(PRIMARY.UNCONDITIONAL_IO_EXITING),
    reason: 'IO_INSTRUCTION',
    qualification: 0x80_0040n,
    cause: /“Unconditional I\/O exiting” \(bit 24 of PRIMARY/,
  },
  {
    what: 'IN EAX, DX with a bit of bitmap A set for its last byte',
    code: [0xed],
    changes: IO_BITMAPS,
    before: both(withGpr('rdx', 0x3f8n), setBit(0, 0x3fb)),
    reason: 'IO_INSTRUCTION',
    qualification: 0x3f8_000bn,
    cause: /bit 1019 of the I\/O bitmap A at 0x9000 is 1 \(byte 0x907f, bit 3\)/,
  },
  {
    what: 'OUT DX, AL with a bit of bitmap B set',
    code: [0xee],
    changes: IO_BITMAPS,
    before: both(withGpr('rdx', 0x8001n), setBit(0x1000, 1)),
    reason: 'IO_INSTRUCTION',
    qualification: 0x8001_0000n,
    cause: /I\/O bitmap B/,
  },
  {
    what: 'IN AX, DX that wraps around the port space',
    code: [0x66, 0xed],
    changes: IO_BITMAPS,
    before: withGpr('rdx', 0xffffn),
    reason: 'IO_INSTRUCTION',
    qualification: 0xffff_0009n,
    cause: /wraps/,
  },
  {
    what: 'REP OUTSB',
    code: [0xf3, 0x6e],
    changes: primary(PRIMARY.UNCONDITIONAL_IO_EXITING),
    before: both(withGpr('rdx', 0x10n), withGpr('rcx', 2n), (p) => p.setGpr('rsi', BigInt(AT.data))),
    reason: 'IO_INSTRUCTION',
    qualification: 0x10_0030n,
    // 64-bit address, DS.
    information: (2 << 7) | (3 << 15),
    linear: BigInt(AT.data),
    cause: /“Unconditional I\/O exiting” \(bit 24 of PRIMARY/,
  },
  {
    what: 'RDMSR without bitmaps',
    code: [0x0f, 0x32],
    before: withGpr('rcx', 0x277n),
    reason: 'RDMSR',
    cause: /“Use MSR bitmaps” \(bit 28 of PRIMARY\w+\) is 0/,
  },
  {
    what: 'RDMSR with its low bit set',
    code: [0x0f, 0x32],
    changes: MSR_BITMAPS,
    before: both(withGpr('rcx', 0x277n), setBit(0, 0x277)),
    reason: 'RDMSR',
    cause: /read bitmap for low MSRs/,
  },
  {
    what: 'WRMSR with its high bit set',
    code: [0x0f, 0x30],
    changes: MSR_BITMAPS,
    before: both(withGpr('rcx', 0xc000_0080n), setBit(0xc00, 0x80)),
    reason: 'WRMSR',
    cause: /write bitmap for high MSRs/,
  },
  {
    what: 'RDMSR outside the bitmaps’ ranges',
    code: [0x0f, 0x32],
    changes: MSR_BITMAPS,
    before: withGpr('rcx', 0x4000_0000n),
    reason: 'RDMSR',
    cause: /outside the ranges/,
  },
  {
    what: 'LGDT [rbx]',
    code: [0x0f, 0x01, 0x13],
    changes: secondary(SECONDARY.DESCRIPTOR_TABLE_EXITING),
    reason: 'GDTR_OR_IDTR_ACCESS',
    information: (2 << 7) | (1 << 11) | (3 << 15) | (1 << 22) | (3 << 23) | (2 << 28),
    cause: /“Descriptor-table exiting” \(bit 2 of SECONDARY/,
  },
  {
    what: 'LTR AX',
    code: [0x0f, 0x00, 0xd8],
    changes: secondary(SECONDARY.DESCRIPTOR_TABLE_EXITING),
    reason: 'LDTR_OR_TR_ACCESS',
    information: (1 << 10) | (3 << 28),
    cause: /“Descriptor-table exiting” \(bit 2 of SECONDARY/,
  },
];

describe('VM exits of instructions', () => {
  for (const { what, code, changes, before, reason, qualification, information, linear, cause } of CASES) {
    it(what, () => {
      const processor = new TestProcessor();
      processor.enter(changes);
      before?.(processor);
      assert.deepEqual(processor.execute(code), VM_EXIT);
      assert.equal(processor.field('EXIT_REASON'), BigInt(EXIT[reason]));
      assert.equal(processor.field('EXIT_QUALIFICATION'), qualification ?? 0n);
      if (information !== undefined) {
        assert.equal(processor.field('VM_EXIT_INSTRUCTION_INFORMATION'), BigInt(information >>> 0));
      }
      assert.equal(processor.field('GUEST_LINEAR_ADDRESS'), linear ?? 0n);
      assert.equal(processor.field('VM_EXIT_INSTRUCTION_LENGTH'), BigInt(code.length));
      assert.equal(processor.field('GUEST_RIP'), 0x20_0000n);
      assert.equal(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'), 0n);
      assert.equal(processor.exits.length, 1);
      assert.match(processor.exits[0]?.cause ?? '', cause);
      assert.equal(processor.vmx.exitCounts.get(EXIT[reason]), 1);
    });
  }
});

describe('Instructions that do not exit', () => {
  /** Executes in the guest and expects no VM exit. */
  const stays = (code: readonly number[], changes: FieldChanges, before?: (p: TestProcessor) => void) => {
    const processor = new TestProcessor();
    processor.enter(changes);
    before?.(processor);
    assert.equal(processor.execute(code), 'done');
    assert.equal(processor.exits.length, 0);
    return processor;
  };

  it('MOV to CR3 of a target value', () => {
    const targets: FieldChanges = { CR3_TARGET_COUNT: 2, CR3_TARGET_VALUE_1: BigInt(AT.pml4) };
    stays([0x0f, 0x22, 0xd9], { ...primary(PRIMARY.CR3_LOAD_EXITING), ...targets }, (p) => p.setGpr('rcx', 0x3000n));
  });

  it('MOV to CR4 that matches the shadow: the host’s bits stay as they are', () => {
    const owned: FieldChanges = { CR4_GUEST_HOST_MASK: 0x2000n, CR4_READ_SHADOW: 0n };
    const processor = stays([0x0f, 0x22, 0xe2], owned, (p) => p.setGpr('rdx', 0xa0n));
    assert.equal(processor.state.get64('cr4'), 0x20a0n);
    assert.equal(processor.execute([0x0f, 0x20, 0xe2]), 'done');
    assert.equal(processor.gpr('rdx'), 0xa0n, 'the guest reads its own view');
  });

  it('ports and MSRs whose bitmap bits are 0', () => {
    stays([0xe6, 0x80], IO_BITMAPS);
    stays([0x0f, 0x32], MSR_BITMAPS, (p) => p.setGpr('rcx', 0x277n));
  });

  it('RDTSC sees the TSC offset', () => {
    const offset = { ...primary(PRIMARY.USE_TSC_OFFSETTING), TSC_OFFSET: 0x1_0000_0000n };
    const processor = stays([0x0f, 0x31], offset);
    assert.equal(processor.gpr('rdx'), 1n);
  });

  it('RDTSCP is #UD without “enable RDTSCP”', () => {
    const processor = new TestProcessor();
    processor.enter({ EXCEPTION_BITMAP: 1 << 6 });
    processor.execute([0x0f, 0x01, 0xf9]);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'), 0x8000_0306n);
  });
});

describe('VM exits of events', () => {
  const inGuest = (changes: FieldChanges = {}): TestProcessor => {
    const processor = new TestProcessor();
    processor.enter(changes);
    return processor;
  };
  const info = (processor: TestProcessor): bigint => processor.field('VM_EXIT_INTERRUPTION_INFORMATION');

  it('an exception whose bit is set in the exception bitmap', () => {
    const processor = inGuest({ EXCEPTION_BITMAP: 1 << 13 });
    processor.fault({ kind: 'exception', vector: 13, errorCode: 0x18 });
    assert.equal(processor.field('EXIT_REASON'), 0n);
    assert.equal(info(processor), 0x8000_0b0dn);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_ERROR_CODE'), 0x18n);
    assert.equal(processor.field('GUEST_RFLAGS') & 0x1_0000n, 0x1_0000n, 'RF, as a fault saves it');
    assert.match(processor.exits[0]?.cause ?? '', /bit 13 \(#GP\) of EXCEPTION_BITMAP/);
  });

  it('a software exception reports its instruction’s length', () => {
    const processor = inGuest({ EXCEPTION_BITMAP: 1 << 3 });
    processor.execute([0xcc]);
    assert.equal(info(processor), 0x8000_0603n);
    assert.equal(processor.field('VM_EXIT_INSTRUCTION_LENGTH'), 1n);
    assert.equal(processor.field('GUEST_RIP'), 0x20_0000n);
  });

  it('a debug exception reports DR6 bits and leaves DR6', () => {
    const processor = inGuest({ EXCEPTION_BITMAP: 2 });
    const dr6 = processor.state.get64('dr', 6);
    processor.fault({ kind: 'exception', vector: 1, debugStatus: 0x4000n });
    assert.equal(processor.field('EXIT_QUALIFICATION'), 0x4000n);
    assert.equal(processor.state.get64('dr', 6), dr6);
  });

  it('page faults by bitmap, mask and match', () => {
    const exits = (bitmap: number, mask: number, match: number, errorCode: number): boolean => {
      const processor = new TestProcessor();
      processor.enter({
        EXCEPTION_BITMAP: bitmap,
        PAGE_FAULT_ERROR_CODE_MASK: mask,
        PAGE_FAULT_ERROR_CODE_MATCH: match,
      });
      return processor.vmx.event({ vector: 14, type: 3, errorCode });
    };
    const set = 1 << 14;
    assert.ok(exits(set, 0, 0, 7), 'all');
    assert.ok(!exits(0, 0, 0, 7), 'none');
    assert.ok(exits(set, 2, 2, 2), 'writes');
    assert.ok(!exits(set, 2, 2, 0));
    assert.ok(exits(0, 2, 2, 0), 'with bit 14 clear those that do not match');
    assert.ok(!exits(0, 2, 2, 2));
  });

  it('a page fault reports its address and leaves CR2', () => {
    const processor = inGuest({ EXCEPTION_BITMAP: 1 << 14 });
    processor.state.set64('cr2', 0x77n);
    processor.fault({ kind: 'exception', vector: 14, errorCode: 2, linearAddress: 0x1234n });
    assert.equal(processor.field('EXIT_QUALIFICATION'), 0x1234n);
    assert.equal(processor.state.get64('cr2'), 0x77n);
  });

  it('save RF by what has caused them: 0 for an instruction, 1 for an access, as before for an interrupt', () => {
    const saved = (act: (processor: TestProcessor) => void, changes: FieldChanges = {}): bigint => {
      const processor = inGuest(changes);
      writeRflags(processor.state, 0x1_0002);
      act(processor);
      assert.equal(processor.exits.length, 1);
      return (processor.field('GUEST_RFLAGS') >> 16n) & 1n;
    };
    const accessed = (processor: TestProcessor): void => {
      writeRflags(processor.state, 2);
      processor.fault({ kind: 'vmExit', reason: EXIT.APIC_ACCESS, qualification: 0n, cause: 'the access' }, 3);
    };
    assert.equal(
      saved((processor) => processor.execute(CODE.cpuid)),
      0n,
    );
    assert.equal(saved(accessed), 1n);
    const interrupt = (processor: TestProcessor): void => {
      processor.state.set32('interruptRequest', 1);
      processor.boundary();
    };
    assert.equal(saved(interrupt, pin(PIN.EXTERNAL_INTERRUPT_EXITING)), 1n);
  });

  it('an external interrupt, whatever RFLAGS.IF; acknowledged only on demand', () => {
    const plain = inGuest(pin(PIN.EXTERNAL_INTERRUPT_EXITING));
    plain.state.set32('interruptRequest', 1);
    assert.deepEqual(plain.boundary(), VM_EXIT);
    assert.equal(plain.field('EXIT_REASON'), 1n);
    assert.equal(info(plain), 0n);
    assert.equal(plain.state.get32('interruptRequest'), 1, 'still waiting');
    const acknowledged = inGuest({
      ...pin(PIN.EXTERNAL_INTERRUPT_EXITING),
      ...exitControls(EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT_ON_EXIT),
    });
    acknowledged.state.set32('interruptRequest', 1);
    acknowledged.boundary();
    assert.equal(info(acknowledged), 0x8000_0040n);
    assert.equal(acknowledged.state.get32('interruptRequest'), 0);
  });

  it('an external interrupt wakes a halted guest by a VM exit that saves HLT', () => {
    const processor = inGuest({ ...pin(PIN.EXTERNAL_INTERRUPT_EXITING), GUEST_ACTIVITY_STATE: 1 });
    assert.equal(processor.state.get32('activity'), ACTIVITY.hlt);
    assert.equal(processor.boundary(), undefined);
    processor.state.set32('interruptRequest', 1);
    processor.boundary();
    assert.equal(processor.field('GUEST_ACTIVITY_STATE'), 1n);
    assert.equal(processor.state.get32('activity'), ACTIVITY.active);
  });

  it('an NMI, which is then blocked in the host', () => {
    const processor = inGuest(pin(PIN.NMI_EXITING));
    processor.state.set32('nmiRequest', 1);
    processor.boundary();
    assert.equal(processor.field('EXIT_REASON'), 0n);
    assert.equal(info(processor), 0x8000_0202n);
    assert.equal(processor.state.get32('interruptibility'), 8);
  });

  it('virtual NMIs: physical ones exit although virtual ones are blocked; the window opens when they are not', () => {
    const virtual = pin(PIN.NMI_EXITING | PIN.VIRTUAL_NMIS);
    const blocked = inGuest({ ...virtual, GUEST_INTERRUPTIBILITY_STATE: 8 });
    blocked.state.set32('nmiRequest', 1);
    blocked.boundary();
    assert.equal(info(blocked), 0x8000_0202n);
    assert.equal(blocked.field('GUEST_INTERRUPTIBILITY_STATE'), 8n);
    const window = inGuest({ ...virtual, ...primary(PRIMARY.NMI_WINDOW_EXITING), GUEST_INTERRUPTIBILITY_STATE: 8 });
    assert.equal(window.boundary(), undefined);
    window.state.set32('interruptibility', 0);
    window.boundary();
    assert.equal(window.field('EXIT_REASON'), 8n);
  });

  it('the interrupt window: IF set and no shadow', () => {
    const processor = inGuest({ ...primary(PRIMARY.INTERRUPT_WINDOW_EXITING), GUEST_INTERRUPTIBILITY_STATE: 0 });
    assert.equal(processor.boundary(), undefined, 'IF is 0');
    writeRflags(processor.state, 0x202);
    processor.state.set32('interruptibility', 1);
    assert.equal(processor.boundary(), undefined, 'blocked by STI');
    processor.state.set32('interruptibility', 0);
    assert.deepEqual(processor.boundary(), VM_EXIT);
    assert.equal(processor.field('EXIT_REASON'), 7n);
  });

  it('an NMI comes before the interrupt window and an interrupt, the preemption timer before all', () => {
    const open: FieldChanges = {
      ...pin(PIN.NMI_EXITING | PIN.EXTERNAL_INTERRUPT_EXITING | PIN.ACTIVATE_VMX_PREEMPTION_TIMER),
      ...primary(PRIMARY.INTERRUPT_WINDOW_EXITING),
      GUEST_RFLAGS: 0x202n,
      VMX_PREEMPTION_TIMER_VALUE: 1000,
    };
    const reasons: bigint[] = [];
    const processor = inGuest(open);
    const { state } = processor;
    for (const ready of [
      () => state.set32('interruptRequest', 1),
      () => processor.change(primary(0)),
      () => state.set32('nmiRequest', 1),
      () => {
        processor.now += 2000;
      },
    ]) {
      ready();
      assert.deepEqual(processor.boundary(), VM_EXIT);
      reasons.push(processor.field('EXIT_REASON'));
      processor.change({ VMX_PREEMPTION_TIMER_VALUE: 1000 });
      if (reasons.length === 2) processor.change(primary(PRIMARY.INTERRUPT_WINDOW_EXITING));
      state.set32('interruptibility', 0);
      processor.execute(CODE.vmresume);
      if (reasons.length === 3) state.set32('nmiRequest', 1);
    }
    assert.deepEqual(reasons, [7n, 1n, 0n, 52n]);
  });

  it('pending debug exceptions are saved by VM exits between instructions and while MOV SS holds them back', () => {
    const saved = (reason: 'mtf' | 'ept', interruptibility = 0): bigint => {
      const processor = inGuest(reason === 'mtf' ? primary(PRIMARY.MONITOR_TRAP_FLAG) : {});
      const { state } = processor;
      state.set32('interruptibility', interruptibility);
      state.set64('pendingDebug', 0x1001n);
      if (reason === 'mtf') {
        state.set32('monitorTrap', MONITOR_TRAP.pending);
        processor.boundary();
      } else {
        processor.fault({ kind: 'eptMisconfiguration', guestPhysicalAddress: 0x1000n }, 3);
      }
      assert.equal(state.get64('pendingDebug'), 0n, 'the host has none');
      return processor.field('GUEST_PENDING_DEBUG_EXCEPTIONS');
    };
    assert.equal(saved('mtf'), 0x1001n);
    assert.equal(saved('ept'), 0n, 'the instruction that met the breakpoint is executed again');
    assert.equal(saved('ept', 2), 0x1001n);
  });

  it('the preemption timer, at once with 0; what is left is saved', () => {
    const timer = pin(PIN.ACTIVATE_VMX_PREEMPTION_TIMER);
    const atOnce = inGuest(timer);
    assert.deepEqual(atOnce.boundary(), VM_EXIT);
    assert.equal(atOnce.field('EXIT_REASON'), 52n);
    const later = inGuest({
      ...timer,
      ...exitControls(EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER_VALUE),
      VMX_PREEMPTION_TIMER_VALUE: 5000,
    });
    later.now += 4999;
    assert.equal(later.boundary(), undefined);
    later.now += 1;
    assert.deepEqual(later.boundary(), VM_EXIT);
    assert.equal(later.field('VMX_PREEMPTION_TIMER_VALUE'), 0n);
  });

  it('a triple fault, which counts as no event delivery', () => {
    const processor = inGuest({ GUEST_IDTR_LIMIT: 0 });
    processor.fault({ kind: 'exception', vector: 6 });
    assert.equal(processor.field('EXIT_REASON'), 2n);
    assert.equal(processor.field('IDT_VECTORING_INFORMATION'), 0n);
  });

  it('an exception during delivery reports the first one in the IDT-vectoring information', () => {
    const processor = inGuest({ GUEST_IDTR_LIMIT: 0, EXCEPTION_BITMAP: 1 << 13 });
    processor.fault({ kind: 'exception', vector: 6 });
    assert.equal(info(processor), 0x8000_0b0dn);
    assert.equal(processor.field('IDT_VECTORING_INFORMATION'), 0x8000_0306n);
  });

  it('an exception during delivery exits by its own bit in the bitmap, before it makes a double fault', () => {
    const nested = (first: number, bits: number): readonly [bigint, bigint] => {
      const processor = inGuest({ GUEST_IDTR_LIMIT: 0, EXCEPTION_BITMAP: bits });
      processor.fault({ kind: 'exception', vector: first, errorCode: 0 });
      return [info(processor), processor.field('IDT_VECTORING_INFORMATION')];
    };
    // Bochs asks in the same order (exception.cc), and hypervisors with shadow page tables depend on it: the guest's
    // #PF that they inject may meet an IDT or a stack that is not shadowed yet.
    assert.deepEqual(nested(14, 1 << 13), [0x8000_0b0dn, 0x8000_0b0en]);
    assert.deepEqual(nested(13, 1 << 8), [0x8000_0b08n, 0n]);
    assert.deepEqual(nested(8, 1 << 13), [0x8000_0b0dn, 0x8000_0b08n]);
  });

  it('a double fault that exits directly counts as no event delivery', () => {
    const processor = inGuest({ GUEST_IDTR_LIMIT: 0, EXCEPTION_BITMAP: 1 << 8 });
    processor.fault({ kind: 'exception', vector: 13, errorCode: 0 });
    assert.equal(info(processor), 0x8000_0b08n);
    assert.equal(processor.field('IDT_VECTORING_INFORMATION'), 0n);
  });
});

describe('VM exits of task switches', () => {
  /** A 32-bit guest without paging, and an available TSS behind selector 18H. */
  const UNPAGED: FieldChanges = {
    ...secondary(SECONDARY.UNRESTRICTED_GUEST),
    VM_ENTRY_CONTROLS: base.VM_ENTRY_CONTROLS & ~ENTRY_CONTROL.IA_32E_MODE_GUEST,
    GUEST_IA32_EFER: 0n,
    GUEST_CR0: 0x31n,
    GUEST_CR4: 0x2000n,
    GUEST_CS_ACCESS_RIGHTS: 0xc09b,
  };
  const guest = (changes: FieldChanges = {}): TestProcessor => {
    const processor = new TestProcessor();
    processor.physical.write64(AT.gdt + 0x18, 0x0000_8901_8000_0067n);
    // Task gates for #UD and for interrupt 40H.
    for (const vector of [6, 0x40]) processor.physical.write64(AT.idt + 8 * vector, 0x0000_8500_0018_0000n);
    processor.enter({ ...UNPAGED, ...changes });
    return processor;
  };
  const seen = (processor: TestProcessor) => ({
    reason: processor.field('EXIT_REASON'),
    qualification: processor.field('EXIT_QUALIFICATION'),
    length: processor.field('VM_EXIT_INSTRUCTION_LENGTH'),
    vectoring: processor.field('IDT_VECTORING_INFORMATION'),
    resume: (processor.field('GUEST_RFLAGS') >> 16n) & 1n,
    rip: processor.field('GUEST_RIP'),
  });
  const RIP = 0x20_0000n;
  const gate = { reason: 9n, qualification: 0xc000_0018n, rip: RIP };

  it('by CALL and JMP name the selector and the source', () => {
    const far = (opcode: number[]): TestProcessor => {
      const processor = guest();
      processor.execute(opcode);
      return processor;
    };
    const branch = { reason: 9n, length: 7n, vectoring: 0n, resume: 0n, rip: RIP };
    assert.deepEqual(seen(far([0x9a, 0, 0, 0, 0, 0x18, 0])), { ...branch, qualification: 0x18n });
    assert.deepEqual(seen(far([0xea, 0, 0, 0, 0, 0x18, 0])), { ...branch, qualification: 0x8000_0018n });
  });

  it('by a task gate report the event, and RF as the old task would have saved it', () => {
    const exception = guest();
    exception.execute([0x0f, 0x0b]);
    assert.deepEqual(seen(exception), { ...gate, length: 0n, vectoring: 0x8000_0306n, resume: 1n });
    const interrupt = guest({ GUEST_RFLAGS: 0x202n });
    interrupt.state.set32('interruptRequest', 1);
    interrupt.boundary();
    assert.deepEqual(seen(interrupt), { ...gate, length: 0n, vectoring: 0x8000_0040n, resume: 0n });
    const software = guest();
    software.execute([0xcd, 0x40]);
    assert.deepEqual(seen(software), { ...gate, length: 2n, vectoring: 0x8000_0440n, resume: 0n });
  });

  it('come after the checks of the new task’s descriptor', () => {
    const processor = guest({ EXCEPTION_BITMAP: 1 << 11 });
    // Not present: #NP with the selector.
    processor.physical.write64(AT.gdt + 0x18, 0x0000_0901_8000_0067n);
    processor.execute([0xea, 0, 0, 0, 0, 0x18, 0]);
    assert.equal(processor.field('EXIT_REASON'), 0n);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_ERROR_CODE'), 0x18n);
  });
});

describe('VM exits of EPT', () => {
  it('report violation, guest-physical and linear address', () => {
    const processor = new TestProcessor();
    processor.enter();
    processor.physical.write64(AT.eptPdpt, 0n);
    processor.mmu.tlb.invalidateAll();
    const fault = processor.mmu.read(0x1234n, 4);
    assert.ok(typeof fault === 'object');
    processor.fault(fault, 3);
    assert.equal(processor.field('EXIT_REASON'), 48n);
    assert.equal(processor.field('GUEST_PHYSICAL_ADDRESS'), BigInt(AT.pml4), 'the guest’s tables are out of reach');
    assert.equal(processor.field('GUEST_LINEAR_ADDRESS'), 0x1234n);
    // A read, nothing allowed, linear address valid, while walking.
    assert.equal(processor.field('EXIT_QUALIFICATION'), 0x81n);
    assert.equal(processor.field('VM_EXIT_INSTRUCTION_LENGTH'), 3n);
    assert.equal(processor.field('GUEST_RFLAGS') & 0x1_0000n, 0x1_0000n, 'RF is set for a fault-like access');
  });

  it('report misconfigurations', () => {
    const processor = new TestProcessor();
    processor.enter();
    // Writable but not readable.
    processor.physical.write64(AT.eptPdpt, 0xb2n);
    processor.mmu.tlb.invalidateAll();
    const fault = processor.mmu.read(0x1234n, 4);
    assert.ok(typeof fault === 'object');
    processor.fault(fault);
    assert.equal(processor.field('EXIT_REASON'), 49n);
    assert.equal(processor.field('GUEST_PHYSICAL_ADDRESS'), BigInt(AT.pml4));
  });
});

describe('The host’s state after a VM exit', () => {
  const HOST: FieldChanges = {
    HOST_DS_SELECTOR: 0x10,
    HOST_FS_BASE: 0x1234_5000n,
    HOST_GS_BASE: 0xffff_8000_0000_0000n,
    HOST_TR_BASE: 0x9_0000n,
    HOST_GDTR_BASE: 0xa_0000n,
    HOST_IDTR_BASE: 0xb_0000n,
    HOST_IA32_SYSENTER_CS: 0x30,
    HOST_IA32_SYSENTER_ESP: 0x40n,
  };
  const afterExit = (changes: FieldChanges = {}): TestProcessor => {
    const processor = new TestProcessor();
    processor.enter({ ...HOST, ...changes });
    writeRflags(processor.state, 0xcd7);
    processor.execute(CODE.cpuid);
    return processor;
  };

  it('has flat segments of 64-bit mode, with bases from the VMCS for FS, GS and TR', () => {
    const { state } = afterExit();
    assert.deepEqual(state.segment(SEGMENT.cs), { selector: 8, base: 0n, limit: 0xffff_ffff, rights: 0xa09b });
    assert.deepEqual(state.segment(SEGMENT.ss), { selector: 0x10, base: 0n, limit: 0xffff_ffff, rights: 0xc093 });
    assert.deepEqual(state.segment(SEGMENT.ds), { selector: 0x10, base: 0n, limit: 0xffff_ffff, rights: 0xc093 });
    assert.equal(state.segment(SEGMENT.es).rights, 0x1_0000, 'a null selector makes it unusable');
    assert.equal(state.segment(SEGMENT.fs).base, 0x1234_5000n);
    assert.equal(state.segment(SEGMENT.gs).base, 0xffff_8000_0000_0000n);
    assert.deepEqual(state.segment(SEGMENT.tr), { selector: 0x18, base: 0x9_0000n, limit: 0x67, rights: 0x8b });
    assert.equal(state.segment(SEGMENT.ldtr).rights, 0x1_0000);
  });

  it('has tables, SYSENTER MSRs, DR7, RFLAGS and RIP as the manual says', () => {
    const { state } = afterExit();
    assert.equal(state.get64('gdtrBase'), 0xa_0000n);
    assert.equal(state.get32('gdtrLimit'), 0xffff);
    assert.equal(state.get64('idtrBase'), 0xb_0000n);
    assert.equal(state.get32('idtrLimit'), 0xffff);
    assert.equal(state.get64('msrSysenterCs'), 0x30n);
    assert.equal(state.get64('msrSysenterEsp'), 0x40n);
    assert.equal(state.get64('dr', 7), 0x400n);
    assert.equal(readRflags(state), 2);
    assert.equal(state.get64('rip'), 0x10_0000n);
    assert.equal(state.get32('cpl'), 0);
    assert.equal(state.get32('nonRoot'), 0);
    assert.equal(state.get32('vpid'), 0);
    assert.equal(state.get64('eptp'), 0n);
  });

  it('saves the guest: RIP, RSP, RFLAGS with RF clear, EFER, CR values and LMA', () => {
    const processor = afterExit();
    assert.equal(processor.field('GUEST_RFLAGS'), 0xcd7n);
    assert.equal(processor.field('GUEST_RSP'), 0x7000n);
    assert.equal(processor.field('GUEST_IA32_EFER'), 0x500n);
    assert.equal(processor.field('GUEST_CR3'), BigInt(AT.pml4));
    assert.equal((processor.field('VM_ENTRY_CONTROLS') >> 9n) & 1n, 1n);
  });

  it('goes round: VMRESUME continues the guest where it was', () => {
    const processor = afterExit();
    processor.execute(CODE.vmresume);
    assert.equal(processor.state.get32('nonRoot'), 1);
    assert.equal(processor.state.get64('rip'), 0x20_0000n);
    assert.equal(readRflags(processor.state), 0xcd7);
    assert.equal(processor.vmx.entries, 2);
  });
});

describe('TSC scaling', () => {
  it('multiplies what the guest reads by the 48-bit fraction, then adds the offset', () => {
    const processor = new TestProcessor();
    processor.enter({
      ...primary(PRIMARY.USE_TSC_OFFSETTING),
      ...secondary(SECONDARY.USE_TSC_SCALING),
      TSC_MULTIPLIER: 3n << 47n,
      TSC_OFFSET: 7n,
    });
    processor.now = 1_000_000 - processor.state.getFloat('extraCycles');
    processor.execute([0x0f, 0x31]);
    assert.equal(processor.gpr('rax'), 1_500_007n);
    processor.execute(CODE.vmcall);
    assert.equal(processor.state.get64('tscMultiplier'), 0n, 'the host’s counter is not scaled');
  });
});
