/**
 * Installs what a task needs and is missing: npm packages, the Node 24 that runs the TypeScript, Debian packages.
 * Plain JavaScript without dependencies, because it runs under the user's Node 20 before anything is installed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/**
 * Commands that tests call, and files that they read → the Debian packages that bring them. gcc brings ld, nm, objcopy
 * and the like; Chromium draws no text without a font. What is large and only adds to what others test is not here:
 * clang and Rust's compiler. Tests that need them are skipped where they are missing.
 */
const DEBIAN_PACKAGES = {
  gcc: ['gcc', 'libc6-dev'],
  'g++': ['g++'],
  dwz: ['dwz'],
  gdb: ['gdb'],
  make: ['make'],
  nasm: ['nasm'],
  chromium: ['chromium', 'fonts-dejavu-core'],
  'grub-mkrescue': ['grub-common'],
  '/usr/lib/grub/i386-pc': ['grub-pc-bin'],
  xorriso: ['xorriso'],
  '/usr/share/seabios/bios-256k.bin': ['seabios'],
};
/** All of them. */
export const TEST_NEEDS = Object.keys(DEBIAN_PACKAGES);

/** A set-up step that cannot go on: the message says what is missing and what to do. */
export class SetupError extends Error {}

function say(text) {
  console.log(`[set-up] ${text}`);
}

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit', ...options });
  if (result.error) throw new SetupError(`${command} cannot be started: ${result.error.message}`);
  if (result.status !== 0) throw new SetupError(`${[command, ...args].join(' ')} failed; its messages are above.`);
}

/** npm's own program when npm started us (so that its version stays the user's), else npm from the PATH. */
function npm(args) {
  const program = process.env.npm_execpath;
  if (program?.endsWith('.js')) run(process.execPath, [program, ...args]);
  else run('npm', args, { shell: process.platform === 'win32' });
}

function readPackages(lockFile) {
  return JSON.parse(readFileSync(lockFile, 'utf8')).packages;
}

/** The first package of package-lock.json that node_modules lacks or has in another version; undefined when none. */
function findMissingPackage() {
  const installedFile = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(installedFile)) return 'node_modules';
  const installed = readPackages(installedFile);
  const wanted = Object.entries(readPackages(join(ROOT, 'package-lock.json')));
  // Optional packages are the other platforms' binaries, which npm leaves out.
  const missing = wanted.find(([path, entry]) => path && !entry.optional && installed[path]?.version !== entry.version);
  return missing?.[0];
}

/** @returns the path of Node 24's binary, as the npm package `node` lays it down. */
export function node24() {
  return join(ROOT, 'node_modules/node/bin', process.platform === 'win32' ? 'node.exe' : 'node');
}

/**
 * Installs the locked npm packages. No install script runs: whether npm would run them depends on its version, and the
 * only one that matters, the one that fetches Node 24's binary, is called here by name.
 */
export function installPackages() {
  const missing = findMissingPackage();
  if (missing) {
    say(`${missing} is missing or has another version: npm ci`);
    npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  }
  if (!existsSync(node24())) {
    say('fetching Node 24, which runs the TypeScript sources');
    run(process.execPath, ['installArchSpecificPackage.js'], { cwd: join(ROOT, 'node_modules/node') });
    // npm linked the package's programs when there was none yet.
    npm(['rebuild', 'node', '--ignore-scripts', '--no-audit', '--no-fund']);
  }
}

/** @param {string} needed a command, or the whole path of a file */
function isThere(needed) {
  if (isAbsolute(needed)) return existsSync(needed);
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, needed)));
}

/**
 * @param {readonly string[]} needs keys of DEBIAN_PACKAGES
 * @throws {SetupError} naming what is missing when it cannot be installed from here
 */
export function installNeeds(needs) {
  const missing = needs.filter((needed) => !isThere(needed));
  if (missing.length === 0) return;
  const packages = missing.flatMap((needed) => DEBIAN_PACKAGES[needed]);
  const isRoot = process.getuid?.() === 0;
  if (!isRoot || !isThere('apt-get')) {
    throw new SetupError(
      `Missing: ${missing.join(', ')}. On Debian: sudo apt-get install ${packages.join(' ')}. Then start this again.`,
    );
  }
  say(`${missing.join(', ')} missing: apt-get install ${packages.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-q'], { env });
  run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...packages], { env });
}
