/**
 * `npm start`: builds, then opens the sample in VS Code with VMXray loaded; press F5 there. The desktop `code` is used
 * when it is on the PATH, else a VS Code server at a printed address. `npm start -- --headless` debugs the sample
 * without a window and prints what happens.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { parseArgs } from 'node:util';
import { debugHeadless } from './headless.ts';
import { startServer } from './vscode-server.ts';

const ROOT = join(import.meta.dirname, '..');
const SAMPLE = join(ROOT, 'examples/first-vmm');

/** @returns false when it failed, which esbuild has explained. */
function build(): boolean {
  console.log('[build] bundling the extension, the adapter and the command line');
  const { status } = spawnSync(process.execPath, [join(ROOT, 'esbuild.mjs')], { cwd: ROOT, stdio: 'inherit' });
  return status === 0;
}

function hasDesktop(): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, 'code')));
}

function openDesktop(): void {
  console.log(`Opening ${SAMPLE} in VS Code. Press F5 there.`);
  const args = [`--extensionDevelopmentPath=${ROOT}`, SAMPLE];
  spawnSync('code', args, { stdio: 'inherit', shell: process.platform === 'win32' });
}

/** Serves VS Code until it is interrupted. The token in the address keeps other users of this machine out. */
async function openServer(port: number): Promise<void> {
  const home = join(ROOT, '.cache/vscode');
  const extensions = join(home, 'extensions');
  const link = join(extensions, 'vmxray');
  mkdirSync(extensions, { recursive: true });
  if (!existsSync(link)) symlinkSync(ROOT, link, 'junction');
  const connectionToken = randomBytes(16).toString('hex');
  const server = await startServer({ port, connectionToken, userData: join(home, 'data'), extensions });
  const query = new URLSearchParams({ folder: SAMPLE, tkn: connectionToken });
  console.log(`VS Code with the sample: http://127.0.0.1:${server.port}/?${query}`);
  console.log('Open the address in a browser and press F5. Ctrl+C ends the server.');
  process.once('SIGINT', () => server.process.kill());
  process.once('SIGTERM', () => server.process.kill());
  await new Promise((resolve) => server.process.once('exit', resolve));
}

const { values } = parseArgs({
  options: { headless: { type: 'boolean' }, port: { type: 'string', default: '0' }, server: { type: 'boolean' } },
});
if (!build()) process.exitCode = 1;
else if (values.headless) process.exitCode = await debugHeadless(SAMPLE);
else if (hasDesktop() && !values.server) openDesktop();
else await openServer(Number(values.port));
