import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { CompiledRegion, RegionCompiler, RegionJob } from '../../sim-core/engine/region-job.ts';
import type { Machine, MachineConfig } from '../../sim-core/machine/api.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { JobQueue } from './job-queue.ts';

/** What the thread is started with. */
export interface CompilerThreadData {
  readonly queue: SharedArrayBuffer;
  /** Takes an Answer for each job. */
  readonly port: MessagePort;
}

/** A string says why there is no region. */
export type Answer = CompiledRegion | string;

/** The thread's file: beside this module as source, beside the bundle in dist/. */
const threadFile = (): URL =>
  new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './region-compiler.cjs', import.meta.url);

/** A thread ends with the machine that it compiles for: a session that is started anew gets another one. */
const ABANDONED = new FinalizationRegistry((worker: Worker) => void worker.terminate());

/**
 * Compiles a machine's hot code in a thread of its own (Node's), which starts when there is hot code for the first time.
 * The thread does not keep the process alive.
 */
export class CompilerThread implements RegionCompiler {
  private readonly queue = new JobQueue();
  private port: MessagePort | undefined;
  private taken = 0;

  get isFree(): boolean {
    if (!this.port) this.start();
    return this.queue.isFree;
  }

  request(job: RegionJob): void {
    this.queue.write(job);
  }

  take(): readonly CompiledRegion[] {
    const { port } = this;
    const regions: CompiledRegion[] = [];
    for (const { done } = this.queue; port && this.taken < done; this.taken++) {
      const answer = receiveMessageOnPort(port)?.message as Answer | undefined;
      if (answer === undefined || typeof answer === 'string') throw new Error(`hot code was not compiled: ${answer}`);
      regions.push(answer);
    }
    return regions;
  }

  private start(): void {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const data: CompilerThreadData = { queue: this.queue.memory, port: port2 };
    const worker = new Worker(threadFile(), { workerData: data, transferList: [port2] });
    worker.unref();
    ABANDONED.register(this, worker);
  }
}

/** A machine whose hot code is compiled in a thread of its own. @throws RangeError for one that cannot be built */
export function createThreadedMachine(config: MachineConfig): Machine {
  return createMachine({ ...config, compiler: new CompilerThread() });
}
