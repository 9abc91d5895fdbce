/** `vmxray run`: an image from its start to its end. */

import { writeFileSync } from 'node:fs';
import type { Machine } from '../sim-core/machine/api.ts';
import type { RecordedBoot } from '../sim-core/machine/history/recording.ts';
import { takeSnapshot } from '../sim-core/machine/history/snapshot.ts';
import { formatSnapshot } from '../sim-core/machine/history/snapshot-file.ts';
import { IdlePace } from '../sim-core/machine/idle-pace.ts';
import type { StopReason } from '../sim-core/machine/stop-reason.ts';
import type { VmEntryFailure } from '../sim-core/vmx/records.ts';
import { SerialConsole } from './console.ts';
import { EXIT_STATUS, exitStatus, type FinalStop } from './exit-status.ts';
import { inputCanWake, type Started, startMachine } from './machines.ts';
import { type RunOptions, type SnapshotOptions, UsageError } from './options.ts';
import { checkRecordable, endRecording, RecordedPort } from './record.ts';
import { describeStop, summary } from './report.ts';
import { nextTurn, Slices } from './slices.ts';

/** Between slices input arrives and limits are looked at. */
const SLICE_MILLISECONDS = 40;

class Runner {
  private readonly options: RunOptions;
  private readonly machine: Machine;
  private readonly recorded: Started['recorded'];
  private readonly port: RecordedPort;
  private readonly console: SerialConsole;
  private readonly started = performance.now();
  private readonly slices = new Slices(SLICE_MILLISECONDS);
  /** For guests that a person uses. */
  private readonly pace: IdlePace | undefined;
  /** The last VM entry failed, and when: entries that succeeded since clear it. */
  private entryFailure: { failure: VmEntryFailure; entries: number } | undefined;

  constructor(options: RunOptions, { machine, recorded }: Started) {
    this.options = options;
    this.machine = machine;
    this.recorded = recorded;
    this.port = new RecordedPort(this.machine);
    this.console = new SerialConsole({ serial: options.record === undefined ? this.machine.serial : this.port });
    this.pace = process.stdin.isTTY ? new IdlePace(this.machine) : undefined;
    this.machine.onVmEntryFailure = (failure) => {
      this.entryFailure = { failure, entries: this.machine.vmx.entries };
      return false;
    };
    this.machine.onStaleUse = () => options.stopOnStale;
    this.machine.watchTables(options.stopOnStale);
  }

  /** @returns the process's exit status */
  async run(): Promise<number> {
    const { options, machine } = this;
    const recorded = options.record === undefined ? undefined : this.recorded();
    const stop = await this.withConsole();
    if (recorded && options.record !== undefined) endRecording(options.record, recorded, machine, this.port.events);
    return this.report(stop);
  }

  /** Runs up to `maxInstructions`, and saves the machine. @throws UsageError when it ends before */
  async save(output: string): Promise<number> {
    const { options, machine } = this;
    const recorded = this.recorded();
    const stop = await this.withConsole();
    if (machine.instructions < options.maxInstructions) {
      const why = stop === 'interrupted' ? stop : stop.kind;
      throw new UsageError(`the run ended (${why}) after ${machine.instructions} instructions: there is no snapshot`);
    }
    await writeSnapshot(output, machine, recorded);
    return 0;
  }

  private async withConsole(): Promise<FinalStop | 'interrupted'> {
    this.console.open();
    try {
      return await this.untilEnd();
    } finally {
      this.console.close();
    }
  }

  private get secondsLeft(): number {
    return this.options.timeout - (performance.now() - this.started) / 1000;
  }

  private async untilEnd(): Promise<FinalStop | 'interrupted'> {
    const { machine, options } = this;
    for (;;) {
      const left = options.maxInstructions - machine.instructions;
      if (left <= 0 || this.secondsLeft <= 0) return { kind: 'limit' };
      const stop = this.runSlice(left);
      if (stop.kind === 'halted' && inputCanWake(machine)) {
        const outcome = await this.console.waitForInput(this.secondsLeft * 1000);
        if (outcome === 'end') return stop;
      } else if (stop.kind !== 'limit' && stop.kind !== 'paused') {
        return asFinal(stop);
      }
      await this.letOthersRun();
      if (this.console.interrupted) return 'interrupted';
    }
  }

  /** Input, timers, and as long as the guest has slept. */
  private async letOthersRun(): Promise<void> {
    const wait = this.pace?.takeMilliseconds() ?? 0;
    if (wait === 0) await nextTurn();
    else await this.console.waitForInput(Math.min(wait, this.secondsLeft * 1000));
  }

  /** @param most instructions that are left */
  private runSlice(most: number): StopReason {
    const stop = this.slices.run((instructions) => this.machine.run(instructions), most);
    this.console.flush();
    return stop;
  }

  private report(stop: FinalStop | 'interrupted'): number {
    const { machine, options } = this;
    const seconds = (performance.now() - this.started) / 1000;
    const final = stop === 'interrupted' ? stop : this.orEntryFailure(stop);
    const status = final === 'interrupted' ? EXIT_STATUS.interrupted.status : exitStatus(final);
    if (final !== 'interrupted') process.stderr.write(describeStop(final, machine));
    if (options.json) {
      const lineEnd = this.console.atLineStart ? '' : '\n';
      process.stdout.write(`${lineEnd}${JSON.stringify(summary(final, status, machine, seconds))}\n`);
    }
    return status;
  }

  /**
   * A hypervisor that halts, dies or reports an error right after a VM entry failed did not handle the failure: that is
   * the news. One that goes on to report success expected it.
   */
  private orEntryFailure(stop: FinalStop): FinalStop {
    const last = this.entryFailure;
    const unhandled = last !== undefined && last.entries === this.machine.vmx.entries;
    const gaveUp = stop.kind === 'debugExit' && stop.value !== 0;
    const ended = gaveUp || stop.kind === 'halted' || stop.kind === 'tripleFault';
    return unhandled && ended ? { kind: 'vmEntryFailure', failure: last.failure } : stop;
  }
}

/** Stops that nothing here asks for (breakpoints and the like) would be an error of the machine. */
export function asFinal(stop: StopReason): FinalStop {
  switch (stop.kind) {
    case 'breakpoint':
    case 'vmExit':
    case 'vmEntry':
    case 'watchpoint':
    case 'dmaFault':
    case 'paused':
      throw new Error(`the machine stopped for '${stop.kind}', which nobody asked for`);
    default:
      return stop;
  }
}

/** @returns the process's exit status. @throws ImageError, UsageError */
export async function run(options: RunOptions): Promise<number> {
  if (options.record !== undefined) checkRecordable(options, '--record');
  return new Runner(options, await startMachine(options)).run();
}

/** `vmxray snapshot`. @throws ImageError, UsageError */
export async function saveSnapshot({ run: options, output }: SnapshotOptions): Promise<number> {
  checkRecordable(options, 'snapshot');
  return new Runner(options, await startMachine(options)).save(output);
}

/** @throws UsageError when the file cannot be written */
async function writeSnapshot(output: string, machine: Machine, boot: RecordedBoot): Promise<void> {
  const snapshot = takeSnapshot(machine, boot);
  const bytes = await formatSnapshot(snapshot);
  try {
    writeFileSync(output, bytes);
  } catch (error) {
    throw new UsageError(`cannot write the snapshot: ${error instanceof Error ? error.message : String(error)}`);
  }
  const size = (bytes.length / 2 ** 20).toFixed(1);
  const { instructions, hash } = snapshot;
  process.stderr.write(
    `vmxray: saved the machine at instruction ${instructions} in ${output}, ${size} MiB, state ${hash}\n`,
  );
}
