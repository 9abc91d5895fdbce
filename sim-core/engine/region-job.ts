import type { Form } from './form.ts';
import { RECORD } from './record.ts';
import type { RegionBlock, RegionHead } from './region.ts';

/**
 * What a compiler of regions that works elsewhere is told and answers: plain data, so that it may go to another thread.
 * When a region arrives changes nothing but speed: compiled code does exactly what the interpreter does.
 */

/** An interpreter handler: its form, and the mnemonic number by which its semantics are found. */
export interface JobForm {
  readonly handler: number;
  readonly form: Form;
  readonly meaning: number;
}

export interface RegionJob {
  /** Counts up from 1. */
  readonly id: number;
  /** Table index that the region will have. */
  readonly index: number;
  /** The page's table offset → record. */
  readonly table: number;
  /** Pages of 64 KiB of the linear memory that the region will access. */
  readonly memoryPages: number;
  /** Handlers that no earlier job has named. */
  readonly forms: readonly JobForm[];
  /**
   * For each block its number of instructions, `next`, `entered`, `table`; then for each instruction the record's
   * address, its interpreter handler, `far`, and the record.
   */
  readonly blocks: Uint32Array;
}

export interface CompiledRegion {
  /** Of the job. */
  readonly id: number;
  readonly table: number;
  readonly module: WebAssembly.Module;
  readonly heads: readonly RegionHead[];
}

/** Compiles regions while the machine goes on. */
export interface RegionCompiler {
  /** Whether a request would be served soon. */
  readonly isFree: boolean;
  request(job: RegionJob): void;
  /** Regions that are done since the last call. */
  take(): readonly CompiledRegion[];
}

const RECORD_WORDS = RECORD.size / 4;
/** Words in front of a block's instructions, and in front of each record. */
const BLOCK_HEAD = 4;
const INSTRUCTION_HEAD = 3;

/** @param u32 linear memory @returns RegionJob.blocks */
export function encodeBlocks(
  blocks: readonly RegionBlock[],
  u32: Uint32Array,
  handlerOf: (record: number) => number,
): Uint32Array {
  const count = blocks.reduce((sum, { instructions }) => sum + instructions.length, 0);
  const words = new Uint32Array(BLOCK_HEAD * blocks.length + (INSTRUCTION_HEAD + RECORD_WORDS) * count);
  let at = 0;
  for (const { instructions, next, entered, table } of blocks) {
    words.set([instructions.length, next, entered ? 1 : 0, table], at);
    at += BLOCK_HEAD;
    for (const { record, far } of instructions) {
      const start = record >>> 2;
      words.set([record, handlerOf(record), far], at);
      words.set(u32.subarray(start, start + RECORD_WORDS), at + INSTRUCTION_HEAD);
      at += INSTRUCTION_HEAD + RECORD_WORDS;
    }
  }
  return words;
}

/**
 * @param words RegionJob.blocks
 * @param u32 memory that gets the records, at their addresses
 * @param meaningOf form and semantics by interpreter handler
 */
export function decodeBlocks(
  words: Uint32Array,
  u32: Uint32Array,
  meaningOf: (handler: number) => Pick<RegionBlock['instructions'][number], 'form' | 'semantics'>,
): RegionBlock[] {
  const blocks: RegionBlock[] = [];
  const word = (at: number): number => words[at] as number;
  for (let at = 0; at < words.length; ) {
    const [count, next, entered, table] = [word(at), word(at + 1), word(at + 2) !== 0, word(at + 3)];
    at += BLOCK_HEAD;
    const instructions = Array.from({ length: count }, () => {
      const [record, handler, far] = [word(at), word(at + 1), word(at + 2)];
      u32.set(words.subarray(at + INSTRUCTION_HEAD, at + INSTRUCTION_HEAD + RECORD_WORDS), record >>> 2);
      at += INSTRUCTION_HEAD + RECORD_WORDS;
      return { record, ...meaningOf(handler), far };
    });
    blocks.push({ instructions, next, entered, table });
  }
  return blocks;
}
