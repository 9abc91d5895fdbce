/** Debian's own kernel and busybox, downloaded once into a cache folder outside the repository. */

import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';

const { XDG_CACHE_HOME = join(homedir(), '.cache') } = process.env;
const CACHE = join(XDG_CACHE_HOME, 'vmxray', 'debian');
const META_PACKAGE = 'linux-image-cloud-amd64';

export interface DebianFiles {
  readonly kernel: Uint8Array;
  readonly busybox: Uint8Array;
  /** The kernel's version as `uname -r` tells it. */
  readonly release: string;
  /** A kernel module by its name, as 'kvm-intel'. */
  module(name: string): Uint8Array;
}

const run = (program: string, args: readonly string[], cwd?: string): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...(cwd ? { cwd } : {}) });

/** The package with the kernel of this day, which the meta-package depends on. */
function kernelPackage(): string {
  const found = /Depends: (linux-image-\S+)/.exec(run('apt-cache', ['depends', META_PACKAGE]));
  if (!found?.[1]) throw new Error(`apt-cache knows no package ${META_PACKAGE}: run apt-get update`);
  return found[1];
}

/** Downloads into a folder of its own and renames it at the end, so that an interrupted download leaves nothing. */
function download(): void {
  const folder = `${CACHE}.${process.pid}`;
  mkdirSync(folder, { recursive: true });
  try {
    run('apt-get', ['download', kernelPackage(), 'busybox-static'], folder);
    for (const archive of globSync('*.deb', { cwd: folder })) run('dpkg', ['-x', archive, 'root'], folder);
    writeFileSync(join(folder, 'complete'), '');
    rmSync(CACHE, { recursive: true, force: true });
    renameSync(folder, CACHE);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readOne(pattern: string): Uint8Array {
  const [path, ...others] = globSync(pattern, { cwd: join(CACHE, 'root') });
  if (path === undefined || others.length > 0) throw new Error(`${CACHE}: not one file ${pattern}`);
  return readFileSync(join(CACHE, 'root', path));
}

/** @returns the files, or in words why they cannot be had */
export function debianFiles(): DebianFiles | string {
  if (!existsSync(join(CACHE, 'complete'))) {
    try {
      download();
    } catch (error) {
      return `Debian's kernel cannot be downloaded: ${error instanceof Error ? error.message : error}`;
    }
  }
  return {
    kernel: readOne('boot/vmlinuz-*'),
    busybox: readOne('bin/busybox'),
    release: globSync('lib/modules/*', { cwd: join(CACHE, 'root') }).map((path) => basename(path))[0] ?? '',
    module: (name) => readOne(`lib/modules/*/kernel/**/${name}.ko`),
  };
}
