/** Model-specific registers in Markdown, and where the MSR bitmaps have their bits. */

import { MSRS } from '../../sim-core/cpu/msrs.ts';
import { citeInFull } from '../../sim-core/sdm.ts';
import { numberOf } from './numbers.ts';

/** MSRs that the machine's other parts answer for (local APIC, VMX), from SDM Vol. 4. */
const OTHER_NAMES: readonly (readonly [first: number, names: string])[] = [
  [0x1b, 'IA32_APIC_BASE'],
  [0x6e0, 'IA32_TSC_DEADLINE'],
  [
    0x480,
    `IA32_VMX_BASIC IA32_VMX_PINBASED_CTLS IA32_VMX_PROCBASED_CTLS IA32_VMX_EXIT_CTLS IA32_VMX_ENTRY_CTLS
     IA32_VMX_MISC IA32_VMX_CR0_FIXED0 IA32_VMX_CR0_FIXED1 IA32_VMX_CR4_FIXED0 IA32_VMX_CR4_FIXED1 IA32_VMX_VMCS_ENUM
     IA32_VMX_PROCBASED_CTLS2 IA32_VMX_EPT_VPID_CAP IA32_VMX_TRUE_PINBASED_CTLS IA32_VMX_TRUE_PROCBASED_CTLS
     IA32_VMX_TRUE_EXIT_CTLS IA32_VMX_TRUE_ENTRY_CTLS IA32_VMX_VMFUNC`,
  ],
];

/** What the registers that hypervisors meet most are for. */
const PURPOSES: Readonly<Record<string, string>> = {
  IA32_TIME_STAMP_COUNTER: 'The time-stamp counter that RDTSC reads.',
  IA32_APIC_BASE: 'Address and mode of the local APIC: bit 8 BSP, bit 10 x2APIC mode, bit 11 enabled.',
  IA32_FEATURE_CONTROL: 'Bit 0 locks it, bit 2 allows VMXON outside SMX; VMXON raises #GP unless both are 1.',
  IA32_SYSENTER_CS: 'CS that SYSENTER loads.',
  IA32_SYSENTER_ESP: 'Stack pointer that SYSENTER loads.',
  IA32_SYSENTER_EIP: 'Instruction pointer that SYSENTER loads.',
  IA32_DEBUGCTL: 'Last-branch recording (bit 0), single-step on branches (bit 1) and other debug controls.',
  IA32_PAT: 'The eight memory types that the PAT, PCD and PWT bits of paging entries choose from.',
  IA32_EFER: 'Bit 0 SCE (SYSCALL), bit 8 LME, bit 10 LMA (long mode enabled, active), bit 11 NXE (execute disable).',
  IA32_STAR: 'Segment selectors that SYSCALL and SYSRET load.',
  IA32_LSTAR: 'RIP that SYSCALL loads in 64-bit mode.',
  IA32_CSTAR: 'RIP for SYSCALL from compatibility mode; not used by Intel processors.',
  IA32_FMASK: 'RFLAGS bits that SYSCALL clears.',
  IA32_FS_BASE: 'Base address of FS.',
  IA32_GS_BASE: 'Base address of GS.',
  IA32_KERNEL_GS_BASE: 'Base address that SWAPGS exchanges with that of GS.',
  IA32_TSC_AUX: 'Value that RDTSCP and RDPID give beside the counter.',
  IA32_TSC_DEADLINE: 'Time-stamp value at which the local APIC timer fires in deadline mode.',
  IA32_VMX_BASIC:
    'VMCS revision identifier (bits 30:0), size of a VMCS region, and whether the true-control MSRs exist (bit 55).',
  IA32_VMX_EPT_VPID_CAP: 'What the processor can do with EPT and VPID.',
  IA32_VMX_MISC: 'Rate of the preemption timer, activity states, number of CR3-target values and other facts.',
  IA32_VMX_CR0_FIXED0: 'Bits that must be 1 in CR0 in VMX operation.',
  IA32_VMX_CR0_FIXED1: 'Bits that may be 1 in CR0 in VMX operation.',
  IA32_VMX_CR4_FIXED0: 'Bits that must be 1 in CR4 in VMX operation.',
  IA32_VMX_CR4_FIXED1: 'Bits that may be 1 in CR4 in VMX operation.',
};
const SETTINGS_PURPOSE = 'Low half: control bits that must be 1. High half: control bits that may be 1.';

const BY_NUMBER = new Map<number, string>([
  ...Array.from(MSRS, ([number, { name }]): [number, string] => [number, name]),
  ...OTHER_NAMES.flatMap(([first, names]) =>
    names.split(/\s+/).map((name, index): [number, string] => [first + index, name]),
  ),
]);
const BY_NAME = new Map(Array.from(BY_NUMBER, ([number, name]) => [name, number]));

/** A register by its name as headers write it: IA32_EFER, MSR_IA32_EFER, MSR_EFER. */
function msrNumber(word: string): number | undefined {
  const bare = word.toUpperCase().replace(/^\$/, '').replace(/^MSR_/, '');
  return BY_NAME.get(bare) ?? BY_NAME.get(`IA32_${bare}`) ?? BY_NAME.get(`MSR_${bare}`);
}

/**
 * What a word says about an MSR. A number counts as one only beside ECX or an MSR instruction, or in the range above
 * C0000000H where nothing else has numbers.
 */
export function msrHover(word: string, line: string): string | undefined {
  const named = /^\$?(IA32_|MSR_)/i.test(word) ? msrNumber(word) : undefined;
  if (named !== undefined) return msrMarkdown(named);
  const number = numberOf(word);
  if (number === undefined) return undefined;
  const plausible = number >= 0xc000_0000 || /\b(e|r)cx\b|\b(rd|wr)msr\b/i.test(line);
  return plausible && BY_NUMBER.has(number) ? msrMarkdown(number) : undefined;
}

function msrMarkdown(number: number): string {
  const name = BY_NUMBER.get(number) ?? '';
  const purpose = PURPOSES[name] ?? (/^IA32_VMX_.*_CTLS2?$/.test(name) ? SETTINGS_PURPOSE : undefined);
  return [
    `**${name}** · MSR \`0x${number.toString(16).toUpperCase()}\``,
    ...(purpose === undefined ? [] : [purpose]),
    bitmapPlace(number),
  ].join('\n\n');
}

/** The four 1-KiB bitmaps follow each other: read low, read high, write low, write high. */
function bitmapPlace(number: number): string {
  const high = number >= 0xc000_0000 && number <= 0xc000_1fff;
  if (!high && number > 0x1fff) return 'Not in the MSR bitmaps: every access in VMX non-root operation exits.';
  const index = number & 0x1fff;
  const byte = (high ? 0x400 : 0) + (index >> 3);
  const hex = (value: number) => `0x${value.toString(16).toUpperCase()}`;
  return `MSR bitmaps: reads exit by byte ${hex(byte)} bit ${index & 7}, writes by byte ${hex(byte + 0x800)} bit ${index & 7}. *${citeInFull('msrBitmaps')}*`;
}
