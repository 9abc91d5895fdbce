// A GRUB image on a disk, booted by Debian's SeaBIOS. Expected: what SeaBIOS, GRUB and the kernel print under QEMU.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { memoryImage } from '../../sim-core/platform/virtio/disk.ts';

const SEABIOS = '/usr/share/seabios/bios-256k.bin';
const KERNEL = new URL('../../bench/workloads/n_null.elf', import.meta.url).pathname;
const INSTRUCTION_LIMIT = 2e9;

/** An ISO image that also starts from a disk, with a menu of one entry. */
function makeGrubImage(menu: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-grub-'));
  try {
    mkdirSync(join(folder, 'image/boot/grub'), { recursive: true });
    copyFileSync(KERNEL, join(folder, 'image/boot/kernel'));
    writeFileSync(join(folder, 'image/boot/grub/grub.cfg'), menu);
    execFileSync('grub-mkrescue', ['-o', join(folder, 'image.iso'), join(folder, 'image')], { stdio: 'pipe' });
    return new Uint8Array(readFileSync(join(folder, 'image.iso')));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('SeaBIOS', function () {
  this.timeout(120_000);

  before(function () {
    if (existsSync(SEABIOS)) return;
    console.log(`      skipped: ${SEABIOS} is not there (Debian package seabios)`);
    this.skip();
  });

  it('finds the machine, and boots a kernel by GRUB from a virtio disk', () => {
    const image = makeGrubImage('set timeout=0\nmenuentry kernel { multiboot /boot/kernel; boot }\n');
    const devices = [{ kind: 'virtio-blk', disk: memoryImage(image) }] as const;
    const machine = createMachine({ memory: 128 * 2 ** 20, devices });
    let serial = '';
    let log = '';
    machine.serial.onOutput = (byte) => {
      serial += String.fromCharCode(byte);
    };
    machine.onDebugConsole = (byte) => {
      log += String.fromCharCode(byte);
    };
    const bios = new Uint8Array(readFileSync(SEABIOS));
    machine.boot({ name: 'SeaBIOS', image: bios, commandLine: '', modules: [], format: 'firmware' });
    const stop = machine.run(INSTRUCTION_LIMIT);
    assert.match(log, /Running on QEMU \(q35\)\nFound QEMU fw_cfg\n/);
    assert.match(log, /virtio-blk at 00:01\.0[\s\S]*using modern \(1\.0\) virtio mode/);
    assert.match(serial, /GRUB loading/);
    assert.match(serial, /@START [\s\S]*@END /);
    assert.deepEqual(stop, { kind: 'debugExit', value: 0 });
  });
});
