/** The initial RAM file system of the Linux tests: busybox, a device for the console, a script that starts a shell. */

import { type CpioEntry, writeCpio } from './cpio.ts';

const FOLDERS = ['bin', 'dev', 'proc', 'sys', 'lib', 'tmp'] as const;

/** What runs as process 1: the shell's prompt is the sign that the system is up. */
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
export PATH=/bin PS1='guest# '
exec setsid -c sh -i
`;

const folder = (path: string): CpioEntry => ({ path, mode: 0o040755 });
export const program = (path: string, bytes: Uint8Array): CpioEntry => ({ path, mode: 0o100755, bytes });

/** @param extra further files, in folders that exist */
export function makeInitramfs(busybox: Uint8Array, extra: readonly CpioEntry[] = []): Uint8Array {
  return writeCpio([
    ...FOLDERS.map(folder),
    { path: 'dev/console', mode: 0o020600, device: [5, 1] },
    program('bin/busybox', busybox),
    program('init', new TextEncoder().encode(INIT)),
    ...extra,
  ]);
}
