/** Instructions by mnemonic, from the tables of iced-x86. */

import { Code, CodeExt, CpuidFeature, Instruction, Mnemonic } from 'iced-x86';

export interface InstructionForm {
  /** As the manual writes it: 'VMREAD r/m64, r64'. */
  readonly operands: string;
  /** 'NP 0F 78 /r'. */
  readonly opcode: string;
  /** CPUID features in words of iced-x86: 'VMX'. */
  readonly features: readonly string[];
  readonly in64Bit: boolean;
  readonly in32Bit: boolean;
  /** Only at CPL 0. */
  readonly privileged: boolean;
  /** What iced-x86 says of VM exits on Intel's processors. */
  readonly vmExit: 'always' | 'maybe' | 'never';
}

let forms: ReadonlyMap<string, readonly InstructionForm[]> | undefined;

/** All forms by mnemonic in capitals; made when first asked for. */
export function instructionForms(): ReadonlyMap<string, readonly InstructionForm[]> {
  forms ??= build();
  return forms;
}

function build(): Map<string, InstructionForm[]> {
  const found = new Map<string, InstructionForm[]>();
  const instruction = new Instruction();
  for (const code of Object.values(Code)) {
    if (typeof code !== 'number') continue;
    const info = CodeExt.opCode(code);
    if (info.isInstruction) {
      instruction.code = code;
      const mnemonic = (Mnemonic[info.mnemonic] ?? '').toUpperCase();
      const known = found.get(mnemonic);
      const form: InstructionForm = {
        operands: info.instructionString,
        opcode: info.opCodeString,
        features: Array.from(instruction.cpuidFeatures(), (feature) => CpuidFeature[feature] ?? ''),
        in64Bit: info.mode64,
        in32Bit: info.mode32,
        privileged: info.cpl0 && !info.cpl3,
        vmExit: info.intelVmExit ? 'always' : info.intelMayVmExit ? 'maybe' : 'never',
      };
      if (known) known.push(form);
      else found.set(mnemonic, [form]);
    }
    info.free();
  }
  instruction.free();
  return found;
}

/** Condition codes that have a second name, on the right iced-x86's. */
const CONDITIONS: Readonly<Record<string, string>> = {
  C: 'B',
  NAE: 'B',
  NC: 'AE',
  NB: 'AE',
  Z: 'E',
  NZ: 'NE',
  NA: 'BE',
  NBE: 'A',
  PE: 'P',
  PO: 'NP',
  NGE: 'L',
  NL: 'GE',
  NG: 'LE',
  NLE: 'G',
};

/** Names of GNU as that are no Intel mnemonic with a size after it. */
const GAS_NAMES: Readonly<Record<string, string>> = {
  MOVABS: 'MOV',
  MOVABSQ: 'MOV',
  MOVSLQ: 'MOVSXD',
  CBTW: 'CBW',
  CWTL: 'CWDE',
  CLTQ: 'CDQE',
  CWTD: 'CWD',
  CLTD: 'CDQ',
  CQTO: 'CQO',
  LJMP: 'JMP',
  LCALL: 'CALL',
  LRET: 'RETF',
  IRETL: 'IRETD',
  RETN: 'RET',
  REPZ: 'REPE',
  SAL: 'SHL',
  XLATB: 'XLATB',
};

/**
 * The mnemonic as iced-x86 has it, in capitals, for one as people write it in NASM or GNU as: 'vmreadq', 'jz', 'movzbl'.
 * @returns undefined for what is no instruction.
 */
export function mnemonicOf(written: string): string | undefined {
  const known = instructionForms();
  const name = written.toUpperCase();
  return spellings(name).find((spelling) => known.has(spelling));
}

function spellings(name: string): string[] {
  const condition = /^(J|SET|CMOV)(N?[A-Z]{1,3})$/.exec(name);
  const code = condition && CONDITIONS[condition[2] ?? ''];
  const extension = /^MOV([SZ])[BW][WLQ]$/.exec(name);
  return [
    name,
    ...(GAS_NAMES[name] ? [GAS_NAMES[name]] : []),
    ...(code ? [`${condition?.[1]}${code}`] : []),
    ...(extension ? [`MOV${extension[1]}X`] : []),
    // GNU as: string instructions say D where the suffix is L, all others drop it.
    ...(/^(INS|OUTS|MOVS|STOS|LODS|SCAS|CMPS)L$/.test(name) ? [`${name.slice(0, -1)}D`] : []),
    ...(/[BWLQ]$/.test(name) ? [name.slice(0, -1)] : []),
  ];
}
