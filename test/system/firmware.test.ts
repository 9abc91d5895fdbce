// Disks and discs, booted by Debian's SeaBIOS. Expected: what SeaBIOS, GRUB and the kernel print under QEMU.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';
import type { DeviceConfig } from '../../sim-core/platform/devices.ts';
import { memoryImage } from '../../sim-core/platform/virtio/disk.ts';
import { assemble } from '../support/nasm.ts';

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

/** Boot code of an El Torito image: reads block 16 by INT 13h, and sends the volume descriptor's mark to COM1. */
const BOOT_CODE = `
        org     0x7c00
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00
        mov     si, packet
        mov     ah, 0x42
        int     0x13
        mov     al, ah
        jc      fail
        mov     si, 0x8001
        mov     cx, 5
        mov     dx, 0x3f8
        rep     outsb
        xor     al, al
fail:   out     0xf4, al
        hlt
packet: db      16, 0
        dw      1, 0x8000, 0
        dq      16
        times   2048 - ($ - $$) db 0`;

/** An ISO image that starts from a CD-ROM drive only: El Torito without emulation, no partition table. */
function makeElToritoImage(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-eltorito-'));
  try {
    mkdirSync(join(folder, 'image'));
    writeFileSync(join(folder, 'image/boot.bin'), assemble(BOOT_CODE));
    const boot = ['-b', 'boot.bin', '-no-emul-boot', '-boot-load-size', '4'];
    const output = join(folder, 'image.iso');
    execFileSync('xorriso', ['-as', 'mkisofs', '-o', output, ...boot, join(folder, 'image')], { stdio: 'pipe' });
    return new Uint8Array(readFileSync(output));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface Outcome {
  readonly serial: string;
  readonly log: string;
  readonly stop: StopReason;
}

function boot(device: DeviceConfig): Outcome {
  const machine = createMachine({ memory: 128 * 2 ** 20, devices: [device] });
  const text = { serial: '', log: '' };
  machine.serial.onOutput = (byte) => {
    text.serial += String.fromCharCode(byte);
  };
  machine.onDebugConsole = (byte) => {
    text.log += String.fromCharCode(byte);
  };
  const bios = new Uint8Array(readFileSync(SEABIOS));
  machine.boot({ name: 'SeaBIOS', image: bios, commandLine: '', modules: [], format: 'firmware' });
  const stop = machine.run(INSTRUCTION_LIMIT);
  return { ...text, stop };
}

describe('SeaBIOS', function () {
  this.timeout(240_000);
  let grub: Uint8Array = new Uint8Array();

  before(function () {
    if (!existsSync(SEABIOS)) {
      console.log(`      skipped: ${SEABIOS} is not there (Debian package seabios)`);
      this.skip();
    }
    grub = makeGrubImage('set timeout=0\nmenuentry kernel { multiboot /boot/kernel; boot }\n');
  });

  it('finds the machine, and boots a kernel by GRUB from a virtio disk', () => {
    const { serial, log, stop } = boot({ kind: 'virtio-blk', disk: memoryImage(grub) });
    assert.match(log, /Running on QEMU \(q35\)\nFound QEMU fw_cfg\n/);
    assert.match(log, /virtio-blk at 00:01\.0[\s\S]*using modern \(1\.0\) virtio mode/);
    assert.match(serial, /GRUB loading/);
    assert.match(serial, /@START [\s\S]*@END /);
    assert.deepEqual(stop, { kind: 'debugExit', value: 0 });
  });

  it('boots the same image by GRUB from a CD-ROM drive', () => {
    const { serial, log, stop } = boot({ kind: 'ide-cd', disk: memoryImage(grub) });
    assert.match(log, /DVD\/CD \[ata0-0: VMXRAY CD-ROM ATAPI-7 DVD\/CD\]/);
    assert.match(serial, /Booting from DVD\/CD\.\.\.[\s\S]*Welcome to GRUB/);
    assert.match(serial, /@START [\s\S]*@END /);
    assert.deepEqual(stop, { kind: 'debugExit', value: 0 });
  });

  it('boots an image that starts from a CD-ROM only, which stays readable', () => {
    const image = makeElToritoImage();
    assert.deepEqual([...image.subarray(510, 512)], [0, 0], 'no boot sector of a disk');
    const { serial, stop } = boot({ kind: 'ide-cd', disk: memoryImage(image) });
    assert.match(serial, /CD001$/);
    assert.deepEqual(stop, { kind: 'debugExit', value: 0 });
  });

  it('boots from an ATA disk', () => {
    const image = new Uint8Array(2 ** 20);
    image.set(assemble("org 0x7c00\nmov dx, 0x3f8\nmov al, 'D'\nout dx, al\nmov al, 7\nout 0xf4, al\nhlt"));
    image.set([0x55, 0xaa], 510);
    const { serial, log, stop } = boot({ kind: 'ide-hd', disk: memoryImage(image) });
    assert.match(log, /ata0-0: VMXRAY ATA DISK ATA-7 Hard-Disk \(1 MiBytes\)/);
    assert.match(serial, /D$/);
    assert.deepEqual(stop, { kind: 'debugExit', value: 7 });
  });
});
