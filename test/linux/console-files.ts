/** Linux with a shell on each of its consoles: COM1, COM2, and a virtio console, which is the kernel's own, too. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import type { DebianFiles } from './debian.ts';
import { makeInitramfs, program } from './initramfs.ts';
import { CONSOLE_MODULES } from './sessions.ts';

/** Process 1. `console=hvc0` waits for the driver. */
const CONSOLES = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
export PATH=/bin
for m in ${CONSOLE_MODULES.join(' ')}; do insmod /lib/$m.ko; done
PS1='com2# ' setsid -c sh -i < /dev/ttyS1 > /dev/ttyS1 2>&1 &
PS1='hvc0# ' setsid -c sh -i < /dev/hvc0 > /dev/hvc0 2>&1 &
export PS1='com1# '
exec setsid -c sh -i < /dev/ttyS0 > /dev/ttyS0 2>&1
`;

/** Files in a folder of their own. */
export class ConsoleFiles {
  readonly folder = mkdtempSync(join(tmpdir(), 'vmxray-consoles-'));
  readonly launch: LaunchArguments;

  constructor(debian: DebianFiles) {
    const modules = CONSOLE_MODULES.map((name) => program(`lib/${name}.ko`, debian.module(name)));
    const script = program('bin/consoles', new TextEncoder().encode(CONSOLES));
    const [kernel, initramfs] = [join(this.folder, 'vmlinuz'), join(this.folder, 'initramfs')];
    writeFileSync(kernel, debian.kernel);
    writeFileSync(initramfs, makeInitramfs(debian.busybox, [script, ...modules]));
    this.launch = {
      program: kernel,
      modules: [initramfs],
      args: 'console=ttyS0 console=hvc0 rdinit=/bin/consoles',
      machine: { devices: ['virtio-console'] },
      stopOn: 'none',
    };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
