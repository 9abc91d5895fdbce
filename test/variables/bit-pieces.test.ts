// Expected values: what gdb shows of the same program.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TargetEnvironment } from '../../debug-adapter/expressions/environment.ts';
import { evaluate } from '../../debug-adapter/expressions/evaluate.ts';
import { parseExpression } from '../../debug-adapter/expressions/parser.ts';
import { loadTarget, type Target } from '../../debug-adapter/running/target.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';

const NAMES = ['mixed', 'shifted', 'registers'];

describe('variables in pieces that are not whole bytes', () => {
  let folder: string;
  let program: string;
  let target: Target;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-pieces-'));
    program = join(folder, 'program.elf');
    const source = join(import.meta.dirname, 'bit-pieces.S');
    const link = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x200000,--build-id=none'];
    execFileSync('gcc', [...link, '-o', program, source], { stdio: 'pipe' });
    const launch = { program, machine: { memory: '16M' }, noDebug: true };
    target = await loadTarget({ readFile: async (path) => readFileSync(path) }, createMachine, launch);
    target.machine.run(2);
  });
  after(() => rmSync(folder, { recursive: true }));

  const own = (name: string): bigint => evaluate(parseExpression(name), new TargetEnvironment(target)).number;

  it('are read as gdb reads them', () => {
    const print = NAMES.flatMap((name) => ['-ex', `print/x ${name}`]);
    const text = execFileSync('gdb', ['-nx', '-batch', '-ex', 'starti', '-ex', 'stepi 2', ...print, program], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const shown = [...text.matchAll(/\$\d+ = (0x[0-9a-f]+)/g)].map(([, number]) => BigInt(number ?? ''));
    assert.equal(shown.length, NAMES.length, text);
    const widths = [32, 64, 32];
    assert.deepEqual(
      NAMES.map((name, index) => BigInt.asUintN(widths[index] ?? 0, own(name))),
      shown,
    );
  });

  it('are changed without what lies between them', () => {
    const variable = evaluate(parseExpression('registers'), new TargetEnvironment(target)).typed;
    variable?.assign(0xa5a5_a5a5n);
    assert.equal(own('registers'), 0xa5a5_a5a5n);
    // Bits 7 to 24 of RAX and 18 to 31 of RDX are the variable's.
    assert.deepEqual([own('rax') & 0x7fn, own('rax') >> 25n], [0x1234_5678n & 0x7fn, 0x1234_5678n >> 25n]);
    assert.equal(own('rdx') & 0x3_ffffn, 0xfedc_ba98n & 0x3_ffffn);
  });
});
