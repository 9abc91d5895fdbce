// Expected values: none but each other's. A process that goes on from a snapshot does what the one that saved it does.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashOf } from '../../sim-core/machine/history/hash.ts';
import { History } from '../../sim-core/machine/history/history.ts';
import { parseRecording, type RecordedBoot } from '../../sim-core/machine/history/recording.ts';
import { takeSnapshot } from '../../sim-core/machine/history/snapshot.ts';
import { formatSnapshot } from '../../sim-core/machine/history/snapshot-file.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { makeInitramfs } from './initramfs.ts';
import { filesOrSkip, PROMPT } from './sessions.ts';
import { Terminal } from './terminal.ts';

const MEMORY = 256 * 2 ** 20;
const CPUS = 2;
const CLI = join(import.meta.dirname, '../../cli/main.ts');
const COMMANDS = 'cat /proc/interrupts; dd if=/dev/urandom bs=16 count=1 | hexdump -C; poweroff -f\n';

describe("A snapshot of Debian's kernel at its prompt", function () {
  this.timeout(300_000);
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-linux-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('goes on in another process, to the state of the run that was not interrupted', async function () {
    const files = filesOrSkip(this);
    const save = (name: string, bytes: Uint8Array) => {
      const path = join(folder, name);
      writeFileSync(path, bytes);
      return { name, path, hash: hashOf(bytes) };
    };
    const initramfs = makeInitramfs(files.busybox);
    const boot: RecordedBoot = {
      image: save('vmlinuz', files.kernel),
      commandLine: 'console=ttyS0',
      format: 'auto',
      modules: [{ ...save('initramfs', initramfs), commandLine: '' }],
      disks: [],
      machine: { memory: MEMORY, cpuModel: 'westmere', cpus: CPUS, vmx: true, iommu: false, devices: [] },
    };
    const machine = createMachine({ memory: MEMORY, cpus: CPUS });
    const modules = [{ name: 'initramfs', bytes: initramfs, commandLine: '' }];
    machine.boot({ name: 'vmlinuz', image: files.kernel, commandLine: boot.commandLine, modules });
    new Terminal(machine).waitFor(PROMPT);
    const snapshot = join(folder, 'prompt.vmxsnap');
    writeFileSync(snapshot, await formatSnapshot(takeSnapshot(machine, boot)));

    const record = join(folder, 'rest.vmxtrace');
    const args = [CLI, 'run', '--snapshot', snapshot, '--record', record];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'latin1', input: COMMANDS });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /CPU0 +CPU1[\s\S]*\n00000000 +[0-9a-f]{2} /);

    const rest = parseRecording(readFileSync(record, 'utf8'));
    let output = '';
    machine.serial.onOutput = (byte) => {
      output += String.fromCharCode(byte);
    };
    const history = new History(machine.rewindable, { future: rest });
    let { kind } = history.run(1e9);
    while (kind === 'limit' || kind === 'paused') ({ kind } = history.run(1e9));
    assert.deepEqual([kind, history.position, stateHash(machine)], ['powerOff', rest.end, rest.hash]);
    assert.equal(output, stdout);
  });
});
