import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import type { FromWorker, ToWorker } from '../../debug-adapter/protocol.ts';
import { launchBrowser } from '../vscode/browser.ts';
import { firstVmm, ROOT } from './sample.ts';

/** What the page below offers to the test. */
interface Page {
  adapter: Worker;
  messages: FromWorker[];
}

describe('the adapter in a browser’s worker', () => {
  let browser: Browser;

  before(async () => {
    execFileSync(process.execPath, ['esbuild.mjs', 'web/adapter-worker.js'], { cwd: ROOT });
    browser = await launchBrowser();
  });
  after(() => browser?.close());

  it('debugs the sample with nothing but messages', async () => {
    const page = await browser.newPage();
    const script = readFileSync(join(ROOT, 'dist/web/adapter-worker.js'), 'utf8');
    await page.evaluate((source) => {
      const scope = globalThis as unknown as Page;
      scope.messages = [];
      scope.adapter = new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
      scope.adapter.onmessage = (event) => scope.messages.push(event.data);
    }, script);

    const post = (message: ToWorker): Promise<void> =>
      page.evaluate((data) => (globalThis as unknown as Page).adapter.postMessage(data), message);
    /** Files come as plain numbers: bytes do not survive the way into the page. */
    const postFile = (id: number, bytes: readonly number[]): Promise<void> =>
      page.evaluate(
        (file) =>
          (globalThis as unknown as Page).adapter.postMessage({
            type: 'file',
            id: file.id,
            bytes: new Uint8Array(file.bytes),
          }),
        { id, bytes },
      );
    const take = (): Promise<FromWorker[]> => page.evaluate(() => (globalThis as unknown as Page).messages.splice(0));

    let sequence = 1;
    const send = (command: string, args: object): Promise<void> =>
      post({ type: 'dap', message: { seq: sequence++, type: 'request', command, arguments: args } as never });
    /** Answers the worker's questions for files until a message that fits comes. */
    async function until(fits: (text: string) => boolean): Promise<string> {
      for (;;) {
        for (const message of await take()) {
          if (message.type === 'readFile') await postFile(message.id, [...readFileSync(message.path)]);
          else if (fits(JSON.stringify(message.message))) return JSON.stringify(message.message);
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }

    await send('initialize', { adapterID: 'vmxray' });
    await send('launch', firstVmm({ stopOn: 'none', breakOnVmExit: ['CPUID'] }));
    await until((text) => text.includes('"initialized"'));
    await send('configurationDone', {});
    assert.match(await until((text) => text.includes('"stopped"')), /VM exit: CPUID/);
    await send('stackTrace', { threadId: 1 });
    assert.match(await until((text) => text.includes('"stackTrace"')), /look_at_processor/);
    await send('vmxray/setVmExitStops', { reasons: [] });
    await send('continue', { threadId: 1 });
    assert.match(await until((text) => text.includes('"exited"')), /"exitCode":1/);
  });
});
