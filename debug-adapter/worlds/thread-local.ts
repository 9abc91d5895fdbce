/** Where a thread's copies of variables are (variant II of "ELF Handling For Thread-Local Storage"). */

import { Unavailable } from '../symbols/dwarf/location-expressions.ts';
import type { Program } from '../symbols/program.ts';
import type { WorldView } from './world-view.ts';

type Registers = Pick<WorldView, 'register' | 'bitness'>;

/**
 * What the code reaches its thread's copies from: FS, in code of 32 bits GS; where that has no base, a kernel or a
 * loader may use the other one.
 */
function threadPointer(view: Registers): bigint {
  const segments = view.bitness === 64 ? ['fs.base', 'gs.base'] : ['gs.base', 'fs.base'];
  return segments.map((name) => view.register(name) ?? 0n).find((base) => base !== 0n) ?? 0n;
}

/** @param offset from the beginning of what each thread has a copy of. @throws Unavailable */
export function threadLocalAddress(program: Program, view: Registers, offset: bigint): bigint {
  const { threadLocal } = program.elf;
  if (!threadLocal) throw new Unavailable('thread-local, but the program has nothing that threads have copies of');
  if (!threadLocal.isOfProgram()) throw new Unavailable('thread-local in a shared object, whose loader is not known');
  const pointer = threadPointer(view);
  if (pointer === 0n) throw new Unavailable('thread-local, but the bases of FS and GS are 0');
  const { address, memorySize, alignment } = threadLocal;
  // The end is aligned as the beginning is: linkers count from there.
  const end = address + memorySize;
  const padding = alignment > 1n ? BigInt.asUintN(64, -end) % alignment : 0n;
  return BigInt.asUintN(view.bitness === 64 ? 64 : 32, pointer + offset - memorySize - padding);
}
