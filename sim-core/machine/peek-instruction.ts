/** An instruction for people: decoded where it is, without side effects. */

import { LONGEST_INSTRUCTION } from '../engine/form.ts';
import { InstructionDecoder } from '../isa/decoder.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import type { Mmu } from '../mmu/mmu.ts';
import type { CodeMode } from '../state/layout.ts';

const PAGE = 4096;

/** @returns the instruction at a linear address of the current world; undefined when there is none to read */
export function peekInstruction(mmu: Mmu, linear: bigint): DecodedInstruction | undefined {
  const bytes = peekCode(mmu, linear);
  if (bytes.length === 0) return undefined;
  const decoder = new InstructionDecoder(mmu.state.get32('codeMode') as CodeMode, bytes, 0);
  const decoded = decoder.next() === 'ok' ? decoder.decoded() : undefined;
  decoder.free();
  return decoded;
}

/** As many bytes as the longest instruction has, or as can be read. */
function peekCode(mmu: Mmu, linear: bigint): Uint8Array {
  const first = Math.min(LONGEST_INSTRUCTION, PAGE - Number(linear % BigInt(PAGE)));
  const bytes = peekInPage(mmu, linear, first);
  if (bytes.length === 0 || first === LONGEST_INSTRUCTION) return bytes;
  return Uint8Array.from([...bytes, ...peekInPage(mmu, linear + BigInt(first), LONGEST_INSTRUCTION - first)]);
}

function peekInPage(mmu: Mmu, linear: bigint, length: number): Uint8Array {
  const { physical } = mmu.explain(BigInt.asUintN(64, linear), 'execute');
  return physical === undefined ? new Uint8Array() : mmu.physical.peek(physical, length);
}
