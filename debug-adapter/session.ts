import type { DebugProtocol } from '@vscode/debugprotocol';
import type { History } from '../sim-core/machine/history/history.ts';
import { type Position, same } from '../sim-core/machine/history/position.ts';
import { errors, RequestError } from './errors.ts';
import { processorOfThread, threadOfProcessor } from './handler.ts';
import type { CustomEvents, FileReader } from './protocol.ts';
import { type Place, References } from './references.ts';
import type { SnapshotFile } from './requests/snapshots.ts';
import { moduleOf } from './requests/sources.ts';
import { hasSources } from './requests/stack.ts';
import { REQUESTS } from './requests.ts';
import { ReverseStepper } from './running/reverse-stepper.ts';
import { type Ended, type Goal, Runner, type Stop } from './running/runner.ts';
import { Stepper } from './running/stepper.ts';
import type { MachineFactory, Target } from './running/target.ts';
import { BreakpointStore } from './stops/breakpoint-store.ts';
import { ExceptionFilters } from './stops/exception-filters.ts';
import { stoppedBody } from './stops/stop-texts.ts';
import { FrameTable } from './worlds/frame-table.ts';
import { nameOfVcpu, threadOfVcpu, vcpuOfThread } from './worlds/vcpus.ts';
import type { SuspendedGuest } from './worlds/world-view.ts';

/** What a session needs of its surroundings: a client to send to, and files. */
export interface SessionHost extends FileReader {
  send(message: DebugProtocol.ProtocolMessage): void;
}

/** Functions take no more arguments than the stack has place for. */
const MOST_ARGUMENTS = 8192;
const PAST_HELP = 'Going on repeats what happened; changing something makes another future.';

const END_HELP = 'The machine has ended: step back, run backwards, restart, or end the session.';
const END_HELP_WITHOUT_HISTORY = 'The machine has ended: look around, restart, or end the session.';

export interface Launched {
  readonly target: Target;
  readonly runner: Runner;
  readonly stepper: Stepper;
  /** Undefined without time travel. */
  readonly reverseStepper: ReverseStepper | undefined;
}

/**
 * One debug session, independent of its transport: takes DAP messages, answers through its host. Nothing that a client
 * sends makes it throw.
 */
export class Session {
  readonly host: SessionHost;
  readonly createMachine: MachineFactory;
  readonly breakpoints = new BreakpointStore();
  readonly filters = new ExceptionFilters();
  readonly references: References;
  readonly frames: FrameTable;
  /** Number of the processor that requests are about which name none: the one that stopped, or that is looked at. */
  private focus = 0;
  /** VMCS fields at the previous stop, by encoding; undefined where there was no VMCS. */
  previousFields: ((encoding: number) => bigint | undefined) | undefined;
  /** Memory references that the client has read: it is told when their contents may have changed. */
  private readonly shownMemory = new Map<string, { readonly offset: number; readonly count: number }>();
  launchArguments: unknown;
  takesMemoryEvents = false;
  takesInvalidatedEvents = false;
  linesStartAt1 = true;
  columnsStartAt1 = true;
  /** The client is VS Code. */
  selectsBySource = false;
  lastStop: Stop | undefined;
  /** Whether the VMCS view marks the fields that VM entry would refuse: after it did, or when somebody asked. */
  marksEntryChecks = false;
  /** Addresses that `gotoTargets` has named; a target's id is its index. */
  readonly gotoTargets: bigint[] = [];
  private launched: Launched | undefined;
  private running = false;
  /** At the last stop. */
  private wasInPast = false;
  private ended = false;
  /** Where the machine has ended, while the session stays: nothing runs on from there. */
  private end: { readonly at: Position; readonly stop: Ended } | undefined;
  private disposed = false;
  private nextSequence = 1;
  private queue: Promise<void> = Promise.resolve();
  private afterResponse: (() => void)[] = [];

  constructor(host: SessionHost, createMachine: MachineFactory) {
    this.host = host;
    this.createMachine = createMachine;
    const selected = (): number => this.launched?.target.machine.selected ?? 0;
    const place: Place = {
      get processor() {
        return selected();
      },
      goTo: (processor) => this.show(processor),
    };
    this.references = new References(place);
    this.frames = new FrameTable(place);
  }

  /** Makes the machine show a processor, for the request in hand. */
  private show(processor: number): void {
    if (!this.running) this.launched?.target.machine.select(processor);
  }

  /** Requests that name no processor are about the one that is shown now. */
  focusHere(): void {
    this.focus = this.launched?.target.machine.selected ?? 0;
  }

  /** Takes any value that a client may send; requests are answered in their order. */
  handleMessage(message: unknown): void {
    if (typeof message !== 'object' || message === null) return;
    const { type, seq, command, arguments: args } = message as Readonly<Record<string, unknown>>;
    if (type !== 'request') return;
    this.queue = this.queue.then(() =>
      this.answer(typeof seq === 'number' ? seq : 0, typeof command === 'string' ? command : String(command), args),
    );
  }

  /** Ends the session: nothing runs or is sent any more. */
  dispose(): void {
    this.disposed = true;
    this.launched?.runner.abandon();
  }

  private async answer(requestSequence: number, command: string, args: unknown): Promise<void> {
    if (this.disposed) return;
    const base = { type: 'response', request_seq: requestSequence, command } as const;
    try {
      const handle = Object.hasOwn(REQUESTS, command) ? REQUESTS[command] : undefined;
      if (!handle) throw errors.unknownRequest(command);
      this.show(this.focus);
      const body = await handle(this, args, command);
      this.send({ ...base, success: true, ...(body === undefined ? {} : { body }) });
    } catch (thrown) {
      const error = thrown instanceof RequestError ? thrown : internalError(command, thrown);
      this.send({ ...base, success: false, message: error.message, body: { error: error.toMessage() } });
    }
    for (const action of this.afterResponse.splice(0)) this.attempt(command, action);
  }

  /** Does what follows an answer. A mistake of this program in it must not end the session. */
  private attempt(command: string, action: () => void): void {
    try {
      action();
    } catch (thrown) {
      this.output(`${internalError(command, thrown).message}\n`, 'stderr');
    }
  }

  /** Does something once the request in hand has been answered. */
  afterwards(action: () => void): void {
    this.afterResponse.push(action);
  }

  private send(message: object): void {
    if (!this.disposed) this.host.send({ seq: this.nextSequence++, ...message } as DebugProtocol.ProtocolMessage);
  }

  event(name: string, body: object = {}): void {
    this.send({ type: 'event', event: name, body });
  }

  customEvent<Name extends keyof CustomEvents>(name: Name, body: CustomEvents[Name]): void {
    this.event(name, body);
  }

  output(text: string, category: 'console' | 'stdout' | 'stderr' | 'important' = 'console'): void {
    this.event('output', { category, output: text });
  }

  get isLaunched(): boolean {
    return this.launched !== undefined;
  }

  /** @throws notLaunched. */
  target(command: string): Target {
    if (!this.launched) throw errors.notLaunched(command);
    return this.launched.target;
  }

  /** @throws notLaunched, running or ended. */
  stoppedTarget(command: string): Target {
    const target = this.target(command);
    if (this.running) throw errors.running(command);
    return target;
  }

  /**
   * The machine then shows the processor that the thread stands for.
   * @returns the virtual processor for which a thread stands that does not run
   * @throws unknownThread or unknownVcpu
   */
  checkThread(id: number): SuspendedGuest | undefined {
    const vcpu = vcpuOfThread(id);
    if (vcpu !== undefined && !this.running) return this.target('threads').suspendedGuest(vcpu);
    const processor = processorOfThread(id);
    const count = this.launched?.target.machine.processors.length ?? 1;
    if (!Number.isInteger(id) || processor < 0 || processor >= count) throw errors.unknownThread(id);
    this.show(processor);
    return undefined;
  }

  /** Threads of virtual processors that do not run: while the machine does, that changes all the time. */
  suspendedThreads(target: Target): DebugProtocol.Thread[] {
    if (this.running) return [];
    return target.vcpus
      .suspended(target.machine)
      .map((guest) => ({ id: threadOfVcpu(guest.number), name: nameOfVcpu(target, guest) }));
  }

  /** @throws suspended for a virtual processor that does not run: it cannot be stepped. */
  checkRunningThread(id: number, command: string): void {
    const guest = this.checkThread(id);
    if (guest) throw errors.suspended(command, nameOfVcpu(this.target(command), guest));
  }

  /** Takes a machine that has just been booted; an earlier one of this session is dropped. */
  adopt(target: Target): void {
    this.launched?.runner.abandon();
    const runner = new Runner(target, this.breakpoints, this.filters, {
      output: (text) => this.output(text),
      serial: (bytes, console) => this.serialOutput(bytes, console),
      futureForgotten: () => {
        this.end = undefined;
        this.tellTime(target, 'This is the present now: what came after it is forgotten.');
      },
    });
    const { history } = target;
    const reverseStepper = history && new ReverseStepper(target, runner, history);
    this.launched = { target, runner, stepper: new Stepper(target, runner), reverseStepper };
    this.running = false;
    this.ended = false;
    this.end = undefined;
    this.wasInPast = false;
    this.focus = 0;
    this.forgetStop();
    this.previousFields = undefined;
  }

  private serialOutput(bytes: readonly number[], console: string | undefined): void {
    const data = Array.from({ length: Math.ceil(bytes.length / MOST_ARGUMENTS) }, (_, part) =>
      String.fromCharCode(...bytes.slice(part * MOST_ARGUMENTS, (part + 1) * MOST_ARGUMENTS)),
    ).join('');
    this.customEvent('vmxray/serialOutput', console === undefined ? { data } : { data, console });
    if (console === undefined) this.output(data, 'stdout');
  }

  /** An idle guest has got input. */
  rouse(): void {
    this.launched?.runner.rouse();
  }

  refreshBreakpoints(): void {
    this.launched?.runner.refresh();
  }

  /** After a restart: the same breakpoints in programs that may have changed. */
  relocateBreakpoints(): void {
    if (!this.launched) return;
    for (const breakpoint of this.breakpoints.relocate(this.launched.target)) {
      this.event('breakpoint', { reason: 'changed', breakpoint });
    }
    this.refreshBreakpoints();
  }

  /** Runs without a debugger: nothing but an end of the machine stops it. */
  disarm(): void {
    this.filters.replace([]);
    this.breakpoints.disable();
  }

  /** Line numbers as the client counts them, and back. */
  clientLine(line: number): number {
    return this.linesStartAt1 ? line : line - 1;
  }
  ownLine(line: number): number {
    return this.linesStartAt1 ? line : line + 1;
  }

  pause(command: string): void {
    this.target(command);
    if (this.running) this.launched?.runner.pause();
  }

  terminate(command: string): void {
    const target = this.target(command);
    this.launched?.runner.abandon();
    const byUser: Ended = { kind: 'ended', text: 'Terminated by the user', exitCode: 0 };
    this.afterwards(() => this.reportEnd(this.endHere(target) ?? byUser));
  }

  /** Runs after the response, until the goal or another reason to stop. @param reached the stop at the goal. */
  run(command: string, goal: Goal, reached: Stop): void {
    this.goForward(command, async ({ runner }) => {
      const stop = await runner.run(goal);
      return stop === 'reached' ? reached : stop;
    });
  }

  /** Runs until the next VM exit that a filter or nothing asks for. */
  runToVmExit(command: string): void {
    this.goForward(command, async ({ runner, target }) => {
      const stop = await runner.run({ vmExit: true });
      const exit = target.machine.vmx.lastExit;
      if (stop !== 'reached') return stop;
      return exit ? { kind: 'vmExit', exit } : { kind: 'paused' };
    });
  }

  /** @throws noHistory. */
  history(command: string): History {
    const { history } = this.target(command);
    if (!history) throw errors.noHistory(command);
    return history;
  }

  /** Goes somewhere in the history after the response. */
  travel(command: string, work: (launched: Launched) => Promise<Stop>): void {
    this.resume(command, (launched) => launched.runner.journey(() => work(launched)));
  }

  /** Goes on from a snapshot after the response. */
  restore(command: string, read: SnapshotFile): void {
    this.resume(command, async ({ target }) => {
      target.restore(read);
      const { instructions } = read.snapshot;
      this.output(`Restored ${read.file.path}, instruction ${instructions}. The session's past is forgotten.\n`);
      return { kind: 'travel', text: `Snapshot restored: instruction ${instructions}` };
    });
  }

  step(command: string, plan: (stepper: Stepper) => () => Promise<Stop>): void {
    const target = this.stoppedTarget(command);
    if (this.ended) throw errors.ended(command);
    this.checkNotAtEnd(target, command);
    const go = this.launched ? plan(this.launched.stepper) : undefined;
    if (go && target) this.goForward(command, go);
  }

  /** @throws atEnd where the machine has ended */
  private goForward(command: string, work: (launched: Launched) => Promise<Stop>): void {
    this.checkNotAtEnd(this.stoppedTarget(command), command);
    this.resume(command, work);
  }

  /** @throws atEnd */
  private checkNotAtEnd(target: Target, command: string): void {
    const end = this.endHere(target);
    if (end) throw errors.atEnd(command, end.text);
  }

  /** How the machine has ended, when it is there. */
  private endHere({ machine }: Target): Ended | undefined {
    const { end } = this;
    return end && same(end.at, machine.rewindable.position) ? end.stop : undefined;
  }

  /** Whether the session stays when the machine ends so. */
  private staysAt({ isFailure = false }: Ended, { launch }: Target): boolean {
    if (launch.noDebug || launch.stopAtEnd === 'never') return false;
    return isFailure || launch.stopAtEnd === 'always';
  }

  private resume(command: string, work: (launched: Launched) => Promise<Stop>): void {
    this.stoppedTarget(command);
    if (this.ended) throw errors.ended(command);
    const { launched } = this;
    if (!launched) return;
    this.previousFields = launched.target.machine.vmx.remember();
    this.forgetStop();
    this.running = true;
    launched.runner.begin();
    this.afterwards(() => {
      work(launched)
        .catch((thrown: unknown): Stop => {
          this.output(`${internalError(command, thrown).message}\n`, 'stderr');
          return { kind: 'paused' };
        })
        .then((stop) => {
          if (this.launched === launched && !this.ended) this.attempt(command, () => this.report(stop));
        });
    });
  }

  private forgetStop(): void {
    this.references.reset();
    this.frames.reset();
    this.lastStop = undefined;
    this.marksEntryChecks = false;
  }

  /** Tells the client why the machine stands still. */
  report(stop: Stop): void {
    this.running = false;
    this.lastStop = stop;
    this.marksEntryChecks = stop.kind === 'vmEntryFailure';
    const target = this.target('stopped');
    if (stop.kind === 'ended') {
      if (!this.staysAt(stop, target)) {
        this.reportEnd(stop);
        return;
      }
      this.end = { at: target.machine.rewindable.position, stop };
      this.output(
        `${stop.text}; exit code ${stop.exitCode}. ${target.history ? END_HELP : END_HELP_WITHOUT_HISTORY}\n`,
      );
    }
    this.focusHere();
    this.locatePrograms(target);
    const threadId = threadOfProcessor(this.focus);
    this.tellTime(target);
    this.event('stopped', {
      ...stoppedBody(stop, target),
      ...this.selection(target),
      threadId,
      allThreadsStopped: true,
    });
    this.memoryChanged();
  }

  /**
   * VS Code selects the innermost frame that has a source. Where none has, it selects one, and shows its disassembly,
   * after an instruction breakpoint only.
   */
  private selection(target: Target): { readonly reason?: 'instruction breakpoint' } {
    if (!this.selectsBySource || hasSources(target, this.frames.stack(target))) return {};
    return { reason: 'instruction breakpoint' };
  }

  /** The session is over. */
  private reportEnd(stop: Ended): void {
    this.running = false;
    this.ended = true;
    this.output(`${stop.text}; exit code ${stop.exitCode}.\n`);
    this.event('exited', { exitCode: stop.exitCode });
    this.event('terminated');
  }

  /** Programs of which it has become clear where they are. */
  private locatePrograms(target: Target): void {
    const found = target.locatePrograms();
    if (found.length === 0) return;
    for (const loaded of found) this.event('module', { reason: 'changed', module: moduleOf(loaded) });
    this.relocateBreakpoints();
  }

  /** Says that the session is in the past, or has come back to the present. */
  private tellTime({ history, machine, consoles }: Target, returned = 'Back in the present.'): void {
    if (!history || (!history.isInPast && !this.wasInPast)) return;
    const { isInPast, position, present } = history;
    if (isInPast !== this.wasInPast) {
      const text = `In the past: instruction ${position.instructions} of ${present.instructions}. ${PAST_HELP}`;
      this.output(`${isInPast ? text : returned}\n`);
    }
    this.wasInPast = isInPast;
    this.customEvent('vmxray/timeTravel', {
      inPast: isInPast,
      instructions: position.instructions,
      present: present.instructions,
      serialBytes: machine.serial.sent,
      consoleBytes: consoles.sent,
    });
  }

  /** Remembers what the client shows of memory: the range from the lowest to the highest byte that it asked for. */
  showMemory(reference: string, offset: number, count: number): void {
    const known = this.shownMemory.get(reference) ?? { offset, count };
    const first = Math.min(known.offset, offset);
    const end = Math.max(known.offset + known.count, offset + count);
    this.shownMemory.set(reference, { offset: first, count: end - first });
  }

  /** What clients show of memory may be stale. They know a place by the reference that they read it with. */
  private memoryChanged(): void {
    if (!this.takesMemoryEvents) return;
    for (const [memoryReference, range] of this.shownMemory) this.event('memory', { memoryReference, ...range });
  }

  /** State was changed by the user: views read it again. */
  changed(): void {
    this.frames.refresh();
    this.memoryChanged();
    if (this.takesInvalidatedEvents) this.event('invalidated', { areas: ['all'] });
  }
}

function internalError(command: string, thrown: unknown): RequestError {
  return errors.internal(command, thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
}
