/** Every basic exit reason: a guest that causes it, or why none can. A reason without a row fails. */

import assert from 'node:assert/strict';
import { trapMonitored } from '../cpu/events.ts';
import { ACTIVITY, START_UP } from '../state/layout.ts';
import { CONTROL_FIELDS, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { EXIT_REASONS, type ExitName } from './exit-reasons.ts';
import { access, boundary, code, controls, type Guest, outcomeOf } from './test-outcomes.ts';
import { AT, CODE, type TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

const VIRTUAL = 0x1_2000;
const APIC_ACCESS = 0x1_4000;
const PAGE = 0x1_8000;

const request =
  (line: 'interruptRequest' | 'initRequest' | 'startUpRequest', value = 1): Guest['act'] =>
  (processor) => {
    processor.state.set32(line, value);
    processor.boundary();
  };
const byPrimary = (control: number, act: Guest['act']): Guest => ({ act, changes: controls({ primary: control }) });
const bySecondary = (control: number, act: Guest['act']): Guest => ({ act, changes: controls({ secondary: control }) });
const always = (...bytes: readonly number[]): Guest => ({ act: code(...bytes) });
/** A guest with a virtual APIC. */
const virtualApic = (secondary: number, more: FieldChanges = {}): FieldChanges => ({
  ...controls({ primary: PRIMARY.USE_TPR_SHADOW, secondary, pin: PIN.EXTERNAL_INTERRUPT_EXITING }),
  VIRTUAL_APIC_ADDRESS: BigInt(VIRTUAL),
  APIC_ACCESS_ADDRESS: BigInt(APIC_ACCESS),
  ...more,
});
const APIC_ACCESSES = SECONDARY.VIRTUALIZE_APIC_ACCESSES;
const WAITS = controls({
  primary: PRIMARY.RDTSC_EXITING,
  secondary: SECONDARY.ENABLE_USER_WAIT_AND_PAUSE | SECONDARY.ENABLE_RDTSCP | SECONDARY.ENABLE_INVPCID,
});

/** An unrestricted guest in 32-bit protected mode without paging, and an available TSS behind selector 18H. */
const UNPAGED: FieldChanges = {
  ...controls({ secondary: SECONDARY.UNRESTRICTED_GUEST }),
  VM_ENTRY_CONTROLS: vmcsWith({}).VM_ENTRY_CONTROLS & ~0x200,
  GUEST_IA32_EFER: 0n,
  GUEST_CR0: 0x31n,
  GUEST_CR4: 0x2000n,
  GUEST_CS_ACCESS_RIGHTS: 0xc09b,
};
const writeTss = ({ physical }: TestProcessor): void => physical.write64(AT.gdt + 0x18, 0x0000_8901_8000_0067n);
const farPage = (entry: bigint) => (processor: TestProcessor) => {
  processor.physical.write64(AT.pdpt + 8, 0x4000_0083n);
  processor.physical.write64(AT.eptPdpt + 8, entry);
};
/** 4-KiB EPT pages for 0…2 MiB; PAGE is read-only, with sub-page write permissions. */
function smallPages({ physical }: TestProcessor): void {
  physical.write64(AT.eptPdpt, 0x3_8007n);
  physical.write64(0x3_8000, 0x3_9007n);
  for (let page = 0; page < 512; page++) physical.write64(0x3_9000 + 8 * page, BigInt(4096 * page) | 0x37n);
  physical.write64(0x3_9000 + 8 * (PAGE / 4096), BigInt(PAGE) | 0x35n | (1n << 61n));
}

/** Reasons that cannot come about: what is missing, and the control that would bring it, where there is one. */
const MISSING = {
  smm: ['system-management mode', 'Entry to SMM'],
  smx: ['CR4.SMXE, without which GETSEC is #UD'],
  machineChecks: ['machine checks'],
  xss: ['a state component that IA32_XSS manages'],
  sgx: ['SGX', 'Enable ENCLS exiting'],
  pconfig: ['PCONFIG', 'Enable PCONFIG'],
  keyLocker: ['Key Locker', 'LOADIWKEY exiting'],
  enqcmd: ['ENQCMD', 'PASID translation'],
  busLocks: ['bus-lock detection', 'VMM bus-lock detection'],
  timeout: ['the instruction timeout', 'Instruction timeout'],
  tdx: ['TDX'],
  msrLists: ['RDMSRLIST and WRMSRLIST', 'Enable MSR-list instructions'],
  userMsr: ['URDMSR and UWRMSR'],
  immediateMsr: ['RDMSR and WRMSRNS with immediates'],
} as const satisfies Record<string, readonly [string, string?]>;
type Row = Guest | keyof typeof MISSING;

const CAUSES: { readonly [Name in ExitName]: Row } = {
  EXCEPTION_OR_NMI: { act: code(0x0f, 0x0b), changes: { EXCEPTION_BITMAP: 1 << 6 } },
  EXTERNAL_INTERRUPT: { act: request('interruptRequest'), changes: controls({ pin: PIN.EXTERNAL_INTERRUPT_EXITING }) },
  TRIPLE_FAULT: { act: code(0x0f, 0x0b), changes: { GUEST_IDTR_LIMIT: 0 } },
  INIT_SIGNAL: { act: request('initRequest') },
  START_UP_IPI: {
    changes: { GUEST_ACTIVITY_STATE: ACTIVITY.waitForSipi },
    act: request('startUpRequest', START_UP.latched | 0x12),
  },
  IO_SMI: 'smm',
  OTHER_SMI: 'smm',
  INTERRUPT_WINDOW: {
    act: boundary,
    changes: { ...controls({ primary: PRIMARY.INTERRUPT_WINDOW_EXITING }), GUEST_RFLAGS: 0x202n },
  },
  NMI_WINDOW: {
    act: boundary,
    changes: controls({ pin: PIN.NMI_EXITING | PIN.VIRTUAL_NMIS, primary: PRIMARY.NMI_WINDOW_EXITING }),
  },
  TASK_SWITCH: { before: writeTss, changes: UNPAGED, act: code(0xea, 0, 0, 0, 0, 0x18, 0) },
  CPUID: always(...CODE.cpuid),
  GETSEC: 'smx',
  HLT: byPrimary(PRIMARY.HLT_EXITING, code(0xf4)),
  INVD: always(0x0f, 0x08),
  INVLPG: byPrimary(PRIMARY.INVLPG_EXITING, code(0x0f, 0x01, 0x3b)),
  RDPMC: byPrimary(PRIMARY.RDPMC_EXITING, code(0x0f, 0x33)),
  RDTSC: byPrimary(PRIMARY.RDTSC_EXITING, code(0x0f, 0x31)),
  RSM: 'smm',
  VMCALL: always(...CODE.vmcall),
  VMCLEAR: always(...CODE.vmclear),
  VMLAUNCH: always(...CODE.vmlaunch),
  VMPTRLD: always(...CODE.vmptrld),
  VMPTRST: always(...CODE.vmptrst),
  VMREAD: always(...CODE.vmread),
  VMRESUME: always(...CODE.vmresume),
  VMWRITE: always(...CODE.vmwrite),
  VMXOFF: always(...CODE.vmxoff),
  VMXON: always(...CODE.vmxon),
  CR_ACCESS: byPrimary(PRIMARY.CR3_STORE_EXITING, code(0x0f, 0x20, 0xda)),
  MOV_DR: byPrimary(PRIMARY.MOV_DR_EXITING, code(0x0f, 0x21, 0xc1)),
  IO_INSTRUCTION: byPrimary(PRIMARY.UNCONDITIONAL_IO_EXITING, code(0xe6, 0x80)),
  RDMSR: always(0x0f, 0x32),
  WRMSR: always(0x0f, 0x30),
  ENTRY_FAILURE_DUE_TO_GUEST_STATE: { act: () => 'runs', changes: { GUEST_RFLAGS: 0n } },
  ENTRY_FAILURE_DUE_TO_MSR_LOADING: {
    before: (processor) => processor.physical.write64(AT.msrList, 0x1234_5678n),
    act: () => 'runs',
    changes: { VM_ENTRY_MSR_LOAD_COUNT: 1, VM_ENTRY_MSR_LOAD_ADDRESS: BigInt(AT.msrList) },
  },
  MWAIT: byPrimary(PRIMARY.MWAIT_EXITING, code(0x0f, 0x01, 0xc9)),
  MONITOR_TRAP_FLAG: byPrimary(PRIMARY.MONITOR_TRAP_FLAG, (processor) => {
    trapMonitored(processor.state);
    processor.boundary();
  }),
  MONITOR: byPrimary(PRIMARY.MONITOR_EXITING, code(0x0f, 0x01, 0xc8)),
  PAUSE: byPrimary(PRIMARY.PAUSE_EXITING, code(0xf3, 0x90)),
  ENTRY_FAILURE_DUE_TO_MACHINE_CHECK: 'machineChecks',
  TPR_BELOW_THRESHOLD: {
    before: (processor) => processor.physical.write(VIRTUAL + 0x80, 4, 0x50),
    changes: virtualApic(0, { TPR_THRESHOLD: 5 }),
    act: (processor) => {
      processor.setGpr('rax', 4n);
      processor.execute([0x44, 0x0f, 0x22, 0xc0]);
      processor.boundary();
    },
  },
  APIC_ACCESS: { changes: virtualApic(APIC_ACCESSES), act: (p) => access(p, APIC_ACCESS + 0x30, 'read') },
  VIRTUALIZED_EOI: {
    before: (processor) => processor.physical.write(VIRTUAL + 0x130, 4, 2),
    changes: virtualApic(APIC_ACCESSES | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY, {
      GUEST_INTERRUPT_STATUS: 0x6100,
      EOI_EXIT_BITMAP_1: 1n << 33n,
    }),
    act: (processor) => {
      access(processor, APIC_ACCESS + 0xb0, 'write');
      processor.boundary();
    },
  },
  GDTR_OR_IDTR_ACCESS: bySecondary(SECONDARY.DESCRIPTOR_TABLE_EXITING, code(0x0f, 0x01, 0x13)),
  LDTR_OR_TR_ACCESS: bySecondary(SECONDARY.DESCRIPTOR_TABLE_EXITING, code(0x0f, 0x00, 0xd8)),
  EPT_VIOLATION: { before: farPage(0n), act: (p) => access(p, 0x4000_0010, 'read') },
  // Writable but not readable.
  EPT_MISCONFIGURATION: { before: farPage(0xb2n), act: (p) => access(p, 0x4000_0010, 'read') },
  INVEPT: always(...CODE.invept),
  RDTSCP: { act: code(0x0f, 0x01, 0xf9), changes: WAITS },
  VMX_PREEMPTION_TIMER: { act: boundary, changes: controls({ pin: PIN.ACTIVATE_VMX_PREEMPTION_TIMER }) },
  INVVPID: always(...CODE.invvpid),
  WBINVD: bySecondary(SECONDARY.WBINVD_EXITING, code(0x0f, 0x09)),
  XSETBV: { act: code(0x0f, 0x01, 0xd1), changes: { GUEST_CR4: 0x4_2020n } },
  APIC_WRITE: {
    changes: virtualApic(APIC_ACCESSES | SECONDARY.APIC_REGISTER_VIRTUALIZATION),
    act: (processor) => {
      access(processor, APIC_ACCESS + 0xd0, 'write');
      processor.boundary();
    },
  },
  RDRAND: bySecondary(SECONDARY.RDRAND_EXITING, code(0x0f, 0xc7, 0xf0)),
  INVPCID: {
    act: code(0x66, 0x0f, 0x38, 0x82, 0x13),
    changes: controls({ primary: PRIMARY.INVLPG_EXITING, secondary: SECONDARY.ENABLE_INVPCID }),
  },
  VMFUNC: {
    before: (processor) => processor.setGpr('rax', 1n),
    act: code(...CODE.vmfunc),
    changes: controls({ secondary: SECONDARY.ENABLE_VM_FUNCTIONS }),
  },
  ENCLS: 'sgx',
  RDSEED: bySecondary(SECONDARY.RDSEED_EXITING, code(0x0f, 0xc7, 0xf8)),
  PAGE_MODIFICATION_LOG_FULL: {
    changes: {
      ...controls({ secondary: SECONDARY.ENABLE_PML }),
      EPT_POINTER: BigInt(AT.ept) | 0x5en,
      PML_ADDRESS: BigInt(VIRTUAL),
      PML_INDEX: 0xffff,
    },
    act: (p) => access(p, PAGE, 'write'),
  },
  XSAVES: 'xss',
  XRSTORS: 'xss',
  PCONFIG: 'pconfig',
  SPP_RELATED_EVENT: {
    before: smallPages,
    changes: {
      ...controls({ secondary: SECONDARY.SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT }),
      SUB_PAGE_PERMISSION_TABLE_POINTER: BigInt(AT.bitmaps),
    },
    act: (p) => access(p, PAGE, 'write'),
  },
  UMWAIT: { act: code(0xf2, 0x0f, 0xae, 0xf2), changes: WAITS },
  TPAUSE: { act: code(0x66, 0x0f, 0xae, 0xf2), changes: WAITS },
  LOADIWKEY: 'keyLocker',
  ENCLV: 'sgx',
  ENQCMD_PASID_TRANSLATION_FAILURE: 'enqcmd',
  ENQCMDS_PASID_TRANSLATION_FAILURE: 'enqcmd',
  BUS_LOCK: 'busLocks',
  INSTRUCTION_TIMEOUT: 'timeout',
  SEAMCALL: 'tdx',
  TDCALL: 'tdx',
  RDMSRLIST: 'msrLists',
  WRMSRLIST: 'msrLists',
  URDMSR: 'userMsr',
  UWRMSR: 'userMsr',
  RDMSR_WITH_IMMEDIATE: 'immediateMsr',
  WRMSRNS_WITH_IMMEDIATE: 'immediateMsr',
};

describe('Exit reasons', () => {
  for (const { name, number } of EXIT_REASONS) {
    const row = CAUSES[name];
    if (typeof row === 'string') continue;
    it(`${number} ${name}`, () => assert.equal(outcomeOf(row).replace(/^exception 6$/, 'EXCEPTION_OR_NMI'), name));
  }

  it('are left out only while their control cannot be turned on', () => {
    const controlBits = CONTROL_FIELDS.flatMap(({ bits }) => bits);
    for (const [why, title] of Object.values<readonly [string, string?]>(MISSING)) {
      if (title === undefined) continue;
      const control = controlBits.find((bit) => bit.title === title);
      assert.equal(control?.simulated, false, why);
    }
  });

  it('have a row each', () => {
    assert.deepEqual(Object.keys(CAUSES).sort(), EXIT_REASONS.map((reason) => reason.name).sort());
  });
});
