/**
 * Which instructions of a guest cause VM exits, and under what control (SDM Vol. 3C, "Instructions That Cause VM Exits").
 * Names of controls and exits are those of sim-core's tables.
 */

import type { ExitName } from '../../sim-core/vmx/exit-reasons.ts';

export interface VmExitRule {
  /** Mnemonics in capitals, parted by blanks. */
  readonly mnemonics: string;
  /** Only when the operands look like this. */
  readonly operands?: RegExp;
  readonly exits: readonly ExitName[];
  /** Controls any of which, when 1, causes the exit; empty when the instruction always exits. */
  readonly controls: readonly string[];
  /** What else decides. A sentence. */
  readonly condition?: string;
}

const always = (mnemonics: string, exit: ExitName): VmExitRule => ({ mnemonics, exits: [exit], controls: [] });
const with1 = (mnemonics: string, exit: ExitName, control: string, condition?: string): VmExitRule => ({
  mnemonics,
  exits: [exit],
  controls: [control],
  ...(condition === undefined ? {} : { condition }),
});

const EXCEPTION = 'The exception that it raises exits when its bit in the exception bitmap is 1.';
const BY_BITMAP = 'Its bitmap chooses the leaf functions.';
const IO = 'The I/O bitmaps choose the ports; without them all ports exit or none.';
const MSR = 'The MSR bitmaps choose the MSRs; without them every MSR exits.';

export const VM_EXIT_RULES: readonly VmExitRule[] = [
  ...'CPUID GETSEC INVD XSETBV INVEPT INVVPID VMCALL VMCLEAR VMLAUNCH VMPTRLD VMPTRST VMRESUME VMXOFF VMXON SEAMCALL TDCALL'
    .split(' ')
    .map((mnemonic) => always(mnemonic, mnemonic as ExitName)),
  {
    mnemonics: 'VMREAD',
    exits: ['VMREAD'],
    controls: [],
    condition: 'With “VMCS shadowing” only for the fields that the VMREAD bitmap chooses.',
  },
  {
    mnemonics: 'VMWRITE',
    exits: ['VMWRITE'],
    controls: [],
    condition: 'With “VMCS shadowing” only for the fields that the VMWRITE bitmap chooses.',
  },
  with1('HLT', 'HLT', 'HLT exiting'),
  with1('INVLPG', 'INVLPG', 'INVLPG exiting'),
  with1('INVPCID', 'INVPCID', 'INVLPG exiting', 'Without “Enable INVPCID” it raises #UD instead.'),
  with1('RDPMC', 'RDPMC', 'RDPMC exiting'),
  with1('RDTSC', 'RDTSC', 'RDTSC exiting'),
  with1('RDTSCP', 'RDTSCP', 'RDTSC exiting', 'Without “Enable RDTSCP” it raises #UD instead.'),
  with1('MWAIT', 'MWAIT', 'MWAIT exiting'),
  with1('MONITOR', 'MONITOR', 'MONITOR exiting'),
  { mnemonics: 'PAUSE', exits: ['PAUSE'], controls: ['PAUSE exiting', 'PAUSE-loop exiting'] },
  with1('WBINVD WBNOINVD', 'WBINVD', 'WBINVD exiting'),
  with1('RDRAND', 'RDRAND', 'RDRAND exiting'),
  with1('RDSEED', 'RDSEED', 'RDSEED exiting'),
  with1('LGDT LIDT SGDT SIDT', 'GDTR_OR_IDTR_ACCESS', 'Descriptor-table exiting'),
  with1('LLDT LTR SLDT STR', 'LDTR_OR_TR_ACCESS', 'Descriptor-table exiting'),
  {
    mnemonics: 'IN INSB INSW INSD OUT OUTSB OUTSW OUTSD',
    exits: ['IO_INSTRUCTION'],
    controls: ['Use I/O bitmaps', 'Unconditional I/O exiting'],
    condition: IO,
  },
  { mnemonics: 'RDMSR', exits: ['RDMSR'], controls: [], condition: MSR },
  { mnemonics: 'WRMSR WRMSRNS', exits: ['WRMSR'], controls: [], condition: MSR },
  { mnemonics: 'RDMSRLIST', exits: ['RDMSRLIST'], controls: [], condition: MSR },
  { mnemonics: 'WRMSRLIST', exits: ['WRMSRLIST'], controls: [], condition: MSR },
  {
    mnemonics: 'MOV',
    operands: /\bcr[04]\b/i,
    exits: ['CR_ACCESS'],
    controls: [],
    condition:
      'Writes exit when they change a bit that the guest/host mask reserves from what its read shadow has; reads never do.',
  },
  {
    mnemonics: 'MOV',
    operands: /\bcr3\b/i,
    exits: ['CR_ACCESS'],
    controls: ['CR3-load exiting', 'CR3-store exiting'],
    condition: 'Loads of a CR3-target value do not.',
  },
  {
    mnemonics: 'MOV',
    operands: /\bcr8\b/i,
    exits: ['CR_ACCESS'],
    controls: ['CR8-load exiting', 'CR8-store exiting'],
    condition: 'With “Use TPR shadow”, a load below the TPR threshold exits too.',
  },
  { mnemonics: 'MOV', operands: /\b(dr|db)[0-7]\b/i, exits: ['MOV_DR'], controls: ['MOV-DR exiting'] },
  {
    mnemonics: 'CLTS LMSW',
    exits: ['CR_ACCESS'],
    controls: [],
    condition: 'Only when the CR0 guest/host mask and read shadow reserve a bit that it would change.',
  },
  {
    mnemonics: 'INT3 INT1 INTO BOUND UD0 UD1 UD2',
    exits: ['EXCEPTION_OR_NMI'],
    controls: [],
    condition: EXCEPTION,
  },
  {
    mnemonics: 'VMFUNC',
    exits: ['VMFUNC'],
    controls: ['Enable VM functions'],
    condition:
      'Only for a function that is not enabled, or a bad entry of the EPTP list; without the control it raises #UD.',
  },
  with1('ENCLS', 'ENCLS', 'Enable ENCLS exiting', BY_BITMAP),
  with1('ENCLV', 'ENCLV', 'Enable ENCLV exiting', BY_BITMAP),
  with1('PCONFIG', 'PCONFIG', 'Enable PCONFIG', BY_BITMAP),
  with1('XSAVES XSAVES64', 'XSAVES', 'Enable XSAVES/XRSTORS', 'The XSS-exiting bitmap chooses the components.'),
  with1('XRSTORS XRSTORS64', 'XRSTORS', 'Enable XSAVES/XRSTORS', 'The XSS-exiting bitmap chooses the components.'),
  with1('UMWAIT', 'UMWAIT', 'RDTSC exiting', 'Without “Enable user wait and pause” it raises #UD instead.'),
  with1('TPAUSE', 'TPAUSE', 'RDTSC exiting', 'Without “Enable user wait and pause” it raises #UD instead.'),
  with1('LOADIWKEY', 'LOADIWKEY', 'LOADIWKEY exiting'),
  with1('ENQCMD', 'ENQCMD_PASID_TRANSLATION_FAILURE', 'PASID translation', 'Only when the PASID has no translation.'),
  with1('ENQCMDS', 'ENQCMDS_PASID_TRANSLATION_FAILURE', 'PASID translation', 'Only when the PASID has no translation.'),
  { mnemonics: 'RSM', exits: ['RSM'], controls: [], condition: 'Only in SMM with the dual-monitor treatment.' },
];

/** @param mnemonic in capitals. */
export const vmExitRules = (mnemonic: string, operands: string): readonly VmExitRule[] =>
  VM_EXIT_RULES.filter(
    (rule) =>
      rule.mnemonics.split(' ').includes(mnemonic) && (rule.operands === undefined || rule.operands.test(operands)),
  );

/** One sentence for people. */
export function describeVmExit(rule: VmExitRule, exitTitle: string): string {
  const when =
    rule.controls.length > 0
      ? `with ${rule.controls.map((control) => `“${control}”`).join(' or ')}`
      : rule.condition === undefined
        ? 'always'
        : 'depending on the VMCS';
  return `VM exit in VMX non-root operation ${when} (${exitTitle}).${rule.condition ? ` ${rule.condition}` : ''}`;
}
