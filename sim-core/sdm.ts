/**
 * Keys for places in the Intel SDM: rows elsewhere cite a key, so that a new edition's numbers change here only.
 *
 * Section numbers are those of the combined volumes, order number 325462, editions 077 to 083 (VM entries in chapter
 * 27); titles have stayed the same for longer than numbers.
 */

interface SdmPlace {
  readonly volume: '2A' | '3A' | '3B' | '3C' | '3D' | '4';
  readonly section: string;
  readonly title: string;
}

const at3c = (section: string, title: string): SdmPlace => ({ volume: '3C', section, title });
const at3d = (section: string, title: string): SdmPlace => ({ volume: '3D', section, title });

export const SDM = {
  guestRegisterState: at3c('25.4.1', 'Guest Register State'),
  guestNonRegisterState: at3c('25.4.2', 'Guest Non-Register State'),
  hostState: at3c('25.5', 'Host-State Area'),
  pinBasedControls: at3c('25.6.1', 'Pin-Based VM-Execution Controls'),
  processorBasedControls: at3c('25.6.2', 'Processor-Based VM-Execution Controls'),
  exceptionBitmap: at3c('25.6.3', 'Exception Bitmap'),
  ioBitmaps: at3c('25.6.4', 'I/O-Bitmap Addresses'),
  tscControls: at3c('25.6.5', 'Time-Stamp Counter Offset and Multiplier'),
  masksAndShadows: at3c('25.6.6', 'Guest/Host Masks and Read Shadows for CR0 and CR4'),
  cr3Targets: at3c('25.6.7', 'CR3-Target Controls'),
  apicControls: at3c('25.6.8', 'Controls for APIC Virtualization'),
  msrBitmaps: at3c('25.6.9', 'MSR-Bitmap Address'),
  executiveVmcs: at3c('25.6.10', 'Executive-VMCS Pointer'),
  eptPointer: at3c('25.6.11', 'Extended-Page-Table Pointer (EPTP)'),
  vpid: at3c('25.6.12', 'Virtual-Processor Identifier (VPID)'),
  pauseLoop: at3c('25.6.13', 'Controls for PAUSE-Loop Exiting'),
  vmFunctions: at3c('25.6.14', 'VM-Function Controls'),
  vmcsShadowing: at3c('25.6.15', 'VMCS Shadowing Bitmap Addresses'),
  enclsBitmap: at3c('25.6.16', 'ENCLS-Exiting Bitmap'),
  enclvBitmap: at3c('25.6.17', 'ENCLV-Exiting Bitmap'),
  pconfigBitmap: at3c('25.6.18', 'PCONFIG-Exiting Bitmap'),
  pageModificationLogging: at3c('25.6.19', 'Control Field for Page-Modification Logging'),
  virtualizationExceptions: at3c('25.6.20', 'Controls for Virtualization Exceptions'),
  xssBitmap: at3c('25.6.21', 'XSS-Exiting Bitmap'),
  subPagePermissions: at3c('25.6.22', 'Sub-Page-Permission-Table Pointer (SPPTP)'),
  hlat: at3c('25.6.23', 'Fields Related to Hypervisor-Managed Linear-Address Translation'),
  pasid: at3c('25.6.24', 'Fields Related to PASID Translation'),
  instructionTimeout: at3c('25.6.25', 'Instruction-Timeout Control'),
  specCtrl: at3c('25.6.26', 'Fields Controlling Virtualization of the IA32_SPEC_CTRL MSR'),
  exitControls: at3c('25.7.1', 'VM-Exit Controls'),
  exitMsrs: at3c('25.7.2', 'VM-Exit Controls for MSRs'),
  entryControls: at3c('25.8.1', 'VM-Entry Controls'),
  entryMsrs: at3c('25.8.2', 'VM-Entry Controls for MSRs'),
  entryInjection: at3c('25.8.3', 'VM-Entry Controls for Event Injection'),
  basicExitInformation: at3c('25.9.1', 'Basic VM-Exit Information'),
  vectoredExitInformation: at3c('25.9.2', 'Information for VM Exits Due to Vectored Events'),
  vectoringInformation: at3c('25.9.3', 'Information for VM Exits That Occur During Event Delivery'),
  instructionExitInformation: at3c('25.9.4', 'Information for VM Exits Due to Instruction Execution'),
  instructionErrorField: at3c('25.9.5', 'VM-Instruction Error Field'),
  fieldEncodings: at3c('25.11.2', 'VMREAD, VMWRITE, and Encodings of VMCS Fields'),
  msrAreas: at3c('25.7.2', 'VM-Exit Controls for MSRs'),

  unconditionalExits: at3c('26.1.2', 'Instructions That Cause VM Exits Unconditionally'),
  conditionalExits: at3c('26.1.3', 'Instructions That Cause VM Exits Conditionally'),
  otherExits: at3c('26.2', 'Other Causes of VM Exits'),
  preemptionTimer: at3c('26.5.1', 'VMX-Preemption Timer'),

  entryBasicChecks: at3c('27.1', 'Basic VM-Entry Checks'),
  executionControlChecks: at3c('27.2.1.1', 'VM-Execution Control Fields'),
  exitControlChecks: at3c('27.2.1.2', 'VM-Exit Control Fields'),
  entryControlChecks: at3c('27.2.1.3', 'VM-Entry Control Fields'),
  hostRegisterChecks: at3c('27.2.2', 'Checks on Host Control Registers, MSRs, and SSP'),
  hostSegmentChecks: at3c('27.2.3', 'Checks on Host Segment and Descriptor-Table Registers'),
  addressSpaceChecks: at3c('27.2.4', 'Checks Related to Address-Space Size'),
  guestRegisterChecks: at3c('27.3.1.1', 'Checks on Guest Control Registers, Debug Registers, and MSRs'),
  guestSegmentChecks: at3c('27.3.1.2', 'Checks on Guest Segment Registers'),
  guestTableChecks: at3c('27.3.1.3', 'Checks on Guest Descriptor-Table Registers'),
  guestRipChecks: at3c('27.3.1.4', 'Checks on Guest RIP, RFLAGS, and SSP'),
  guestNonRegisterChecks: at3c('27.3.1.5', 'Checks on Guest Non-Register State'),
  guestPdpteChecks: at3c('27.3.1.6', 'Checks on Guest Page-Directory-Pointer-Table Entries'),
  loadingGuestState: at3c('27.3.2', 'Loading Guest State'),
  entryMsrLoading: at3c('27.4', 'Loading MSRs'),
  eventInjection: at3c('27.6', 'Event Injection'),
  entryFailures: at3c('27.8', 'VM-Entry Failures During or After Loading Guest State'),

  exitInformation: at3c('28.2', 'Recording VM-Exit Information and Updating VM-Entry Control Fields'),
  savingGuestState: at3c('28.3', 'Saving Guest State'),
  exitMsrStoring: at3c('28.4', 'Saving MSRs'),
  loadingHostState: at3c('28.5', 'Loading Host State'),
  exitMsrLoading: at3c('28.6', 'Loading MSRs'),
  vmxAborts: at3c('28.7', 'VMX Aborts'),

  eptExits: at3c('29.3.3', 'EPT-Induced VM Exits'),
  cachingTranslations: at3c('29.4', 'Caching Translation Information'),
  invalidation: at3c('29.4.3', 'Invalidating Cached Translation Information'),

  instructionConventions: at3c('31.2', 'Conventions'),
  instructionErrors: at3c('31.4', 'VM Instruction Error Numbers'),

  capabilityMsrs: at3d('A', 'VMX Capability Reporting Facility'),
  encodings: at3d('B', 'Field Encoding in VMCS'),
  exitReasons: at3d('C', 'VMX Basic Exit Reasons'),
} as const satisfies Record<string, SdmPlace>;

export type SdmKey = keyof typeof SDM;

/** As people cite it: `SDM Vol. 3C 27.2.3`. */
export const cite = (key: SdmKey): string => `SDM Vol. ${SDM[key].volume} ${SDM[key].section}`;
/** With the title: `SDM Vol. 3C 27.2.3, "Checks on Host Segment and Descriptor-Table Registers"`. */
export const citeInFull = (key: SdmKey): string => `${cite(key)}, "${SDM[key].title}"`;
