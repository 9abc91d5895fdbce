/** XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS, XGETBV, XSETBV (SDM Vol. 1, "Operation of XSAVE" and on). */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { CR0, CR4 } from '../state/control-bits.ts';
import { GPR } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from './cpu.ts';
import {
  areaSize,
  BIT,
  compactedOffset,
  componentsOf,
  HEADER,
  INITIAL_MXCSR,
  inUse,
  isValidXcr0,
  LEGACY,
  type Restore,
  restoreLegacy,
} from './extended-state.ts';
import type { FeatureName } from './features.ts';
import { MXCSR_MASK, packArea } from './fpu-instructions.ts';
import { operandAddress } from './operands.ts';
import { isFault } from './segments.ts';
import type { NamedInstructions } from './table.ts';
import { readArea, writeArea } from './x87/area.ts';

const COMPACTED = 1n << 63n;

const pairOf = (state: State): bigint => (BigInt(state.low('gpr', GPR.rdx)) << 32n) | BigInt(state.low('gpr', GPR.rax));

function setPair(state: State, value: bigint): void {
  state.set64('gpr', value & 0xffff_ffffn, GPR.rax);
  state.set64('gpr', value >> 32n, GPR.rdx);
}

const isEnabled = ({ state, model }: Cpu): boolean =>
  model.features.has('xsave') && (state.low('cr4') & CR4.osxsave) !== 0;

/** What is checked before memory is touched; the area must be aligned to 64 bytes. */
function areaAddress(
  cpu: Cpu,
  instruction: DecodedInstruction,
  feature: FeatureName,
  supervisor: boolean,
  write: boolean,
): bigint | Fault {
  const { state, model } = cpu;
  if (!isEnabled(cpu) || !model.features.has(feature)) return undefinedOpcode();
  const disabled = supervisor && state.get32('nonRoot') !== 0 && cpu.intercepts.instruction({ kind: 'xsaves' });
  if (disabled) return disabled;
  if ((state.low('cr0') & CR0.ts) !== 0) return exception(VECTOR.nm);
  if (supervisor && state.get32('cpl') !== 0) return generalProtection();
  const linear = operandAddress(cpu, instruction, 0, LEGACY.size + HEADER.size, write);
  if (typeof linear === 'object') return linear;
  return (linear & 63n) === 0n ? linear : generalProtection();
}

/** The variants of XSAVE. */
interface Saving {
  readonly feature: FeatureName;
  /** Leaves components in their initial configuration out. */
  readonly optimises: boolean;
  readonly compacts: boolean;
  readonly supervisor: boolean;
}

const SAVING = {
  xsave: { feature: 'xsave', optimises: false, compacts: false, supervisor: false },
  xsaveopt: { feature: 'xsaveopt', optimises: true, compacts: false, supervisor: false },
  xsavec: { feature: 'xsavec', optimises: true, compacts: true, supervisor: false },
  xsaves: { feature: 'xsaves', optimises: true, compacts: true, supervisor: true },
} as const satisfies Record<string, Saving>;

/** A stretch of the area and its new bytes. */
type Piece = readonly [offset: number, bytes: Uint8Array];

function legacyPieces(state: State, wide: boolean, requested: bigint, written: bigint): Piece[] {
  const image = packArea(state, wide);
  const piece = (from: number, to: number): Piece => [from, image.subarray(from, to)];
  const pieces: Piece[] = [];
  if ((written & BIT.x87) !== 0n) {
    pieces.push(piece(LEGACY.x87, LEGACY.mxcsr), piece(LEGACY.registers, LEGACY.xmm));
  }
  if ((requested & (BIT.sse | BIT.avx)) !== 0n) pieces.push(piece(LEGACY.mxcsr, LEGACY.registers));
  if ((written & BIT.sse) !== 0n) pieces.push(piece(LEGACY.xmm, image.length));
  return pieces;
}

const save =
  (kind: keyof typeof SAVING, wide: boolean): SlowInstruction =>
  (cpu, instruction) => {
    const { state, model } = cpu;
    const { feature, optimises, compacts, supervisor }: Saving = SAVING[kind];
    const linear = areaAddress(cpu, instruction, feature, supervisor, true);
    if (typeof linear === 'object') return linear;
    const requested = state.get64('xcr0') & pairOf(state);
    const used = requested & inUse(state, model);
    const written = optimises ? used : requested;
    const pieces = legacyPieces(state, wide, requested, written);
    for (const component of componentsOf(model)) {
      if ((written & component.bit) === 0n) continue;
      const offset = compacts ? compactedOffset(model, requested, component) : component.offset;
      pieces.push([offset, component.pack(state)]);
    }
    const header = saveHeader(cpu, linear, requested, used, compacts);
    if (isFault(header)) return header;
    for (const [offset, bytes] of [...pieces, header]) {
      const fault = writeArea(cpu, linear + BigInt(offset), bytes);
      if (fault) return fault;
    }
    return NEXT.sequential;
  };

/** XSTATE_BV, which keeps the bits that were not asked for, or with compaction XSTATE_BV and XCOMP_BV. */
function saveHeader(cpu: Cpu, linear: bigint, requested: bigint, used: bigint, compacts: boolean): Piece | Fault {
  const bytes = new Uint8Array(compacts ? 16 : 8);
  const view = new DataView(bytes.buffer);
  if (compacts) {
    const mxcsr = (requested & BIT.sse) !== 0n && cpu.state.get32('mxcsr') !== INITIAL_MXCSR ? BIT.sse : 0n;
    view.setBigUint64(0, used | mxcsr, true);
    view.setBigUint64(8, requested | COMPACTED, true);
    return [HEADER.stateBv, bytes];
  }
  const old = cpu.mmu.read(linear + BigInt(HEADER.stateBv), 8);
  if (typeof old === 'object') return old;
  view.setBigUint64(0, (old & ~requested) | used, true);
  return [HEADER.stateBv, bytes];
}

/** XSTATE_BV and XCOMP_BV of an area whose header has passed its checks; #GP(0) otherwise. */
function checkedHeader(cpu: Cpu, area: Uint8Array, supervisor: boolean): readonly [bigint, bigint] | Fault {
  const view = new DataView(area.buffer, area.byteOffset);
  const present = view.getBigUint64(HEADER.stateBv, true);
  const compaction = view.getBigUint64(HEADER.compactionBv, true);
  const compacted = (compaction & COMPACTED) !== 0n;
  const zeroFrom = compacted ? HEADER.stateBv + 16 : HEADER.compactionBv;
  const zeroTo = compacted ? HEADER.start + HEADER.size : HEADER.compactionBv + 16;
  const reserved = area.subarray(zeroFrom, zeroTo).some((byte) => byte !== 0);
  const allowed = compacted ? compaction & ~COMPACTED : cpu.state.get64('xcr0');
  const bad =
    reserved ||
    (present & ~allowed) !== 0n ||
    (compacted && (allowed & ~cpu.state.get64('xcr0')) !== 0n) ||
    (compacted && !cpu.model.features.has('xsavec')) ||
    (supervisor && !compacted);
  return bad ? generalProtection() : [present, compaction];
}

const restore =
  (feature: 'xsave' | 'xsaves', wide: boolean): SlowInstruction =>
  (cpu, instruction) => {
    const { model } = cpu;
    const supervisor = feature === 'xsaves';
    const linear = areaAddress(cpu, instruction, feature, supervisor, false);
    if (typeof linear === 'object') return linear;
    const head = readArea(cpu, linear, HEADER.start + HEADER.size);
    if (!(head instanceof Uint8Array)) return head;
    const header = checkedHeader(cpu, head, supervisor);
    if (isFault(header)) return header;
    const [present, compaction] = header;
    const compacted = (compaction & COMPACTED) !== 0n;
    const size = areaSize(model, compacted ? compaction : present, compacted);
    const area = readArea(cpu, linear, size);
    if (!(area instanceof Uint8Array)) return area;
    return restoreFrom(cpu, area, present, compaction, wide) ?? NEXT.sequential;
  };

function restoreFrom(
  cpu: Cpu,
  area: Uint8Array,
  present: bigint,
  compaction: bigint,
  wide: boolean,
): Fault | undefined {
  const { state, model } = cpu;
  const requested = state.get64('xcr0') & pairOf(state);
  const compacted = (compaction & COMPACTED) !== 0n;
  const how = (bit: bigint): Restore =>
    (requested & bit) === 0n ? 'keep' : (present & bit) !== 0n ? 'load' : 'initialise';
  const mxcsr = newMxcsr(area, requested, present, compacted);
  if (mxcsr !== undefined && (mxcsr & ~MXCSR_MASK) !== 0) return generalProtection();
  restoreLegacy(state, area, wide, { x87: how(BIT.x87), sse: how(BIT.sse), mxcsr });
  for (const component of componentsOf(model)) {
    const action = how(component.bit);
    if (action === 'keep') continue;
    const offset = compacted ? compactedOffset(model, compaction, component) : component.offset;
    component.unpack(state, action === 'load' ? area.subarray(offset, offset + component.size) : undefined);
  }
  cpu.mmu.updateContext();
  return undefined;
}

/** The standard format loads MXCSR with SSE or AVX, whatever XSTATE_BV says; the compacted one as part of SSE. */
function newMxcsr(area: Uint8Array, requested: bigint, present: bigint, compacted: boolean): number | undefined {
  const asked = (requested & (compacted ? BIT.sse : BIT.sse | BIT.avx)) !== 0n;
  if (!asked) return undefined;
  const initialises = compacted && (present & BIT.sse) === 0n;
  return initialises ? INITIAL_MXCSR : new DataView(area.buffer, area.byteOffset).getUint32(LEGACY.mxcsr, true);
}

function xgetbv(cpu: Cpu): Next | Fault {
  const { state, model } = cpu;
  if (!isEnabled(cpu)) return undefinedOpcode();
  const register = state.low('gpr', GPR.rcx);
  if (register > 1 || (register === 1 && !model.features.has('xgetbv1'))) return generalProtection();
  setPair(state, register === 0 ? state.get64('xcr0') : state.get64('xcr0') & inUse(state, model));
  return NEXT.sequential;
}

function xsetbv(cpu: Cpu): Next | Fault {
  const { state, model } = cpu;
  if (!isEnabled(cpu)) return undefinedOpcode();
  if (state.get32('cpl') !== 0) return generalProtection();
  // Causes VM exits unconditionally, after the privilege check only (SDM Vol. 3C, "Instructions That Cause VM Exits").
  const exit = state.get32('nonRoot') === 0 ? undefined : cpu.intercepts.instruction({ kind: 'xsetbv' });
  if (exit) return exit;
  const value = pairOf(state);
  if (state.low('gpr', GPR.rcx) !== 0 || !isValidXcr0(model, value)) return generalProtection();
  state.set64('xcr0', value);
  return NEXT.sequential;
}

export const XSAVE_INSTRUCTIONS: NamedInstructions = {
  Xsave: save('xsave', false),
  Xsave64: save('xsave', true),
  Xsaveopt: save('xsaveopt', false),
  Xsaveopt64: save('xsaveopt', true),
  Xsavec: save('xsavec', false),
  Xsavec64: save('xsavec', true),
  Xsaves: save('xsaves', false),
  Xsaves64: save('xsaves', true),
  Xrstor: restore('xsave', false),
  Xrstor64: restore('xsave', true),
  Xrstors: restore('xsaves', false),
  Xrstors64: restore('xsaves', true),
  Xgetbv: xgetbv,
  Xsetbv: xsetbv,
};
