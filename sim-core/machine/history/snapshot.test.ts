/** Snapshots: the same machine elsewhere, and files that are refused with the reason. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomNumbers } from '../../../test/support/random-program.ts';
import { assemble, KERNELS } from '../../../test/system/kernels.ts';
import { parseDevice } from '../../platform/device-text.ts';
import { memoryImage } from '../../platform/virtio/disk.ts';
import type { Machine } from '../api.ts';
import { createMachine } from '../machine.ts';
import { hashOf } from './hash.ts';
import { History } from './history.ts';
import type { RecordedBoot } from './recording.ts';
import { checkBoot, restoreSnapshot, SnapshotError, takeSnapshot } from './snapshot.ts';
import { formatSnapshot, parseSnapshot } from './snapshot-file.ts';
import { stateHash } from './state-hash.ts';

const ROOT = join(import.meta.dirname, '../../..');
const MEMORY = 16 << 20;

interface Workload {
  readonly name: string;
  /** About how many instructions it has. */
  readonly length: number;
  readonly image: string;
  readonly guests?: readonly string[];
  readonly cpus?: number;
  readonly devices?: readonly string[];
  readonly iommu?: boolean;
  /** What somebody types, before it begins. */
  readonly input?: string;
}

const WORKLOADS: readonly Workload[] = [
  {
    name: 'a hypervisor and its guest, with input that waits',
    length: 389_000,
    image: 'examples/first-vmm/first-vmm.elf',
    guests: ['examples/first-vmm/guest.elf'],
    input: 'abcdefghijklmnopqrstuvwxyz',
  },
  {
    name: 'two guests on one processor',
    length: 200_000,
    image: 'examples/two-guests/two-guests.elf',
    guests: ['examples/two-guests/primes.elf', 'examples/two-guests/collatz.elf'],
  },
  {
    name: 'a device behind VT-d, and others of virtio',
    length: 300_000,
    image: 'examples/direct-assignment/direct-assignment.elf',
    guests: ['examples/direct-assignment/guest.elf'],
    devices: ['edu', 'virtio-rng', 'virtio-blk,file=disk', 'virtio-net', 'virtio-console'],
    iommu: true,
  },
  { name: 'a million CPUID exits', length: 900_000, image: 'bench/workloads/f_vmx.elf' },
  { name: 'hot integer code', length: 3_000_000, image: 'bench/workloads/a_int.elf' },
  {
    name: 'a disk and a CD-ROM drive',
    length: 20_000,
    image: 'ata32',
    devices: ['ide-hd,file=disk', 'ide-cd,file=disc'],
  },
  { name: 'four processors', length: 300_000, image: 'smp', cpus: 4 },
];

function make({ cpus = 1, devices = [], iommu = false }: Workload, compile = true): Machine {
  const disk = () => memoryImage(Uint8Array.from({ length: 8192 }, (_, at) => at));
  const configs = devices.map((text) => parseDevice(text, { disk }));
  return createMachine({ memory: MEMORY, cpus, devices: configs, iommu, compile });
}

function boot(workload: Workload): Machine {
  const machine = make(workload);
  const kernel = KERNELS.find(({ name }) => name === workload.image);
  const file = (name: string) => readFileSync(join(ROOT, name));
  machine.boot({
    name: workload.image,
    image: kernel ? assemble(kernel) : file(workload.image),
    commandLine: '',
    modules: (workload.guests ?? []).map((name) => ({ name, bytes: file(name), commandLine: name })),
  });
  if (workload.input) machine.serial.input(new TextEncoder().encode(workload.input));
  return machine;
}

const bootOf = ({ image, cpus = 1, devices = [], iommu = false }: Workload): RecordedBoot => ({
  image: { name: image, path: image, hash: hashOf(new TextEncoder().encode(image)) },
  commandLine: '',
  format: 'auto',
  modules: [],
  disks: [],
  machine: { memory: MEMORY, cpuModel: 'westmere', cpus, vmx: true, iommu, devices },
});

/** SEED=… repeats a run that has failed. */
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

describe(`snapshots, seed ${seed}`, function () {
  this.timeout(60_000);

  for (const workload of WORKLOADS) {
    it(`go on as the run that was not interrupted: ${workload.name}`, async () => {
      const random = randomNumbers(seed);
      const original = boot(workload);
      for (let round = 0; round < 3; round++) {
        original.run(1 + random(workload.length >> 2));
        const hash = stateHash(original);
        const file = await formatSnapshot(takeSnapshot(original, bootOf(workload)));
        assert.equal(stateHash(original), hash, 'taking it changes nothing');
        const snapshot = await parseSnapshot(file);
        assert.equal(snapshot.instructions, original.instructions);
        const copies = [make(workload), make(workload, false)];
        // One machine has done something else before: nothing of that may be left.
        const used = boot(workload);
        used.run(random(workload.length));
        for (const copy of [...copies, used]) {
          restoreSnapshot(copy, snapshot);
          assert.equal(stateHash(copy), hash, `at ${snapshot.instructions}`);
        }
        const further = 1 + random(workload.length >> 2);
        const stop = original.run(further);
        for (const copy of [...copies, used]) {
          assert.deepEqual(copy.run(further), stop);
          assert.equal(stateHash(copy), stateHash(original), `from ${snapshot.instructions}, ${further} further`);
        }
      }
    });
  }

  it('keep what was written to disks', async () => {
    const workload = { name: '', length: 0, image: 'bench/workloads/a_int.elf', devices: ['virtio-blk,file=disk'] };
    type Outside = { readonly platform: { readonly devices: readonly { model: unknown }[] } };
    const machine = make(workload);
    const outside = machine.rewindable.saveOutside() as Outside;
    const [disk] = outside.platform.devices;
    assert.ok(disk);
    const written = new Map([[1, Uint8Array.from({ length: 4096 }, (_, at) => at ^ 0x55)]]);
    disk.model = written;
    machine.rewindable.restoreOutside(outside);
    const snapshot = await parseSnapshot(await formatSnapshot(takeSnapshot(machine, bootOf(workload))));
    const copy = make(workload);
    restoreSnapshot(copy, snapshot);
    assert.deepEqual((copy.rewindable.saveOutside() as Outside).platform.devices[0]?.model, written);
  });

  it('are where a history begins anew', async () => {
    const [workload] = WORKLOADS as [Workload];
    const machine = boot(workload);
    const history = new History(machine.rewindable, { interval: 20_000 });
    history.run(100_000);
    const snapshot = await parseSnapshot(await formatSnapshot(takeSnapshot(machine, bootOf(workload))));
    history.run(200_000);
    const later = { at: history.position, hash: stateHash(machine) };
    restoreSnapshot(machine, snapshot);
    history.beginAnew();
    assert.equal(history.start.instructions, 100_000);
    assert.equal(history.isInPast, false);
    assert.equal(history.stepBack(), false);
    history.run(200_000);
    assert.deepEqual({ at: history.position, hash: stateHash(machine) }, later);
    history.goTo(history.start);
    assert.equal(stateHash(machine), snapshot.hash);
  });

  it('are refused with the reason', async () => {
    const [workload] = WORKLOADS as [Workload];
    const file = await formatSnapshot(takeSnapshot(boot(workload), bootOf(workload)));
    const changed = (at: number, byte: number): Uint8Array =>
      Uint8Array.from(file, (was, i) => (i === at ? byte : was));
    const cases: readonly (readonly [Uint8Array, RegExp])[] = [
      [Uint8Array.of(0x7f, 0x45), /no snapshot of VMXray; make one with/],
      [file.subarray(0, 20), /ends after 20 bytes/],
      [file.subarray(0, file.length - 1), new RegExp(`has ${file.length - 1} bytes, and should have ${file.length};`)],
      [changed(8, 99), /its version is 99, and this VMXray reads 1; use the VMXray that made it/],
      [changed(file.length - 9, 1 + (file.at(-9) ?? 0)), /damaged: its checksum is another one/],
      [changed(60, 1 + (file.at(60) ?? 0)), /damaged: its checksum is another one/],
    ];
    for (const [bytes, message] of cases) {
      await assert.rejects(
        parseSnapshot(bytes),
        (error) => error instanceof SnapshotError && message.test(error.message),
      );
    }
  });

  it('fit only the machine and image that they are of', () => {
    const [first, , devices] = WORKLOADS as [Workload, Workload, Workload];
    const saved = bootOf(first);
    checkBoot(saved, bootOf(first));
    assert.throws(() => checkBoot(saved, bootOf(devices)), /of another image: examples.first-vmm.*hash/);
    const other = { ...saved, machine: { ...saved.machine, memory: 2 * MEMORY } };
    assert.throws(
      () => checkBoot(saved, other),
      /had memory = 16777216, and this one has 33554432; make them the same/,
    );
    const more = { ...saved, machine: { ...saved.machine, devices: ['edu'] } };
    assert.throws(() => checkBoot(saved, more), /had devices = none, and this one has edu/);
  });
});
