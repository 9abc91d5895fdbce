/** Hardware task switches (SDM Vol. 3A, "Task Switching"), by far JMP and CALL, IRET, and task gates. */

import { exception, type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { CR0, DR6, RFLAGS, RIGHTS, SYSTEM_TYPE } from '../state/control-bits.ts';
import { SEGMENT, type SegmentIndex } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { writeCr3 } from './control-registers.ts';
import type { Cpu } from './cpu.ts';
import { updateCodeMode } from './modes.ts';
import { readRflags, writeRflags } from './rflags.ts';
import {
  type Descriptor,
  descriptorBase,
  descriptorLimit,
  isCode,
  isConforming,
  isFault,
  isNull,
  isPresent,
  isWritableData,
  loadRealSegment,
  markAccessed,
  privilegeOf,
  readDescriptor,
  setNullSegment,
  setPrivilege,
  setSegment,
  setSegmentFrom,
  systemType,
  toLinear,
} from './segments.ts';
import { pushFrame } from './stack.ts';

/** What asks for the switch, as bits 31:30 of the exit qualification have it. */
export const TASK_SWITCH = { call: 0, iret: 1, jump: 2, gate: 3 } as const;
export type TaskSwitchSource = (typeof TASK_SWITCH)[keyof typeof TASK_SWITCH];

/** Basic exit reason "task switch". */
const EXIT_REASON_TASK_SWITCH = 9;

/** Offsets in a TSS; registers and segments follow each other in the order of their numbers. */
interface Layout {
  readonly width: 2 | 4;
  readonly lowestLimit: number;
  readonly cr3: number | undefined;
  readonly instructionPointer: number;
  readonly flags: number;
  readonly registers: number;
  readonly segments: readonly SegmentIndex[];
  readonly firstSegment: number;
  readonly ldt: number;
  readonly trap: number | undefined;
}

const { es, cs, ss, ds, fs, gs } = SEGMENT;
const TSS32: Layout = {
  width: 4, lowestLimit: 0x67, cr3: 0x1c, instructionPointer: 0x20, flags: 0x24, registers: 0x28,
  segments: [es, cs, ss, ds, fs, gs], firstSegment: 0x48, ldt: 0x60, trap: 0x64,
}; // biome-ignore format: a table reads better in rows
const TSS16: Layout = {
  width: 2, lowestLimit: 0x2b, cr3: undefined, instructionPointer: 0xe, flags: 0x10, registers: 0x12,
  segments: [es, cs, ss, ds], firstSegment: 0x22, ldt: 0x2a, trap: undefined,
}; // biome-ignore format: a table reads better in rows
const REGISTERS = 8;
const LINK = 0;
const BUSY = 2;

const layoutOf = (rights: number): Layout => ((rights & 8) !== 0 ? TSS32 : TSS16);

export interface TaskSwitch {
  readonly selector: number;
  readonly source: TaskSwitchSource;
  /** What the old task's TSS receives. */
  readonly instructionPointer: bigint;
  readonly flags: number;
  /** EXT bit of error codes. */
  readonly external: number;
  /** Exceptions through a task gate: pushed on the new task's stack. */
  readonly errorCode?: number | undefined;
}

/** The new TSS after its checks (steps 1 to 4 of the manual). Privilege is the caller's. */
function findTss(cpu: Cpu, { selector, source, external }: TaskSwitch): Descriptor | Fault {
  const vector = source === TASK_SWITCH.iret ? VECTOR.ts : VECTOR.gp;
  const wrong = exception(vector, (selector & 0xfffc) | external);
  if (isNull(selector) || (selector & 4) !== 0) return wrong;
  const descriptor = readDescriptor(cpu, selector, vector, external);
  if (isFault(descriptor)) return descriptor;
  const type = systemType(descriptor.rights);
  const busy = source === TASK_SWITCH.iret;
  const wanted = busy ? [SYSTEM_TYPE.busyTss16, SYSTEM_TYPE.busyTss32] : [SYSTEM_TYPE.tss16, SYSTEM_TYPE.tss32];
  if (!wanted.some((good) => good === type)) return wrong;
  return isPresent(descriptor.rights) ? descriptor : exception(VECTOR.np, (selector & 0xfffc) | external);
}

/** The values of the new TSS, read before anything changes. */
interface NewTask {
  readonly cr3: bigint | undefined;
  readonly instructionPointer: bigint;
  readonly flags: number;
  readonly registers: readonly bigint[];
  readonly selectors: readonly number[];
  readonly ldt: number;
  readonly trap: boolean;
}

function readTask(cpu: Cpu, base: bigint, layout: Layout): NewTask | Fault {
  let fault: Fault | undefined;
  const read = (offset: number, size: 2 | 4): bigint => {
    const value = cpu.mmu.read(toLinear(cpu.state, base + BigInt(offset)), size, true);
    if (typeof value === 'bigint') return value;
    fault ??= value;
    return 0n;
  };
  const { width } = layout;
  const task: NewTask = {
    cr3: layout.cr3 === undefined ? undefined : read(layout.cr3, 4),
    instructionPointer: read(layout.instructionPointer, width),
    flags: Number(read(layout.flags, width)),
    registers: Array.from({ length: REGISTERS }, (_, i) => read(layout.registers + i * width, width)),
    selectors: layout.segments.map((_, i) => Number(read(layout.firstSegment + i * width, 2))),
    ldt: Number(read(layout.ldt, 2)),
    trap: layout.trap !== undefined && (read(layout.trap, 2) & 1n) !== 0n,
  };
  return fault ?? task;
}

/** Saves the old task (step 8). */
function saveTask(cpu: Cpu, { source, instructionPointer, flags }: TaskSwitch): Fault | undefined {
  const { state, mmu } = cpu;
  const layout = layoutOf(state.get32('segmentRights', SEGMENT.tr));
  const base = state.get64('segmentBase', SEGMENT.tr);
  const { width } = layout;
  const image = source === TASK_SWITCH.iret ? flags & ~RFLAGS.nt : flags;
  const values: [number, 2 | 4, bigint][] = [
    [layout.instructionPointer, width, instructionPointer],
    [layout.flags, width, BigInt(image >>> 0)],
    ...Array.from({ length: REGISTERS }, (_, i): [number, 2 | 4, bigint] => [
      layout.registers + i * width,
      width,
      state.get64('gpr', i),
    ]),
    ...layout.segments.map((segment, i): [number, 2 | 4, bigint] => [
      layout.firstSegment + i * width,
      2,
      BigInt(state.get32('segmentSelector', segment)),
    ]),
  ];
  for (const [offset, size, value] of values) {
    const fault = mmu.write(toLinear(state, base + BigInt(offset)), size, BigInt.asUintN(8 * size, value), true);
    if (fault) return fault;
  }
  return undefined;
}

/** Sets or clears the busy flag of a TSS descriptor. */
function setBusy(cpu: Cpu, descriptorAt: bigint, on: boolean): Fault | undefined {
  const byte = cpu.mmu.read(descriptorAt + 5n, 1, true);
  if (typeof byte === 'object') return byte;
  return cpu.mmu.write(descriptorAt + 5n, 1, on ? byte | BigInt(BUSY) : byte & ~BigInt(BUSY), true);
}

const currentDescriptorAt = (state: State): bigint =>
  toLinear(state, state.get64('gdtrBase') + BigInt(state.get32('segmentSelector', SEGMENT.tr) & 0xfff8));

/**
 * Switches to the task, or causes the VM exit that a task switch is in VMX non-root operation. Faults up to the point
 * of no return leave the old task; later ones are raised in the new one, in front of its first instruction.
 */
export function switchTask(cpu: Cpu, request: TaskSwitch): Fault | undefined {
  const { state } = cpu;
  const { source, selector, external } = request;
  const descriptor = findTss(cpu, request);
  if (isFault(descriptor)) return descriptor;
  if (state.get32('nonRoot') !== 0) return taskSwitchExit(request);
  const layout = layoutOf(descriptor.rights);
  if (descriptorLimit(descriptor) < layout.lowestLimit) return exception(VECTOR.ts, (selector & 0xfffc) | external);
  const base = BigInt(descriptorBase(descriptor));
  const task = readTask(cpu, base, layout);
  if (isFault(task)) return task;
  const nests = source === TASK_SWITCH.call || source === TASK_SWITCH.gate;
  const old = BigInt(state.get32('segmentSelector', SEGMENT.tr));
  const problem =
    saveTask(cpu, request) ??
    (nests ? cpu.mmu.write(toLinear(state, base + BigInt(LINK)), 2, old, true) : undefined) ??
    (nests ? undefined : setBusy(cpu, currentDescriptorAt(state), false)) ??
    (source === TASK_SWITCH.iret ? undefined : setBusy(cpu, descriptor.at, true));
  if (problem) return problem;
  const rights = descriptor.rights | BUSY;
  setSegment(state, SEGMENT.tr, selector, base, descriptorLimit(descriptor), rights);
  return loadTask(cpu, task, layout, nests, external) ?? finish(cpu, request, layout);
}

const taskSwitchExit = ({ selector, source }: TaskSwitch): Fault => ({
  kind: 'vmExit',
  reason: EXIT_REASON_TASK_SWITCH,
  qualification: BigInt(selector) | (BigInt(source) << 30n),
  cause: 'a task switch causes a VM exit always',
});

/** Steps 11 to 13: registers first, then the segments with their checks. */
function loadTask(cpu: Cpu, task: NewTask, layout: Layout, nests: boolean, external: number): Fault | undefined {
  const { state } = cpu;
  const paging = (state.low('cr0') & CR0.pg) !== 0;
  state.set64('cr0', state.get64('cr0') | BigInt(CR0.ts));
  // The local breakpoints are the old task's: L3:L0 and LE.
  state.set64('dr', state.get64('dr', 7) & ~0x155n, 7);
  state.set64('rip', task.instructionPointer);
  const flags = layout.width === 2 ? (readRflags(state) & 0xffff_0000 & ~RFLAGS.vm) | task.flags : task.flags;
  writeRflags(state, nests ? flags | RFLAGS.nt : flags);
  task.registers.forEach((value, i) => {
    const kept = layout.width === 2 ? state.get64('gpr', i) & 0xffff_0000n : 0n;
    state.set64('gpr', kept | value, i);
  });
  // Selectors are there even if their descriptors turn out to be wrong; until then no segment is usable.
  layout.segments.forEach((segment, i) => {
    setSegment(state, segment, task.selectors[i] ?? 0, 0n, 0, RIGHTS.unusable);
  });
  if (layout.width === 2) for (const segment of [fs, gs]) setNullSegment(state, segment, 0);
  if (task.trap) state.set64('pendingDebug', state.get64('pendingDebug') | BigInt(DR6.bt));
  state.set32('attention', 1);
  const virtual8086 = (task.flags & RFLAGS.vm) !== 0 && layout.width === 4;
  setPrivilege(cpu, virtual8086 ? 3 : (task.selectors[1] ?? 0) & 3);
  const fault = paging && task.cr3 !== undefined ? writeCr3(cpu, task.cr3) : undefined;
  cpu.mmu.updateContext();
  return fault ?? loadLdt(cpu, task.ldt, external) ?? loadSegments(cpu, task, layout, virtual8086, external);
}

function loadLdt(cpu: Cpu, selector: number, external: number): Fault | undefined {
  setNullSegment(cpu.state, SEGMENT.ldtr, selector);
  if (isNull(selector)) return undefined;
  const wrong = exception(VECTOR.ts, (selector & 0xfffc) | external);
  if ((selector & 4) !== 0) return wrong;
  const descriptor = readDescriptor(cpu, selector, VECTOR.ts, external);
  if (isFault(descriptor)) return descriptor;
  if (systemType(descriptor.rights) !== SYSTEM_TYPE.ldt || !isPresent(descriptor.rights)) return wrong;
  const base = BigInt(descriptorBase(descriptor));
  setSegment(cpu.state, SEGMENT.ldtr, selector, base, descriptorLimit(descriptor), descriptor.rights);
  return undefined;
}

/** The order of the checks: the stack and the code first, since a handler of the others needs them. */
const CHECK_ORDER: readonly SegmentIndex[] = [ss, cs, ds, es, fs, gs];

function loadSegments(
  cpu: Cpu,
  task: NewTask,
  layout: Layout,
  virtual8086: boolean,
  external: number,
): Fault | undefined {
  for (const segment of CHECK_ORDER) {
    const at = layout.segments.indexOf(segment);
    if (at < 0) continue;
    const selector = task.selectors[at] ?? 0;
    if (virtual8086) loadRealSegment(cpu.state, segment, selector);
    else {
      const fault = loadChecked(cpu, segment, selector, external);
      if (fault) return fault;
    }
  }
  updateCodeMode(cpu.state);
  return undefined;
}

function loadChecked(cpu: Cpu, segment: SegmentIndex, selector: number, external: number): Fault | undefined {
  const wrong = exception(VECTOR.ts, (selector & 0xfffc) | external);
  if (isNull(selector)) {
    if (segment === cs || segment === ss) return wrong;
    setNullSegment(cpu.state, segment, selector);
    return undefined;
  }
  const descriptor = readDescriptor(cpu, selector, VECTOR.ts, external);
  if (isFault(descriptor)) return descriptor;
  if (!isAllowed(segment, descriptor, cpu.state.get32('cpl'))) return wrong;
  if (!isPresent(descriptor.rights)) {
    return exception(segment === ss ? VECTOR.ss : VECTOR.np, (selector & 0xfffc) | external);
  }
  const fault = markAccessed(cpu, descriptor);
  if (fault) return fault;
  setSegmentFrom(cpu.state, segment, selector, descriptor);
  return undefined;
}

/** Type and privilege rules for the segments of a new task. */
function isAllowed(segment: SegmentIndex, { selector, rights }: Descriptor, cpl: number): boolean {
  const dpl = privilegeOf(rights);
  const rpl = selector & 3;
  if (segment === cs) return isCode(rights) && (isConforming(rights) ? dpl <= rpl : dpl === rpl);
  if (segment === ss) return isWritableData(rights) && dpl === cpl && rpl === cpl;
  const readable = (rights & RIGHTS.codeOrData) !== 0 && (!isCode(rights) || (rights & RIGHTS.readable) !== 0);
  return readable && ((isCode(rights) && isConforming(rights)) || (dpl >= cpl && dpl >= rpl));
}

/** The error code goes on the new task's stack; then the first instruction must lie within the code segment. */
function finish(cpu: Cpu, { errorCode }: TaskSwitch, layout: Layout): Fault | undefined {
  const { state } = cpu;
  if (errorCode !== undefined) {
    const fault = pushFrame(cpu, [BigInt(errorCode)], layout.width);
    if (fault) return fault;
  }
  return state.get64('rip') > BigInt(state.get32('segmentLimit', SEGMENT.cs)) ? generalProtection() : undefined;
}
