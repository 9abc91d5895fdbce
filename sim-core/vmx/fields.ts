/**
 * Every VMCS field, once (SDM Vol. 3D, "Field Encoding in VMCS").
 *
 * A row gives the full-access encoding, the place in the manual, what the field is, and its bits where they are named.
 * Width, area, index, group, the place inside the cached VMCS, and VMREAD's lookup derive from it. The bits of the
 * control fields stand in controls.ts; `layoutOf` in describe.ts joins the two.
 */

import type { SdmKey } from '../sdm.ts';
import type { BitField } from './bits.ts';
import * as L from './layouts.ts';

type Row = readonly [encoding: number, sdm: SdmKey, documentation: string, layout?: readonly BitField[]];

const ROWS = {
  VIRTUAL_PROCESSOR_ID: [
    0x0000,
    'vpid',
    'VPID: tags the linear and combined mappings of this virtual processor in the TLB. 0 belongs to the host.',
  ],
  POSTED_INTERRUPT_NOTIFICATION_VECTOR: [
    0x0002,
    'apicControls',
    'Vector whose arrival makes the processor process posted interrupts.',
  ],
  EPTP_INDEX: [
    0x0004,
    'virtualizationExceptions',
    'Index of the current EPT pointer, stored by #VE and set by EPTP switching.',
  ],
  HLAT_PREFIX_SIZE: [
    0x0006,
    'hlat',
    'Number of high linear-address bits that must be 1 for HLAT paging to translate an address.',
  ],
  LAST_PID_POINTER_INDEX: [
    0x0008,
    'apicControls',
    'Largest index into the PID-pointer table that IPI virtualization may use.',
  ],
  VIRTUAL_TIMER_VECTOR: [
    0x000a,
    'apicControls',
    'Vector of the virtual interrupt that APIC-timer virtualization raises.',
  ],

  GUEST_ES_SELECTOR: [0x0800, 'guestRegisterState', 'Guest ES selector.', L.SELECTOR],
  GUEST_CS_SELECTOR: [0x0802, 'guestRegisterState', 'Guest CS selector.', L.SELECTOR],
  GUEST_SS_SELECTOR: [0x0804, 'guestRegisterState', 'Guest SS selector.', L.SELECTOR],
  GUEST_DS_SELECTOR: [0x0806, 'guestRegisterState', 'Guest DS selector.', L.SELECTOR],
  GUEST_FS_SELECTOR: [0x0808, 'guestRegisterState', 'Guest FS selector.', L.SELECTOR],
  GUEST_GS_SELECTOR: [0x080a, 'guestRegisterState', 'Guest GS selector.', L.SELECTOR],
  GUEST_LDTR_SELECTOR: [0x080c, 'guestRegisterState', 'Guest LDTR selector.', L.SELECTOR],
  GUEST_TR_SELECTOR: [0x080e, 'guestRegisterState', 'Guest TR selector.', L.SELECTOR],
  GUEST_INTERRUPT_STATUS: [
    0x0810,
    'guestNonRegisterState',
    'Requesting (RVI, low byte) and servicing (SVI, high byte) virtual interrupt.',
    L.INTERRUPT_STATUS,
  ],
  PML_INDEX: [0x0812, 'guestNonRegisterState', 'Next entry of the page-modification log; counts down from 511.'],
  GUEST_UINV: [0x0814, 'guestRegisterState', 'Guest user-interrupt notification vector.'],

  HOST_ES_SELECTOR: [0x0c00, 'hostState', 'ES selector loaded by VM exits.', L.SELECTOR],
  HOST_CS_SELECTOR: [0x0c02, 'hostState', 'CS selector loaded by VM exits; must not be 0.', L.SELECTOR],
  HOST_SS_SELECTOR: [0x0c04, 'hostState', 'SS selector loaded by VM exits.', L.SELECTOR],
  HOST_DS_SELECTOR: [0x0c06, 'hostState', 'DS selector loaded by VM exits.', L.SELECTOR],
  HOST_FS_SELECTOR: [0x0c08, 'hostState', 'FS selector loaded by VM exits.', L.SELECTOR],
  HOST_GS_SELECTOR: [0x0c0a, 'hostState', 'GS selector loaded by VM exits.', L.SELECTOR],
  HOST_TR_SELECTOR: [0x0c0c, 'hostState', 'TR selector loaded by VM exits; must not be 0.', L.SELECTOR],

  IO_BITMAP_A_ADDRESS: [0x2000, 'ioBitmaps', 'Physical address of I/O bitmap A: ports 0000–7FFF, a bit each.'],
  IO_BITMAP_B_ADDRESS: [0x2002, 'ioBitmaps', 'Physical address of I/O bitmap B: ports 8000–FFFF, a bit each.'],
  MSR_BITMAP_ADDRESS: [
    0x2004,
    'msrBitmaps',
    'Physical address of the four 1-KiB MSR bitmaps: read low, read high, write low, write high.',
  ],
  VM_EXIT_MSR_STORE_ADDRESS: [0x2006, 'exitMsrs', 'Physical address of the list of MSRs that VM exits store.'],
  VM_EXIT_MSR_LOAD_ADDRESS: [
    0x2008,
    'exitMsrs',
    'Physical address of the list of MSRs that VM exits load for the host.',
  ],
  VM_ENTRY_MSR_LOAD_ADDRESS: [
    0x200a,
    'entryMsrs',
    'Physical address of the list of MSRs that VM entries load for the guest.',
  ],
  EXECUTIVE_VMCS_POINTER: [
    0x200c,
    'executiveVmcs',
    'Executive VMCS of the SMM-transfer monitor (dual-monitor treatment only).',
  ],
  PML_ADDRESS: [0x200e, 'pageModificationLogging', 'Physical address of the 512-entry page-modification log.'],
  TSC_OFFSET: [0x2010, 'tscControls', 'Signed value added to the time-stamp counter that the guest reads.'],
  VIRTUAL_APIC_ADDRESS: [
    0x2012,
    'apicControls',
    'Physical address of the virtual-APIC page (TPR shadow, APIC-register virtualization).',
  ],
  APIC_ACCESS_ADDRESS: [
    0x2014,
    'apicControls',
    'Physical address of the page whose accesses are treated as accesses to the virtual APIC.',
  ],
  POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: [
    0x2016,
    'apicControls',
    'Physical address of the 64-byte posted-interrupt descriptor.',
  ],
  VM_FUNCTION_CONTROLS: [0x2018, 'vmFunctions', 'Which VM functions VMFUNC may run.', L.VM_FUNCTIONS],
  EPT_POINTER: [
    0x201a,
    'eptPointer',
    'EPTP: root of the extended page tables, their memory type, walk length and options.',
    L.EPTP,
  ],
  EOI_EXIT_BITMAP_0: [0x201c, 'apicControls', 'Vectors 0–63 whose virtual EOI causes a VM exit.'],
  EOI_EXIT_BITMAP_1: [0x201e, 'apicControls', 'Vectors 64–127 whose virtual EOI causes a VM exit.'],
  EOI_EXIT_BITMAP_2: [0x2020, 'apicControls', 'Vectors 128–191 whose virtual EOI causes a VM exit.'],
  EOI_EXIT_BITMAP_3: [0x2022, 'apicControls', 'Vectors 192–255 whose virtual EOI causes a VM exit.'],
  EPTP_LIST_ADDRESS: [
    0x2024,
    'vmFunctions',
    'Physical address of the 512 EPT pointers that EPTP switching chooses from.',
  ],
  VMREAD_BITMAP_ADDRESS: [
    0x2026,
    'vmcsShadowing',
    'Physical address of the bitmap of fields whose guest VMREAD causes a VM exit.',
  ],
  VMWRITE_BITMAP_ADDRESS: [
    0x2028,
    'vmcsShadowing',
    'Physical address of the bitmap of fields whose guest VMWRITE causes a VM exit.',
  ],
  VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS: [
    0x202a,
    'virtualizationExceptions',
    'Physical address of the area that #VE fills.',
  ],
  XSS_EXITING_BITMAP: [0x202c, 'xssBitmap', 'State components of IA32_XSS whose XSAVES or XRSTORS causes a VM exit.'],
  ENCLS_EXITING_BITMAP: [0x202e, 'enclsBitmap', 'ENCLS leaf functions that cause a VM exit.'],
  SUB_PAGE_PERMISSION_TABLE_POINTER: [0x2030, 'subPagePermissions', 'SPPTP: root of the sub-page permission table.'],
  TSC_MULTIPLIER: [0x2032, 'tscControls', 'Factor of the guest’s time-stamp counter, with 48 fraction bits.'],
  TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: [
    0x2034,
    'processorBasedControls',
    'Third set of processor-based controls: what the guest may do without a VM exit.',
  ],
  ENCLV_EXITING_BITMAP: [0x2036, 'enclvBitmap', 'ENCLV leaf functions that cause a VM exit.'],
  LOW_PASID_DIRECTORY_ADDRESS: [
    0x2038,
    'pasid',
    'Physical address of the PASID directory for PASIDs whose bit 19 is 0.',
  ],
  HIGH_PASID_DIRECTORY_ADDRESS: [
    0x203a,
    'pasid',
    'Physical address of the PASID directory for PASIDs whose bit 19 is 1.',
  ],
  SHARED_EPT_POINTER: [0x203c, 'eptPointer', 'Second EPT root for shared guest-physical addresses (trust domains).'],
  PCONFIG_EXITING_BITMAP: [0x203e, 'pconfigBitmap', 'PCONFIG leaf functions that cause a VM exit.'],
  HLAT_POINTER: [0x2040, 'hlat', 'HLATP: root of the page tables that the hypervisor manages for the guest.'],
  PID_POINTER_TABLE_ADDRESS: [
    0x2042,
    'apicControls',
    'Physical address of the table of posted-interrupt descriptors for IPI virtualization.',
  ],
  SECONDARY_VM_EXIT_CONTROLS: [0x2044, 'exitControls', 'Second set of VM-exit controls.'],
  IA32_SPEC_CTRL_MASK: [0x204a, 'specCtrl', 'Bits of IA32_SPEC_CTRL that the guest cannot change.'],
  IA32_SPEC_CTRL_SHADOW: [0x204c, 'specCtrl', 'Value of IA32_SPEC_CTRL that the guest reads.'],
  GUEST_DEADLINE_SHADOW: [0x204e, 'apicControls', 'TSC deadline that the guest reads under APIC-timer virtualization.'],
  INJECTED_EVENT_DATA: [
    0x2052,
    'entryInjection',
    'Event data that VM entry pushes when it injects an event under FRED.',
  ],

  GUEST_PHYSICAL_ADDRESS: [
    0x2400,
    'basicExitInformation',
    'Guest-physical address whose access caused the EPT violation or misconfiguration.',
  ],
  MSR_DATA: [0x2402, 'basicExitInformation', 'Value that a WRMSRLIST or WRMSRNS about to exit would have written.'],
  ORIGINAL_EVENT_DATA: [0x2404, 'vectoringInformation', 'Event data of the event that was being delivered under FRED.'],

  VMCS_LINK_POINTER: [
    0x2800,
    'guestNonRegisterState',
    'All ones, or the shadow VMCS that guest VMREAD and VMWRITE use.',
  ],
  GUEST_IA32_DEBUGCTL: [0x2802, 'guestRegisterState', 'Guest IA32_DEBUGCTL.', L.DEBUGCTL],
  GUEST_IA32_PAT: [
    0x2804,
    'guestRegisterState',
    'Guest IA32_PAT: memory types that page-table bits choose from.',
    L.PAT,
  ],
  GUEST_IA32_EFER: [0x2806, 'guestRegisterState', 'Guest IA32_EFER.', L.EFER],
  GUEST_IA32_PERF_GLOBAL_CTRL: [0x2808, 'guestRegisterState', 'Guest IA32_PERF_GLOBAL_CTRL.'],
  GUEST_PDPTE0: [
    0x280a,
    'guestNonRegisterState',
    'Guest PAE page-directory-pointer entry for linear addresses 0–1 GiB (with EPT).',
  ],
  GUEST_PDPTE1: [
    0x280c,
    'guestNonRegisterState',
    'Guest PAE page-directory-pointer entry for linear addresses 1–2 GiB (with EPT).',
  ],
  GUEST_PDPTE2: [
    0x280e,
    'guestNonRegisterState',
    'Guest PAE page-directory-pointer entry for linear addresses 2–3 GiB (with EPT).',
  ],
  GUEST_PDPTE3: [
    0x2810,
    'guestNonRegisterState',
    'Guest PAE page-directory-pointer entry for linear addresses 3–4 GiB (with EPT).',
  ],
  GUEST_IA32_BNDCFGS: [0x2812, 'guestRegisterState', 'Guest IA32_BNDCFGS.'],
  GUEST_IA32_RTIT_CTL: [0x2814, 'guestRegisterState', 'Guest IA32_RTIT_CTL.'],
  GUEST_IA32_LBR_CTL: [0x2816, 'guestRegisterState', 'Guest IA32_LBR_CTL.'],
  GUEST_IA32_PKRS: [0x2818, 'guestRegisterState', 'Guest IA32_PKRS.'],
  GUEST_IA32_FRED_CONFIG: [0x281a, 'guestRegisterState', 'Guest IA32_FRED_CONFIG.'],
  GUEST_IA32_FRED_RSP1: [0x281c, 'guestRegisterState', 'Guest IA32_FRED_RSP1.'],
  GUEST_IA32_FRED_RSP2: [0x281e, 'guestRegisterState', 'Guest IA32_FRED_RSP2.'],
  GUEST_IA32_FRED_RSP3: [0x2820, 'guestRegisterState', 'Guest IA32_FRED_RSP3.'],
  GUEST_IA32_FRED_STKLVLS: [0x2822, 'guestRegisterState', 'Guest IA32_FRED_STKLVLS.'],
  GUEST_IA32_FRED_SSP1: [0x2824, 'guestRegisterState', 'Guest IA32_FRED_SSP1.'],
  GUEST_IA32_FRED_SSP2: [0x2826, 'guestRegisterState', 'Guest IA32_FRED_SSP2.'],
  GUEST_IA32_FRED_SSP3: [0x2828, 'guestRegisterState', 'Guest IA32_FRED_SSP3.'],
  GUEST_IA32_SPEC_CTRL: [0x282e, 'guestRegisterState', 'Guest IA32_SPEC_CTRL.'],
  GUEST_DEADLINE: [
    0x2830,
    'apicControls',
    'TSC value at which APIC-timer virtualization raises the virtual interrupt.',
  ],

  HOST_IA32_PAT: [0x2c00, 'hostState', 'IA32_PAT that VM exits load.', L.PAT],
  HOST_IA32_EFER: [0x2c02, 'hostState', 'IA32_EFER that VM exits load.', L.EFER],
  HOST_IA32_PERF_GLOBAL_CTRL: [0x2c04, 'hostState', 'IA32_PERF_GLOBAL_CTRL that VM exits load.'],
  HOST_IA32_PKRS: [0x2c06, 'hostState', 'IA32_PKRS that VM exits load.'],
  HOST_IA32_FRED_CONFIG: [0x2c08, 'hostState', 'IA32_FRED_CONFIG that VM exits load.'],
  HOST_IA32_FRED_RSP1: [0x2c0a, 'hostState', 'IA32_FRED_RSP1 that VM exits load.'],
  HOST_IA32_FRED_RSP2: [0x2c0c, 'hostState', 'IA32_FRED_RSP2 that VM exits load.'],
  HOST_IA32_FRED_RSP3: [0x2c0e, 'hostState', 'IA32_FRED_RSP3 that VM exits load.'],
  HOST_IA32_FRED_STKLVLS: [0x2c10, 'hostState', 'IA32_FRED_STKLVLS that VM exits load.'],
  HOST_IA32_FRED_SSP1: [0x2c12, 'hostState', 'IA32_FRED_SSP1 that VM exits load.'],
  HOST_IA32_FRED_SSP2: [0x2c14, 'hostState', 'IA32_FRED_SSP2 that VM exits load.'],
  HOST_IA32_FRED_SSP3: [0x2c16, 'hostState', 'IA32_FRED_SSP3 that VM exits load.'],
  HOST_IA32_SPEC_CTRL: [0x2c1a, 'hostState', 'IA32_SPEC_CTRL that VM exits load.'],

  PIN_BASED_VM_EXECUTION_CONTROLS: [
    0x4000,
    'pinBasedControls',
    'Handling of asynchronous events: interrupts, NMIs, preemption timer.',
  ],
  PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: [
    0x4002,
    'processorBasedControls',
    'First set of processor-based controls: which instructions and events cause VM exits.',
  ],
  EXCEPTION_BITMAP: [
    0x4004,
    'exceptionBitmap',
    'Exceptions that cause VM exits, a bit for each vector.',
    L.EXCEPTION_BITS,
  ],
  PAGE_FAULT_ERROR_CODE_MASK: [
    0x4006,
    'exceptionBitmap',
    'Bits of a page fault’s error code that are compared with the match field.',
    L.PAGE_FAULT_ERROR,
  ],
  PAGE_FAULT_ERROR_CODE_MATCH: [
    0x4008,
    'exceptionBitmap',
    'A page fault whose masked error code equals this follows exception-bitmap bit 14, others its opposite.',
    L.PAGE_FAULT_ERROR,
  ],
  CR3_TARGET_COUNT: [0x400a, 'cr3Targets', 'How many CR3-target values let a guest MOV to CR3 pass without a VM exit.'],
  PRIMARY_VM_EXIT_CONTROLS: [0x400c, 'exitControls', 'What VM exits save and load.'],
  VM_EXIT_MSR_STORE_COUNT: [0x400e, 'exitMsrs', 'Number of MSRs that VM exits store.'],
  VM_EXIT_MSR_LOAD_COUNT: [0x4010, 'exitMsrs', 'Number of MSRs that VM exits load.'],
  VM_ENTRY_CONTROLS: [0x4012, 'entryControls', 'What VM entries load, and the mode they enter.'],
  VM_ENTRY_MSR_LOAD_COUNT: [0x4014, 'entryMsrs', 'Number of MSRs that VM entries load.'],
  VM_ENTRY_INTERRUPTION_INFORMATION: [
    0x4016,
    'entryInjection',
    'Event that the next VM entry injects; VM exits clear its valid bit.',
    L.ENTRY_INTERRUPTION,
  ],
  VM_ENTRY_EXCEPTION_ERROR_CODE: [0x4018, 'entryInjection', 'Error code that the injected exception pushes.'],
  VM_ENTRY_INSTRUCTION_LENGTH: [
    0x401a,
    'entryInjection',
    'Length of the instruction that an injected software interrupt or exception stands for.',
  ],
  TPR_THRESHOLD: [0x401c, 'apicControls', 'A virtual task priority below this value causes a VM exit.'],
  SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: [
    0x401e,
    'processorBasedControls',
    'Second set of processor-based controls: EPT, VPID, unrestricted guest and others.',
  ],
  PLE_GAP: [0x4020, 'pauseLoop', 'Longest time between two PAUSEs of one loop, in TSC ticks.'],
  PLE_WINDOW: [0x4022, 'pauseLoop', 'Longest time a PAUSE loop may run before a VM exit, in TSC ticks.'],
  INSTRUCTION_TIMEOUT_CONTROL: [
    0x4024,
    'instructionTimeout',
    'Crystal-clock ticks that may pass without an instruction boundary before a VM exit.',
  ],

  VM_INSTRUCTION_ERROR: [
    0x4400,
    'instructionErrorField',
    'Why the last VMX instruction that failed with VMfailValid failed.',
    L.INSTRUCTION_ERROR,
  ],
  EXIT_REASON: [0x4402, 'basicExitInformation', 'Why the last VM exit (or failed VM entry) happened.', L.EXIT_REASON],
  VM_EXIT_INTERRUPTION_INFORMATION: [
    0x4404,
    'vectoredExitInformation',
    'Event that caused the VM exit: exception, NMI or external interrupt.',
    L.EXIT_INTERRUPTION,
  ],
  VM_EXIT_INTERRUPTION_ERROR_CODE: [
    0x4406,
    'vectoredExitInformation',
    'Error code of the exception that caused the VM exit.',
  ],
  IDT_VECTORING_INFORMATION: [
    0x4408,
    'vectoringInformation',
    'Event whose delivery was under way when the VM exit happened.',
    L.IDT_VECTORING,
  ],
  IDT_VECTORING_ERROR_CODE: [0x440a, 'vectoringInformation', 'Error code of the event whose delivery was under way.'],
  VM_EXIT_INSTRUCTION_LENGTH: [
    0x440c,
    'instructionExitInformation',
    'Length in bytes of the instruction that caused the VM exit.',
  ],
  VM_EXIT_INSTRUCTION_INFORMATION: [
    0x440e,
    'instructionExitInformation',
    'Operands of the instruction that caused the VM exit; its format depends on the exit reason.',
  ],

  GUEST_ES_LIMIT: [0x4800, 'guestRegisterState', 'Guest ES limit in bytes.'],
  GUEST_CS_LIMIT: [0x4802, 'guestRegisterState', 'Guest CS limit in bytes.'],
  GUEST_SS_LIMIT: [0x4804, 'guestRegisterState', 'Guest SS limit in bytes.'],
  GUEST_DS_LIMIT: [0x4806, 'guestRegisterState', 'Guest DS limit in bytes.'],
  GUEST_FS_LIMIT: [0x4808, 'guestRegisterState', 'Guest FS limit in bytes.'],
  GUEST_GS_LIMIT: [0x480a, 'guestRegisterState', 'Guest GS limit in bytes.'],
  GUEST_LDTR_LIMIT: [0x480c, 'guestRegisterState', 'Guest LDTR limit in bytes.'],
  GUEST_TR_LIMIT: [0x480e, 'guestRegisterState', 'Guest TR limit in bytes.'],
  GUEST_GDTR_LIMIT: [0x4810, 'guestRegisterState', 'Guest GDT limit in bytes; only 16 bits may be used.'],
  GUEST_IDTR_LIMIT: [0x4812, 'guestRegisterState', 'Guest IDT limit in bytes; only 16 bits may be used.'],
  GUEST_ES_ACCESS_RIGHTS: [0x4814, 'guestRegisterState', 'Guest ES access rights.', L.ACCESS_RIGHTS],
  GUEST_CS_ACCESS_RIGHTS: [
    0x4816,
    'guestRegisterState',
    'Guest CS access rights; L and D/B choose the mode.',
    L.ACCESS_RIGHTS,
  ],
  GUEST_SS_ACCESS_RIGHTS: [
    0x4818,
    'guestRegisterState',
    'Guest SS access rights; DPL is the guest’s CPL.',
    L.ACCESS_RIGHTS,
  ],
  GUEST_DS_ACCESS_RIGHTS: [0x481a, 'guestRegisterState', 'Guest DS access rights.', L.ACCESS_RIGHTS],
  GUEST_FS_ACCESS_RIGHTS: [0x481c, 'guestRegisterState', 'Guest FS access rights.', L.ACCESS_RIGHTS],
  GUEST_GS_ACCESS_RIGHTS: [0x481e, 'guestRegisterState', 'Guest GS access rights.', L.ACCESS_RIGHTS],
  GUEST_LDTR_ACCESS_RIGHTS: [0x4820, 'guestRegisterState', 'Guest LDTR access rights.', L.ACCESS_RIGHTS],
  GUEST_TR_ACCESS_RIGHTS: [
    0x4822,
    'guestRegisterState',
    'Guest TR access rights; the TSS must be busy.',
    L.ACCESS_RIGHTS,
  ],
  GUEST_INTERRUPTIBILITY_STATE: [
    0x4824,
    'guestNonRegisterState',
    'Which events the guest blocks for now: STI and MOV SS shadows, SMI, NMI.',
    L.INTERRUPTIBILITY,
  ],
  GUEST_ACTIVITY_STATE: [
    0x4826,
    'guestNonRegisterState',
    'Whether the guest executes instructions, or waits in HLT, shutdown or for a SIPI.',
    L.ACTIVITY_STATE,
  ],
  GUEST_SMBASE: [0x4828, 'guestRegisterState', 'Guest SMBASE.'],
  GUEST_IA32_SYSENTER_CS: [0x482a, 'guestRegisterState', 'Guest IA32_SYSENTER_CS.'],
  VMX_PREEMPTION_TIMER_VALUE: [
    0x482e,
    'guestNonRegisterState',
    'Ticks that the guest may run before the preemption timer causes a VM exit.',
  ],

  HOST_IA32_SYSENTER_CS: [0x4c00, 'hostState', 'IA32_SYSENTER_CS that VM exits load.'],

  CR0_GUEST_HOST_MASK: [
    0x6000,
    'masksAndShadows',
    'CR0 bits that the host owns: the guest reads them from the shadow; changing them causes a VM exit.',
    L.CR0,
  ],
  CR4_GUEST_HOST_MASK: [
    0x6002,
    'masksAndShadows',
    'CR4 bits that the host owns: the guest reads them from the shadow; changing them causes a VM exit.',
    L.CR4,
  ],
  CR0_READ_SHADOW: [0x6004, 'masksAndShadows', 'What the guest reads for the CR0 bits that the host owns.', L.CR0],
  CR4_READ_SHADOW: [0x6006, 'masksAndShadows', 'What the guest reads for the CR4 bits that the host owns.', L.CR4],
  CR3_TARGET_VALUE_0: [0x6008, 'cr3Targets', 'CR3 value that the guest may load without a VM exit.'],
  CR3_TARGET_VALUE_1: [0x600a, 'cr3Targets', 'CR3 value that the guest may load without a VM exit.'],
  CR3_TARGET_VALUE_2: [0x600c, 'cr3Targets', 'CR3 value that the guest may load without a VM exit.'],
  CR3_TARGET_VALUE_3: [0x600e, 'cr3Targets', 'CR3 value that the guest may load without a VM exit.'],

  EXIT_QUALIFICATION: [
    0x6400,
    'basicExitInformation',
    'Details of the VM exit; the format depends on the exit reason.',
  ],
  IO_RCX: [0x6402, 'instructionExitInformation', 'RCX before the I/O instruction (SMM VM exits only).'],
  IO_RSI: [0x6404, 'instructionExitInformation', 'RSI before the I/O instruction (SMM VM exits only).'],
  IO_RDI: [0x6406, 'instructionExitInformation', 'RDI before the I/O instruction (SMM VM exits only).'],
  IO_RIP: [0x6408, 'instructionExitInformation', 'RIP of the I/O instruction (SMM VM exits only).'],
  GUEST_LINEAR_ADDRESS: [0x640a, 'basicExitInformation', 'Linear address of the access that caused the VM exit.'],

  GUEST_CR0: [0x6800, 'guestRegisterState', 'Guest CR0.', L.CR0],
  GUEST_CR3: [
    0x6802,
    'guestRegisterState',
    'Guest CR3: root of the guest’s page tables (a guest-physical address with EPT).',
    L.CR3,
  ],
  GUEST_CR4: [0x6804, 'guestRegisterState', 'Guest CR4.', L.CR4],
  GUEST_ES_BASE: [0x6806, 'guestRegisterState', 'Guest ES base address.'],
  GUEST_CS_BASE: [0x6808, 'guestRegisterState', 'Guest CS base address.'],
  GUEST_SS_BASE: [0x680a, 'guestRegisterState', 'Guest SS base address.'],
  GUEST_DS_BASE: [0x680c, 'guestRegisterState', 'Guest DS base address.'],
  GUEST_FS_BASE: [0x680e, 'guestRegisterState', 'Guest FS base address.'],
  GUEST_GS_BASE: [0x6810, 'guestRegisterState', 'Guest GS base address.'],
  GUEST_LDTR_BASE: [0x6812, 'guestRegisterState', 'Guest LDT base address.'],
  GUEST_TR_BASE: [0x6814, 'guestRegisterState', 'Guest TSS base address.'],
  GUEST_GDTR_BASE: [0x6816, 'guestRegisterState', 'Guest GDT base address.'],
  GUEST_IDTR_BASE: [0x6818, 'guestRegisterState', 'Guest IDT base address.'],
  GUEST_DR7: [0x681a, 'guestRegisterState', 'Guest DR7.', L.DR7],
  GUEST_RSP: [0x681c, 'guestRegisterState', 'Guest RSP.'],
  GUEST_RIP: [0x681e, 'guestRegisterState', 'Guest RIP: where the guest stopped, and where VM entry goes on.'],
  GUEST_RFLAGS: [0x6820, 'guestRegisterState', 'Guest RFLAGS.', L.RFLAGS],
  GUEST_PENDING_DEBUG_EXCEPTIONS: [
    0x6822,
    'guestNonRegisterState',
    'Debug exceptions that are due but were not delivered before the VM exit.',
    L.PENDING_DEBUG,
  ],
  GUEST_IA32_SYSENTER_ESP: [0x6824, 'guestRegisterState', 'Guest IA32_SYSENTER_ESP.'],
  GUEST_IA32_SYSENTER_EIP: [0x6826, 'guestRegisterState', 'Guest IA32_SYSENTER_EIP.'],
  GUEST_IA32_S_CET: [0x6828, 'guestRegisterState', 'Guest IA32_S_CET.'],
  GUEST_SSP: [0x682a, 'guestRegisterState', 'Guest shadow-stack pointer.'],
  GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR: [0x682c, 'guestRegisterState', 'Guest IA32_INTERRUPT_SSP_TABLE_ADDR.'],

  HOST_CR0: [0x6c00, 'hostState', 'CR0 that VM exits load.', L.CR0],
  HOST_CR3: [0x6c02, 'hostState', 'CR3 that VM exits load: root of the host’s page tables.', L.CR3],
  HOST_CR4: [0x6c04, 'hostState', 'CR4 that VM exits load.', L.CR4],
  HOST_FS_BASE: [0x6c06, 'hostState', 'FS base address that VM exits load.'],
  HOST_GS_BASE: [0x6c08, 'hostState', 'GS base address that VM exits load.'],
  HOST_TR_BASE: [0x6c0a, 'hostState', 'TSS base address that VM exits load.'],
  HOST_GDTR_BASE: [0x6c0c, 'hostState', 'GDT base address that VM exits load; the limit becomes FFFFH.'],
  HOST_IDTR_BASE: [0x6c0e, 'hostState', 'IDT base address that VM exits load; the limit becomes FFFFH.'],
  HOST_IA32_SYSENTER_ESP: [0x6c10, 'hostState', 'IA32_SYSENTER_ESP that VM exits load.'],
  HOST_IA32_SYSENTER_EIP: [0x6c12, 'hostState', 'IA32_SYSENTER_EIP that VM exits load.'],
  HOST_RSP: [0x6c14, 'hostState', 'RSP that VM exits load: the VMM’s stack.'],
  HOST_RIP: [0x6c16, 'hostState', 'RIP that VM exits load: the VMM’s exit handler.'],
  HOST_IA32_S_CET: [0x6c18, 'hostState', 'IA32_S_CET that VM exits load.'],
  HOST_SSP: [0x6c1a, 'hostState', 'Shadow-stack pointer that VM exits load.'],
  HOST_IA32_INTERRUPT_SSP_TABLE_ADDR: [0x6c1c, 'hostState', 'IA32_INTERRUPT_SSP_TABLE_ADDR that VM exits load.'],
} as const satisfies Record<string, Row>;

export type FieldName = keyof typeof ROWS;
export type FieldWidth = 16 | 32 | 64 | 'natural';
export type FieldArea = 'control' | 'readOnly' | 'guest' | 'host';

/** The manual's logical groups of VMCS data (SDM Vol. 3C, "Organization of VMCS Data"). */
export const FIELD_GROUPS = {
  guestRegisterState: 'Guest register state',
  guestNonRegisterState: 'Guest non-register state',
  hostState: 'Host state',
  executionControls: 'VM-execution controls',
  exitControls: 'VM-exit controls',
  entryControls: 'VM-entry controls',
  exitInformation: 'VM-exit information',
} as const;
export type FieldGroup = keyof typeof FIELD_GROUPS;

export interface VmcsField {
  readonly name: FieldName;
  /** Full-access encoding; 64-bit fields also have `encoding + 1`, their high half. */
  readonly encoding: number;
  readonly width: FieldWidth;
  /** 2, 4 or 8: natural-width fields have 8 on this machine. */
  readonly bytes: 2 | 4 | 8;
  readonly area: FieldArea;
  readonly index: number;
  readonly group: FieldGroup;
  readonly sdm: SdmKey;
  readonly documentation: string;
  /** Named bits; empty for plain numbers and for control fields (see controls.ts). */
  readonly layout: readonly BitField[];
  /** Byte offset inside the VMCS region and the cached VMCS. Every field has 8 bytes; unused ones are zero. */
  readonly offset: number;
}

const WIDTHS: readonly FieldWidth[] = [16, 64, 32, 'natural'];
const AREAS: readonly FieldArea[] = ['control', 'readOnly', 'guest', 'host'];
const GROUP_OF_KEY: Partial<Record<SdmKey, FieldGroup>> = {
  guestRegisterState: 'guestRegisterState',
  guestNonRegisterState: 'guestNonRegisterState',
  hostState: 'hostState',
  exitControls: 'exitControls',
  exitMsrs: 'exitControls',
  entryControls: 'entryControls',
  entryMsrs: 'entryControls',
  entryInjection: 'entryControls',
  basicExitInformation: 'exitInformation',
  vectoredExitInformation: 'exitInformation',
  vectoringInformation: 'exitInformation',
  instructionExitInformation: 'exitInformation',
  instructionErrorField: 'exitInformation',
};

/** The VMCS region: the first 8 bytes are the manual's, the rest is this machine's own format. */
export const VMCS_REGION = { revision: 0, abort: 4, launchState: 8, firstField: 16, size: 4096 } as const;
export const LAUNCH_STATE = { clear: 0, launched: 1 } as const;

function build(): VmcsField[] {
  return (Object.entries(ROWS) as [FieldName, Row][]).map(
    ([name, [encoding, sdm, documentation, layout]], position) => {
      const width = WIDTHS[(encoding >> 13) & 3] ?? 'natural';
      return {
        name,
        encoding,
        width,
        bytes: width === 16 ? 2 : width === 32 ? 4 : 8,
        area: AREAS[(encoding >> 10) & 3] ?? 'control',
        index: (encoding >> 1) & 0x1ff,
        group: GROUP_OF_KEY[sdm] ?? 'executionControls',
        sdm,
        documentation,
        layout: layout ?? [],
        offset: VMCS_REGION.firstField + 8 * position,
      };
    },
  );
}

/** All fields, ordered by encoding. */
export const VMCS_FIELDS: readonly VmcsField[] = build();

const BY_NAME = new Map<string, VmcsField>(VMCS_FIELDS.map((field) => [field.name, field]));
const BY_ENCODING = new Map<number, VmcsField>(VMCS_FIELDS.map((field) => [field.encoding, field]));

const byName = (of: (field: VmcsField) => number): Readonly<Record<FieldName, number>> => ({
  // Spread, so that the engine lays the properties out as those of an ordinary object (see OFFSET in state/layout.ts).
  ...(Object.fromEntries(VMCS_FIELDS.map((field) => [field.name, of(field)])) as Record<FieldName, number>),
});
/** Encodings and cached-VMCS offsets by name, for code that works on one field. */
export const ENCODING = byName((field) => field.encoding);
export const FIELD_OFFSET = byName((field) => field.offset);

export function fieldOf(name: FieldName): VmcsField {
  const field = BY_NAME.get(name);
  if (!field) throw new RangeError(`no VMCS field ${name}`);
  return field;
}
/** By name as people type it: any case. */
export const fieldByName = (name: string): VmcsField | undefined => BY_NAME.get(name.toUpperCase());

/** The field that an encoding selects, and whether it is the high half of a 64-bit field. */
export function fieldByEncoding(encoding: number): { readonly field: VmcsField; readonly high: boolean } | undefined {
  const field = BY_ENCODING.get(encoding & ~1);
  if (!field || (encoding & 1 && field.width !== 64)) return undefined;
  return { field, high: (encoding & 1) === 1 };
}
