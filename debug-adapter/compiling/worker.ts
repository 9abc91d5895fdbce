/** The thread that compiles regions: see CompilerThread. */

import os from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { workerData } from 'node:worker_threads';
import { RegionWorkshop } from '../../sim-core/engine/region-workshop.ts';
import { STAGED_SEMANTICS } from '../../sim-core/machine/semantics.ts';
import { JobQueue } from './job-queue.ts';
import type { Answer, CompilerThreadData } from './thread.ts';

// Else V8 would compile the functions where they are called first: in the machine's thread.
setFlagsFromString('--no-wasm-lazy-compilation');
// Linux has priorities of threads. Where there is no other processor for this one, the machine's thread goes first.
if (process.platform === 'linux') os.setPriority(os.constants.priority.PRIORITY_LOW);
const { queue: memory, port } = workerData as CompilerThreadData;
const queue = new JobQueue(memory);
const workshop = new RegionWorkshop(STAGED_SEMANTICS);
const answer = (): Answer => {
  const job = queue.read();
  try {
    return workshop.compile(job);
  } catch (error) {
    return String(error);
  }
};
queue.open();
for (;;) {
  port.postMessage(answer());
  queue.finish();
}
