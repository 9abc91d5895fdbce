import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isThere } from '../support/programs.ts';
import {
  ADDRESS, type Case, decodeOutcomes, encodeCases, MODES, NO_EXCEPTION, type Outcome, type TestMode, YMM_BYTES,
} from './layout.ts'; // biome-ignore format: a list reads better in rows
import { INITIAL_X87 } from './x87.ts';

const SOURCE = fileURLToPath(new URL('harness.c', import.meta.url));

/** Why this machine cannot run the harness; undefined when it can. */
export function whyNotNative(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'not an x86-64 Linux machine';
  return isThere('gcc') ? undefined : 'gcc is not installed';
}

/** Name, vendor, family and model of this machine's processor, as Linux tells them. */
export function processorName(): string {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  const value = (key: string): string => text.match(new RegExp(`^${key}\\s*: (.*)$`, 'm'))?.[1] ?? '?';
  return `${value('model name')} (${value('vendor_id')}, family ${value('cpu family')}, model ${value('model')})`;
}

/** This machine's own processor as an oracle. */
export class Native {
  private readonly folder = mkdtempSync(join(tmpdir(), 'vmxray-silicon-'));
  private readonly program = join(this.folder, 'harness');

  /** @throws when the harness does not compile. */
  constructor() {
    const defines = Object.entries(ADDRESS).map(([name, value]) => `-D${name}=${value}UL`);
    execFileSync('gcc', ['-O1', '-Wall', '-Wextra', '-Werror', ...defines, '-o', this.program, SOURCE]);
  }

  /** Runs all cases in one process. @throws when the harness dies. */
  run(cases: readonly Case[]): Outcome[] {
    if (cases.length === 0) return [];
    const result = spawnSync(this.program, { input: encodeCases(cases), maxBuffer: 2 ** 30 });
    if (result.status !== 0) {
      throw new Error(`the harness ended with ${result.signal ?? result.status}: ${result.stderr.toString()}`);
    }
    const outcomes = decodeOutcomes(new Uint8Array(result.stdout));
    if (outcomes.length !== cases.length) throw new Error(`${outcomes.length} outcomes of ${cases.length} cases`);
    return outcomes;
  }

  /** Whether the kernel lets code of this mode run. */
  runs(mode: TestMode): boolean {
    return this.run([nopIn(mode)])[0]?.vector === NO_EXCEPTION;
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true });
  }
}

const nopIn = (mode: TestMode): Case => ({
  mode,
  text: 'nop',
  code: Uint8Array.of(0x90),
  undefinedFlags: 0,
  undefinedResult: false,
  undefinedStatus: 0,
  before: {
    gpr: Array.from({ length: 16 }, () => 0n),
    rflags: 2n,
    rip: BigInt(ADDRESS.CODE + 0x800 - MODES[mode].codeBase),
    mxcsr: 0x1f80,
    ymm: new Uint8Array(YMM_BYTES),
    x87: INITIAL_X87,
    memory: new Uint8Array(ADDRESS.WINDOW_SIZE),
  },
});
