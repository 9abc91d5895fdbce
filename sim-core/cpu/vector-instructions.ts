/** Vector instructions that are not staged, and staged ones that gave up. */

import type { Register } from 'iced-x86';
import type { DecodedInstruction } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import type { Fault } from '../mmu/fault.ts';
import { GPR, OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from './cpu.ts';
import { ldmxcsr, requireSse, stmxcsr } from './fpu-instructions.ts';
import { memoryOperand, readGpr } from './operands.ts';
import { segmentAddress } from './segments.ts';
import { STRING_INSTRUCTIONS } from './string-instructions.ts';
import type { NamedInstructions } from './table.ts';
import { CRYPTO_INSTRUCTIONS } from './vector/crypto-instructions.ts';
import { FLOAT_INSTRUCTIONS } from './vector/float-instructions.ts';
import { MASKED_INSTRUCTIONS } from './vector/masked-instructions.ts';
import { vectorInstruction } from './vector/operands.ts';
import { STRING_COMPARISONS } from './vector/string-comparisons.ts';

/** CMPSD is the name of a comparison of doublewords in memory, too. */
const cmpsd: SlowInstruction = (cpu, instruction) => {
  const isString = instruction.operands[0]?.kind === 'memory';
  const execute = isString ? STRING_INSTRUCTIONS.Cmpsd : FLOAT_INSTRUCTIONS.Cmpsd;
  if (!execute) throw new RangeError('CMPSD is missing');
  return execute(cpu, instruction);
};

const vectorBytes = (state: State, register: Register): Uint8Array => {
  const location = REGISTERS.get(register);
  if (location?.kind !== 'xmm') throw new RangeError(`register ${register} is no vector register`);
  return state.bytes.subarray(location.address, location.address + 16);
};

function vectorOperand(state: State, instruction: DecodedInstruction, index: number): Uint8Array {
  const operand = instruction.operands[index];
  if (operand?.kind !== 'register') throw new RangeError(`operand ${index} is no register`);
  return vectorBytes(state, operand.register);
}

/**
 * MASKMOVDQU stores the bytes whose mask byte has its top bit set. Bytes between the first and the last of them are
 * written back as they are.
 */
function maskmovdqu(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state, mmu } = cpu;
  const problem = requireSse(state);
  if (problem) return problem;
  const source = vectorOperand(state, instruction, 1);
  const chosen = Array.from(vectorOperand(state, instruction, 2), (byte) => byte >= 0x80);
  const first = chosen.indexOf(true);
  if (first < 0) return NEXT.sequential;
  const length = chosen.lastIndexOf(true) + 1 - first;
  const { segment } = memoryOperand(instruction, 0);
  const { addressSize } = instruction;
  const offset = BigInt.asUintN(8 * addressSize, readGpr(state, GPR.rdi, addressSize) + BigInt(first));
  const linear = segmentAddress(state, segment, offset, length, true);
  if (typeof linear === 'object') return linear;
  const at = mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), length, true);
  if (at === 0) return mmu.lastFault();
  for (let i = 0; i < length; i++) if (chosen[first + i]) state.bytes[at + i] = source[first + i] as number;
  if (at === OFFSET.bounce) mmu.commit();
  return NEXT.sequential;
}

export const VECTOR_INSTRUCTIONS: NamedInstructions = {
  ...CRYPTO_INSTRUCTIONS,
  ...FLOAT_INSTRUCTIONS,
  ...MASKED_INSTRUCTIONS,
  ...STRING_COMPARISONS,
  Cmpsd: cmpsd,
  Maskmovdqu: maskmovdqu,
  Vmaskmovdqu: vectorInstruction(maskmovdqu),
  Vldmxcsr: vectorInstruction(ldmxcsr),
  Vstmxcsr: vectorInstruction(stmxcsr),
};
