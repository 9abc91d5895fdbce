#!/usr/bin/env node
/**
 * Stands in for a desktop VS Code: takes the arguments that @vscode/test-electron gives to it, and runs the tests in
 * the VS Code server with a headless browser as its window. Exits with the tests' status. What VS Code and the tests
 * print goes into a log among the test artefacts: VS Code alone prints hundreds of lines about services that are not
 * there.
 */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { format, parseArgs } from 'node:util';
import { type Server, startServer } from '../../scripts/vscode-server.ts';
import { artifact } from '../project-files.ts';
import { launchBrowser, remoteUri, workbenchUrl } from './browser.ts';

/** The whole suite's limit, in milliseconds. */
const LIMIT = 300_000;

const LOG = artifact('vscode-console.log');

interface Run {
  readonly folder: string;
  readonly development: string;
  readonly tests: string;
}

function parseRun(): Run {
  const { values, positionals } = parseArgs({ strict: false, allowPositionals: true });
  const { extensionDevelopmentPath, extensionTestsPath } = values;
  const [folder] = positionals;
  if (typeof extensionDevelopmentPath !== 'string' || typeof extensionTestsPath !== 'string' || !folder) {
    throw new Error('usage: launcher --extensionDevelopmentPath=PATH --extensionTestsPath=PATH FOLDER');
  }
  return { folder, development: extensionDevelopmentPath, tests: extensionTestsPath };
}

async function runInBrowser({ port }: Server, run: Run): Promise<number> {
  const browser = await launchBrowser();
  try {
    const page = await browser.newPage();
    const exit = new Promise<number>((resolve, reject) => {
      setTimeout(() => reject(new Error(`the tests took more than ${LIMIT / 1000} s`)), LIMIT).unref();
      page.exposeFunction('codeAutomationExit', resolve).catch(reject);
      page
        .exposeFunction('codeAutomationLog', (_type: string, args: unknown[]) => {
          appendFileSync(LOG, `${format(...args)}\n`);
        })
        .catch(reject);
    });
    const payload = [
      ['extensionDevelopmentPath', remoteUri(port, run.development)],
      ['extensionTestsPath', remoteUri(port, run.tests)],
      ['skipWelcome', 'true'],
    ] as const;
    await page.goto(workbenchUrl(port, run.folder, payload));
    return await exit;
  } finally {
    await browser.close();
  }
}

writeFileSync(LOG, '');
const home = mkdtempSync(join(tmpdir(), 'vmxray-vscode-'));
const folders = { userData: join(home, 'data'), extensions: join(home, 'extensions') };
const server = await startServer({ port: 0, ...folders, testDriver: true });
try {
  process.exitCode = await runInBrowser(server, parseRun());
} finally {
  server.process.kill();
  rmSync(home, { recursive: true, force: true });
}
