/** Snapshots on the command line: saved by one process, gone on with by another. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseRecording } from '../sim-core/machine/history/recording.ts';

const CLI = path.join(import.meta.dirname, 'main.ts');
const SAMPLES = path.join(import.meta.dirname, '../examples');
const TWO_GUESTS = path.join(SAMPLES, 'two-guests');
const IMAGE = path.join(TWO_GUESTS, 'two-guests.elf');
const OTHER_IMAGE = path.join(SAMPLES, 'first-vmm/first-vmm.elf');
const MACHINE = [
  '--memory',
  '16M',
  ...['primes', 'collatz'].flatMap((name) => ['--module', `${TWO_GUESTS}/${name}.elf`]),
];

describe('vmxray snapshot', function () {
  // Each test starts processes, which takes its time on a busy machine.
  this.timeout(60_000);
  let folder = '';
  let snapshot = '';
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'vmxray-snapshot-'));
    snapshot = path.join(folder, 'middle.vmxsnap');
    const { status, stderr } = vmxray('snapshot', IMAGE, ...MACHINE, '--at', '100000', '-o', snapshot);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /saved the machine at instruction 100000 in .*middle.vmxsnap, [\d.]+ MiB, state [0-9a-f]{16}/);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function vmxray(...args: readonly string[]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { encoding: 'latin1', input: '' });
    return { status, stdout, stderr };
  }
  const recordingOf = (...args: readonly string[]) => {
    const file = path.join(folder, 'run.vmxtrace');
    const { status, stderr } = vmxray('run', ...args, '--record', file);
    return { file, status, stderr, ...parseRecording(readFileSync(file, 'utf8')) };
  };

  it('leads another process to the state of the run that was not interrupted', () => {
    const whole = recordingOf(IMAGE, ...MACHINE);
    for (const compiling of [[], ['--interpret']]) {
      const rest = recordingOf('--snapshot', snapshot, ...compiling);
      assert.deepEqual([rest.status, rest.end, rest.hash], [whole.status, whole.end, whole.hash]);
    }
    const output = vmxray('run', IMAGE, ...MACHINE).stdout;
    const end = vmxray('run', '--snapshot', snapshot, IMAGE).stdout;
    assert.ok(output.endsWith(end) && end.length < output.length);
  });

  it('begins recordings, which replays repeat from there', () => {
    const { file, snapshot: first } = recordingOf('--snapshot', snapshot, '--max-instructions', '150000');
    assert.equal(first?.path, snapshot);
    const { status, stderr } = vmxray('replay', file);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /replayed 150000 instructions to state [0-9a-f]{16}: the recorded state/);
  });

  it('is gone on with by snapshots and traces, too', () => {
    const later = path.join(folder, 'later.vmxsnap');
    const direct = path.join(folder, 'direct.vmxsnap');
    const saved = [
      vmxray('snapshot', '--snapshot', snapshot, '--at', '150000', '-o', later),
      vmxray('snapshot', IMAGE, ...MACHINE, '--at', '150000', '-o', direct),
    ];
    const [one, two] = saved.map(({ stderr }) => /state ([0-9a-f]{16})/.exec(stderr)?.[1]);
    assert.ok(one);
    assert.equal(one, two);
    const trace = (...args: readonly string[]) => vmxray('trace', ...args, '--from', '150000', '--to', '160000').stdout;
    assert.equal(trace('--snapshot', snapshot), trace(IMAGE, '--ram', '16M', ...MACHINE.slice(2)));
  });

  it('is refused with the reason and what to do', () => {
    const bytes = readFileSync(snapshot);
    const cut = path.join(folder, 'cut.vmxsnap');
    writeFileSync(cut, bytes.subarray(0, bytes.length / 2));
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [
        ['run', '--snapshot', cut],
        /cannot go on from .*cut.vmxsnap: the file is damaged: it has \d+ bytes, .* copy it/,
      ],
      [['run', '--snapshot', IMAGE], /two-guests.elf: it is no snapshot of VMXray; make one with vmxray snapshot/],
      [['run', '--snapshot', path.join(folder, 'none')], /cannot go on from .*none: .*no such file/],
      [['run', '--snapshot', snapshot, OTHER_IMAGE], /it is of another image: .*two-guests.elf, hash [0-9a-f]{16}; /],
      [['run', '--snapshot', snapshot, '--memory', '1G'], /--memory has no meaning with --snapshot/],
      [['run', '--snapshot', snapshot, '--device', 'edu'], /--device has no meaning with --snapshot/],
      [['snapshot', IMAGE, '-o', cut], /snapshot needs --at N/],
      [['snapshot', IMAGE, '--at', '5'], /snapshot needs -o FILE/],
      [['snapshot', IMAGE, ...MACHINE, '--at', '1e12', '-o', cut], /the run ended \(\w+\) after \d+ instructions: /],
    ];
    for (const [args, message] of cases) {
      const { status, stderr } = vmxray(...args);
      assert.equal(status, 2, args.join(' '));
      assert.match(stderr, message);
    }
  });
});
