import assert from 'node:assert/strict';
import { SDM } from '../sdm.ts';
import { OFFSET, STATE_END } from '../state/layout.ts';
import { State } from '../state/state.ts';
import { decodeField, describeField, documentField, layoutOf } from './describe.ts';
import { ENCODING, type FieldName, fieldByEncoding, fieldByName, fieldOf, VMCS_FIELDS, VMCS_REGION } from './fields.ts';
import { vmcsValues } from './values.ts';

/**
 * Full-access encodings by area, as Bochs' vmx.h (2026-08) and, for older ones, Linux' asm/vmx.h list them. Two rows
 * differ from Bochs: it has no guest IA32_LBR_CTL (2816), and it lists a field of SEAM (4026) that the SDM does not.
 */
const KNOWN_ENCODINGS = {
  control: '0000-000A 2000-2044 204A-204E 2052 4000-4024 6000-600E',
  readOnly: '2400-2404 4400-440E 6400-640A',
  guest: '0800-0814 2800-2828 282E-2830 4800-482A 482E 6800-682C',
  host: '0C00-0C0C 2C00-2C16 2C1A 4C00 6C00-6C1C',
};

/** Names and encodings of Linux' asm/vmx.h whose wording here differs only by the rules below. */
const LINUX = `
VIRTUAL_PROCESSOR_ID=0 GUEST_ES_SELECTOR=800 GUEST_TR_SELECTOR=80e HOST_ES_SELECTOR=c00 HOST_TR_SELECTOR=c0c
IO_BITMAP_A=2000 IO_BITMAP_B=2002 MSR_BITMAP=2004 VM_EXIT_MSR_STORE_ADDR=2006 VM_EXIT_MSR_LOAD_ADDR=2008
VM_ENTRY_MSR_LOAD_ADDR=200a PML_ADDRESS=200e TSC_OFFSET=2010 VIRTUAL_APIC_PAGE_ADDR=2012 APIC_ACCESS_ADDR=2014
EPT_POINTER=201a EPTP_LIST_ADDRESS=2024 VMREAD_BITMAP=2026 VMWRITE_BITMAP=2028 XSS_EXIT_BITMAP=202c
ENCLS_EXITING_BITMAP=202e TSC_MULTIPLIER=2032 GUEST_PHYSICAL_ADDRESS=2400 VMCS_LINK_POINTER=2800
GUEST_IA32_DEBUGCTL=2802 GUEST_IA32_PAT=2804 GUEST_IA32_EFER=2806 GUEST_IA32_PERF_GLOBAL_CTRL=2808 GUEST_PDPTR0=280a
GUEST_PDPTR3=2810 GUEST_BNDCFGS=2812 GUEST_IA32_RTIT_CTL=2814 HOST_IA32_PAT=2c00 HOST_IA32_EFER=2c02
HOST_IA32_PERF_GLOBAL_CTRL=2c04 PIN_BASED_VM_EXEC_CONTROL=4000 CPU_BASED_VM_EXEC_CONTROL=4002 EXCEPTION_BITMAP=4004
PAGE_FAULT_ERROR_CODE_MASK=4006 PAGE_FAULT_ERROR_CODE_MATCH=4008 CR3_TARGET_COUNT=400a VM_EXIT_CONTROLS=400c
VM_EXIT_MSR_STORE_COUNT=400e VM_EXIT_MSR_LOAD_COUNT=4010 VM_ENTRY_CONTROLS=4012 VM_ENTRY_MSR_LOAD_COUNT=4014
VM_ENTRY_INTR_INFO_FIELD=4016 VM_ENTRY_EXCEPTION_ERROR_CODE=4018 VM_ENTRY_INSTRUCTION_LEN=401a TPR_THRESHOLD=401c
SECONDARY_VM_EXEC_CONTROL=401e PLE_GAP=4020 PLE_WINDOW=4022 VM_INSTRUCTION_ERROR=4400 VM_EXIT_REASON=4402
VM_EXIT_INTR_INFO=4404 VM_EXIT_INTR_ERROR_CODE=4406 IDT_VECTORING_INFO_FIELD=4408 IDT_VECTORING_ERROR_CODE=440a
VM_EXIT_INSTRUCTION_LEN=440c VMX_INSTRUCTION_INFO=440e GUEST_ES_LIMIT=4800 GUEST_TR_LIMIT=480e GUEST_GDTR_LIMIT=4810
GUEST_IDTR_LIMIT=4812 GUEST_ES_AR_BYTES=4814 GUEST_LDTR_AR_BYTES=4820 GUEST_TR_AR_BYTES=4822
GUEST_INTERRUPTIBILITY_INFO=4824 GUEST_ACTIVITY_STATE=4826 GUEST_SYSENTER_CS=482a VMX_PREEMPTION_TIMER_VALUE=482e
HOST_IA32_SYSENTER_CS=4c00 CR0_GUEST_HOST_MASK=6000 CR4_GUEST_HOST_MASK=6002 CR0_READ_SHADOW=6004
CR4_READ_SHADOW=6006 CR3_TARGET_VALUE0=6008 CR3_TARGET_VALUE3=600e EXIT_QUALIFICATION=6400 GUEST_LINEAR_ADDRESS=640a
GUEST_CR0=6800 GUEST_CR3=6802 GUEST_CR4=6804 GUEST_ES_BASE=6806 GUEST_TR_BASE=6814 GUEST_GDTR_BASE=6816
GUEST_IDTR_BASE=6818 GUEST_DR7=681a GUEST_RSP=681c GUEST_RIP=681e GUEST_RFLAGS=6820 GUEST_PENDING_DBG_EXCEPTIONS=6822
GUEST_SYSENTER_ESP=6824 GUEST_SYSENTER_EIP=6826 HOST_CR0=6c00 HOST_CR3=6c02 HOST_CR4=6c04 HOST_FS_BASE=6c06
HOST_GS_BASE=6c08 HOST_TR_BASE=6c0a HOST_GDTR_BASE=6c0c HOST_IDTR_BASE=6c0e HOST_IA32_SYSENTER_ESP=6c10
HOST_IA32_SYSENTER_EIP=6c12 HOST_RSP=6c14 HOST_RIP=6c16`;

/** Linux' abbreviations in the manual's words. */
const IN_FULL: readonly (readonly [RegExp, string])[] = [
  [/^CPU_BASED/, 'PRIMARY_PROCESSOR_BASED'],
  [/^SECONDARY_VM/, 'SECONDARY_PROCESSOR_BASED_VM'],
  [/^(VM_EXIT_CONTROLS)$/, 'PRIMARY_$1'],
  [/EXEC_CONTROL$/, 'EXECUTION_CONTROLS'],
  [/_INTR_INFO_FIELD$|_INTR_INFO$/, '_INTERRUPTION_INFORMATION'],
  [/VECTORING_INFO_FIELD$/, 'VECTORING_INFORMATION'],
  [/_INTR_ERROR/, '_INTERRUPTION_ERROR'],
  [/^VM_EXIT_REASON$/, 'EXIT_REASON'],
  [/^VMX_INSTRUCTION_INFO$/, 'VM_EXIT_INSTRUCTION_INFORMATION'],
  [/INSTRUCTION_LEN$/, 'INSTRUCTION_LENGTH'],
  [/APIC_PAGE_ADDR$/, 'APIC_ADDRESS'],
  [/_ADDR$/, '_ADDRESS'],
  [/^((IO|MSR|VMREAD|VMWRITE)_BITMAP(_[AB])?)$/, '$1_ADDRESS'],
  [/XSS_EXIT_/, 'XSS_EXITING_'],
  [/PDPTR/, 'PDPTE'],
  [/AR_BYTES$/, 'ACCESS_RIGHTS'],
  [/INTERRUPTIBILITY_INFO/, 'INTERRUPTIBILITY_STATE'],
  [/DBG/, 'DEBUG'],
  [/(TARGET_VALUE)(\d)/, '$1_$2'],
  [/^GUEST_(SYSENTER|BNDCFGS)/, 'GUEST_IA32_$1'],
];
const inFull = (name: string): string => IN_FULL.reduce((text, [from, to]) => text.replace(from, to), name);

function expand(ranges: string): number[] {
  return ranges.split(' ').flatMap((range) => {
    const [first, last = first] = range.split('-').map((part) => Number.parseInt(part, 16));
    return Array.from({ length: ((last ?? 0) - (first ?? 0)) / 2 + 1 }, (_, i) => (first ?? 0) + 2 * i);
  });
}

describe('VMCS fields', () => {
  it('are exactly those that others know, each in its area', () => {
    for (const [area, ranges] of Object.entries(KNOWN_ENCODINGS)) {
      const ours = VMCS_FIELDS.filter((field) => field.area === area).map((field) => field.encoding);
      assert.deepEqual(ours, expand(ranges));
    }
  });

  it('have the names and encodings of Linux, spelt out', () => {
    const pairs = LINUX.trim()
      .split(/\s+/)
      .map((pair) => pair.split('='));
    assert.ok(pairs.length > 100);
    for (const [name, encoding] of pairs) {
      const field = fieldByName(inFull(name ?? ''));
      assert.equal(field?.encoding, Number.parseInt(encoding ?? '', 16), `${name} → ${inFull(name ?? '')}`);
    }
  });

  it('have unique encodings and places that fit into the region without overlap', () => {
    assert.equal(new Set(VMCS_FIELDS.map((field) => field.encoding)).size, VMCS_FIELDS.length);
    let end: number = VMCS_REGION.firstField;
    for (const field of VMCS_FIELDS) {
      assert.ok(field.offset >= end, field.name);
      end = field.offset + 8;
    }
    assert.ok(end <= VMCS_REGION.size);
    assert.ok(OFFSET.vmcs + VMCS_REGION.size <= STATE_END);
  });

  it('keep reserved encoding bits 31:15, 12 and 0 clear, and go up', () => {
    let last = -1;
    for (const { encoding, name } of VMCS_FIELDS) {
      assert.equal(encoding & ~0x6ffe, 0, name);
      assert.ok(encoding > last, name);
      last = encoding;
    }
  });

  it('are found by full and high encodings as VMREAD finds them', () => {
    assert.deepEqual(fieldByEncoding(0x681e), { field: fieldOf('GUEST_RIP'), high: false });
    assert.deepEqual(fieldByEncoding(0x201b), { field: fieldOf('EPT_POINTER'), high: true });
    assert.equal(fieldByEncoding(0x681f), undefined, 'natural-width fields have no high access');
    assert.equal(fieldByEncoding(0x4001), undefined, '32-bit fields have no high access');
    assert.equal(fieldByEncoding(0x7ffe), undefined);
    assert.equal(ENCODING.GUEST_RIP, 0x681e);
  });

  it('cite places that exist, and document themselves in a sentence', () => {
    for (const field of VMCS_FIELDS) {
      assert.ok(field.sdm in SDM);
      assert.match(field.documentation, /^[A-Z#“].*\.$/, field.name);
      assert.ok(documentField(field).includes(field.documentation));
    }
  });

  it('have bit layouts that fit their width and do not overlap', () => {
    for (const field of VMCS_FIELDS) {
      let used = 0n;
      for (const part of layoutOf(field.name)) {
        const mask = ((1n << BigInt(part.width ?? 1)) - 1n) << BigInt(part.low);
        assert.equal(used & mask, 0n, `${field.name}: ${part.name}`);
        used |= mask;
      }
      assert.equal(used >> BigInt(8 * field.bytes), 0n, field.name);
    }
  });

  it('read as Numbers up to 32 bits and as BigInts above', () => {
    const state = new State(0x1_0000);
    const values = vmcsValues(state);
    for (const field of VMCS_FIELDS) {
      state.u64[(OFFSET.vmcs + field.offset) >>> 3] = 5n;
      assert.equal(values[field.name], field.bytes === 8 ? 5n : 5, field.name);
      assert.equal(typeof values[field.name], isNumber(field.name) ? 'number' : 'bigint');
    }
  });

  it('decode into words', () => {
    assert.equal(describeField('GUEST_ACTIVITY_STATE', 1n), 'HLT');
    assert.equal(describeField('VM_INSTRUCTION_ERROR', 7n), 'VM entry with invalid control fields');
    assert.equal(describeField('PIN_BASED_VM_EXECUTION_CONTROLS', 9n), 'External-interrupt exiting, NMI exiting');
    const rights = decodeField('GUEST_CS_ACCESS_RIGHTS', 0xa09bn).filter((part) => part.value !== 0n);
    assert.deepEqual(
      rights.map((part) => `${part.name}=${part.meaning}`),
      ['Type=0xb', 'S=code or data', 'P=1', 'L=1', 'G=1'],
    );
  });
});

const isNumber = (name: FieldName): boolean => fieldOf(name).bytes !== 8;
