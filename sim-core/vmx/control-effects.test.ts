/** Every control that can be turned on: what it changes. A control without a row fails. */

import assert from 'node:assert/strict';
import { trapMonitored } from '../cpu/events.ts';
import { MAPPING } from '../mmu/tlb.ts';
import { PAUSE_CYCLES } from '../state/time.ts';
import { CONTROL_FIELDS, controlField, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { access, boundary, CONTROL_FIELD, type ControlName, code, controls, outcomeOf } from './test-outcomes.ts';
import { AT, CODE, type TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

interface Effect {
  /** More of the control's own field, in both runs. */
  readonly with?: number;
  readonly changes?: FieldChanges;
  readonly before?: (processor: TestProcessor) => void;
  readonly act: (processor: TestProcessor) => unknown;
  /** What comes of it with the control 1, and with the control 0. */
  readonly set: string;
  readonly clear: string;
}
type Effects = Readonly<Record<string, Effect>>;

const UD: FieldChanges = { EXCEPTION_BITMAP: 1 << 6 };
const GP: FieldChanges = { EXCEPTION_BITMAP: 1 << 13 };
/** Virtual-APIC page, APIC-access page, and data that no structure is in. */
const VIRTUAL = 0x1_2000;
const APIC_ACCESS = 0x1_4000;
const PAGE = 0x1_8000;
const stays = (set: string, act: Effect['act'], more: Partial<Effect> = {}): Effect => ({
  act,
  set,
  clear: 'stays',
  ...more,
});
/** An instruction that is #UD without its control. */
const enabled = (act: Effect['act'], changes: FieldChanges = {}): Effect => ({
  act,
  // INVPCID's descriptor, where RBX points.
  before: (processor) => processor.physical.write64(AT.data, 0n),
  changes: { ...UD, ...changes },
  set: 'stays',
  clear: 'exception 6',
});
const request =
  (...lines: readonly ('interruptRequest' | 'nmiRequest')[]): Effect['act'] =>
  (processor) => {
    for (const line of lines) processor.state.set32(line, 1);
    processor.boundary();
  };
const gprs = (values: { readonly rax?: bigint; readonly rcx?: bigint; readonly rdx?: bigint }, act: Effect['act']) =>
  ((processor) => {
    for (const [name, value] of Object.entries(values)) processor.setGpr(name as 'rax' | 'rcx' | 'rdx', value);
    return act(processor);
  }) satisfies Effect['act'];
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

const MOV_RAX_CR8 = code(0x44, 0x0f, 0x20, 0xc0);
const RDMSR = code(0x0f, 0x32);
const RDTSC = code(0x0f, 0x31);
const SHADOW: FieldChanges = {
  ...controls({ primary: PRIMARY.USE_TPR_SHADOW }),
  VIRTUAL_APIC_ADDRESS: BigInt(VIRTUAL),
};
const shadow = (more = 0): FieldChanges => ({
  ...SHADOW,
  ...controls({ primary: (PRIMARY.USE_TPR_SHADOW | more) >>> 0 }),
});

const PIN_EFFECTS: Effects = {
  EXTERNAL_INTERRUPT_EXITING: stays('EXTERNAL_INTERRUPT', request('interruptRequest')),
  NMI_EXITING: {
    act: request('nmiRequest'),
    changes: GP,
    set: 'exception 2',
    // Through the guest’s IDT, which has no gate for it.
    clear: 'exception 13',
  },
  VIRTUAL_NMIS: stays('exception 2', request('nmiRequest'), {
    with: PIN.NMI_EXITING,
    changes: { GUEST_INTERRUPTIBILITY_STATE: 8 },
  }),
  ACTIVATE_VMX_PREEMPTION_TIMER: stays('VMX_PREEMPTION_TIMER', boundary),
  PROCESS_POSTED_INTERRUPTS: {
    act: request('interruptRequest'),
    with: PIN.EXTERNAL_INTERRUPT_EXITING,
    changes: {
      ...shadow(),
      ...controls({
        secondary: SECONDARY.VIRTUAL_INTERRUPT_DELIVERY,
        exit: EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT_ON_EXIT,
      }),
      // The vector that the test processor’s interrupt controller gives.
      POSTED_INTERRUPT_NOTIFICATION_VECTOR: 0x40,
      POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: 0x1_6040n,
    },
    set: 'stays',
    clear: 'EXTERNAL_INTERRUPT',
  },
};

const PRIMARY_EFFECTS: Effects = {
  INTERRUPT_WINDOW_EXITING: stays('INTERRUPT_WINDOW', boundary, { changes: { GUEST_RFLAGS: 0x202n } }),
  USE_TSC_OFFSETTING: {
    act: (processor) => {
      RDTSC(processor);
      return `EDX ${processor.gpr('rdx')}`;
    },
    changes: { TSC_OFFSET: 0x5_0000_0000n },
    set: 'EDX 5',
    clear: 'EDX 0',
  },
  HLT_EXITING: stays('HLT', code(0xf4)),
  INVLPG_EXITING: stays('INVLPG', code(0x0f, 0x01, 0x3b)),
  MWAIT_EXITING: stays('MWAIT', gprs({ rcx: 0n }, code(0x0f, 0x01, 0xc9))),
  RDPMC_EXITING: {
    // A counter that no processor has.
    act: gprs({ rcx: 0xffffn }, code(0x0f, 0x33)),
    changes: GP,
    set: 'RDPMC',
    clear: 'exception 13',
  },
  RDTSC_EXITING: stays('RDTSC', RDTSC),
  CR3_LOAD_EXITING: stays('CR_ACCESS', gprs({ rcx: BigInt(AT.pml4) }, code(0x0f, 0x22, 0xd9))),
  CR3_STORE_EXITING: stays('CR_ACCESS', code(0x0f, 0x20, 0xda)),
  CR8_LOAD_EXITING: stays('CR_ACCESS', gprs({ rax: 1n }, code(0x44, 0x0f, 0x22, 0xc0))),
  CR8_STORE_EXITING: stays('CR_ACCESS', MOV_RAX_CR8),
  USE_TPR_SHADOW: {
    act: (processor) => {
      MOV_RAX_CR8(processor);
      return `RAX ${processor.gpr('rax')}`;
    },
    before: (processor) => processor.physical.write(VIRTUAL + 0x80, 4, 0x53),
    changes: { VIRTUAL_APIC_ADDRESS: BigInt(VIRTUAL) },
    set: 'RAX 5',
    // The test processor’s own task priority.
    clear: 'RAX 0',
  },
  NMI_WINDOW_EXITING: stays('NMI_WINDOW', boundary, { changes: controls({ pin: PIN.NMI_EXITING | PIN.VIRTUAL_NMIS }) }),
  MOV_DR_EXITING: stays('MOV_DR', code(0x0f, 0x21, 0xc1)),
  UNCONDITIONAL_IO_EXITING: stays('IO_INSTRUCTION', code(0xe6, 0x80)),
  USE_IO_BITMAPS: {
    act: code(0xe6, 0x80),
    with: PRIMARY.UNCONDITIONAL_IO_EXITING,
    changes: { IO_BITMAP_A_ADDRESS: BigInt(AT.bitmaps), IO_BITMAP_B_ADDRESS: BigInt(AT.bitmaps) },
    // The bitmaps are all zeros.
    set: 'stays',
    clear: 'IO_INSTRUCTION',
  },
  MONITOR_TRAP_FLAG: stays('MONITOR_TRAP_FLAG', (processor) => {
    trapMonitored(processor.state);
    processor.boundary();
  }),
  USE_MSR_BITMAPS: {
    act: gprs({ rcx: 0x277n }, RDMSR),
    changes: { MSR_BITMAP_ADDRESS: BigInt(AT.bitmaps) },
    set: 'stays',
    clear: 'RDMSR',
  },
  MONITOR_EXITING: stays('MONITOR', gprs({ rax: BigInt(PAGE), rcx: 0n, rdx: 0n }, code(0x0f, 0x01, 0xc8))),
  PAUSE_EXITING: stays('PAUSE', code(0xf3, 0x90)),
  ACTIVATE_SECONDARY_CONTROLS: stays('WBINVD', code(0x0f, 0x09), {
    changes: controls({ secondary: SECONDARY.WBINVD_EXITING }),
  }),
};

/** Extended page tables with 4-KiB pages for 0…2 MiB, PAGE read-only with bit 61 set. */
function smallPages({ physical }: TestProcessor): void {
  const directory = 0x3_8000;
  const table = 0x3_9000;
  physical.write64(AT.eptPdpt, BigInt(directory) | 7n);
  physical.write64(directory, BigInt(table) | 7n);
  for (let page = 0; page < 512; page++) physical.write64(table + 8 * page, BigInt(4096 * page) | 0x37n);
  physical.write64(table + 8 * (PAGE / 4096), BigInt(PAGE) | 0x35n | (1n << 61n));
}

/** An unrestricted guest in protected mode without paging. */
const UNPAGED: FieldChanges = {
  VM_ENTRY_CONTROLS: vmcsWith({}).VM_ENTRY_CONTROLS & ~0x200,
  GUEST_IA32_EFER: 0n,
  GUEST_CR0: 0x31n,
  GUEST_CR4: 0x2000n,
  GUEST_CS_ACCESS_RIGHTS: 0xc09b,
};
const notPresent = (processor: TestProcessor): void => processor.physical.write64(AT.eptPdpt + 8, 0n);
const farPage = (processor: TestProcessor): void => {
  processor.physical.write64(AT.pdpt + 8, 0x4000_0083n);
  notPresent(processor);
};

const SECONDARY_EFFECTS: Effects = {
  VIRTUALIZE_APIC_ACCESSES: stays('APIC_ACCESS', (p) => access(p, APIC_ACCESS + 0x30, 'read'), {
    changes: { APIC_ACCESS_ADDRESS: BigInt(APIC_ACCESS) },
  }),
  ENABLE_EPT: stays('EPT_VIOLATION', (p) => access(p, 0x4000_0010, 'read'), { before: farPage }),
  DESCRIPTOR_TABLE_EXITING: stays('GDTR_OR_IDTR_ACCESS', code(0x0f, 0x01, 0x03)),
  ENABLE_RDTSCP: enabled(code(0x0f, 0x01, 0xf9)),
  VIRTUALIZE_X2APIC_MODE: {
    act: gprs({ rcx: 0x808n }, (processor) => {
      RDMSR(processor);
      return processor.exits.length === 0 ? `EAX ${hex(processor.gpr('rax'))}` : undefined;
    }),
    before: (processor) => processor.physical.write(VIRTUAL + 0x80, 4, 0x50),
    changes: { ...shadow(PRIMARY.USE_MSR_BITMAPS), MSR_BITMAP_ADDRESS: BigInt(AT.bitmaps), ...GP },
    set: 'EAX 0x50',
    // The test processor’s own APIC is not in x2APIC mode.
    clear: 'exception 13',
  },
  ENABLE_VPID: {
    act: (processor) => {
      access(processor, PAGE, 'read');
      processor.execute(CODE.cpuid);
      const combined = processor.mmu.tlb.entries().filter(({ kind }) => kind === MAPPING.combined);
      return combined.length > 0 ? 'mappings are kept' : 'mappings are dropped';
    },
    set: 'mappings are kept',
    clear: 'mappings are dropped',
  },
  WBINVD_EXITING: stays('WBINVD', code(0x0f, 0x09)),
  UNRESTRICTED_GUEST: {
    act: () => 'runs without paging',
    changes: UNPAGED,
    set: 'runs without paging',
    clear: 'ENTRY_FAILURE_DUE_TO_GUEST_STATE',
  },
  APIC_REGISTER_VIRTUALIZATION: {
    act: (p) => access(p, APIC_ACCESS + 0x30, 'read'),
    with: SECONDARY.VIRTUALIZE_APIC_ACCESSES,
    changes: { ...shadow(), APIC_ACCESS_ADDRESS: BigInt(APIC_ACCESS) },
    set: 'stays',
    clear: 'APIC_ACCESS',
  },
  // The virtual interrupt goes through the guest’s IDT, which has no gate for it.
  VIRTUAL_INTERRUPT_DELIVERY: stays('exception 13', boundary, {
    changes: {
      ...shadow(),
      ...controls({ pin: PIN.EXTERNAL_INTERRUPT_EXITING }),
      ...GP,
      GUEST_RFLAGS: 0x202n,
      GUEST_INTERRUPT_STATUS: 0x61,
    },
  }),
  PAUSE_LOOP_EXITING: stays(
    'PAUSE',
    (processor) => {
      processor.execute([0xf3, 0x90]);
      processor.now += 5;
      processor.execute([0xf3, 0x90]);
    },
    { changes: { PLE_GAP: 10 + PAUSE_CYCLES, PLE_WINDOW: 1 } },
  ),
  RDRAND_EXITING: stays('RDRAND', code(0x0f, 0xc7, 0xf0)),
  ENABLE_INVPCID: enabled(gprs({ rdx: 2n }, code(0x66, 0x0f, 0x38, 0x82, 0x13))),
  ENABLE_VM_FUNCTIONS: {
    act: gprs({ rax: 1n }, code(...CODE.vmfunc)),
    changes: UD,
    set: 'VMFUNC',
    clear: 'exception 6',
  },
  VMCS_SHADOWING: {
    act: gprs({ rcx: 0x4402n }, code(...CODE.vmread)),
    changes: { VMREAD_BITMAP_ADDRESS: BigInt(AT.bitmaps), VMWRITE_BITMAP_ADDRESS: BigInt(AT.bitmaps) },
    // Without a VMCS link pointer VMREAD fails, in the guest.
    set: 'stays',
    clear: 'VMREAD',
  },
  RDSEED_EXITING: stays('RDSEED', code(0x0f, 0xc7, 0xf8)),
  ENABLE_PML: stays('PAGE_MODIFICATION_LOG_FULL', (p) => access(p, PAGE, 'write'), {
    changes: { EPT_POINTER: BigInt(AT.ept) | 0x5en, PML_ADDRESS: BigInt(VIRTUAL), PML_INDEX: 0xffff },
  }),
  'EPT_VIOLATION_#VE': {
    act: (p) => access(p, 0x4000_0010, 'read'),
    before: farPage,
    changes: { VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS: BigInt(PAGE), EXCEPTION_BITMAP: 1 << 20 },
    set: 'exception 20',
    clear: 'EPT_VIOLATION',
  },
  ENABLE_XSAVESXRSTORS: enabled(code(0x0f, 0xc7, 0x2b), { GUEST_CR4: 0x4_2020n }),
  // A user page whose EPT entries have bit 2 (execute) set and bit 10 (execute for user addresses) clear.
  MODE_BASED_EXECUTE_CONTROL_FOR_EPT: stays('EPT_VIOLATION', (p) => access(p, PAGE, 'fetch'), {
    before: (processor) => processor.physical.write64(AT.pdpt, 0x87n),
  }),
  SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT: {
    act: (p) => access(p, PAGE, 'write'),
    before: smallPages,
    // The table is all zeros.
    changes: { SUB_PAGE_PERMISSION_TABLE_POINTER: BigInt(AT.bitmaps) },
    set: 'SPP_RELATED_EVENT',
    clear: 'EPT_VIOLATION',
  },
  USE_TSC_SCALING: {
    act: (processor) => {
      processor.now = 0x8000_0000;
      RDTSC(processor);
      return `EDX ${processor.gpr('rdx')}`;
    },
    changes: { ...controls({ primary: PRIMARY.USE_TSC_OFFSETTING }), TSC_MULTIPLIER: 2n << 48n },
    set: 'EDX 1',
    clear: 'EDX 0',
  },
  ENABLE_USER_WAIT_AND_PAUSE: enabled(gprs({ rax: 0n, rdx: 0n }, code(0x66, 0x0f, 0xae, 0xf0))),
};

/** Leaves the guest and looks at what the VM exit has made. */
const afterExit =
  (look: (processor: TestProcessor) => string, inGuest: (processor: TestProcessor) => void = () => {}): Effect['act'] =>
  (processor) => {
    inGuest(processor);
    processor.execute(CODE.cpuid);
    return look(processor);
  };
const OTHER_PAT = 0x0606_0606_0606_0606n;
const pat = ({ state }: TestProcessor): string => hex(state.get64('msrPat'));
const efer = ({ state }: TestProcessor): string => hex(state.get64('efer'));

const counters = ({ state }: TestProcessor): string => hex(state.get64('msrPerfGlobalCtrl'));

const EXIT_EFFECTS: Effects = {
  SAVE_DEBUG_CONTROLS: {
    act: afterExit(
      (processor) => hex(processor.field('GUEST_DR7')),
      ({ state }) => state.set64('dr', 0x402n, 7),
    ),
    set: '0x402',
    clear: '0x400',
  },
  HOST_ADDRESS_SPACE_SIZE: {
    act: afterExit(efer),
    // A host in IA-32e mode cannot do without.
    set: '0x500',
    clear: 'entry fails',
  },
  LOAD_IA32_PERF_GLOBAL_CTRL: {
    act: afterExit(counters, ({ state }) => state.set64('msrPerfGlobalCtrl', 2n)),
    changes: { HOST_IA32_PERF_GLOBAL_CTRL: 1n },
    set: '0x1',
    clear: '0x2',
  },
  SAVE_IA32_PERF_GLOBAL_CTRL: {
    act: afterExit(
      (processor) => hex(processor.field('GUEST_IA32_PERF_GLOBAL_CTRL')),
      ({ state }) => state.set64('msrPerfGlobalCtrl', 2n),
    ),
    changes: { GUEST_IA32_PERF_GLOBAL_CTRL: 1n },
    set: '0x2',
    clear: '0x1',
  },
  ACKNOWLEDGE_INTERRUPT_ON_EXIT: {
    act: (processor) => {
      request('interruptRequest')(processor);
      return hex(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'));
    },
    changes: controls({ pin: PIN.EXTERNAL_INTERRUPT_EXITING }),
    set: '0x80000040',
    clear: '0x0',
  },
  SAVE_IA32_PAT: {
    act: afterExit(
      (processor) => hex(processor.field('GUEST_IA32_PAT')),
      ({ state }) => state.set64('msrPat', OTHER_PAT),
    ),
    set: hex(OTHER_PAT),
    clear: '0x7040600070406',
  },
  LOAD_IA32_PAT: {
    act: afterExit(pat),
    changes: { HOST_IA32_PAT: OTHER_PAT },
    set: hex(OTHER_PAT),
    clear: '0x7040600070406',
  },
  SAVE_IA32_EFER: {
    act: afterExit(
      (processor) => hex(processor.field('GUEST_IA32_EFER')),
      ({ state }) => state.set64('efer', 0x501n),
    ),
    set: '0x501',
    clear: '0x500',
  },
  LOAD_IA32_EFER: { act: afterExit(efer), changes: { HOST_IA32_EFER: 0x501n }, set: '0x501', clear: '0x500' },
  SAVE_VMX_PREEMPTION_TIMER_VALUE: {
    act: afterExit(
      (processor) => (processor.field('VMX_PREEMPTION_TIMER_VALUE') < 5000n ? 'what is left' : 'as it was'),
      (processor) => {
        processor.now += 1000;
      },
    ),
    changes: { ...controls({ pin: PIN.ACTIVATE_VMX_PREEMPTION_TIMER }), VMX_PREEMPTION_TIMER_VALUE: 5000 },
    set: 'what is left',
    clear: 'as it was',
  },
};

const ENTRY_EFFECTS: Effects = {
  LOAD_DEBUG_CONTROLS: {
    act: ({ state }) => hex(state.get64('dr', 7)),
    changes: { GUEST_DR7: 0x402n },
    set: '0x402',
    // The host’s, as after reset.
    clear: '0x400',
  },
  IA_32E_MODE_GUEST: {
    act: efer,
    set: '0x500',
    // GUEST_IA32_EFER.LMA must agree.
    clear: 'ENTRY_FAILURE_DUE_TO_GUEST_STATE',
  },
  LOAD_IA32_PERF_GLOBAL_CTRL: {
    act: counters,
    before: ({ state }) => state.set64('msrPerfGlobalCtrl', 2n),
    changes: { GUEST_IA32_PERF_GLOBAL_CTRL: 1n },
    set: '0x1',
    clear: '0x2',
  },
  LOAD_IA32_PAT: { act: pat, changes: { GUEST_IA32_PAT: OTHER_PAT }, set: hex(OTHER_PAT), clear: '0x7040600070406' },
  LOAD_IA32_EFER: { act: efer, changes: { GUEST_IA32_EFER: 0x501n }, set: '0x501', clear: '0x500' },
};

const EFFECTS: Readonly<Record<ControlName, Effects>> = {
  pin: PIN_EFFECTS,
  primary: PRIMARY_EFFECTS,
  secondary: SECONDARY_EFFECTS,
  exit: EXIT_EFFECTS,
  entry: ENTRY_EFFECTS,
};

for (const name of Object.keys(EFFECTS) as ControlName[]) {
  const field = CONTROL_FIELD[name];
  const effects = EFFECTS[name];
  const simulated = (controlField(field)?.bits ?? []).filter((bit) => bit.simulated);

  describe(`Controls of ${field}`, () => {
    for (const control of simulated) {
      it(`“${control.title}” makes a difference`, () => {
        const effect = effects[control.name];
        assert.ok(effect, 'the control has no test: add a row to control-effects.test.ts');
        assert.notEqual(effect.set, effect.clear);
        const mask = (1 << control.bit) >>> 0;
        const value = (vmcsWith({})[field] | (effect.with ?? 0)) >>> 0;
        const run = (controlValue: number): string =>
          outcomeOf({ ...effect, changes: { ...effect.changes, [field]: controlValue >>> 0 } });
        assert.equal(run(value | mask), effect.set, 'control = 1');
        assert.equal(run(value & ~mask), effect.clear, 'control = 0');
      });
    }

    it('has no row for a control that cannot be turned on', () => {
      const known = new Set(simulated.map((control) => control.name));
      assert.deepEqual(
        Object.keys(effects).filter((row) => !known.has(row)),
        [],
      );
    });
  });
}

describe('Fields of controls', () => {
  it('have rows here as soon as one of their controls can be turned on', () => {
    const tested = new Set(Object.values<string>(CONTROL_FIELD));
    const missing = CONTROL_FIELDS.filter(({ field, bits }) => bits.some((bit) => bit.simulated) && !tested.has(field));
    assert.deepEqual(missing, []);
  });
});
