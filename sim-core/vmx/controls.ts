/**
 * Every VM-execution, VM-exit and VM-entry control bit, once, and whether this machine simulates it.
 *
 * The capability MSRs (capabilities.ts) derive from this table, so a hypervisor can turn on only what is simulated. A
 * row also names the VMCS fields that exist only where its control does (SDM Vol. 3D, "Field Encoding in VMCS", notes).
 */

import { type BitField, flag, type NameOf, nameOf } from './bits.ts';
import type { FieldName } from './fields.ts';

type Row = readonly [
  bit: number,
  title: string,
  simulated: boolean,
  documentation: string,
  brings?: readonly FieldName[],
];

const PIN_ROWS = [
  [0, 'External-interrupt exiting', true, 'External interrupts cause VM exits, whatever RFLAGS.IF says.'],
  [3, 'NMI exiting', true, 'NMIs cause VM exits.'],
  [5, 'Virtual NMIs', true, 'Blocking by NMI means virtual NMIs; IRET removes it; NMI-window exiting is possible.'],
  [
    6,
    'Activate VMX-preemption timer',
    true,
    'The preemption timer counts down in the guest and causes a VM exit at 0.',
    ['VMX_PREEMPTION_TIMER_VALUE'],
  ],
  [
    7,
    'Process posted interrupts',
    true,
    'Interrupts with the notification vector are posted to the virtual APIC.',
    ['POSTED_INTERRUPT_NOTIFICATION_VECTOR', 'POSTED_INTERRUPT_DESCRIPTOR_ADDRESS'],
  ],
] as const satisfies readonly Row[];

const PRIMARY_ROWS = [
  [2, 'Interrupt-window exiting', true, 'A VM exit as soon as the guest could take an interrupt.'],
  [3, 'Use TSC offsetting', true, 'The guest’s time-stamp counter is offset.'],
  [7, 'HLT exiting', true, 'HLT causes a VM exit.'],
  [9, 'INVLPG exiting', true, 'INVLPG (and INVPCID) cause VM exits.'],
  [10, 'MWAIT exiting', true, 'MWAIT causes a VM exit.'],
  [11, 'RDPMC exiting', true, 'RDPMC causes a VM exit.'],
  [12, 'RDTSC exiting', true, 'RDTSC and RDTSCP cause VM exits.'],
  [15, 'CR3-load exiting', true, 'MOV to CR3 causes a VM exit unless the value is a CR3-target value.'],
  [16, 'CR3-store exiting', true, 'MOV from CR3 causes a VM exit.'],
  [
    17,
    'Activate tertiary controls',
    false,
    'The tertiary controls are in force; otherwise they count as 0.',
    ['TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS'],
  ],
  [19, 'CR8-load exiting', true, 'MOV to CR8 causes a VM exit.'],
  [20, 'CR8-store exiting', true, 'MOV from CR8 causes a VM exit.'],
  [
    21,
    'Use TPR shadow',
    true,
    'CR8 and the task priority come from the virtual-APIC page.',
    ['VIRTUAL_APIC_ADDRESS', 'TPR_THRESHOLD'],
  ],
  [22, 'NMI-window exiting', true, 'A VM exit as soon as there is no virtual-NMI blocking.'],
  [23, 'MOV-DR exiting', true, 'MOV to and from debug registers causes a VM exit.'],
  [24, 'Unconditional I/O exiting', true, 'Every I/O instruction causes a VM exit (ignored with I/O bitmaps).'],
  [
    25,
    'Use I/O bitmaps',
    true,
    'The I/O bitmaps choose the ports that cause VM exits.',
    ['IO_BITMAP_A_ADDRESS', 'IO_BITMAP_B_ADDRESS'],
  ],
  [27, 'Monitor trap flag', true, 'A VM exit after every instruction of the guest.'],
  [
    28,
    'Use MSR bitmaps',
    true,
    'The MSR bitmaps choose the MSRs that cause VM exits; otherwise all do.',
    ['MSR_BITMAP_ADDRESS'],
  ],
  [29, 'MONITOR exiting', true, 'MONITOR causes a VM exit.'],
  [30, 'PAUSE exiting', true, 'PAUSE causes a VM exit.'],
  [
    31,
    'Activate secondary controls',
    true,
    'The secondary controls are in force; otherwise they count as 0.',
    ['SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS'],
  ],
] as const satisfies readonly Row[];

const SECONDARY_ROWS = [
  [0, 'Virtualize APIC accesses', true, 'Accesses to the APIC-access page are virtualized.', ['APIC_ACCESS_ADDRESS']],
  [
    1,
    'Enable EPT',
    true,
    'Guest-physical addresses are translated by extended page tables.',
    ['EPT_POINTER', 'GUEST_PHYSICAL_ADDRESS', 'GUEST_PDPTE0', 'GUEST_PDPTE1', 'GUEST_PDPTE2', 'GUEST_PDPTE3'],
  ],
  [2, 'Descriptor-table exiting', true, 'LGDT, LIDT, LLDT, LTR, SGDT, SIDT, SLDT and STR cause VM exits.'],
  [3, 'Enable RDTSCP', true, 'RDTSCP and RDPID may be used; otherwise they cause #UD.'],
  [4, 'Virtualize x2APIC mode', true, 'RDMSR and WRMSR of x2APIC MSRs use the virtual APIC.'],
  [
    5,
    'Enable VPID',
    true,
    'Cached translations are tagged with the VPID instead of being flushed.',
    ['VIRTUAL_PROCESSOR_ID'],
  ],
  [6, 'WBINVD exiting', true, 'WBINVD and WBNOINVD cause VM exits.'],
  [7, 'Unrestricted guest', true, 'The guest may run unpaged and in real mode.'],
  [8, 'APIC-register virtualization', true, 'Reads of the virtual APIC come from the virtual-APIC page.'],
  [
    9,
    'Virtual-interrupt delivery',
    true,
    'Pending virtual interrupts are evaluated and delivered.',
    ['GUEST_INTERRUPT_STATUS', 'EOI_EXIT_BITMAP_0', 'EOI_EXIT_BITMAP_1', 'EOI_EXIT_BITMAP_2', 'EOI_EXIT_BITMAP_3'],
  ],
  [
    10,
    'PAUSE-loop exiting',
    true,
    'A loop of PAUSEs at CPL 0 that lasts too long causes a VM exit.',
    ['PLE_GAP', 'PLE_WINDOW'],
  ],
  [11, 'RDRAND exiting', true, 'RDRAND causes a VM exit.'],
  [12, 'Enable INVPCID', true, 'INVPCID may be used; otherwise it causes #UD.'],
  [13, 'Enable VM functions', true, 'VMFUNC may be used in the guest.', ['VM_FUNCTION_CONTROLS', 'EPTP_LIST_ADDRESS']],
  [
    14,
    'VMCS shadowing',
    true,
    'VMREAD and VMWRITE in the guest may use a shadow VMCS.',
    ['VMREAD_BITMAP_ADDRESS', 'VMWRITE_BITMAP_ADDRESS'],
  ],
  [15, 'Enable ENCLS exiting', false, 'The ENCLS-exiting bitmap is in force.', ['ENCLS_EXITING_BITMAP']],
  [16, 'RDSEED exiting', true, 'RDSEED causes a VM exit.'],
  [17, 'Enable PML', true, 'Guest-physical pages that become dirty are logged.', ['PML_ADDRESS', 'PML_INDEX']],
  [
    18,
    'EPT-violation #VE',
    true,
    'Some EPT violations become virtualization exceptions.',
    ['VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS', 'EPTP_INDEX'],
  ],
  [19, 'Conceal VMX from PT', false, 'Processor trace does not show VMX non-root operation.'],
  [
    20,
    'Enable XSAVES/XRSTORS',
    true,
    'XSAVES and XRSTORS may be used; otherwise they cause #UD.',
    ['XSS_EXITING_BITMAP'],
  ],
  [
    21,
    'PASID translation',
    false,
    'ENQCMD’s PASIDs are translated.',
    ['LOW_PASID_DIRECTORY_ADDRESS', 'HIGH_PASID_DIRECTORY_ADDRESS'],
  ],
  [
    22,
    'Mode-based execute control for EPT',
    true,
    'EPT execute permission is separate for user and supervisor addresses.',
  ],
  [
    23,
    'Sub-page write permissions for EPT',
    true,
    'EPT write permission can be given for 128 bytes.',
    ['SUB_PAGE_PERMISSION_TABLE_POINTER'],
  ],
  [24, 'Intel PT uses guest physical addresses', false, 'Processor trace output addresses are guest-physical.'],
  [25, 'Use TSC scaling', true, 'The guest’s time-stamp counter is multiplied.', ['TSC_MULTIPLIER']],
  [26, 'Enable user wait and pause', true, 'TPAUSE, UMONITOR and UMWAIT may be used; otherwise they cause #UD.'],
  [27, 'Enable PCONFIG', false, 'PCONFIG may be used; otherwise it causes #UD.', ['PCONFIG_EXITING_BITMAP']],
  [28, 'Enable ENCLV exiting', false, 'The ENCLV-exiting bitmap is in force.', ['ENCLV_EXITING_BITMAP']],
  [30, 'VMM bus-lock detection', false, 'Bus locks cause VM exits.'],
  [
    31,
    'Instruction timeout',
    false,
    'A VM exit when no instruction boundary comes for too long.',
    ['INSTRUCTION_TIMEOUT_CONTROL'],
  ],
] as const satisfies readonly Row[];

const TERTIARY_ROWS = [
  [0, 'LOADIWKEY exiting', false, 'LOADIWKEY causes a VM exit.'],
  [
    1,
    'Enable HLAT',
    false,
    'Some linear addresses are translated by the hypervisor’s page tables.',
    ['HLAT_POINTER', 'HLAT_PREFIX_SIZE'],
  ],
  [2, 'EPT paging-write control', false, 'EPT can allow writes by page walks only.'],
  [3, 'Guest-paging verification', false, 'EPT can demand that a page walk came through verified tables.'],
  [
    4,
    'IPI virtualization',
    false,
    'IPIs of the guest go to other virtual processors without VM exits.',
    ['LAST_PID_POINTER_INDEX', 'PID_POINTER_TABLE_ADDRESS'],
  ],
  [
    5,
    'SEAM guest-physical address width',
    false,
    'Width of guest-physical addresses of trust domains.',
    ['SHARED_EPT_POINTER'],
  ],
  [
    6,
    'Enable MSR-list instructions',
    false,
    'RDMSRLIST and WRMSRLIST may be used; otherwise they cause #UD.',
    ['MSR_DATA'],
  ],
  [
    7,
    'Virtualize IA32_SPEC_CTRL',
    false,
    'The guest sees a shadow of IA32_SPEC_CTRL.',
    ['IA32_SPEC_CTRL_MASK', 'IA32_SPEC_CTRL_SHADOW'],
  ],
  [
    8,
    'APIC-timer virtualization',
    false,
    'The guest’s TSC-deadline timer runs without VM exits.',
    ['VIRTUAL_TIMER_VECTOR', 'GUEST_DEADLINE', 'GUEST_DEADLINE_SHADOW'],
  ],
] as const satisfies readonly Row[];

const EXIT_ROWS = [
  [2, 'Save debug controls', true, 'DR7 and IA32_DEBUGCTL are saved.'],
  [9, 'Host address-space size', true, 'The host runs in 64-bit mode after the VM exit.'],
  [12, 'Load IA32_PERF_GLOBAL_CTRL', true, 'IA32_PERF_GLOBAL_CTRL is loaded.', ['HOST_IA32_PERF_GLOBAL_CTRL']],
  [
    15,
    'Acknowledge interrupt on exit',
    true,
    'A VM exit due to an external interrupt acknowledges it and reports its vector.',
  ],
  [18, 'Save IA32_PAT', true, 'IA32_PAT is saved.', ['GUEST_IA32_PAT']],
  [19, 'Load IA32_PAT', true, 'IA32_PAT is loaded.', ['HOST_IA32_PAT']],
  [20, 'Save IA32_EFER', true, 'IA32_EFER is saved.', ['GUEST_IA32_EFER']],
  [21, 'Load IA32_EFER', true, 'IA32_EFER is loaded.', ['HOST_IA32_EFER']],
  [22, 'Save VMX-preemption timer value', true, 'What is left of the preemption timer is saved.'],
  [23, 'Clear IA32_BNDCFGS', false, 'IA32_BNDCFGS is cleared.', ['GUEST_IA32_BNDCFGS']],
  [24, 'Conceal VMX from PT', false, 'Processor trace does not show the VM exit.'],
  [25, 'Clear IA32_RTIT_CTL', false, 'IA32_RTIT_CTL is cleared.', ['GUEST_IA32_RTIT_CTL']],
  [26, 'Clear IA32_LBR_CTL', false, 'IA32_LBR_CTL is cleared.', ['GUEST_IA32_LBR_CTL']],
  [27, 'Clear UINV', false, 'The user-interrupt notification vector is cleared.', ['GUEST_UINV']],
  [
    28,
    'Load CET state',
    false,
    'The host’s CET state is loaded.',
    ['HOST_IA32_S_CET', 'HOST_SSP', 'HOST_IA32_INTERRUPT_SSP_TABLE_ADDR'],
  ],
  [29, 'Load PKRS', false, 'IA32_PKRS is loaded.', ['HOST_IA32_PKRS']],
  [30, 'Save IA32_PERF_GLOBAL_CTRL', true, 'IA32_PERF_GLOBAL_CTRL is saved.', ['GUEST_IA32_PERF_GLOBAL_CTRL']],
  [
    31,
    'Activate secondary controls',
    false,
    'The secondary VM-exit controls are in force; otherwise they count as 0.',
    ['SECONDARY_VM_EXIT_CONTROLS'],
  ],
] as const satisfies readonly Row[];

const EXIT2_ROWS = [
  [0, 'Save IA32_FRED', false, 'The guest’s FRED state is saved.', ['ORIGINAL_EVENT_DATA']],
  [
    1,
    'Load IA32_FRED',
    false,
    'The host’s FRED state is loaded.',
    [
      'HOST_IA32_FRED_CONFIG',
      'HOST_IA32_FRED_RSP1',
      'HOST_IA32_FRED_RSP2',
      'HOST_IA32_FRED_RSP3',
      'HOST_IA32_FRED_STKLVLS',
      'HOST_IA32_FRED_SSP1',
      'HOST_IA32_FRED_SSP2',
      'HOST_IA32_FRED_SSP3',
    ],
  ],
  [2, 'Load IA32_SPEC_CTRL', false, 'IA32_SPEC_CTRL is loaded.', ['HOST_IA32_SPEC_CTRL']],
  [3, 'Prematurely busy shadow stack', false, 'VM exits report a shadow stack that event delivery left busy.'],
] as const satisfies readonly Row[];

const ENTRY_ROWS = [
  [2, 'Load debug controls', true, 'DR7 and IA32_DEBUGCTL are loaded.'],
  [9, 'IA-32e mode guest', true, 'The guest runs in IA-32e mode (IA32_EFER.LMA = 1).'],
  [10, 'Entry to SMM', false, 'The VM entry goes to system-management mode.'],
  [11, 'Deactivate dual-monitor treatment', false, 'SMM gets its default treatment after the VM entry.'],
  [13, 'Load IA32_PERF_GLOBAL_CTRL', true, 'IA32_PERF_GLOBAL_CTRL is loaded.', ['GUEST_IA32_PERF_GLOBAL_CTRL']],
  [14, 'Load IA32_PAT', true, 'IA32_PAT is loaded.', ['GUEST_IA32_PAT']],
  [15, 'Load IA32_EFER', true, 'IA32_EFER is loaded.', ['GUEST_IA32_EFER']],
  [16, 'Load IA32_BNDCFGS', false, 'IA32_BNDCFGS is loaded.', ['GUEST_IA32_BNDCFGS']],
  [17, 'Conceal VMX from PT', false, 'Processor trace does not show the VM entry.'],
  [18, 'Load IA32_RTIT_CTL', false, 'IA32_RTIT_CTL is loaded.', ['GUEST_IA32_RTIT_CTL']],
  [19, 'Load UINV', false, 'The user-interrupt notification vector is loaded.', ['GUEST_UINV']],
  [
    20,
    'Load CET state',
    false,
    'The guest’s CET state is loaded.',
    ['GUEST_IA32_S_CET', 'GUEST_SSP', 'GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR'],
  ],
  [21, 'Load guest IA32_LBR_CTL', false, 'IA32_LBR_CTL is loaded.', ['GUEST_IA32_LBR_CTL']],
  [22, 'Load PKRS', false, 'IA32_PKRS is loaded.', ['GUEST_IA32_PKRS']],
  [
    23,
    'Load IA32_FRED',
    false,
    'The guest’s FRED state is loaded.',
    [
      'INJECTED_EVENT_DATA',
      'GUEST_IA32_FRED_CONFIG',
      'GUEST_IA32_FRED_RSP1',
      'GUEST_IA32_FRED_RSP2',
      'GUEST_IA32_FRED_RSP3',
      'GUEST_IA32_FRED_STKLVLS',
      'GUEST_IA32_FRED_SSP1',
      'GUEST_IA32_FRED_SSP2',
      'GUEST_IA32_FRED_SSP3',
    ],
  ],
  [24, 'Load IA32_SPEC_CTRL', false, 'IA32_SPEC_CTRL is loaded.', ['GUEST_IA32_SPEC_CTRL']],
] as const satisfies readonly Row[];

export interface ControlBit {
  readonly bit: number;
  /** As the manual writes it: 'External-interrupt exiting'. */
  readonly title: string;
  /** In capitals: 'EXTERNAL_INTERRUPT_EXITING'. */
  readonly name: string;
  readonly simulated: boolean;
  readonly documentation: string;
  /** Fields that exist only where this control (or another that lists them) may be 1. */
  readonly brings: readonly FieldName[];
}

export interface ControlField {
  readonly field: FieldName;
  /** Reports the allowed settings. */
  readonly capabilityMsr: number;
  /** For the fields that have default1 controls: the MSR that tells which of them may be 0. */
  readonly trueMsr?: number;
  /** The default1 class (SDM Vol. 3D, "Reserved Controls and Default Settings"): bits that were always 1. */
  readonly default1: number;
  readonly bits: readonly ControlBit[];
}

const toBits = (rows: readonly Row[]): ControlBit[] =>
  rows.map(([bit, title, simulated, documentation, brings]) => ({
    bit,
    title,
    name: nameOf(title),
    simulated,
    documentation,
    brings: brings ?? [],
  }));

export const CONTROL_FIELDS: readonly ControlField[] = [
  {
    field: 'PIN_BASED_VM_EXECUTION_CONTROLS',
    capabilityMsr: 0x481,
    trueMsr: 0x48d,
    default1: 0x0000_0016,
    bits: toBits(PIN_ROWS),
  },
  {
    field: 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
    capabilityMsr: 0x482,
    trueMsr: 0x48e,
    default1: 0x0401_e172,
    bits: toBits(PRIMARY_ROWS),
  },
  {
    field: 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
    capabilityMsr: 0x48b,
    default1: 0,
    bits: toBits(SECONDARY_ROWS),
  },
  {
    field: 'TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
    capabilityMsr: 0x492,
    default1: 0,
    bits: toBits(TERTIARY_ROWS),
  },
  {
    field: 'PRIMARY_VM_EXIT_CONTROLS',
    capabilityMsr: 0x483,
    trueMsr: 0x48f,
    default1: 0x0003_6dff,
    bits: toBits(EXIT_ROWS),
  },
  { field: 'SECONDARY_VM_EXIT_CONTROLS', capabilityMsr: 0x493, default1: 0, bits: toBits(EXIT2_ROWS) },
  {
    field: 'VM_ENTRY_CONTROLS',
    capabilityMsr: 0x484,
    trueMsr: 0x490,
    default1: 0x0000_11ff,
    bits: toBits(ENTRY_ROWS),
  },
];

type Titles<Rows extends readonly Row[]> = NameOf<Rows[number][1]>;
const masks = <Rows extends readonly Row[]>(rows: Rows): Readonly<Record<Titles<Rows>, number>> =>
  Object.fromEntries(rows.map(([bit, title]) => [nameOf(title), (1 << bit) >>> 0])) as Record<Titles<Rows>, number>;

/** Bit masks by name: PIN.NMI_EXITING is 8. */
export const PIN = masks(PIN_ROWS);
export const PRIMARY = masks(PRIMARY_ROWS);
export const SECONDARY = masks(SECONDARY_ROWS);
export const EXIT_CONTROL = masks(EXIT_ROWS);
export const ENTRY_CONTROL = masks(ENTRY_ROWS);

const BY_FIELD = new Map(CONTROL_FIELDS.map((control) => [control.field, control]));
export const controlField = (field: FieldName): ControlField | undefined => BY_FIELD.get(field);

/** The control bits of a field as named bits; undefined when it is no control field. */
export const controlLayout = (field: FieldName): readonly BitField[] | undefined =>
  BY_FIELD.get(field)?.bits.map((control) => flag(control.title, control.bit));

/** Fields that this machine has: those that no control brings, and those that a simulated control brings. */
export function fieldExists(name: FieldName): boolean {
  return !ABSENT.has(name);
}

function absentFields(): ReadonlySet<FieldName> {
  const all = CONTROL_FIELDS.flatMap((control) => control.bits);
  const absent = new Set(all.flatMap((bit) => bit.brings));
  for (const bit of all) if (bit.simulated) for (const field of bit.brings) absent.delete(field);
  return absent;
}
const ABSENT = absentFields();
