import { type Instruction, OpKind, Register } from 'iced-x86';
import { RECORD } from '../engine/record.ts';
import { OFFSET, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { REGISTERS } from './registers.ts';

/** State addresses by iced-x86 Register number; 0 where no staged instruction names the register. */
const ADDRESSES = new Uint16Array(Math.max(...REGISTERS.keys()) + 1);
for (const [register, { address }] of REGISTERS) ADDRESSES[register] = address;

/** Memory operands of string instructions in 64-bit code, which need nothing told. */
const IMPLIED: ReadonlySet<number> = new Set([OpKind.MemorySegRSI, OpKind.MemoryESRDI]);

function addressOf(register: number): number {
  const address = ADDRESSES[register] ?? 0;
  if (address === 0) throw new RangeError(`register ${register} is in no staged instruction`);
  return address;
}

/**
 * Writes register numbers, address parts and immediates of a staged instruction into its record. Its instruction
 * pointer is an offset in its page: so is the target of a near branch, and an address relative to RIP.
 */
export function fillOperands({ view, u16 }: State, record: number, instruction: Instruction): void {
  const count = instruction.opCount;
  for (let i = 0; i < count; i++) {
    const kind = instruction.opKind(i);
    if (kind === OpKind.Register) u16[(record + RECORD.operand + 2 * i) >>> 1] = addressOf(instruction.opRegister(i));
    else if (kind === OpKind.Memory) fillAddress(view, record, instruction);
    else if (kind === OpKind.NearBranch64 || kind === OpKind.NearBranch32 || kind === OpKind.NearBranch16) {
      view.setBigUint64(record + RECORD.immediate, instruction.nearBranchTarget, true);
    } else if (IMPLIED.has(kind)) continue;
    else view.setBigUint64(record + RECORD.immediate, instruction.immediate(i), true);
  }
}

function fillAddress(view: DataView, record: number, instruction: Instruction): void {
  const { memoryBase, memoryIndex, memorySegment } = instruction;
  const relative = memoryBase === Register.RIP || memoryBase === Register.EIP;
  const base = relative ? OFFSET.codeBase : memoryBase === Register.None ? OFFSET.zero : addressOf(memoryBase);
  view.setUint16(record + RECORD.base, base, true);
  view.setUint16(record + RECORD.index, memoryIndex === Register.None ? OFFSET.zero : addressOf(memoryIndex), true);
  view.setUint8(record + RECORD.scale, Math.log2(instruction.memoryIndexScale));
  view.setUint8(record + RECORD.segment, 8 * (REGISTERS.get(memorySegment)?.number ?? SEGMENT.ds));
  view.setBigUint64(record + RECORD.displacement, instruction.memoryDisplacement, true);
}
