/**
 * The VM-exit instruction-information field for instructions with a ModRM operand (SDM Vol. 3C, "VM-Exit
 * Instruction-Information Field").
 */

import { Register } from 'iced-x86';
import type { DecodedInstruction } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';

const registerNumber = (register: Register): number => REGISTERS.get(register)?.number ?? 0;

/**
 * Scaling, address size, segment, index and base of a memory operand, or the register with bit 10 set: the parts that
 * all formats of the field share. Operand-size, second-register and identity bits are the caller's.
 */
export function operandInformation(instruction: DecodedInstruction, index: number): number {
  const operand = instruction.operands[index];
  if (operand?.kind === 'register') return (registerNumber(operand.register) << 3) | (1 << 10);
  if (operand?.kind !== 'memory') return 0;
  const { base, index: indexRegister, scale, segment, addressSize } = operand.memory;
  const noBase = base === Register.None || base === Register.RIP || base === Register.EIP;
  const noIndex = indexRegister === Register.None;
  return (
    (noIndex ? 1 << 22 : (registerNumber(indexRegister) << 18) | Math.log2(scale)) |
    (noBase ? 1 << 27 : registerNumber(base) << 23) |
    (Math.log2(addressSize / 2) << 7) |
    (segment << 15)
  );
}

/** The displacement that the exit qualification reports: RIP-relative ones as the address itself. */
export function operandDisplacement(instruction: DecodedInstruction, index: number, rip: bigint): bigint {
  const operand = instruction.operands[index];
  if (operand?.kind !== 'memory') return 0n;
  const { base, displacement } = operand.memory;
  const relative = base === Register.RIP || base === Register.EIP;
  return BigInt.asUintN(64, displacement + (relative ? rip + BigInt(instruction.length) : 0n));
}

/** Of RDRAND, RDSEED, TPAUSE and UMWAIT: the register in bits 6:3, the operand size in bits 12:11. */
export function destinationInformation({ operands: [to] }: DecodedInstruction, size: number): number {
  const register = to?.kind === 'register' ? registerNumber(to.register) : 0;
  return (register << 3) | (Math.log2(size / 2) << 11);
}
