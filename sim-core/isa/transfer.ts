import type { Place, Semantics, Stage } from '../engine/stage.ts';
import { type I64, i32, load32, type Word } from '../engine/value.ts';
import { CODE_MODE, GPR, OFFSET, SEGMENT } from '../state/layout.ts';
import { signExtended, toWord, truncated } from './word.ts';

/** Data movement, stack, near control flow and flag instructions (SDM Vol. 2). */

type Size = 1 | 2 | 4 | 8;

// ---- moves

/** MOV and MOVZX: what is smaller than the target, a selector too, is zero-extended. */
const mov: Semantics = (s) => {
  const target = s.operand(0, 'write');
  const value = s.operand(1, 'read').read();
  target.write(target.size === 8 ? value.extendU() : value);
};

const movsx: Semantics = (s) => {
  const target = s.operand(0, 'write');
  const source = s.operand(1, 'read');
  const value = signExtended(source.size, source.read());
  target.write(target.size === 8 ? value.extendS() : truncated(target.size, value.wrap()));
};

const lea: Semantics = (s) => {
  const target = s.operand(0, 'write');
  const address = s.effectiveAddress();
  target.write(target.size === 8 ? address : truncated(target.size, address.wrap()));
};

const xchg: Semantics = (s) => {
  const a = s.operand(0, 'modify');
  const b = s.operand(1, 'modify');
  const old = a.read();
  const other = b.read();
  b.write(old);
  a.write(other);
};

const reversed = (s: Stage, size: number, value: Word): Word => {
  if (size === 2) return value.shrU(8).or(value.shl(8)).and(0xffff);
  const keep = (word: Word): Word => s.code.let(word);
  const pairs = keep(
    value.type === 'i64'
      ? value.and(0x00ff00ff00ff00ffn).shl(8).or(value.shrU(8).and(0x00ff00ff00ff00ffn))
      : value.and(0x00ff00ff).shl(8).or(value.shrU(8).and(0x00ff00ff)),
  );
  if (value.type === 'i32') return pairs.rotl(16);
  const words = keep(pairs.and(0x0000ffff0000ffffn).shl(16).or(pairs.shrU(16).and(0x0000ffff0000ffffn)));
  return words.rotl(32);
};

/** A 16-bit BSWAP is undefined; processors clear the register. */
const bswap: Semantics = (s) => {
  const target = s.operand(0, 'modify');
  const value = target.read();
  target.write(target.size === 2 ? i32(0) : s.code.let(reversed(s, target.size, value)));
};

const movbe: Semantics = (s) => {
  const target = s.operand(0, 'write');
  target.write(s.code.let(reversed(s, target.size, s.operand(1, 'read').read())));
};

// ---- stack

/** Bytes of the stack pointer that count: SS.B outside 64-bit mode. */
function stackPointerSize(s: Stage): 2 | 4 | 8 {
  const { mode } = s.form;
  if (mode === CODE_MODE.code64) return 8;
  return mode === CODE_MODE.code16stack32 || mode === CODE_MODE.code32stack32 ? 4 : 2;
}

function stackPointer(s: Stage): Place {
  return s.gpr(GPR.rsp, stackPointerSize(s));
}

/** Writes `value` below the stack pointer and moves it. Nothing has changed when the write faults. */
export function push(s: Stage, size: Size, value: Word): void {
  const pointer = stackPointer(s);
  const next = s.code.let(truncated(pointer.size, pointer.read().sub(size)));
  s.memory(SEGMENT.ss, next.extendU(), size, 'write').write(value);
  pointer.write(next);
}

/** The value on top of the stack; the caller moves the pointer by `dropStack` once nothing can fault any more. */
export function top(s: Stage, size: Size): Word {
  return s.memory(SEGMENT.ss, stackPointer(s).read().extendU(), size, 'read').read();
}

export function dropStack(s: Stage, bytes: Word): void {
  const pointer = stackPointer(s);
  const old = pointer.read();
  pointer.write(truncated(pointer.size, old.add(toWord(bytes, old.type))));
}

const pushOperand: Semantics = (s) => {
  const source = s.operand(0, 'read');
  push(s, source.size as Size, source.read());
};

const popOperand: Semantics = (s) => {
  const form = s.form.operands[0];
  if (form?.kind === 'memory') {
    const size = form.size as Size;
    const value = top(s, size);
    // An RSP-relative destination is computed with the pointer already moved.
    const place = s.operand(0, 'write', s.baseIs(GPR.rsp).extendU().mul(size));
    place.write(value);
    dropStack(s, i32(size));
    return;
  }
  const target = s.operand(0, 'write');
  const value = top(s, target.size as Size);
  dropStack(s, i32(target.size));
  target.write(value);
};

/** RSP = RBP, then POP RBP. */
const leave =
  (size: Size): Semantics =>
  (s) => {
    const pointerSize = stackPointerSize(s);
    const frame = s.gpr(GPR.rbp, pointerSize).read();
    const saved = s.memory(SEGMENT.ss, frame.extendU(), size, 'read').read();
    s.gpr(GPR.rsp, pointerSize).write(truncated(pointerSize, frame.add(size)));
    s.gpr(GPR.rbp, size).write(saved);
  };

/** PUSHA(D): all eight registers; the stack is probed at its far end first, so that a fault changes nothing. */
const pushAll =
  (size: 2 | 4): Semantics =>
  (s) => {
    const pointer = stackPointer(s);
    const start = pointer.read();
    const below = (bytes: number): I64 => s.code.let(truncated(pointer.size, start.sub(bytes)).extendU());
    const last = s.memory(SEGMENT.ss, below(8 * size), size, 'write');
    const original = s.gpr(GPR.rsp, size).read();
    for (let register = 0; register < 7; register++) {
      const value = register === GPR.rsp ? original : s.gpr(register, size).read();
      s.memory(SEGMENT.ss, below((register + 1) * size), size, 'write').write(value);
    }
    last.write(s.gpr(GPR.rdi, size).read());
    pointer.write(below(8 * size).wrap());
  };

const popAll =
  (size: 2 | 4): Semantics =>
  (s) => {
    const pointer = stackPointer(s);
    const start = pointer.read();
    const at = (index: number): I64 => truncated(pointer.size, start.add(index * size)).extendU();
    const values = Array.from({ length: 8 }, (_, i) => s.memory(SEGMENT.ss, at(i), size, 'read').read());
    pointer.write(truncated(pointer.size, start.add(8 * size)));
    values.forEach((value, i) => {
      if (7 - i !== GPR.rsp) s.gpr(7 - i, size).write(value);
    });
  };

// ---- near control flow

const ripWord = (size: Size, rip: I64): Word => (size === 8 ? rip : truncated(size, rip.wrap()));

const jmp: Semantics = (s) => {
  if (s.form.operands[0]?.kind === 'near') return s.branch();
  const target = s.code.let(s.operand(0, 'read').read().extendU());
  s.checkTarget(target);
  s.jump(target);
};

const call: Semantics = (s) => {
  const size = s.form.operandSize;
  const next = ripWord(size, s.nextRip());
  if (s.form.operands[0]?.kind === 'near') {
    push(s, size, s.code.let(next));
    return s.branch();
  }
  const target = s.code.let(s.operand(0, 'read').read().extendU());
  s.checkTarget(target);
  push(s, size, s.code.let(next));
  s.jump(target);
};

const ret: Semantics = (s) => {
  const size = s.form.operandSize;
  const target = s.code.let(top(s, size).extendU());
  s.checkTarget(target);
  const extra = s.form.operands[0] ? s.operand(0, 'read').read().add(size) : i32(size);
  dropStack(s, extra);
  s.jump(target);
};

/** Names of the sixteen conditions in encoding order, as iced-x86 ends its mnemonics. */
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];

const conditional = (prefix: string, row: (condition: number) => Semantics): [string, Semantics][] =>
  CONDITIONS.map((name, condition) => [`${prefix}${name}`, row(condition)]);

const jcc =
  (condition: number): Semantics =>
  (s) =>
    s.branchIf(s.flags.condition(condition));
const setcc =
  (condition: number): Semantics =>
  (s) =>
    s.operand(0, 'write').write(s.flags.condition(condition));

/** CMOVcc reads its source, and clears the upper half of a 32-bit destination, whatever the condition. */
const cmovcc =
  (condition: number): Semantics =>
  (s) => {
    const target = s.operand(0, 'modify');
    const source = s.operand(1, 'read').read();
    const result = s.code.variable(source.type, target.read());
    s.when(s.flags.condition(condition), () => result.set(source));
    target.write(result.get());
  };

/** JCXZ family: the count register has the address size. */
const jcxz: Semantics = (s) => s.branchIf(s.gpr(GPR.rcx, s.form.addressSize).read().eqz());

const loop =
  (zero: boolean | undefined): Semantics =>
  (s) => {
    const count = s.gpr(GPR.rcx, s.form.addressSize);
    const left = s.code.let(truncated(count.size, count.read().sub(1)));
    count.write(left);
    const more = left.ne(0);
    s.branchIf(zero === undefined ? more : more.and(s.flags.condition(zero ? 4 : 5)));
  };

// ---- flags

const DF = 0x400;
const direction =
  (down: boolean): Semantics =>
  (s) => {
    const zero = i32(0);
    const old = load32(zero, OFFSET.rflagsSystem);
    s.code.store(4, zero, down ? old.or(DF) : old.and(~DF), OFFSET.rflagsSystem);
    s.code.store(4, zero, i32(down ? -1 : 1), OFFSET.stringStep);
  };

const lahf: Semantics = (s) => {
  const rax = s.gpr(GPR.rax, 2);
  const low = rax.read().wrap().and(0xff);
  rax.write(s.flags.pack().and(0xd5).or(2).shl(8).or(low));
};

const sahf: Semantics = (s) => {
  const ah = s.gpr(GPR.rax, 2).read().shrU(8).and(0xd5).wrap();
  const overflow = s.flags.condition(0).shl(11);
  s.flags.unpack(s.code.let(ah.or(overflow)));
};

const nothing: Semantics = () => {};

/**
 * Memory is always in order here: fences, hints and cache-line write-backs have nothing to do. Without shadow stacks
 * RDSSP has the encoding of a NOP, and compilers' run-time libraries execute it to ask for them.
 */
const NOTHING = [
  'Nop', 'Endbr64', 'Endbr32', 'Mfence', 'Lfence', 'Sfence', 'Prefetcht0', 'Prefetcht1', 'Prefetcht2',
  'Prefetchnta', 'Prefetchw', 'Prefetch', 'Prefetchwt1', 'Prefetchit0', 'Prefetchit1', 'Cldemote', 'Reservednop',
  'Rdsspd', 'Rdsspq',
]; // biome-ignore format: a table reads better in rows

export const TRANSFER: Readonly<Record<string, Semantics>> = {
  Mov: mov, Movzx: mov, Movsx: movsx, Movsxd: movsx, Lea: lea, Xchg: xchg, Bswap: bswap, Movbe: movbe, Movnti: mov,
  Push: pushOperand, Pop: popOperand, Leave: (s) => leave(s.form.operandSize)(s),
  Pusha: pushAll(2), Pushad: pushAll(4), Popa: popAll(2), Popad: popAll(4),
  Jmp: jmp, Call: call, Ret: ret,
  Jcxz: jcxz, Jecxz: jcxz, Jrcxz: jcxz, Loop: loop(undefined), Loope: loop(true), Loopne: loop(false),
  Clc: (s) => s.flags.setCarry(i32(0)), Stc: (s) => s.flags.setCarry(i32(1)),
  Cmc: (s) => s.flags.setCarry(s.code.let(s.flags.carry().xor(1))),
  Cld: direction(false), Std: direction(true), Lahf: lahf, Sahf: sahf,
  ...Object.fromEntries([...conditional('J', jcc), ...conditional('Set', setcc), ...conditional('Cmov', cmovcc)]),
  ...Object.fromEntries(NOTHING.map((name) => [name, nothing])),
}; // biome-ignore format: a table reads better in rows
