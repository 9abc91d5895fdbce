/**
 * System instructions that kernels execute all the time, staged like ordinary ones for their plain case; whatever else
 * the manual has them do is left to the slow instructions of system-instructions.ts.
 */

import { Mnemonic } from 'iced-x86';
import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32, i64, load32, load64, loadF64, select } from '../engine/value.ts';
import { integerLane, replaceLane, splat, toFloat, toInteger } from '../engine/vector.ts';
import { requireSse } from '../isa/sse-operands.ts';
import { dropStack, push, top } from '../isa/transfer.ts';
import { BLOCKING, CR4, RFLAGS } from '../state/control-bits.ts';
import { CODE_MODE, GPR, OFFSET } from '../state/layout.ts';
import { PAUSE_CYCLES, TIME_STAMP_CYCLES } from '../state/time.ts';
import { VECTOR } from '../state/vectors.ts';
import { MXCSR_MASK } from './fpu-instructions.ts';
import { returnInPlace } from './staged-return.ts';

const ZERO = i32(0);

/** In the guest a VM exit may take the place of the instruction. */
const slowInGuest = (s: Stage): void => s.slowIf(load32(ZERO, OFFSET.nonRoot));

/** Cycles since boot, this instruction's included, as `Clock.cycles` gives them. */
function cycles(s: Stage): I64 {
  const float = (offset: number) => toInteger('i64', loadF64(ZERO, offset));
  return s.code.let(float(OFFSET.retired).add(float(OFFSET.extraCycles)).add(begun(s)));
}

/** Instructions of the slice that have begun, this one included. */
const begun = (s: Stage): I64 => toInteger('i64', loadF64(ZERO, OFFSET.granted)).sub(s.budget().extendU());

/** Lets time pass; when that may make something due, it is for the slow instruction. @returns the time before */
function spend(s: Stage, cost: number): I64 {
  const now = cycles(s);
  s.shorten(cost);
  for (const [offset, change] of [
    [OFFSET.granted, -cost],
    [OFFSET.extraCycles, cost],
  ] as const) {
    s.code.store(8, ZERO, toFloat('f64', toInteger('i64', loadF64(ZERO, offset)).add(change)), offset);
  }
  return now;
}

/** Another processor may be given the turn. */
const pause: Semantics = (s) => {
  slowInGuest(s);
  s.slowIf(load32(ZERO, OFFSET.othersMayRun));
  spend(s, PAUSE_CYCLES);
};

const readTimeStampCounter =
  (withProcessor: boolean): Semantics =>
  (s) => {
    const disabled = load64(ZERO, OFFSET.cr4).wrap().and(CR4.tsd).and(load32(ZERO, OFFSET.cpl).ne(0).mul(CR4.tsd));
    s.slowIf(load32(ZERO, OFFSET.nonRoot).or(disabled));
    const now = spend(s, TIME_STAMP_CYCLES);
    const value = s.code.let(now.add(load64(ZERO, OFFSET.tscAdjustment)));
    s.gpr(GPR.rax, 8).write(value.zeroExtend(32));
    s.gpr(GPR.rdx, 8).write(value.shrU(32));
    if (withProcessor) s.gpr(GPR.rcx, 8).write(load64(ZERO, OFFSET.msrTscAux).zeroExtend(32));
  };

const system = (): I32 => load32(ZERO, OFFSET.rflagsSystem);

const cli: Semantics = (s) => {
  if (s.form.mode !== CODE_MODE.code64) return s.slowIf(i32(1));
  const flags = s.code.let(system());
  s.slowIf(load32(ZERO, OFFSET.cpl).gtU(flags.shrU(12).and(3)));
  s.code.store(4, ZERO, flags.and(~RFLAGS.if), OFFSET.rflagsSystem);
};

/** With nothing pending the blocking that it sets holds nothing back: `settleSti` ends it. */
const sti: Semantics = (s) => {
  if (s.form.mode !== CODE_MODE.code64) return s.slowIf(i32(1));
  const flags = s.code.let(system());
  const pending = load32(ZERO, OFFSET.interruptRequest).or(load32(ZERO, OFFSET.nmiRequest));
  s.slowIf(load32(ZERO, OFFSET.cpl).or(load32(ZERO, OFFSET.nonRoot)).or(pending));
  s.code.if(flags.and(RFLAGS.if).eqz(), () => {
    s.code.store(4, ZERO, flags.or(RFLAGS.if), OFFSET.rflagsSystem);
    s.code.store(4, ZERO, load32(ZERO, OFFSET.interruptibility).or(BLOCKING.bySti), OFFSET.interruptibility);
    s.code.store(8, ZERO, toFloat('f64', begun(s).add(toInteger('i64', loadF64(ZERO, OFFSET.retired)))), OFFSET.stiAt);
  });
};

const pushfq: Semantics = (s) => {
  if (s.form.mode !== CODE_MODE.code64) return s.slowIf(i32(1));
  const image = s.code.let(s.flags.pack().or(system().and(~(RFLAGS.vm | RFLAGS.rf))));
  push(s, 8, image.extendU());
};

const SYSTEM_FLAGS =
  RFLAGS.tf | RFLAGS.if | RFLAGS.df | RFLAGS.iopl | RFLAGS.nt | RFLAGS.rf | RFLAGS.ac | RFLAGS.id |
  RFLAGS.vif | RFLAGS.vip; // biome-ignore format: a list reads better in rows

/** Status flags only; VIF and VIP are not POPF's to change, but then the rare image that has them is slow. */
const popfq: Semantics = (s) => {
  if (s.form.mode !== CODE_MODE.code64) return s.slowIf(i32(1));
  const image = s.code.let(top(s, 8).wrap());
  s.slowIf(image.xor(system()).and(SYSTEM_FLAGS));
  dropStack(s, i64(8));
  s.flags.unpack(image);
};

/** CMPXCHG16B: the memory is written in any case, as the locked bus cycle does. */
const compareExchange: Semantics = (s) => {
  const place = s.vector(0, 'modify', true);
  const old = place.read();
  const [low, high] = [s.code.let(integerLane('i64x2', old, 0)), s.code.let(integerLane('i64x2', old, 1))];
  const half = (register: number): I64 => s.gpr(register, 8).read().extendU();
  const equal = s.code.let(low.eq(half(GPR.rax)).and(high.eq(half(GPR.rdx))));
  const pair = splat('i64x2', select(equal, half(GPR.rbx), low));
  place.write(replaceLane('i64x2', pair, 1, select(equal, half(GPR.rcx), high)));
  s.gpr(GPR.rax, 8).write(low);
  s.gpr(GPR.rdx, 8).write(high);
  s.flags.setZero(equal);
};

const ldmxcsr: Semantics = (s) => {
  requireSse(s);
  const value = s.operand(0, 'read').read().wrap();
  s.faultIf(value.and(~MXCSR_MASK).ne(0), VECTOR.gp);
  s.code.store(4, ZERO, value, OFFSET.mxcsr);
};

export const STAGED_INSTRUCTIONS: ReadonlyMap<number, Semantics> = new Map([
  [Mnemonic.Rdtsc, readTimeStampCounter(false)],
  [Mnemonic.Rdtscp, readTimeStampCounter(true)],
  [Mnemonic.Cli, cli],
  [Mnemonic.Sti, sti],
  [Mnemonic.Pushfq, pushfq],
  [Mnemonic.Popfq, popfq],
  [Mnemonic.Iretq, returnInPlace],
  [Mnemonic.Cmpxchg16b, compareExchange],
  [Mnemonic.Ldmxcsr, ldmxcsr],
  [Mnemonic.Pause, pause],
]);
