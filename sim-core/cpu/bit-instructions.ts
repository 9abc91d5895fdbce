/** Bit deposits and extracts, and CRC32 (SDM Vol. 2): too long for staged code. */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { type Fault, undefinedOpcode } from '../mmu/fault.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from './cpu.ts';
import { inProtectedMode, inVirtual8086 } from './modes.ts';
import { readOperand, sizeOf, writeOperand } from './operands.ts';
import type { NamedInstructions } from './table.ts';

/** dst = f(source, mask); #UD where VEX prefixes are not recognised. */
const byMask =
  (compute: (source: bigint, mask: bigint) => bigint): SlowInstruction =>
  (cpu, instruction) => {
    if (!inProtectedMode(cpu.state) || inVirtual8086(cpu.state)) return undefinedOpcode();
    const source = readOperand(cpu, instruction, 1);
    if (typeof source === 'object') return source;
    const mask = readOperand(cpu, instruction, 2);
    if (typeof mask === 'object') return mask;
    return writeOperand(cpu, instruction, 0, compute(source, mask)) ?? NEXT.sequential;
  };

/** The source's low bits at the places of the mask's ones. */
function deposit(source: bigint, mask: bigint): bigint {
  let result = 0n;
  let rest = source;
  for (let places = mask; places !== 0n; places &= places - 1n, rest >>= 1n) {
    if ((rest & 1n) !== 0n) result |= places & -places;
  }
  return result;
}

/** The source's bits at the places of the mask's ones, side by side. */
function extract(source: bigint, mask: bigint): bigint {
  let result = 0n;
  let bit = 1n;
  for (let places = mask; places !== 0n; places &= places - 1n, bit <<= 1n) {
    if ((source & places & -places) !== 0n) result |= bit;
  }
  return result;
}

/** The polynomial 11EDC6F41h, bits reversed. */
const POLYNOMIAL = 0x82f6_3b78;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ ((remainder & 1) !== 0 ? POLYNOMIAL : 0);
  return remainder;
});

function crc32(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const start = readOperand(cpu, instruction, 0);
  if (typeof start === 'object') return start;
  const source = readOperand(cpu, instruction, 1);
  if (typeof source === 'object') return source;
  let remainder = Number(start & 0xffff_ffffn);
  for (let i = 0n; i < BigInt(sizeOf(instruction, 1)); i++) {
    const byte = Number((source >> (8n * i)) & 0xffn);
    remainder = (remainder >>> 8) ^ (CRC_TABLE[(remainder ^ byte) & 0xff] as number);
  }
  return writeOperand(cpu, instruction, 0, BigInt(remainder >>> 0)) ?? NEXT.sequential;
}

export const BIT_INSTRUCTIONS: NamedInstructions = {
  Pdep: byMask(deposit),
  Pext: byMask(extract),
  Crc32: crc32,
};
