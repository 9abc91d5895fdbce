import { Code, Encoder, Instruction, Register } from 'iced-x86';
import { RFLAGS } from '../../sim-core/state/control-bits.ts';
import { ADDRESS, type Case, PAGE_BOUNDARY, YMM_BYTES } from './layout.ts';
import type { Random } from './random.ts';
import { INITIAL_X87 } from './x87.ts';

/**
 * Short random sequences: instructions that set flags, then ones that use them. Single instructions do not show whether
 * flags that are kept lazily are right, because they start from flags that were just loaded.
 */

const { cf, pf, af, zf, sf, of } = RFLAGS;
const ALL = cf | pf | af | zf | sf | of;

interface Step {
  /** Name of iced-x86's Code with `SIZE` for 8, 16, 32, 64. */
  readonly code: string;
  readonly operands: 'two' | 'one' | 'one byte' | 'by one' | 'none';
  /** Flags that it reads, that it sets, and that it leaves undefined. */
  readonly reads: number;
  readonly sets: number;
  readonly undefined: number;
}

const step = (code: string, operands: Step['operands'], reads: number, sets: number, leaves = 0): Step => ({
  code, operands, reads, sets, undefined: leaves,
}); // biome-ignore format: one line says it

/** Flags of the sixteen conditions in encoding order, pairs with their negations. */
const CONDITION_FLAGS = [of, cf, zf, cf | zf, sf, pf, sf | of, zf | sf | of];
/** iced-x86's names of the conditions. */
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const flagsOf = (condition: number): number => CONDITION_FLAGS[condition >> 1] as number;

const TWO = 'rmSIZE_rSIZE';
const STEPS: readonly Step[] = [
  ...['Add', 'Sub', 'Cmp'].map((name) => step(`${name}_${TWO}`, 'two', 0, ALL)),
  ...['Adc', 'Sbb'].map((name) => step(`${name}_${TWO}`, 'two', cf, ALL)),
  ...['And', 'Or', 'Xor', 'Test'].map((name) => step(`${name}_${TWO}`, 'two', 0, ALL & ~af, af)),
  ...['Inc', 'Dec'].map((name) => step(`${name}_rmSIZE`, 'one', 0, ALL & ~cf)),
  step('Neg_rmSIZE', 'one', 0, ALL),
  ...['Shl', 'Shr', 'Sar'].map((name) => step(`${name}_rmSIZE_1`, 'by one', 0, ALL & ~af, af)),
  ...['Rol', 'Ror'].map((name) => step(`${name}_rmSIZE_1`, 'by one', 0, cf | of)),
  ...['Rcl', 'Rcr'].map((name) => step(`${name}_rmSIZE_1`, 'by one', cf, cf | of)),
  ...['Clc', 'Stc'].map((name) => step(name, 'none', 0, cf)),
  step('Cmc', 'none', cf, cf),
  step('Lahf', 'none', ALL & ~of, 0),
  step('Sahf', 'none', 0, ALL & ~of),
  ...CONDITIONS.map((name, condition) => step(`Set${name}_rm8`, 'one byte', flagsOf(condition), 0)),
];

/** Moves and jumps on conditions: at the end of a sequence. */
const LAST: readonly Step[] = CONDITIONS.map((name, condition) =>
  step(`Cmov${name}_r32_rm32`, 'two', flagsOf(condition), 0),
);

const REGISTERS: Readonly<Record<number, readonly Register[]>> = {
  8: [Register.AL, Register.BL, Register.CL, Register.DL, Register.AH, Register.BH],
  16: [Register.AX, Register.BX, Register.CX, Register.DX],
  32: [Register.EAX, Register.EBX, Register.ECX, Register.EDX],
  64: [Register.RAX, Register.RBX, Register.RCX, Register.RDX],
};

function makeInstruction({ code, operands }: Step, random: Random): Instruction {
  const bits = operands === 'one byte' ? 8 : code.includes('r32') ? 32 : random.pick([8, 16, 32, 64]);
  const number = (Code as unknown as Readonly<Record<string, Code>>)[code.replaceAll('SIZE', `${bits}`)];
  if (number === undefined) throw new RangeError(`iced-x86 has no encoding ${code}`);
  const register = () => random.pick(REGISTERS[bits] as readonly Register[]);
  switch (operands) {
    case 'two':
      return Instruction.createRegReg(number, register(), register());
    case 'by one':
      return Instruction.createRegU32(number, register(), 1);
    case 'none':
      return Instruction.create(number);
    default:
      return Instruction.createReg(number, register());
  }
}

/** One sequence in 64-bit code, of instructions that read no flag that another has left undefined. */
export function randomSequence(random: Random): Case {
  const encoder = new Encoder(64);
  let undefinedFlags = 0;
  const names: string[] = [];
  const usable = (steps: readonly Step[]) => steps.filter(({ reads }) => (reads & undefinedFlags) === 0);
  const length = 2 + random.below(4);
  for (let i = 0; i < length; i++) {
    const chosen = random.pick(usable(i === length - 1 ? [...LAST, ...STEPS] : STEPS));
    const instruction = makeInstruction(chosen, random);
    encoder.encode(instruction, 0n);
    instruction.free();
    undefinedFlags = (undefinedFlags & ~chosen.sets) | chosen.undefined;
    names.push((chosen.code.split('_')[0] as string).toLowerCase());
  }
  const code = encoder.takeBuffer();
  encoder.free();
  return {
    mode: 'code64',
    text: `sequence ${names.join(', ')}`,
    code,
    undefinedFlags,
    undefinedResult: false,
    undefinedStatus: 0,
    before: {
      gpr: Array.from({ length: 16 }, (_, i) => (i === 4 ? BigInt(PAGE_BOUNDARY) : random.integer())),
      rflags: BigInt((random.next() & ALL) | 2),
      rip: BigInt(ADDRESS.CODE + 0x800),
      mxcsr: 0x1f80,
      ymm: new Uint8Array(YMM_BYTES),
      x87: INITIAL_X87,
      memory: new Uint8Array(ADDRESS.WINDOW_SIZE),
    },
  };
}
