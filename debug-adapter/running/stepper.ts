import { Mnemonic } from 'iced-x86';
import type { DecodedInstruction } from '../../sim-core/isa/instruction.ts';
import type { World } from '../../sim-core/machine/api.ts';
import { errors } from '../errors.ts';
import type { FunctionRange, LineRange } from '../symbols/program.ts';
import { innermostFrames, readWord } from '../worlds/unwind.ts';
import { guestSuspended, vmcsField } from '../worlds/world-view.ts';
import type { Goal, Runner, Stop } from './runner.ts';
import type { Target } from './target.ts';

export type Granularity = 'line' | 'instruction';
export type StepKind = 'in' | 'over';

/** Where a step begins, or where it has come to. */
interface Position {
  readonly world: World;
  readonly vmcs: bigint | undefined;
  readonly pc: bigint;
  readonly sp: bigint;
  readonly instructions: number;
  readonly line: LineRange | undefined;
  readonly home: FunctionRange | undefined;
}

const VALID = 1n << 31n;
const EVENT_TYPE_SHIFT = 8n;
/** External interrupt and NMI: the guest comes back from their handlers to where it was. */
const ASYNCHRONOUS_EVENTS: readonly bigint[] = [0n, 2n];
/** An exiting instruction that its VMM neither completes nor skips is tried again so often before the step gives up. */
const REPEATS = 1000;

/**
 * Steps by instruction and by line, with the meaning that VM transitions give them: stepping over an exiting
 * instruction hides the VMM; stepping into it enters the VMM; VMLAUNCH and VMRESUME lead into the guest, like a return
 * to a caller.
 */
export class Stepper {
  private readonly target: Target;
  private readonly runner: Runner;

  constructor(target: Target, runner: Runner) {
    this.target = target;
    this.runner = runner;
  }

  private position(): Position {
    const { target } = this;
    const view = target.view();
    const { pc, world, sp } = view;
    return {
      world,
      vmcs: target.machine.vmx.currentVmcs,
      pc,
      sp,
      instructions: target.machine.instructions,
      line: target.statementAt(world, pc),
      home: target.functionAt(world, pc),
    };
  }

  /** @returns why the machine stopped; kind 'step' when the step is complete. */
  async step(kind: StepKind, granularity: Granularity): Promise<Stop> {
    const origin = this.position();
    const callerSp =
      granularity === 'line' ? innermostFrames(this.target, this.target.view(), 1)[0]?.callerSp : undefined;
    for (;;) {
      const calls = this.target.machine.decodeAt(this.target.view().pc)?.mnemonic === Mnemonic.Call;
      const stop = (await this.runner.breathe()) ?? (await this.stepInstruction(kind));
      if (stop) return stop;
      if (granularity === 'instruction' || origin.line === undefined) return STEPPED;
      const now = this.position();
      if (now.world !== origin.world) return STEPPED;
      // An instruction that faults leads to the handler's first instruction, and no further.
      const called = kind === 'in' && calls && now.sp < origin.sp && now.home?.start !== origin.home?.start;
      const entered = called ? await this.enterFunction(now) : 'go on';
      if (entered !== 'go on') return entered;
      if (!called && isLineDone(origin, now, callerSp) && !(kind === 'over' && this.isInlined(origin, now))) {
        return STEPPED;
      }
    }
  }

  /**
   * Whether a step from a function's own source has come to code of another file inside the same function: that of an
   * inline function of a header, which a step over runs through like a call.
   */
  private isInlined(origin: Position, now: Position): boolean {
    if (!origin.home || origin.home.start !== now.home?.start || now.line === undefined) return false;
    const ownFile = this.target.lineAt(origin.world, origin.home.start)?.file;
    return origin.line?.file === ownFile && now.line.file !== ownFile;
  }

  /** A line step has come into another function: stops behind its prologue, or leaves it when it has no lines. */
  private async enterFunction({ world, pc, sp, home }: Position): Promise<Stop | 'go on'> {
    const body = this.target.programAt(world, pc)?.afterPrologue(pc) ?? pc;
    if (this.target.lineAt(world, pc)) {
      if (body === pc) return STEPPED;
      return this.runTo({ address: { address: body, world, minimumSp: 0n } });
    }
    const view = this.target.view();
    const back = home?.start === pc ? readWord(view, sp, view.bitness === 64 ? 8 : 4) : undefined;
    if (back === undefined) return STEPPED;
    const stop = await this.runner.run({ address: { address: back, world, minimumSp: sp + 1n } });
    return stop === 'reached' ? 'go on' : stop;
  }

  /** Executes one instruction as the user sees it. @returns why that was not possible to its end. */
  private async stepInstruction(kind: StepKind): Promise<Stop | undefined> {
    const before = this.position();
    const instruction = this.target.machine.decodeAt(before.pc);
    if (kind === 'over' && instruction?.mnemonic === Mnemonic.Call) return this.overCall(before, instruction);
    for (let attempt = 0; attempt < REPEATS; attempt++) {
      const failed = this.runner.step();
      if (failed) return failed;
      const elsewhere = kind === 'over' && this.hasLeft(before);
      const stop = kind === 'over' ? await this.hideOthers(before) : undefined;
      if (stop) return stop;
      const now = this.position();
      if (now.pc !== before.pc || now.world !== before.world) return undefined;
      // An interrupt came before the instruction, or its VM exit was like a fault and the VMM lets the guest try again.
      if (!elsewhere && !isUnfinished(instruction, before, now)) return undefined;
      const paused = await this.runner.breathe();
      if (paused) return paused;
    }
    return undefined;
  }

  private async overCall({ pc, sp, world }: Position, { length }: DecodedInstruction): Promise<Stop | undefined> {
    const stop = await this.runner.run({ address: { address: pc + BigInt(length), world, minimumSp: sp } });
    return stop === 'reached' ? undefined : stop;
  }

  /**
   * Whether the step has led out of the user's code: by a VM exit, or by an event delivered instead of an instruction.
   */
  private hasLeft(before: Position): boolean {
    const now = this.position();
    if (now.world !== before.world) return before.world === 'guest';
    return now.instructions === before.instructions && now.pc !== before.pc;
  }

  /** After one step: runs what is not the user's code, the VMM behind a VM exit or the handler of an interrupt. */
  private async hideOthers(before: Position): Promise<Stop | undefined> {
    const { machine } = this.target;
    const now = this.position();
    if (before.world === 'guest' && now.world === 'vmm') {
      const stop = await this.runner.run({ vmEntry: () => machine.vmx.currentVmcs === before.vmcs });
      return stop === 'reached' ? this.hideInjectedHandler() : stop;
    }
    if (!this.hasLeft(before)) return undefined;
    const stop = await this.runner.run({ address: { address: before.pc, world: before.world, minimumSp: before.sp } });
    return stop === 'reached' ? undefined : stop;
  }

  /** The VM entry may have injected an interrupt: runs its handler to where the guest was interrupted. */
  private async hideInjectedHandler(): Promise<Stop | undefined> {
    const { machine } = this.target;
    const event = vmcsField(machine, 'VM_ENTRY_INTERRUPTION_INFORMATION') ?? 0n;
    const type = (event >> EVENT_TYPE_SHIFT) & 7n;
    if ((event & VALID) === 0n || !ASYNCHRONOUS_EVENTS.includes(type)) return undefined;
    const address = this.target.view('guest').codeAddress(vmcsField(machine, 'GUEST_RIP') ?? 0n);
    const minimumSp = vmcsField(machine, 'GUEST_RSP') ?? 0n;
    if (this.target.view().pc === address) return undefined;
    const stop = await this.runner.run({ address: { address, world: 'guest', minimumSp } });
    return stop === 'reached' ? undefined : stop;
  }

  /**
   * A run until the current function has returned. From the VMM's outermost function for a VM exit, and from the one
   * that it calls, that is back in the guest, after VM entry.
   * @throws noCaller when it is not known who called.
   */
  planStepOut(): () => Promise<Stop> {
    const { target } = this;
    const frames = innermostFrames(target, target.view(), 3);
    const { world } = target.view();
    const [frame, caller] = frames;
    const handlesExit = world === 'vmm' && guestSuspended(target.machine) && frames.length <= 2;
    if (handlesExit && this.endsInHandler(frames.at(-1)?.lookupPc)) {
      return () => this.runTo({ vmEntry: () => true });
    }
    if (!caller || frame?.callerSp === undefined) throw errors.noCaller();
    const address = { address: caller.pc, world, minimumSp: frame.callerSp };
    return () => this.runTo({ address });
  }

  private async runTo(goal: Goal): Promise<Stop> {
    const stop = await this.runner.run(goal);
    return stop === 'reached' ? STEPPED : stop;
  }

  /** Whether the outermost frame is the one that VM exits enter. */
  private endsInHandler(pc: bigint | undefined): boolean {
    const { target } = this;
    const handler = vmcsField(target.machine, 'HOST_RIP');
    if (pc === undefined || handler === undefined) return false;
    const home = target.functionAt('vmm', handler);
    return pc === handler || (home !== undefined && home.start === target.functionAt('vmm', pc)?.start);
  }
}

const STEPPED: Stop = { kind: 'step' };

/** The instruction pointer has not moved: a repeated string instruction, or an event before the instruction. */
const isUnfinished = (instruction: DecodedInstruction | undefined, before: Position, now: Position): boolean =>
  instruction?.rep === true || instruction?.repne === true || now.instructions === before.instructions;

/** At the start of another statement, or back in the caller. */
function isLineDone(origin: Position, now: Position, callerSp: bigint | undefined): boolean {
  if (callerSp !== undefined && now.sp >= callerSp) return true;
  if (now.line === undefined) return true;
  if (now.line.line === origin.line?.line && now.line.file === origin.line.file) return false;
  return now.line.isStatement && now.line.start === now.pc;
}
