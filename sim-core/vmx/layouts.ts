/** Bit layouts of registers and VMCS fields that several fields share (SDM Vol. 3A chapters 2 and 3; 3C chapter 25). */

import { type BitField, bits, flag } from './bits.ts';

export const SELECTOR: readonly BitField[] = [
  bits('RPL', 1, 0),
  bits('TI', 2, 2, { 0: 'GDT', 1: 'LDT' }),
  bits('Index', 15, 3),
];

export const ACCESS_RIGHTS: readonly BitField[] = [
  bits('Type', 3, 0),
  bits('S', 4, 4, { 0: 'system', 1: 'code or data' }),
  bits('DPL', 6, 5),
  flag('P', 7),
  flag('AVL', 12),
  flag('L', 13),
  flag('D/B', 14),
  flag('G', 15),
  flag('unusable', 16),
];

export const CR0: readonly BitField[] = [
  flag('PE', 0),
  flag('MP', 1),
  flag('EM', 2),
  flag('TS', 3),
  flag('ET', 4),
  flag('NE', 5),
  flag('WP', 16),
  flag('AM', 18),
  flag('NW', 29),
  flag('CD', 30),
  flag('PG', 31),
];

export const CR3: readonly BitField[] = [bits('PCID or PWT/PCD', 11, 0), bits('Page-table base (4 KiB pages)', 51, 12)];

export const CR4: readonly BitField[] = [
  flag('VME', 0),
  flag('PVI', 1),
  flag('TSD', 2),
  flag('DE', 3),
  flag('PSE', 4),
  flag('PAE', 5),
  flag('MCE', 6),
  flag('PGE', 7),
  flag('PCE', 8),
  flag('OSFXSR', 9),
  flag('OSXMMEXCPT', 10),
  flag('UMIP', 11),
  flag('LA57', 12),
  flag('VMXE', 13),
  flag('SMXE', 14),
  flag('FSGSBASE', 16),
  flag('PCIDE', 17),
  flag('OSXSAVE', 18),
  flag('KL', 19),
  flag('SMEP', 20),
  flag('SMAP', 21),
  flag('PKE', 22),
  flag('CET', 23),
  flag('PKS', 24),
  flag('UINTR', 25),
  flag('FRED', 32),
];

export const EFER: readonly BitField[] = [flag('SCE', 0), flag('LME', 8), flag('LMA', 10), flag('NXE', 11)];

export const RFLAGS: readonly BitField[] = [
  flag('CF', 0),
  flag('PF', 2),
  flag('AF', 4),
  flag('ZF', 6),
  flag('SF', 7),
  flag('TF', 8),
  flag('IF', 9),
  flag('DF', 10),
  flag('OF', 11),
  bits('IOPL', 13, 12),
  flag('NT', 14),
  flag('RF', 16),
  flag('VM', 17),
  flag('AC', 18),
  flag('VIF', 19),
  flag('VIP', 20),
  flag('ID', 21),
];

export const DR7: readonly BitField[] = [
  flag('L0', 0),
  flag('G0', 1),
  flag('L1', 2),
  flag('G1', 3),
  flag('L2', 4),
  flag('G2', 5),
  flag('L3', 6),
  flag('G3', 7),
  flag('LE', 8),
  flag('GE', 9),
  flag('RTM', 11),
  flag('GD', 13),
  bits('R/W0', 17, 16),
  bits('LEN0', 19, 18),
  bits('R/W1', 21, 20),
  bits('LEN1', 23, 22),
  bits('R/W2', 25, 24),
  bits('LEN2', 27, 26),
  bits('R/W3', 29, 28),
  bits('LEN3', 31, 30),
];

export const DEBUGCTL: readonly BitField[] = [
  flag('LBR', 0),
  flag('BTF', 1),
  flag('BLD', 2),
  flag('TR', 6),
  flag('BTS', 7),
  flag('BTINT', 8),
  flag('BTS_OFF_OS', 9),
  flag('BTS_OFF_USR', 10),
  flag('FREEZE_LBRS_ON_PMI', 11),
  flag('FREEZE_PERFMON_ON_PMI', 12),
  flag('ENABLE_UNCORE_PMI', 13),
  flag('FREEZE_WHILE_SMM', 14),
  flag('RTM_DEBUG', 15),
];

const MEMORY_TYPES = { 0: 'UC', 1: 'WC', 4: 'WT', 5: 'WP', 6: 'WB', 7: 'UC-' } as const;
export const PAT: readonly BitField[] = Array.from({ length: 8 }, (_, i) =>
  bits(`PA${i}`, 8 * i + 2, 8 * i, MEMORY_TYPES),
);

/** The exception vectors by number, as the exception bitmap shows them. */
export const EXCEPTIONS = [
  '#DE', '#DB', 'NMI', '#BP', '#OF', '#BR', '#UD', '#NM', '#DF', 'coprocessor overrun', '#TS', '#NP', '#SS', '#GP',
  '#PF', '15', '#MF', '#AC', '#MC', '#XM', '#VE', '#CP', '22', '23', '24', '25', '26', '27', '28', '29', '30', '31',
] as const; // biome-ignore format: a table reads better in rows
export const EXCEPTION_BITS: readonly BitField[] = EXCEPTIONS.map((name, vector) => flag(name, vector));

export const PAGE_FAULT_ERROR: readonly BitField[] = [
  flag('P', 0),
  flag('W/R', 1),
  flag('U/S', 2),
  flag('RSVD', 3),
  flag('I/D', 4),
  flag('PK', 5),
  flag('SS', 6),
  flag('HLAT', 7),
  flag('SGX', 15),
];

const EVENT_TYPES = {
  0: 'external interrupt',
  1: 'reserved type',
  2: 'NMI',
  3: 'hardware exception',
  4: 'software interrupt',
  5: 'privileged software exception',
  6: 'software exception',
  7: 'other event',
} as const;

const event = (more: readonly BitField[]): readonly BitField[] => [
  bits('Vector', 7, 0),
  bits('Type', 10, 8, EVENT_TYPES),
  flag('Error code valid', 11),
  ...more,
  flag('Valid', 31),
];
export const ENTRY_INTERRUPTION = event([]);
export const EXIT_INTERRUPTION = event([flag('NMI unblocking due to IRET', 12)]);
export const IDT_VECTORING = event([]);

export const INTERRUPTIBILITY: readonly BitField[] = [
  flag('Blocking by STI', 0),
  flag('Blocking by MOV SS', 1),
  flag('Blocking by SMI', 2),
  flag('Blocking by NMI', 3),
  flag('Enclave interruption', 4),
];

export const ACTIVITY_STATE: readonly BitField[] = [
  bits('State', 31, 0, { 0: 'active', 1: 'HLT', 2: 'shutdown', 3: 'wait-for-SIPI' }),
];

export const PENDING_DEBUG: readonly BitField[] = [
  flag('B0', 0),
  flag('B1', 1),
  flag('B2', 2),
  flag('B3', 3),
  flag('BLD', 11),
  flag('Enabled breakpoint', 12),
  flag('BS', 14),
  flag('RTM', 16),
];

export const EPTP: readonly BitField[] = [
  bits('Memory type', 2, 0, { 0: 'UC', 6: 'WB' }),
  bits('Page-walk length minus 1', 5, 3),
  flag('Accessed and dirty flags', 6),
  flag('Supervisor shadow-stack control', 7),
  bits('EPT PML4 or PML5 table (4 KiB pages)', 51, 12),
];

export const EXIT_REASON: readonly BitField[] = [
  bits('Basic exit reason', 15, 0),
  flag('Shadow stack prematurely busy', 25),
  flag('Bus lock', 26),
  flag('Incident to enclave mode', 27),
  flag('Pending MTF VM exit', 28),
  flag('VM exit from VMX root operation', 29),
  flag('VM-entry failure', 31),
];

/** VM-instruction error numbers (SDM Vol. 3C, "VM Instruction Error Numbers"), in our words. */
export const INSTRUCTION_ERRORS: Readonly<Record<number, string>> = {
  1: 'VMCALL executed in VMX root operation',
  2: 'VMCLEAR with an invalid physical address',
  3: 'VMCLEAR with the VMXON pointer',
  4: 'VMLAUNCH with a VMCS that is not clear',
  5: 'VMRESUME with a VMCS that is not launched',
  6: 'VMRESUME after VMXOFF',
  7: 'VM entry with invalid control fields',
  8: 'VM entry with invalid host-state fields',
  9: 'VMPTRLD with an invalid physical address',
  10: 'VMPTRLD with the VMXON pointer',
  11: 'VMPTRLD with an incorrect VMCS revision identifier',
  12: 'VMREAD or VMWRITE of an unsupported VMCS component',
  13: 'VMWRITE to a read-only VMCS component',
  15: 'VMXON executed in VMX root operation',
  16: 'VM entry with an invalid executive-VMCS pointer',
  17: 'VM entry with an executive VMCS that is not launched',
  18: 'VM entry with an executive-VMCS pointer that is not the VMXON pointer',
  19: 'VMCALL with a VMCS that is not clear',
  20: 'VMCALL with invalid VM-exit control fields',
  22: 'VMCALL with an incorrect MSEG revision identifier',
  23: 'VMXOFF under dual-monitor treatment of SMIs and SMM',
  24: 'VMCALL with invalid SMM-monitor features',
  25: 'VM entry with invalid execution controls in the executive VMCS',
  26: 'VM entry with events blocked by MOV SS',
  28: 'invalid operand of INVEPT or INVVPID',
};
export const INSTRUCTION_ERROR: readonly BitField[] = [bits('Error', 31, 0, INSTRUCTION_ERRORS)];

export const INTERRUPT_STATUS: readonly BitField[] = [bits('RVI', 7, 0), bits('SVI', 15, 8)];
export const VM_FUNCTIONS: readonly BitField[] = [flag('EPTP switching', 0)];
