/**
 * A real VS Code without a desktop: the server and workbench that the npm package code-server carries. It is kept in
 * the user's cache folder, 600 MB, shared by all clones.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const PACKAGE = join(import.meta.dirname, '../test/vscode/server/package.json');

/** Settings of its user: nothing that asks, advertises or calls out. */
const SETTINGS = {
  'chat.disableAIFeatures': true,
  'extensions.ignoreRecommendations': true,
  'git.openRepositoryInParentFolders': 'never',
  'remote.autoForwardPorts': false,
  'telemetry.telemetryLevel': 'off',
  'update.mode': 'none',
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'workbench.startupEditor': 'none',
  'workbench.tips.enabled': false,
};

/** How long the server may take to listen, in milliseconds. */
const START_LIMIT = 60_000;

export interface ServerOptions {
  /** 0 takes a free one. */
  readonly port: number;
  /** Asked for by the page; undefined only for tests, which a browser without a token drives. */
  readonly connectionToken?: string;
  /** Where VS Code keeps settings and logs. */
  readonly userData: string;
  /** Installed extensions. */
  readonly extensions: string;
  /** Lets a page name an extension under development and its tests. */
  readonly testDriver?: boolean;
  /** More settings of VS Code, by their names. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

export interface Server {
  readonly port: number;
  readonly process: ChildProcess;
}

function installedVersion(): string {
  const manifest: { dependencies: Record<string, string> } = JSON.parse(readFileSync(PACKAGE, 'utf8'));
  return manifest.dependencies['code-server'] ?? '';
}

function npmInstall(folder: string, args: readonly string[]): void {
  const all = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...args];
  const result = spawnSync('npm', all, { cwd: folder, stdio: 'inherit', shell: process.platform === 'win32' });
  if (result.status !== 0) throw new Error(`npm ${all.join(' ')} failed in ${folder}`);
}

/**
 * Installs the server unless the cache has it. Its native modules are optional, so no install script runs.
 * @returns the folder of the VS Code inside
 */
function installServer(): string {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'vmxray');
  const folder = join(cache, `code-server-${installedVersion()}`);
  const vscode = 'node_modules/code-server/lib/vscode';
  if (!existsSync(folder)) {
    console.log(`[set-up] installing a VS Code server (600 MB) in ${folder}`);
    mkdirSync(cache, { recursive: true });
    // Built beside its place and moved there when whole, so that an interrupted install is never taken for one.
    const building = mkdtempSync(`${folder}-`);
    copyFileSync(PACKAGE, join(building, 'package.json'));
    npmInstall(building, []);
    npmInstall(join(building, vscode), ['--omit=dev']);
    npmInstall(join(building, vscode, 'extensions'), ['--omit=dev']);
    renameSync(building, folder);
  }
  return join(folder, vscode);
}

function listen(server: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let output = '';
    const timer = setTimeout(() => reject(new Error(`the VS Code server does not listen:\n${output}`)), START_LIMIT);
    const read = (chunk: Buffer): void => {
      output += chunk.toString();
      const port = /Extension host agent listening on (\d+)/.exec(output)?.[1];
      if (!port) return;
      clearTimeout(timer);
      resolve(Number(port));
    };
    server.stdout?.on('data', read);
    server.stderr?.on('data', read);
    server.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`the VS Code server ended with ${code}:\n${output}`));
    });
  });
}

function writeSettings(folder: string, settings: object): void {
  const file = join(folder, 'settings.json');
  if (existsSync(file)) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, JSON.stringify(settings, undefined, 2));
}

/** Starts the server on the loopback interface; the caller ends its process. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const vscode = installServer();
  writeSettings(join(options.userData, 'User'), { ...SETTINGS, ...options.settings });
  const token = options.connectionToken
    ? ['--connection-token', options.connectionToken]
    : ['--without-connection-token'];
  const args = ['--host', '127.0.0.1', '--port', String(options.port), ...token, '--accept-server-license-terms'];
  const folders = ['--user-data-dir', options.userData, '--extensions-dir', options.extensions];
  const quiet = ['--telemetry-level', 'off', '--disable-workspace-trust'];
  const driver = options.testDriver ? ['--enable-smoke-test-driver'] : [];
  const program = join(vscode, 'out/server-main.js');
  const server = spawn(process.execPath, [program, ...args, ...folders, ...quiet, ...driver], { stdio: 'pipe' });
  try {
    return { port: await listen(server), process: server };
  } catch (error) {
    server.kill();
    throw error;
  }
}
