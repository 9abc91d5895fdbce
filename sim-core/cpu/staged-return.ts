/**
 * The plain case of IRETQ, by far the most frequent one in kernels (they return from interrupts, and serialize the
 * processor with it): 64-bit code at CPL 0 returns to the code and stack segments that it runs with, their
 * descriptors are what they were when they were loaded, and nothing waits for the flags that it restores.
 * Loading the segments again then changes nothing. far-transfers.ts does the rest.
 */

import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, i32, i64, load32, load64, select } from '../engine/value.ts';
import { BLOCKING, RFLAGS, RIGHTS } from '../state/control-bits.ts';
import { CODE_MODE, GPR, OFFSET, SEGMENT, type SegmentIndex } from '../state/layout.ts';

const ZERO = i32(0);
/** RIP, CS, RFLAGS, RSP and SS. */
const FRAME = { rip: 0, cs: 8, rflags: 16, rsp: 24, ss: 32, size: 40 } as const;
/** Flags that ask for more when they are set, before or after, or when they change. */
const AWKWARD = RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.vm | RFLAGS.ac;
const SYSTEM = RFLAGS.if | RFLAGS.iopl | RFLAGS.id | RFLAGS.vif | RFLAGS.vip;

export const returnInPlace: Semantics = (s) => {
  if (s.form.mode !== CODE_MODE.code64) return s.slowIf(i32(1));
  const { code } = s;
  const busy = load32(ZERO, OFFSET.cpl).or(load32(ZERO, OFFSET.nonRoot));
  s.slowIf(busy.or(load32(ZERO, OFFSET.interruptibility).and(BLOCKING.byNmi)));
  const frame = s.bytesAt(s.gpr(GPR.rsp, 8).read().extendU(), i64(FRAME.size), false);
  const flags = code.let(load32(frame, FRAME.rflags));
  const old = code.let(load32(ZERO, OFFSET.rflagsSystem));
  const waits = load32(ZERO, OFFSET.interruptRequest).or(load32(ZERO, OFFSET.nmiRequest)).ne(0);
  s.slowIf(flags.or(old).and(AWKWARD).or(flags.xor(old).and(RFLAGS.df)));
  s.slowIf(flags.and(RFLAGS.if).ne(0).and(waits));
  requireLoaded(s, SEGMENT.cs, code.let(load32(frame, FRAME.cs).and(0xffff)));
  const stack = code.let(load32(frame, FRAME.ss).and(0xffff));
  code.if(
    stack.eqz(),
    () => requireNullStack(s),
    () => requireLoaded(s, SEGMENT.ss, stack),
  );
  const rip = code.let(load64(frame, FRAME.rip));
  s.checkTarget(rip);
  const rsp = code.let(load64(frame, FRAME.rsp));
  s.flags.unpack(flags);
  code.store(4, ZERO, old.and(~SYSTEM).or(flags.and(SYSTEM)), OFFSET.rflagsSystem);
  s.gpr(GPR.rsp, 8).write(rsp);
  s.jump(rip);
};

/** SS must be what returning to a null selector at CPL 0 makes of it. */
function requireNullStack(s: Stage): void {
  const part = (offset: number): I32 => load32(ZERO, offset + 4 * SEGMENT.ss);
  const isNull = part(OFFSET.segmentSelector)
    .or(part(OFFSET.segmentLimit))
    .or(part(OFFSET.segmentRights).xor(RIGHTS.unusable));
  s.slowIf(isNull.or(load64(ZERO, OFFSET.segmentBase + 8 * SEGMENT.ss).ne(0)));
}

/** The register must hold this selector of the GDT, and exactly what its descriptor says. */
function requireLoaded(s: Stage, index: SegmentIndex, selector: I32): void {
  const { code } = s;
  const loaded = (offset: number): I32 => load32(ZERO, offset + 4 * index);
  const beyond = selector.or(7).gtU(load32(ZERO, OFFSET.gdtrLimit));
  s.slowIf(loaded(OFFSET.segmentSelector).ne(selector).or(selector.and(7)).or(selector.ltU(8)).or(beyond));
  const at = s.bytesAt(code.let(load64(ZERO, OFFSET.gdtrBase).add(selector.extendU())), i64(8), false);
  const [low, high] = [code.let(load32(at)), code.let(load32(at, 4))];
  const rights = code.let(high.shrU(8).and(0xf0ff));
  const pages = low.and(0xffff).or(high.and(0xf_0000));
  const limit = select(rights.and(RIGHTS.granularity), pages.shl(12).or(0xfff), pages);
  const base = low.shrU(16).or(high.and(0xff).shl(16)).or(high.and(0xff00_0000));
  const differs = rights.ne(loaded(OFFSET.segmentRights)).or(limit.ne(loaded(OFFSET.segmentLimit)));
  s.slowIf(differs.or(rights.and(RIGHTS.accessed).eqz()));
  s.slowIf(load64(ZERO, OFFSET.segmentBase + 8 * index).ne(base.extendU()));
}
