import assert from 'node:assert/strict';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import type { EntryFacts } from './entry-check.ts';
import { ENTRY_CHECKS, EntryCheckCache, explainCheck, failingChecks } from './entry-checks.ts';
import type { FieldName } from './fields.ts';
import { fieldOf, VMCS_FIELDS } from './fields.ts';
import { FACTS, type FieldChanges, VALID_CHANGES, vmcsWith } from './test-vmcs.ts';
import type { FieldValues } from './values.ts';

/** What breaks a check: field values, facts that differ, and checks that fail inevitably along with it. */
interface Break {
  readonly fields?: FieldChanges;
  readonly facts?: Partial<EntryFacts>;
  readonly also?: readonly string[];
}

const NON_CANONICAL = 0x8000_0000_0000n;
const BEYOND = 1n << BigInt(FACTS.physicalAddressBits);
const valid = <Name extends FieldName>(name: Name): FieldValues[Name] => vmcsWith(VALID_CHANGES)[name];
const PRIMARY_FIELD = 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const primary = valid(PRIMARY_FIELD);
const pin = valid('PIN_BASED_VM_EXECUTION_CONTROLS');
const exit = valid('PRIMARY_VM_EXIT_CONTROLS');
const entry = valid('VM_ENTRY_CONTROLS');
const secondary = valid('SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS');
const fields = (changes: FieldChanges, also: readonly string[] = []): Break => ({ fields: changes, also });

/** An event to inject. */
const event = (type: number, vector: number, more = 0): number => (0x8000_0000 | (type << 8) | vector | more) >>> 0;
const EXTERNAL = event(0, 0x20);
const NMI = event(2, 2);

/** A 32-bit guest with paging in a 64-bit host. */
const GUEST32: FieldChanges = {
  VM_ENTRY_CONTROLS: entry & ~ENTRY_CONTROL.IA_32E_MODE_GUEST,
  GUEST_IA32_EFER: 0n,
  GUEST_CR4: 0x2000n,
  GUEST_CS_ACCESS_RIGHTS: 0xc09b,
};
/** An unrestricted guest in real-address mode. */
const REAL: FieldChanges = {
  ...GUEST32,
  SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: secondary | SECONDARY.UNRESTRICTED_GUEST,
  GUEST_CR0: 0x30n,
};
const SIX = ['cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const;
const upper = <Name extends string>(name: Name) => name.toUpperCase() as Uppercase<Name>;
const V86: FieldChanges = {
  ...GUEST32,
  GUEST_RFLAGS: 0x2_0002n,
  GUEST_CS_SELECTOR: 0,
  ...Object.fromEntries(
    SIX.flatMap((name) => [
      [`GUEST_${upper(name)}_LIMIT`, 0xffff],
      [`GUEST_${upper(name)}_ACCESS_RIGHTS`, 0xf3],
    ]),
  ),
};
/** A host outside IA-32e mode, with a 32-bit guest. */
const HOST32: Break = {
  fields: {
    ...GUEST32,
    PRIMARY_VM_EXIT_CONTROLS: exit & ~EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE,
    HOST_IA32_EFER: 0n,
    HOST_CR4: 0x2000n,
  },
  facts: { longModeActive: () => false },
};
const host32 = (changes: FieldChanges): Break => ({ ...HOST32, fields: { ...HOST32.fields, ...changes } });

const SECONDARY_FIELD = 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const PIN_FIELD = 'PIN_BASED_VM_EXECUTION_CONTROLS';
const EXIT_FIELD = 'PRIMARY_VM_EXIT_CONTROLS';
/** More secondary controls, on or off. */
const withSecondary = (more: number, less = 0): FieldChanges => ({ [SECONDARY_FIELD]: (secondary | more) & ~less });
/** A guest with a TPR shadow at 7000H, and more secondary controls. */
const shadowed = (more = 0): FieldChanges => ({
  [PRIMARY_FIELD]: (primary | PRIMARY.USE_TPR_SHADOW) >>> 0,
  VIRTUAL_APIC_ADDRESS: 0x7000n,
  ...withSecondary(more),
});
const POSTED: FieldChanges = {
  ...shadowed(SECONDARY.VIRTUAL_INTERRUPT_DELIVERY),
  [PIN_FIELD]: pin | PIN.EXTERNAL_INTERRUPT_EXITING | PIN.PROCESS_POSTED_INTERRUPTS,
  [EXIT_FIELD]: exit | EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT_ON_EXIT,
  POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: 0x8040n,
};

const APIC: Record<string, Break> = {
  'controls.virtualApic.address': fields({ ...shadowed(), VIRTUAL_APIC_ADDRESS: 0x7080n }),
  // Only its low bits are compared with the priority.
  'controls.tprThreshold.reserved': fields({ ...shadowed(), TPR_THRESHOLD: 0x10 }),
  'controls.tprThreshold.priority': {
    fields: { ...shadowed(), TPR_THRESHOLD: 5 },
    facts: { read32: (physical) => (physical === 0x7080 ? 0x4f : 0) },
  },
  'controls.tprShadow': fields(withSecondary(SECONDARY.VIRTUALIZE_X2APIC_MODE)),
  'controls.apicAccess': fields({ ...withSecondary(SECONDARY.VIRTUALIZE_APIC_ACCESSES), APIC_ACCESS_ADDRESS: BEYOND }),
  'controls.x2apic': fields(shadowed(SECONDARY.VIRTUALIZE_X2APIC_MODE | SECONDARY.VIRTUALIZE_APIC_ACCESSES)),
  'controls.virtualInterrupts': fields(shadowed(SECONDARY.VIRTUAL_INTERRUPT_DELIVERY)),
  'controls.postedInterrupts.controls': fields({ ...POSTED, [EXIT_FIELD]: exit }),
  'controls.postedInterrupts.vector': fields({ ...POSTED, POSTED_INTERRUPT_NOTIFICATION_VECTOR: 0x100 }),
  'controls.postedInterrupts.descriptor': fields({ ...POSTED, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: 0x8020n }),
};

const CONTROLS: Record<string, Break> = {
  ...APIC,
  'controls.pml': fields(withSecondary(SECONDARY.ENABLE_PML, SECONDARY.ENABLE_EPT)),
  'controls.pml.address': fields({ ...withSecondary(SECONDARY.ENABLE_PML), PML_ADDRESS: 0x800n }),
  'controls.virtualizationException': fields({
    ...withSecondary(SECONDARY['EPT_VIOLATION_#VE']),
    VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS: 0x10n,
  }),
  'controls.subPageWrite': fields(withSecondary(SECONDARY.SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT, SECONDARY.ENABLE_EPT)),
  'controls.subPageWrite.pointer': fields({
    ...withSecondary(SECONDARY.SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT),
    SUB_PAGE_PERMISSION_TABLE_POINTER: 0x80n,
  }),
  'controls.vmreadBitmap': fields({ ...withSecondary(SECONDARY.VMCS_SHADOWING), VMREAD_BITMAP_ADDRESS: BEYOND }),
  'controls.vmwriteBitmap': fields({ ...withSecondary(SECONDARY.VMCS_SHADOWING), VMWRITE_BITMAP_ADDRESS: 1n }),
  'controls.vmFunctions.reserved': fields({
    ...withSecondary(SECONDARY.ENABLE_VM_FUNCTIONS),
    VM_FUNCTION_CONTROLS: 2n,
  }),
  'controls.vmFunctions.ept': fields({
    ...withSecondary(SECONDARY.ENABLE_VM_FUNCTIONS, SECONDARY.ENABLE_EPT),
    VM_FUNCTION_CONTROLS: 1n,
  }),
  'controls.vmFunctions.list': fields({
    ...withSecondary(SECONDARY.ENABLE_VM_FUNCTIONS),
    VM_FUNCTION_CONTROLS: 1n,
    EPTP_LIST_ADDRESS: 0x10n,
  }),
  'controls.modeBasedExecute': fields(
    withSecondary(SECONDARY.MODE_BASED_EXECUTE_CONTROL_FOR_EPT, SECONDARY.ENABLE_EPT),
  ),
  'controls.tscMultiplier': fields(withSecondary(SECONDARY.USE_TSC_SCALING)),
  'controls.pin.reserved': fields({ PIN_BASED_VM_EXECUTION_CONTROLS: pin & ~2 }),
  'controls.primary.reserved': fields({ [PRIMARY_FIELD]: (primary | PRIMARY.ACTIVATE_TERTIARY_CONTROLS) >>> 0 }),
  'controls.secondary.reserved': fields({
    SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: secondary | SECONDARY.ENABLE_PCONFIG,
  }),
  'controls.cr3Targets': fields({ CR3_TARGET_COUNT: 5 }),
  'controls.ioBitmapA': fields({
    [PRIMARY_FIELD]: (primary | PRIMARY.USE_IO_BITMAPS) >>> 0,
    IO_BITMAP_A_ADDRESS: 0x1001n,
  }),
  'controls.ioBitmapB': fields({
    [PRIMARY_FIELD]: (primary | PRIMARY.USE_IO_BITMAPS) >>> 0,
    IO_BITMAP_B_ADDRESS: BEYOND,
  }),
  'controls.msrBitmap': fields({
    [PRIMARY_FIELD]: (primary | PRIMARY.USE_MSR_BITMAPS) >>> 0,
    MSR_BITMAP_ADDRESS: 0x800n,
  }),
  'controls.virtualNmis': fields({ PIN_BASED_VM_EXECUTION_CONTROLS: pin | PIN.VIRTUAL_NMIS }),
  'controls.nmiWindow': fields({ [PRIMARY_FIELD]: (primary | PRIMARY.NMI_WINDOW_EXITING) >>> 0 }),
  'controls.vpid': fields({ VIRTUAL_PROCESSOR_ID: 0 }),
  'controls.eptp.memoryType': fields({ EPT_POINTER: 0x2_001cn }),
  'controls.eptp.walkLength': fields({ EPT_POINTER: 0x2_0016n }),
  'controls.eptp.reserved': fields({ EPT_POINTER: 0x2_009en }),
  'controls.eptp.address': fields({ EPT_POINTER: BEYOND | 0x1en }),
  'controls.unrestrictedGuest': fields({
    SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: SECONDARY.UNRESTRICTED_GUEST,
  }),
  'controls.exit.reserved': fields({ PRIMARY_VM_EXIT_CONTROLS: exit & ~1 }),
  'controls.exit.preemptionTimer': fields({
    PRIMARY_VM_EXIT_CONTROLS: exit | EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER_VALUE,
  }),
  'controls.exit.msrStore': fields({ VM_EXIT_MSR_STORE_COUNT: 1, VM_EXIT_MSR_STORE_ADDRESS: 8n }),
  'controls.exit.msrLoad': fields({ VM_EXIT_MSR_LOAD_COUNT: 2, VM_EXIT_MSR_LOAD_ADDRESS: BEYOND - 16n }),
  'controls.entry.reserved': fields({ VM_ENTRY_CONTROLS: entry & ~0x1000 }),
  'controls.entry.event.type': fields({ VM_ENTRY_INTERRUPTION_INFORMATION: event(1, 0x20) }),
  'controls.entry.event.vector': fields({ VM_ENTRY_INTERRUPTION_INFORMATION: event(2, 3) }),
  'controls.entry.event.deliverErrorCode': fields({ VM_ENTRY_INTERRUPTION_INFORMATION: event(3, 13) }),
  'controls.entry.event.reserved': fields({ VM_ENTRY_INTERRUPTION_INFORMATION: event(3, 6, 0x1000) }),
  'controls.entry.event.errorCode': fields({
    VM_ENTRY_INTERRUPTION_INFORMATION: event(3, 13, 0x800),
    VM_ENTRY_EXCEPTION_ERROR_CODE: 0x1_0000,
  }),
  'controls.entry.event.instructionLength': fields({
    VM_ENTRY_INTERRUPTION_INFORMATION: event(4, 0x80),
    VM_ENTRY_INSTRUCTION_LENGTH: 16,
  }),
  'controls.entry.msrLoad': fields({ VM_ENTRY_MSR_LOAD_COUNT: 1, VM_ENTRY_MSR_LOAD_ADDRESS: 0x1008n }),
};

const HOST: Record<string, Break> = {
  'host.cr0': fields({ HOST_CR0: 0x8005_0013n }),
  'host.cr4': fields({ HOST_CR4: 0x20n }),
  'host.cr3': fields({ HOST_CR3: BEYOND }),
  'host.sysenterEsp': fields({ HOST_IA32_SYSENTER_ESP: NON_CANONICAL }),
  'host.sysenterEip': fields({ HOST_IA32_SYSENTER_EIP: NON_CANONICAL }),
  'host.perfGlobalCtrl': fields({
    PRIMARY_VM_EXIT_CONTROLS: exit | EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    HOST_IA32_PERF_GLOBAL_CTRL: 1n << 35n,
  }),
  'host.pat': fields({ HOST_IA32_PAT: 0x02n }),
  'host.efer.reserved': fields({ HOST_IA32_EFER: 0x502n }),
  'host.efer.mode': fields({ HOST_IA32_EFER: 0n }),
  'host.cs.selector': fields({ HOST_CS_SELECTOR: 0x0b }),
  'host.ss.selector': fields({ HOST_SS_SELECTOR: 0x14 }),
  'host.ds.selector': fields({ HOST_DS_SELECTOR: 1 }),
  'host.es.selector': fields({ HOST_ES_SELECTOR: 2 }),
  'host.fs.selector': fields({ HOST_FS_SELECTOR: 4 }),
  'host.gs.selector': fields({ HOST_GS_SELECTOR: 7 }),
  'host.tr.selector': fields({ HOST_TR_SELECTOR: 0x19 }),
  'host.cs.null': fields({ HOST_CS_SELECTOR: 0 }),
  'host.tr.null': fields({ HOST_TR_SELECTOR: 0 }),
  'host.ss.null': host32({ HOST_SS_SELECTOR: 0 }),
  'host.fs.base': fields({ HOST_FS_BASE: NON_CANONICAL }),
  'host.gs.base': fields({ HOST_GS_BASE: NON_CANONICAL }),
  'host.gdtr.base': fields({ HOST_GDTR_BASE: NON_CANONICAL }),
  'host.idtr.base': fields({ HOST_IDTR_BASE: NON_CANONICAL }),
  'host.tr.base': fields({ HOST_TR_BASE: NON_CANONICAL }),
  'host.addressSpace.current': { fields: GUEST32, facts: { longModeActive: () => false } },
  'host.addressSpace.guest': host32({ VM_ENTRY_CONTROLS: entry, GUEST_CR4: 0x2020n, GUEST_IA32_EFER: 0x500n }),
  'host.addressSpace.pcide': host32({ HOST_CR4: 0x2_2000n }),
  'host.addressSpace.rip32': host32({ HOST_RIP: 0x1_0000_0000n }),
  'host.addressSpace.pae': fields({ HOST_CR4: 0x2000n }),
  'host.addressSpace.rip64': fields({ HOST_RIP: NON_CANONICAL }),
};

const REGISTERS: Record<string, Break> = {
  'guest.cr0': fields({ GUEST_CR0: 0x8005_0013n }),
  'guest.cr0.pagingNeedsProtection': fields({ ...REAL, GUEST_CR0: 0x8000_0030n }),
  'guest.cr4': fields({ GUEST_CR4: 0x20n }),
  'guest.debugctl': fields({ GUEST_IA32_DEBUGCTL: 0x4n }),
  'guest.longMode.paging': fields({
    SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: secondary | SECONDARY.UNRESTRICTED_GUEST,
    GUEST_CR0: 0x31n,
  }),
  'guest.longMode.pae': fields({ GUEST_CR4: 0x2000n }),
  'guest.cr4.pcide': fields({ ...GUEST32, GUEST_CR4: 0x2_2000n }),
  'guest.cr3': fields({ GUEST_CR3: BEYOND }),
  'guest.dr7': fields({ GUEST_DR7: 0x1_0000_0400n }),
  'guest.sysenterEsp': fields({ GUEST_IA32_SYSENTER_ESP: NON_CANONICAL }),
  'guest.sysenterEip': fields({ GUEST_IA32_SYSENTER_EIP: NON_CANONICAL }),
  'guest.perfGlobalCtrl': fields({
    VM_ENTRY_CONTROLS: entry | ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    GUEST_IA32_PERF_GLOBAL_CTRL: 0x10n,
  }),
  'guest.pat': fields({ GUEST_IA32_PAT: 0x0300n }),
  'guest.efer.reserved': fields({ GUEST_IA32_EFER: 0x504n }),
  'guest.efer.lma': fields({ ...GUEST32, GUEST_IA32_EFER: 0x500n }),
  'guest.efer.lme': fields({ GUEST_IA32_EFER: 0x400n }),
  'guest.gdtr.base': fields({ GUEST_GDTR_BASE: NON_CANONICAL }),
  'guest.gdtr.limit': fields({ GUEST_GDTR_LIMIT: 0x1_0000 }),
  'guest.idtr.base': fields({ GUEST_IDTR_BASE: NON_CANONICAL }),
  'guest.idtr.limit': fields({ GUEST_IDTR_LIMIT: 0x8000_0000 }),
  'guest.rip.high': fields({ ...GUEST32, GUEST_RIP: 0x1_0000_0000n }),
  'guest.rip.width': fields({ GUEST_RIP: 1n << 48n }),
  'guest.rflags.reserved': fields({ GUEST_RFLAGS: 0xan }),
  'guest.rflags.vm': fields({
    ...V86,
    VM_ENTRY_CONTROLS: entry,
    GUEST_CR4: 0x2020n,
    GUEST_IA32_EFER: 0x500n,
  }),
  'guest.rflags.if': fields({ VM_ENTRY_INTERRUPTION_INFORMATION: EXTERNAL }),
};

const NON_REGISTER: Record<string, Break> = {
  'guest.activity.value': fields({ GUEST_ACTIVITY_STATE: 4 }),
  'guest.activity.hltCpl': fields({
    GUEST_ACTIVITY_STATE: 1,
    GUEST_CS_SELECTOR: 0x0b,
    GUEST_CS_ACCESS_RIGHTS: 0xa0fb,
    GUEST_SS_SELECTOR: 3,
    GUEST_SS_ACCESS_RIGHTS: 0xc0f3,
  }),
  'guest.activity.blocking': fields({
    GUEST_ACTIVITY_STATE: 1,
    GUEST_INTERRUPTIBILITY_STATE: 1,
    GUEST_RFLAGS: 0x202n,
  }),
  'guest.activity.event': fields({ GUEST_ACTIVITY_STATE: 1, VM_ENTRY_INTERRUPTION_INFORMATION: event(3, 6) }),
  'guest.interruptibility.reserved': fields({ GUEST_INTERRUPTIBILITY_STATE: 0x20 }),
  'guest.interruptibility.both': fields({ GUEST_INTERRUPTIBILITY_STATE: 3, GUEST_RFLAGS: 0x202n }),
  'guest.interruptibility.sti': fields({ GUEST_INTERRUPTIBILITY_STATE: 1 }),
  'guest.interruptibility.externalInterrupt': fields({
    GUEST_INTERRUPTIBILITY_STATE: 2,
    GUEST_RFLAGS: 0x202n,
    VM_ENTRY_INTERRUPTION_INFORMATION: EXTERNAL,
  }),
  'guest.interruptibility.nmiMovSs': fields({
    GUEST_INTERRUPTIBILITY_STATE: 2,
    VM_ENTRY_INTERRUPTION_INFORMATION: NMI,
  }),
  'guest.interruptibility.smi': fields({ GUEST_INTERRUPTIBILITY_STATE: 4 }),
  'guest.interruptibility.virtualNmi': fields({
    PIN_BASED_VM_EXECUTION_CONTROLS: pin | PIN.NMI_EXITING | PIN.VIRTUAL_NMIS,
    GUEST_INTERRUPTIBILITY_STATE: 8,
    VM_ENTRY_INTERRUPTION_INFORMATION: NMI,
  }),
  'guest.interruptibility.enclave': fields({ GUEST_INTERRUPTIBILITY_STATE: 0x10 }),
  'guest.pendingDebug.reserved': fields({ GUEST_PENDING_DEBUG_EXCEPTIONS: 0x10n }),
  'guest.pendingDebug.step': fields({ GUEST_INTERRUPTIBILITY_STATE: 2, GUEST_RFLAGS: 0x102n }),
  'guest.linkPointer.address': fields({ VMCS_LINK_POINTER: 0x6008n }),
  'guest.linkPointer.revision': fields({ VMCS_LINK_POINTER: 0x7000n }),
  'guest.linkPointer.current': fields({ VMCS_LINK_POINTER: 0x5000n }),
  'guest.pdptes.fields': fields({ ...GUEST32, GUEST_CR4: 0x2020n, GUEST_PDPTE2: 0x3n }),
  'guest.pdptes.memory': {
    fields: { ...GUEST32, GUEST_CR4: 0x2020n, SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: 0 },
    facts: { read64: (physical) => (physical === 0x3008 ? 0x1_0000_0000_0000_0001n : 0n) },
  },
};

function segmentBreaks(): Record<string, Break> {
  const breaks: Record<string, Break> = {};
  for (const name of SIX) {
    const rights = `GUEST_${upper(name)}_ACCESS_RIGHTS` as const;
    const good = valid(rights);
    const id = (what: string) => `guest.${name}.${what}`;
    breaks[id('s')] = fields({ [rights]: good & ~0x10 });
    breaks[id('present')] = fields({ [rights]: good & ~0x80 });
    breaks[id('reserved')] = fields({ [rights]: good | 0x2_0000 });
    breaks[id('granularity')] = fields({ [`GUEST_${upper(name)}_LIMIT`]: 0xffff_fffe });
    breaks[id('v86Base')] = fields({ ...V86, [`GUEST_${upper(name)}_BASE`]: 0x10n });
    breaks[id('v86Limit')] = fields({ ...V86, [`GUEST_${upper(name)}_LIMIT`]: 0xfffff });
    breaks[id('v86Rights')] = fields({ ...V86, [rights]: 0x93 });
    const base = name === 'fs' || name === 'gs' ? NON_CANONICAL : 0x1_0000_0000n;
    breaks[id('base')] = fields({ [`GUEST_${upper(name)}_BASE`]: base });
    if (name === 'cs' || name === 'ss') continue;
    breaks[id('accessed')] = fields({ [rights]: 0xc092 });
    breaks[id('readable')] = fields({ [rights]: 0xc099 });
    breaks[id('dpl')] = fields({ [`GUEST_${upper(name)}_SELECTOR`]: 3 });
  }
  return breaks;
}

const LDTR: FieldChanges = { GUEST_LDTR_ACCESS_RIGHTS: 0x82, GUEST_LDTR_LIMIT: 0xff };
const SEGMENTS: Record<string, Break> = {
  ...segmentBreaks(),
  'guest.cs.type': fields({ GUEST_CS_ACCESS_RIGHTS: 0xa09a }),
  'guest.cs.dpl': fields({ GUEST_CS_ACCESS_RIGHTS: 0xa0bb }),
  'guest.cs.size': fields({ GUEST_CS_ACCESS_RIGHTS: 0xe09b }),
  'guest.ss.type': fields({ GUEST_SS_ACCESS_RIGHTS: 0xc091 }),
  'guest.ss.selector': fields({ GUEST_CS_SELECTOR: 0x0b }),
  'guest.ss.dpl': fields({ GUEST_SS_ACCESS_RIGHTS: 0xc0b3, GUEST_CS_ACCESS_RIGHTS: 0xa0bb }),
  'guest.ss.dplReal': fields({ ...REAL, GUEST_SS_ACCESS_RIGHTS: 0xc0f3, GUEST_CS_ACCESS_RIGHTS: 0xc0fb }),
  'guest.tr.selector': fields({ GUEST_TR_SELECTOR: 4 }),
  'guest.tr.base': fields({ GUEST_TR_BASE: NON_CANONICAL }),
  'guest.tr.type': fields({ GUEST_TR_ACCESS_RIGHTS: 0x83 }),
  'guest.tr.usable': fields({ GUEST_TR_ACCESS_RIGHTS: 0x1_008b }),
  'guest.tr.s': fields({ GUEST_TR_ACCESS_RIGHTS: 0x9b }),
  'guest.tr.present': fields({ GUEST_TR_ACCESS_RIGHTS: 0x0b }),
  'guest.tr.reserved': fields({ GUEST_TR_ACCESS_RIGHTS: 0x18b }),
  'guest.tr.granularity': fields({ GUEST_TR_ACCESS_RIGHTS: 0x808b }),
  'guest.ldtr.selector': fields({ ...LDTR, GUEST_LDTR_SELECTOR: 4 }),
  'guest.ldtr.base': fields({ ...LDTR, GUEST_LDTR_BASE: NON_CANONICAL }),
  'guest.ldtr.type': fields({ ...LDTR, GUEST_LDTR_ACCESS_RIGHTS: 0x83 }),
  'guest.ldtr.s': fields({ ...LDTR, GUEST_LDTR_ACCESS_RIGHTS: 0x92 }),
  'guest.ldtr.present': fields({ ...LDTR, GUEST_LDTR_ACCESS_RIGHTS: 0x02 }),
  'guest.ldtr.reserved': fields({ ...LDTR, GUEST_LDTR_ACCESS_RIGHTS: 0x182 }),
  'guest.ldtr.granularity': fields({ ...LDTR, GUEST_LDTR_LIMIT: 0x10_0000 }),
};

const BREAKS: Record<string, Break> = { ...CONTROLS, ...HOST, ...REGISTERS, ...SEGMENTS, ...NON_REGISTER };

const failingIds = ({ fields: changes = {}, facts = {} }: Break): string[] =>
  failingChecks(vmcsWith(changes), { ...FACTS, ...facts }).map((check) => check.id);

describe('VM-entry checks', () => {
  it('pass on a valid VMCS of each kind', () => {
    assert.deepEqual(failingIds({}), []);
    assert.deepEqual(failingIds(fields(GUEST32)), []);
    assert.deepEqual(failingIds(fields(REAL)), []);
    assert.deepEqual(failingIds(fields(V86)), []);
    assert.deepEqual(failingIds(HOST32), []);
    assert.deepEqual(failingIds(fields(LDTR)), []);
    assert.deepEqual(failingIds(fields({ VMCS_LINK_POINTER: 0x6000n })), []);
  });

  for (const check of ENTRY_CHECKS) {
    it(`${check.id} fails alone`, () => {
      const broken = BREAKS[check.id];
      assert.ok(broken, 'the check has no VMCS that breaks it');
      assert.deepEqual(failingIds(broken), [check.id, ...(broken.also ?? [])]);
    });
  }

  it('have unique ids, and every test belongs to one', () => {
    const ids = ENTRY_CHECKS.map((check) => check.id);
    assert.equal(new Set(ids).size, ids.length);
    assert.deepEqual(
      Object.keys(BREAKS).filter((id) => !ids.includes(id)),
      [],
    );
  });

  it('read only the fields that they name', () => {
    for (const check of ENTRY_CHECKS) {
      const { fields: changes = {}, facts = {} } = BREAKS[check.id] ?? {};
      const read = new Set<string>();
      for (const values of [vmcsWith({}), vmcsWith(changes)]) {
        const spy = new Proxy(values, {
          get: (target, name) => {
            read.add(String(name));
            return Reflect.get(target, name);
          },
        });
        check.holds(spy, { ...FACTS, ...facts });
      }
      const undeclared = [...read].filter((name) => !check.fields.some((field) => field === name));
      assert.deepEqual(undeclared, [], check.id);
    }
  });

  it('explain what must hold, with the values found and the manual’s section', () => {
    const broken = vmcsWith({ GUEST_CR4: 0x20n });
    const check = ENTRY_CHECKS.find((row) => row.id === 'guest.cr4');
    assert.ok(check);
    const { explanation, section, fields: found } = explainCheck(check, broken, FACTS);
    assert.equal(explanation, 'GUEST_CR4 must set 0x2000. Found GUEST_CR4 = 0x20 (PAE).');
    assert.equal(section, 'SDM Vol. 3C 27.3.1.1');
    assert.deepEqual(found, [{ name: 'GUEST_CR4', value: 0x20n }]);
    for (const row of ENTRY_CHECKS) {
      const { fields: changes = {}, facts = {} } = BREAKS[row.id] ?? {};
      const text = explainCheck(row, vmcsWith(changes), { ...FACTS, ...facts }).explanation;
      assert.match(text, /^.+ must .+\. Found [A-Z0-9_]+ = 0x.+\.$/, row.id);
    }
  });
});

describe('EntryCheckCache', () => {
  const positionOf = (name: FieldName): number => VMCS_FIELDS.indexOf(fieldOf(name));

  it('finds every broken check, also when it passed before', () => {
    const cache = new EntryCheckCache();
    assert.equal(cache.firstFailure(vmcsWith({}), FACTS), undefined);
    for (const check of ENTRY_CHECKS) {
      const { fields: changes = {}, facts = {} } = BREAKS[check.id] ?? {};
      for (const name of Object.keys(changes)) cache.fieldWritten(positionOf(name as FieldName));
      const failed = cache.firstFailure(vmcsWith(changes), { ...FACTS, ...facts });
      assert.equal(failed?.id, check.id);
      for (const name of Object.keys(changes)) cache.fieldWritten(positionOf(name as FieldName));
      assert.equal(cache.firstFailure(vmcsWith({}), FACTS), undefined, `after ${check.id}`);
    }
  });

  it('evaluates again only what reads a written field', () => {
    const cache = new EntryCheckCache();
    cache.firstFailure(vmcsWith({}), FACTS);
    cache.fieldWritten(positionOf('GUEST_RIP'));
    const read = new Set<string>();
    const spy = new Proxy(vmcsWith({}), {
      get: (target, name) => {
        read.add(String(name));
        return Reflect.get(target, name);
      },
    });
    assert.equal(cache.firstFailure(spy, FACTS), undefined);
    assert.ok(read.has('GUEST_RIP'));
    assert.ok(!read.has('GUEST_ES_ACCESS_RIGHTS') && !read.has('HOST_CR0') && !read.has('CR3_TARGET_COUNT'));
  });
});
