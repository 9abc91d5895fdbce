/** Whether to stop in front of an instruction: for the debugger's breakpoints, or for the guest's own in DR0…DR3. */

import type { Instruction } from 'iced-x86';
import { isResuming } from '../cpu/events.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import type { Mmu } from '../mmu/mmu.ts';
import type { State } from '../state/state.ts';
import type { BreakpointLocation, World } from './api.ts';
import type { Processor } from './processor.ts';
import type { Watcher } from './watching/watcher.ts';

/** The parts of the machine that a stop depends on. */
interface Surroundings {
  readonly state: State;
  readonly processor: Processor;
  readonly watcher: Watcher;
  /** Of the processor whose turn it is. */
  readonly mmu: Mmu;
  readonly world: World;
  readonly selected: number;
}

const pageOffset = (address: bigint): number => Number(address & 0xfffn);

export class InstructionBreakpoints {
  /** In replays: breakpoints and filters stop nothing. */
  areIgnored = false;
  /** RFLAGS.RF was set when the instruction in hand began: it ignores the guest's instruction breakpoints. */
  resuming = false;
  /** Whether it was the debugger that asked for the last stop in front of an instruction, not the guest. */
  debuggerStops = false;
  private readonly machine: Surroundings;
  private locations: readonly BreakpointLocation[] = [];
  private offsets = new Set<number>();
  /** Page offsets at which the guest's own debug registers have ever had an instruction breakpoint. */
  private readonly guestOffsets = new Set<number>();
  private decodesAnew = false;
  /** RIP at which the run started: its breakpoint does not stop the first instruction. */
  private startRip = 0n;
  private atStart = false;

  constructor(machine: Surroundings) {
    this.machine = machine;
  }

  set(locations: readonly BreakpointLocation[]): void {
    const before = this.offsets;
    const now = new Set(locations.map(({ address }) => pageOffset(address)));
    this.locations = locations;
    this.offsets = now;
    const changed = [...before, ...now].filter((offset) => before.has(offset) !== now.has(offset));
    if (changed.length > 0) this.machine.processor.forgetAt(changed);
  }

  /** A run begins. @param goesOn a breakpoint at RIP counts */
  begin(goesOn: boolean): void {
    this.startRip = this.machine.processor.linearRip();
    this.atStart = !goesOn;
  }

  /** The run is not at its first instruction any more, or another processor's turn has come. */
  leaveStart(): void {
    this.atStart = false;
  }

  /** What the processor asks when it decodes: whether an instruction breakpoint may lie at this page offset. */
  mayLieAt(offset: number): boolean {
    return this.offsets.has(offset) || this.guestOffsets.has(offset);
  }

  mayBreakOn(instruction: Instruction): boolean {
    return this.machine.watcher.wants(instruction);
  }

  /** Asked in front of an instruction that something is to be done about. */
  stopsHere(instruction: () => DecodedInstruction): boolean {
    const { mmu, processor, state, watcher } = this.machine;
    this.debuggerStops = this.stopsForDebugger(instruction);
    if (this.debuggerStops) return true;
    const ignored = this.resuming && processor.executed <= 1;
    if (mmu.breakpoints.code.length > 0 && !ignored && !isResuming(state) && this.hitsGuest() !== 0) return true;
    if (watcher.hasRules && !this.areIgnored) watcher.before(instruction());
    return false;
  }

  private stopsForDebugger(instruction: () => DecodedInstruction): boolean {
    if (this.areIgnored) return false;
    const { machine } = this;
    const rip = machine.processor.linearRip();
    if (this.atStart && rip === this.startRip && machine.processor.executed <= 1) return false;
    if (machine.watcher.hasRules && machine.watcher.stopsAt(instruction()).length > 0) return true;
    return this.locations.some(
      ({ address, world = machine.world, processor = machine.selected }) =>
        address === rip && world === machine.world && processor === machine.selected,
    );
  }

  /** DR6 bits of the guest's own instruction breakpoints at RIP. */
  hitsGuest(): number {
    return this.machine.mmu.breakpoints.matchCode(this.machine.processor.linearRip());
  }

  /** Code that was decoded without a look at a new breakpoint's offset is decoded anew at the next boundary. */
  noteGuest(): void {
    for (const { address } of this.machine.mmu.breakpoints.code) {
      const offset = pageOffset(address);
      if (this.guestOffsets.has(offset)) continue;
      this.guestOffsets.add(offset);
      this.decodesAnew = true;
      this.machine.state.set32('attention', 1);
    }
  }

  /** At a boundary. */
  decodeAnew(): void {
    if (!this.decodesAnew) return;
    this.decodesAnew = false;
    this.machine.processor.flush();
  }
}
