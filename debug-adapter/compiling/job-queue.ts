import type { RegionJob } from '../../sim-core/engine/region-job.ts';

/** Words of jobs that can wait. */
const WORDS = 2 ** 18;
/** Words that wait when a further job would wait long. */
const MUCH = 2 ** 15;
/**
 * Words in front of the ring: counts of words written and read, and of jobs done; whether the reader is there, and
 * whether it sleeps until it is notified.
 */
const WRITTEN = 0;
const READ = 1;
const DONE = 2;
const OPEN = 3;
const ASLEEP = 4;
const HEAD = 8;
/** How often the reader looks for jobs, in milliseconds, and how often in vain before it falls asleep. */
const LOOK_EVERY = 1;
const MOST_LOOKS = 100;
/** Words in front of each job: lengths of its text in bytes, and of its blocks in words. */
const JOB_HEAD = 2;

/**
 * Jobs on their way to the thread that compiles, in shared memory: posting a message would take the machine's thread
 * longer than writing the words here. One thread writes and one reads.
 */
export class JobQueue {
  /** To be given to the other thread. */
  readonly memory: SharedArrayBuffer;
  private readonly control: Int32Array;
  private readonly ring: Uint32Array;

  constructor(memory = new SharedArrayBuffer(4 * (HEAD + WORDS))) {
    this.memory = memory;
    this.control = new Int32Array(memory, 0, HEAD);
    this.ring = new Uint32Array(memory, 4 * HEAD, WORDS);
  }

  private get waiting(): number {
    return (Atomics.load(this.control, WRITTEN) - Atomics.load(this.control, READ)) >>> 0;
  }

  /** Whether a job that is written now is read soon. */
  get isFree(): boolean {
    return Atomics.load(this.control, OPEN) === 1 && this.waiting < MUCH;
  }

  /** The reader is there. */
  open(): void {
    Atomics.store(this.control, OPEN, 1);
  }

  /** Jobs that the reader has finished. */
  get done(): number {
    return Atomics.load(this.control, DONE);
  }

  /** @throws RangeError when there is no room */
  write({ blocks, ...rest }: RegionJob): void {
    const text = new TextEncoder().encode(JSON.stringify(rest));
    const words = new Uint32Array(JOB_HEAD + Math.ceil(text.length / 4) + blocks.length);
    words[0] = text.length;
    words[1] = blocks.length;
    new Uint8Array(words.buffer).set(text, 4 * JOB_HEAD);
    words.set(blocks, words.length - blocks.length);
    if (this.waiting + words.length > WORDS) throw new RangeError('the queue of regions to compile is full');
    const start = (Atomics.load(this.control, WRITTEN) >>> 0) % WORDS;
    const first = words.subarray(0, WORDS - start);
    this.ring.set(first, start);
    this.ring.set(words.subarray(first.length), 0);
    Atomics.add(this.control, WRITTEN, words.length);
    // To wake a thread takes time, and may cost this one its turn.
    if (Atomics.load(this.control, ASLEEP) === 1) Atomics.notify(this.control, WRITTEN);
  }

  /** The next job: waits for it. */
  read(): RegionJob {
    const start = Atomics.load(this.control, READ);
    this.wait(start);
    const [text, blocks] = this.words(start, JOB_HEAD) as unknown as [number, number];
    const textWords = Math.ceil(text / 4);
    const body = this.words(start + JOB_HEAD, textWords + blocks);
    Atomics.add(this.control, READ, JOB_HEAD + body.length);
    const rest = JSON.parse(new TextDecoder().decode(new Uint8Array(body.buffer, 0, text))) as Omit<
      RegionJob,
      'blocks'
    >;
    return { ...rest, blocks: body.subarray(textWords) };
  }

  /** @param read words that were read: returns when there are more */
  private wait(read: number): void {
    for (let looks = 0; Atomics.load(this.control, WRITTEN) === read; looks++) {
      const sleeps = looks >= MOST_LOOKS;
      Atomics.store(this.control, ASLEEP, sleeps ? 1 : 0);
      Atomics.wait(this.control, WRITTEN, read, sleeps ? Number.POSITIVE_INFINITY : LOOK_EVERY);
    }
    Atomics.store(this.control, ASLEEP, 0);
  }

  /** Counts a job as done: what came of it can be fetched. */
  finish(): void {
    Atomics.add(this.control, DONE, 1);
  }

  /** A copy of words of the ring. @param position counts up, modulo 2^32 */
  private words(position: number, length: number): Uint32Array<ArrayBuffer> {
    const start = (position >>> 0) % WORDS;
    const copy = new Uint32Array(length);
    const first = this.ring.subarray(start, start + length);
    copy.set(first);
    copy.set(this.ring.subarray(0, length - first.length), first.length);
    return copy;
  }
}
