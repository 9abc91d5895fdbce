/** An instruction for people: decoded where it is, without side effects. */

import { InstructionDecoder } from '../isa/decoder.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import type { Mmu } from '../mmu/mmu.ts';
import type { CodeMode } from '../state/layout.ts';

const LONGEST_INSTRUCTION = 15n;

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
  const bytes: number[] = [];
  for (let i = 0n; i < LONGEST_INSTRUCTION; i++) {
    const { physical } = mmu.explain(linear + i, 'execute');
    if (physical === undefined) break;
    bytes.push(mmu.physical.peek(physical, 1)[0] ?? 0);
  }
  return Uint8Array.from(bytes);
}
