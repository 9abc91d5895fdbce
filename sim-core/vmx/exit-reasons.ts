/**
 * Every basic VM-exit reason, once (SDM Vol. 3D, "VMX Basic Exit Reasons"), with the layouts of its exit qualification
 * and of its VM-exit instruction information. Simulator, breakpoint filters, panels and documentation derive from it.
 */

import { type BitField, bits, decodeBits, describeBits, flag, type NameOf, nameOf } from './bits.ts';

export const EXIT_GROUPS = {
  instructions: 'Instructions',
  registers: 'Control, debug and model-specific registers',
  memory: 'Memory',
  interrupts: 'Interrupts and exceptions',
  apic: 'APIC virtualization',
  vmx: 'VMX instructions',
  entryFailure: 'VM-entry failures',
} as const;
export type ExitGroup = keyof typeof EXIT_GROUPS;

const GPR_NAMES = 'RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15'.split(' ');
const GPRS: Readonly<Record<number, string>> = { ...GPR_NAMES };

const ADDRESS = [bits('Linear address', 63, 0)];
const DISPLACEMENT = [bits('Displacement', 63, 0)];
const DEBUG_EXCEPTION = [
  flag('B0', 0),
  flag('B1', 1),
  flag('B2', 2),
  flag('B3', 3),
  flag('BLD', 11),
  flag('BD', 13),
  flag('BS', 14),
  flag('RTM', 16),
];
const TASK_SWITCH = [
  bits('TSS selector', 15, 0),
  bits('Source', 31, 30, { 0: 'CALL', 1: 'IRET', 2: 'JMP', 3: 'task gate in the IDT' }),
];
const CR_ACCESS = [
  bits('Control register', 3, 0, { 0: 'CR0', 3: 'CR3', 4: 'CR4', 8: 'CR8' }),
  bits('Access type', 5, 4, { 0: 'MOV to CR', 1: 'MOV from CR', 2: 'CLTS', 3: 'LMSW' }),
  flag('LMSW memory operand', 6),
  bits('Register', 11, 8, GPRS),
  bits('LMSW source data', 31, 16),
];
const MOV_DR = [
  bits('Debug register', 2, 0, { ...'DR0 DR1 DR2 DR3 DR4 DR5 DR6 DR7'.split(' ') }),
  bits('Direction', 4, 4, { 0: 'MOV to DR', 1: 'MOV from DR' }),
  bits('Register', 11, 8, GPRS),
];
const IO = [
  bits('Size', 2, 0, { 0: '1 byte', 1: '2 bytes', 3: '4 bytes' }),
  bits('Direction', 3, 3, { 0: 'OUT', 1: 'IN' }),
  flag('String', 4),
  flag('REP', 5),
  bits('Operand encoding', 6, 6, { 0: 'DX', 1: 'immediate' }),
  bits('Port', 31, 16),
];
const ENTRY_FAILURE = [
  bits('Cause', 31, 0, {
    0: 'no further detail',
    2: 'PDPTE loading',
    3: 'NMI injected while blocked by STI',
    4: 'VMCS link pointer',
  }),
];
const EPT_VIOLATION = [
  flag('Data read', 0),
  flag('Data write', 1),
  flag('Instruction fetch', 2),
  flag('Readable', 3),
  flag('Writable', 4),
  flag('Executable', 5),
  flag('User-executable', 6),
  flag('Guest linear address valid', 7),
  bits('Access', 8, 8, { 0: 'to a paging-structure entry', 1: 'to the translation of the linear address' }),
  flag('User-mode linear address', 9),
  flag('Read/write page', 10),
  flag('Execute-disable page', 11),
  flag('NMI unblocking due to IRET', 12),
  flag('Shadow-stack access', 13),
  flag('Supervisor shadow-stack page', 14),
  flag('Guest-paging verification', 15),
  flag('Asynchronous to instruction execution', 16),
];
const APIC_ACCESS = [
  bits('Page offset', 11, 0),
  bits('Access type', 15, 12, {
    0: 'data read during an instruction',
    1: 'data write during an instruction',
    2: 'instruction fetch',
    3: 'read or write during event delivery',
    4: 'linear access for monitoring',
    10: 'guest-physical access during event delivery',
    11: 'guest-physical access for monitoring or trace',
    15: 'guest-physical access for a fetch or during an instruction',
  }),
  flag('Asynchronous to instruction execution', 16),
];
const VECTOR = [bits('Vector', 7, 0)];
const MSR_INDEX = [bits('MSR', 31, 0)];

const SCALING = bits('Scaling', 1, 0, { 0: '×1', 1: '×2', 2: '×4', 3: '×8' });
const REG1 = bits('Reg1', 6, 3, GPRS);
const ADDRESS_SIZE = bits('Address size', 9, 7, { 0: '16-bit', 1: '32-bit', 2: '64-bit' });
const OPERAND = bits('Operand', 10, 10, { 0: 'memory', 1: 'register' });
const SEGMENT = bits('Segment', 17, 15, { 0: 'ES', 1: 'CS', 2: 'SS', 3: 'DS', 4: 'FS', 5: 'GS' });
const INDEX = [bits('Index register', 21, 18, GPRS), flag('No index register', 22)];
const BASE = [bits('Base register', 26, 23, GPRS), flag('No base register', 27)];
const REG2 = bits('Reg2', 31, 28, GPRS);
const INFORMATION = {
  string: [ADDRESS_SIZE, SEGMENT],
  memory: [SCALING, ADDRESS_SIZE, SEGMENT, ...INDEX, ...BASE],
  invalidation: [SCALING, ADDRESS_SIZE, SEGMENT, ...INDEX, ...BASE, REG2],
  fieldAccess: [SCALING, REG1, ADDRESS_SIZE, OPERAND, SEGMENT, ...INDEX, ...BASE, REG2],
  table: [
    SCALING,
    ADDRESS_SIZE,
    bits('Operand size', 11, 11, { 0: '16-bit', 1: '32-bit' }),
    SEGMENT,
    ...INDEX,
    ...BASE,
    bits('Instruction', 29, 28, { 0: 'SGDT', 1: 'SIDT', 2: 'LGDT', 3: 'LIDT' }),
  ],
  selector: [
    SCALING,
    REG1,
    ADDRESS_SIZE,
    OPERAND,
    SEGMENT,
    ...INDEX,
    ...BASE,
    bits('Instruction', 29, 28, { 0: 'SLDT', 1: 'STR', 2: 'LLDT', 3: 'LTR' }),
  ],
  random: [REG1, bits('Operand size', 12, 11, { 0: '16-bit', 1: '32-bit', 2: '64-bit' })],
} as const satisfies Record<string, readonly BitField[]>;

interface Details {
  /** Layout of the exit qualification; none when the manual defines none. */
  readonly qualification?: readonly BitField[];
  /** Layout of the VM-exit instruction information. */
  readonly information?: readonly BitField[];
}
type Row = readonly [number: number, title: string, group: ExitGroup, documentation: string, details?: Details];

const invalidation: Details = { qualification: DISPLACEMENT, information: INFORMATION.invalidation };
const pointer: Details = { qualification: DISPLACEMENT, information: INFORMATION.memory };
const fieldAccess: Details = { qualification: DISPLACEMENT, information: INFORMATION.fieldAccess };

const ROWS = [
  [
    0,
    'Exception or NMI',
    'interrupts',
    'An exception whose bit is set in the exception bitmap, or an NMI with “NMI exiting”.',
  ],
  [1, 'External interrupt', 'interrupts', 'An external interrupt arrived with “external-interrupt exiting”.'],
  [2, 'Triple fault', 'interrupts', 'A fault during the delivery of a double fault.'],
  [3, 'INIT signal', 'interrupts', 'An INIT signal arrived.'],
  [4, 'Start-up IPI', 'interrupts', 'A SIPI arrived in the wait-for-SIPI state.', { qualification: VECTOR }],
  [5, 'I/O SMI', 'interrupts', 'An SMI arrived right after an I/O instruction.'],
  [6, 'Other SMI', 'interrupts', 'An SMI arrived, not after an I/O instruction.'],
  [7, 'Interrupt window', 'interrupts', 'The guest could take an interrupt, with “interrupt-window exiting”.'],
  [8, 'NMI window', 'interrupts', 'The guest could take a virtual NMI, with “NMI-window exiting”.'],
  [9, 'Task switch', 'instructions', 'The guest attempted a task switch.', { qualification: TASK_SWITCH }],
  [10, 'CPUID', 'instructions', 'The guest executed CPUID.'],
  [11, 'GETSEC', 'instructions', 'The guest executed GETSEC.'],
  [12, 'HLT', 'instructions', 'The guest executed HLT with “HLT exiting”.'],
  [13, 'INVD', 'instructions', 'The guest executed INVD.'],
  [14, 'INVLPG', 'memory', 'The guest executed INVLPG with “INVLPG exiting”.', { qualification: ADDRESS }],
  [15, 'RDPMC', 'instructions', 'The guest executed RDPMC with “RDPMC exiting”.'],
  [16, 'RDTSC', 'instructions', 'The guest executed RDTSC with “RDTSC exiting”.'],
  [17, 'RSM', 'instructions', 'The guest executed RSM in SMM.'],
  [18, 'VMCALL', 'vmx', 'The guest called the hypervisor with VMCALL.'],
  [19, 'VMCLEAR', 'vmx', 'The guest executed VMCLEAR.', pointer],
  [20, 'VMLAUNCH', 'vmx', 'The guest executed VMLAUNCH.'],
  [21, 'VMPTRLD', 'vmx', 'The guest executed VMPTRLD.', pointer],
  [22, 'VMPTRST', 'vmx', 'The guest executed VMPTRST.', pointer],
  [23, 'VMREAD', 'vmx', 'The guest executed VMREAD.', fieldAccess],
  [24, 'VMRESUME', 'vmx', 'The guest executed VMRESUME.'],
  [25, 'VMWRITE', 'vmx', 'The guest executed VMWRITE.', fieldAccess],
  [26, 'VMXOFF', 'vmx', 'The guest executed VMXOFF.'],
  [27, 'VMXON', 'vmx', 'The guest executed VMXON.', pointer],
  [
    28,
    'CR access',
    'registers',
    'The guest accessed CR0, CR3, CR4 or CR8 in a way that the controls reserve.',
    { qualification: CR_ACCESS },
  ],
  [29, 'MOV DR', 'registers', 'The guest accessed a debug register with “MOV-DR exiting”.', { qualification: MOV_DR }],
  [
    30,
    'I/O instruction',
    'instructions',
    'The guest accessed a port that the I/O bitmaps or “unconditional I/O exiting” reserve.',
    { qualification: IO, information: INFORMATION.string },
  ],
  [31, 'RDMSR', 'registers', 'The guest read an MSR that the MSR bitmaps reserve.'],
  [32, 'WRMSR', 'registers', 'The guest wrote an MSR that the MSR bitmaps reserve.'],
  [
    33,
    'Entry failure due to guest state',
    'entryFailure',
    'A check of the guest-state area failed; the guest did not run.',
    { qualification: ENTRY_FAILURE },
  ],
  [
    34,
    'Entry failure due to MSR loading',
    'entryFailure',
    'An entry of the VM-entry MSR-load list could not be loaded.',
    { qualification: [bits('Number of the entry, from 1', 31, 0)] },
  ],
  [
    36,
    'MWAIT',
    'instructions',
    'The guest executed MWAIT with “MWAIT exiting”.',
    { qualification: [flag('Monitor armed', 0)] },
  ],
  [37, 'Monitor trap flag', 'interrupts', 'One instruction of the guest has run with “monitor trap flag”.'],
  [39, 'MONITOR', 'instructions', 'The guest executed MONITOR with “MONITOR exiting”.'],
  [40, 'PAUSE', 'instructions', 'The guest executed PAUSE with “PAUSE exiting”, or a PAUSE loop lasted too long.'],
  [41, 'Entry failure due to machine check', 'entryFailure', 'A machine check happened during VM entry.'],
  [43, 'TPR below threshold', 'apic', 'The virtual task priority fell below the TPR threshold.'],
  [44, 'APIC access', 'apic', 'The guest accessed the APIC-access page.', { qualification: APIC_ACCESS }],
  [
    45,
    'Virtualized EOI',
    'apic',
    'The guest ended an interrupt whose bit is set in the EOI-exit bitmap.',
    { qualification: VECTOR },
  ],
  [
    46,
    'GDTR or IDTR access',
    'registers',
    'The guest executed LGDT, LIDT, SGDT or SIDT with “descriptor-table exiting”.',
    { qualification: DISPLACEMENT, information: INFORMATION.table },
  ],
  [
    47,
    'LDTR or TR access',
    'registers',
    'The guest executed LLDT, LTR, SLDT or STR with “descriptor-table exiting”.',
    { qualification: DISPLACEMENT, information: INFORMATION.selector },
  ],
  [
    48,
    'EPT violation',
    'memory',
    'The EPT entries do not allow the access, or are not present.',
    { qualification: EPT_VIOLATION },
  ],
  [49, 'EPT misconfiguration', 'memory', 'An EPT entry has a reserved or unsupported value.'],
  [50, 'INVEPT', 'vmx', 'The guest executed INVEPT.', invalidation],
  [51, 'RDTSCP', 'instructions', 'The guest executed RDTSCP with “RDTSC exiting”.'],
  [52, 'VMX-preemption timer', 'interrupts', 'The VMX-preemption timer counted down to zero.'],
  [53, 'INVVPID', 'vmx', 'The guest executed INVVPID.', invalidation],
  [54, 'WBINVD', 'instructions', 'The guest executed WBINVD or WBNOINVD with “WBINVD exiting”.'],
  [55, 'XSETBV', 'registers', 'The guest executed XSETBV.'],
  [
    56,
    'APIC write',
    'apic',
    'The guest wrote a register of the virtual APIC that needs the hypervisor.',
    { qualification: [bits('Page offset', 11, 0)] },
  ],
  [
    57,
    'RDRAND',
    'instructions',
    'The guest executed RDRAND with “RDRAND exiting”.',
    { information: INFORMATION.random },
  ],
  [58, 'INVPCID', 'memory', 'The guest executed INVPCID with “INVLPG exiting”.', invalidation],
  [59, 'VMFUNC', 'vmx', 'VMFUNC with a function that is not enabled or an EPTP-list entry that is not valid.'],
  [60, 'ENCLS', 'instructions', 'The guest executed an ENCLS leaf that the ENCLS-exiting bitmap reserves.'],
  [
    61,
    'RDSEED',
    'instructions',
    'The guest executed RDSEED with “RDSEED exiting”.',
    { information: INFORMATION.random },
  ],
  [
    62,
    'Page-modification log full',
    'memory',
    'No entry was left in the page-modification log.',
    { qualification: [flag('NMI unblocking due to IRET', 12)] },
  ],
  [
    63,
    'XSAVES',
    'instructions',
    'The guest executed XSAVES for a component that the XSS-exiting bitmap reserves.',
    pointer,
  ],
  [
    64,
    'XRSTORS',
    'instructions',
    'The guest executed XRSTORS for a component that the XSS-exiting bitmap reserves.',
    pointer,
  ],
  [65, 'PCONFIG', 'instructions', 'The guest executed a PCONFIG leaf that the PCONFIG-exiting bitmap reserves.'],
  [
    66,
    'SPP-related event',
    'memory',
    'The sub-page permission table missed or is misconfigured.',
    {
      qualification: [
        bits('Type', 11, 11, { 0: 'misconfiguration', 1: 'miss' }),
        flag('NMI unblocking due to IRET', 12),
      ],
    },
  ],
  [
    67,
    'UMWAIT',
    'instructions',
    'The guest executed UMWAIT with “RDTSC exiting”.',
    { information: INFORMATION.random },
  ],
  [
    68,
    'TPAUSE',
    'instructions',
    'The guest executed TPAUSE with “RDTSC exiting”.',
    { information: INFORMATION.random },
  ],
  [69, 'LOADIWKEY', 'instructions', 'The guest executed LOADIWKEY with “LOADIWKEY exiting”.'],
  [70, 'ENCLV', 'instructions', 'The guest executed an ENCLV leaf that the ENCLV-exiting bitmap reserves.'],
  [72, 'ENQCMD PASID translation failure', 'instructions', 'The PASID of an ENQCMD could not be translated.'],
  [73, 'ENQCMDS PASID translation failure', 'instructions', 'The PASID of an ENQCMDS could not be translated.'],
  [74, 'Bus lock', 'memory', 'The guest acquired a bus lock with “bus-lock detection”.'],
  [
    75,
    'Instruction timeout',
    'interrupts',
    'No instruction boundary came within the instruction-timeout control’s time.',
    { qualification: [flag('VM context invalid', 0)] },
  ],
  [76, 'SEAMCALL', 'vmx', 'The guest executed SEAMCALL.'],
  [77, 'TDCALL', 'vmx', 'The guest executed TDCALL.'],
  [78, 'RDMSRLIST', 'registers', 'RDMSRLIST met an MSR that the MSR bitmaps reserve.', { qualification: MSR_INDEX }],
  [79, 'WRMSRLIST', 'registers', 'WRMSRLIST met an MSR that the MSR bitmaps reserve.', { qualification: MSR_INDEX }],
  [80, 'URDMSR', 'registers', 'URDMSR of an MSR that the MSR bitmaps reserve.', { qualification: MSR_INDEX }],
  [81, 'UWRMSR', 'registers', 'UWRMSR of an MSR that the MSR bitmaps reserve.', { qualification: MSR_INDEX }],
  [
    84,
    'RDMSR with immediate',
    'registers',
    'RDMSR with an immediate of an MSR that the MSR bitmaps reserve.',
    { qualification: MSR_INDEX, information: INFORMATION.random },
  ],
  [
    85,
    'WRMSRNS with immediate',
    'registers',
    'WRMSRNS with an immediate of an MSR that the MSR bitmaps reserve.',
    { qualification: MSR_INDEX, information: INFORMATION.random },
  ],
] as const satisfies readonly Row[];

export type ExitName = NameOf<(typeof ROWS)[number][1]>;

export interface ExitReason extends Details {
  /** Basic exit reason: bits 15:0 of the exit-reason field. */
  readonly number: number;
  /** In capitals, as people write it: EPT_VIOLATION. */
  readonly name: ExitName;
  /** For people: 'EPT violation'. */
  readonly title: string;
  readonly group: ExitGroup;
  readonly documentation: string;
}

/** All basic exit reasons, ordered by number. */
export const EXIT_REASONS: readonly ExitReason[] = ROWS.map(
  ([number, title, group, documentation, details]: Row): ExitReason => ({
    number,
    name: nameOf(title) as ExitName,
    title,
    group,
    documentation,
    ...details,
  }),
);

/** Basic exit reason by name: EXIT.CPUID is 10. */
export const EXIT = Object.fromEntries(EXIT_REASONS.map((reason) => [reason.name, reason.number])) as Readonly<
  Record<ExitName, number>
>;

const BY_NUMBER = new Map(EXIT_REASONS.map((reason) => [reason.number, reason]));
const BY_NAME = new Map<string, ExitReason>(EXIT_REASONS.map((reason) => [reason.name, reason]));
export const exitReason = (number: number): ExitReason | undefined => BY_NUMBER.get(number);
/** By name as people type it: any case. */
export const exitReasonByName = (name: string): ExitReason | undefined => BY_NAME.get(name.toUpperCase());
/** 'EPT violation', or 'exit reason 99' for a number that is not defined. */
export const exitTitle = (number: number): string => BY_NUMBER.get(number)?.title ?? `exit reason ${number}`;

const VALID = 0x8000_0000;

/** Layout of the exit qualification; for exceptions it depends on the vector. */
export function qualificationLayout(reason: number, interruptionInformation = 0): readonly BitField[] {
  if (reason === EXIT.EXCEPTION_OR_NMI && interruptionInformation >>> 0 >= VALID) {
    const vector = interruptionInformation & 0xff;
    return vector === 1 ? DEBUG_EXCEPTION : vector === 14 ? ADDRESS : [];
  }
  return exitReason(reason)?.qualification ?? [];
}

/** The exit qualification's parts. */
export const decodeQualification = (reason: number, qualification: bigint, interruptionInformation = 0) =>
  decodeBits(qualificationLayout(reason, interruptionInformation), qualification);

/** The exit qualification in one line of words; empty when it has no meaning. */
export const describeQualification = (reason: number, qualification: bigint, interruptionInformation = 0): string =>
  DESCRIBE.get(reason)?.(qualification) ??
  describeBits(qualificationLayout(reason, interruptionInformation), qualification);

/** The VM-exit instruction information's parts; empty when the exit reason does not define it. */
export const decodeInstructionInformation = (reason: number, information: number) =>
  decodeBits(exitReason(reason)?.information ?? [], BigInt(information >>> 0));

const part = (value: bigint, low: number, width: number): number => Number(BigInt.asUintN(width, value >> BigInt(low)));
const named = (names: Readonly<Record<number, string>>, index: number): string => names[index] ?? `${index}`;

/** Reasons whose qualification reads better as a sentence than as a list of bits. */
const DESCRIBE: ReadonlyMap<number, (qualification: bigint) => string> = new Map([
  [EXIT.CR_ACCESS, describeCrAccess],
  [EXIT.MOV_DR, describeMovDr],
  [EXIT.IO_INSTRUCTION, describeIo],
  [EXIT.EPT_VIOLATION, describeEptViolation],
]);

function describeCrAccess(qualification: bigint): string {
  const register = `CR${part(qualification, 0, 4)}`;
  const gpr = named(GPRS, part(qualification, 8, 4));
  const type = part(qualification, 4, 2);
  if (type === 0) return `MOV to ${register} from ${gpr}`;
  if (type === 1) return `MOV from ${register} to ${gpr}`;
  return type === 2 ? 'CLTS' : `LMSW with source 0x${part(qualification, 16, 16).toString(16)}`;
}

function describeMovDr(qualification: bigint): string {
  const register = `DR${part(qualification, 0, 3)}`;
  const gpr = named(GPRS, part(qualification, 8, 4));
  return part(qualification, 4, 1) ? `MOV from ${register} to ${gpr}` : `MOV to ${register} from ${gpr}`;
}

function describeIo(qualification: bigint): string {
  const size = part(qualification, 0, 3) + 1;
  const direction = part(qualification, 3, 1) ? 'IN from' : 'OUT to';
  const string = part(qualification, 4, 1) ? (part(qualification, 5, 1) ? ', REP string' : ', string') : '';
  const operand = part(qualification, 6, 1) ? 'immediate' : 'DX';
  const port = `0x${part(qualification, 16, 16).toString(16)}`;
  return `${direction} port ${port} (${operand}), ${size} byte${size > 1 ? 's' : ''}${string}`;
}

function describeEptViolation(qualification: bigint): string {
  const bit = (n: number) => part(qualification, n, 1) === 1;
  const access = [bit(0) && 'read', bit(1) && 'write', bit(2) && 'fetch'].filter(Boolean).join('+') || 'access';
  const allowed = [bit(3) && 'read', bit(4) && 'write', bit(5) && 'execute'].filter(Boolean).join('+') || 'nothing';
  const way = !bit(7) ? ', no linear address' : bit(8) ? '' : ', while walking the guest’s page tables';
  return `${access}; EPT allows ${allowed}${way}`;
}
