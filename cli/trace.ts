/** `vmxray trace`: what an image does, as text or as a file for Perfetto. */

import { closeSync, openSync, writeSync } from 'node:fs';
import type { Machine } from '../sim-core/machine/api.ts';
import type { StopReason } from '../sim-core/machine/stop-reason.ts';
import { SerialConsole } from './console.ts';
import { EXIT_STATUS, exitStatus, type FinalStop } from './exit-status.ts';
import { inputCanWake, startMachine } from './machines.ts';
import { type TraceOptions, UsageError } from './options.ts';
import { describeStop } from './report.ts';
import { asFinal } from './run.ts';
import { nextTurn, Slices } from './slices.ts';
import type { TraceFormat } from './trace/events.ts';
import { PerfettoTrace } from './trace/perfetto.ts';
import { TextTrace } from './trace/text.ts';
import { Tracer } from './trace/tracer.ts';

const SLICE_MILLISECONDS = 40;
const BUFFER_SIZE = 65_536;

/** Text to a file or standard output, in large pieces. */
class Output {
  /** Its reader has gone away (`vmxray trace … | head`). */
  isGone = false;
  private readonly file: number;
  private buffer = '';

  /** @param name undefined: standard output. @throws UsageError when the file cannot be written */
  constructor(name: string | undefined) {
    try {
      this.file = name === undefined ? process.stdout.fd : openSync(name, 'w');
    } catch (error) {
      throw new UsageError(`-o ${name}: cannot write there: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  readonly write = (text: string): void => {
    this.buffer += text;
    if (this.buffer.length >= BUFFER_SIZE) this.flush();
  };

  flush(): void {
    const bytes = Buffer.from(this.buffer);
    this.buffer = '';
    try {
      for (let at = 0; at < bytes.length && !this.isGone; ) at += writeSync(this.file, bytes, at);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error;
      this.isGone = true;
    }
  }

  close(): void {
    this.flush();
    if (this.file !== process.stdout.fd) closeSync(this.file);
  }
}

/** Runs a machine through a trace. */
class Tracing {
  private readonly options: TraceOptions;
  private readonly machine: Machine;
  private readonly output: Output;
  private readonly format: TraceFormat;
  private readonly tracer: Tracer;
  private readonly console: SerialConsole;
  private readonly slices = new Slices(SLICE_MILLISECONDS);
  private readonly deadline: number;

  constructor(options: TraceOptions, machine: Machine) {
    this.options = options;
    this.deadline = performance.now() + options.run.timeout * 1000;
    this.machine = machine;
    this.output = new Output(options.output);
    const { write } = this.output;
    this.format = options.format === 'perfetto' ? new PerfettoTrace(write) : new TextTrace(write);
    this.tracer = new Tracer(this.machine, options.kinds, this.format);
    // Standard output is the trace's when that has no file.
    this.console = new SerialConsole(this.machine, options.output === undefined ? process.stderr : process.stdout);
  }

  /** @returns the exit status of `vmxray run` */
  async run(): Promise<number> {
    const { from, to } = this.options;
    this.console.open();
    try {
      const early = await this.until(from, (most) => this.machine.run(most));
      this.tracer.begin();
      const stop = early ?? (await this.until(to, (most) => this.tracer.run(most)));
      return this.report(stop ?? { kind: 'limit' });
    } finally {
      this.console.close();
      this.output.close();
    }
  }

  /** @returns why the machine did not come to so many instructions */
  private async until(end: number, run: (most: number) => StopReason): Promise<FinalStop | 'interrupted' | undefined> {
    const { machine } = this;
    while (machine.instructions < end) {
      if (performance.now() >= this.deadline) return { kind: 'limit' };
      const stop = this.slices.run(run, end - machine.instructions);
      this.console.flush();
      if (stop.kind === 'halted' && inputCanWake(machine)) {
        const left = this.deadline - performance.now();
        if ((await this.console.waitForInput(left)) === 'end') return stop;
      } else if (stop.kind !== 'limit' && stop.kind !== 'paused') {
        return asFinal(stop);
      }
      await nextTurn();
      if (this.console.interrupted || this.output.isGone) return 'interrupted';
    }
    return undefined;
  }

  private report(stop: FinalStop | 'interrupted'): number {
    this.format.end(stop === 'interrupted' ? stop : stop.kind, this.machine.cycles);
    if (stop === 'interrupted') return this.output.isGone ? 0 : EXIT_STATUS.interrupted.status;
    // The end that --to asks for is no surprise.
    const isOwnEnd = stop.kind === 'limit' && this.machine.instructions >= this.options.to;
    if (!isOwnEnd) process.stderr.write(describeStop(stop, this.machine));
    return isOwnEnd ? 0 : exitStatus(stop);
  }
}

/** @returns the exit status. @throws ImageError, UsageError */
export async function trace(options: TraceOptions): Promise<number> {
  const { machine } = await startMachine(options.run);
  return new Tracing(options, machine).run();
}
