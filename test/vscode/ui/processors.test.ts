/** A machine with four processors in VS Code: each is a thread, and is stepped for itself. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assemble, KERNELS } from '../../system/kernels.ts';
import { story } from './story.ts';

/** Where processors wait for their start-up IPI. */
const RESET = '0xfffffff0';

const LAUNCH = {
  version: '0.2.0',
  configurations: [
    {
      name: 'Four processors',
      type: 'vmxray',
      request: 'launch',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: VS Code's variable
      program: '${workspaceFolder}/smp.elf',
      machine: { cpus: 4, memory: '64M' },
    },
  ],
};

function workspace(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-processors-'));
  const kernel = KERNELS.find(({ name }) => name === 'smp');
  assert.ok(kernel);
  mkdirSync(join(folder, '.vscode'));
  writeFileSync(join(folder, 'smp.elf'), assemble(kernel));
  writeFileSync(join(folder, 'README.md'), '# Four processors\n');
  writeFileSync(join(folder, '.vscode/launch.json'), JSON.stringify(LAUNCH));
  return folder;
}

describe('four processors', () => {
  const folder = workspace();
  after(() => rmSync(folder, { recursive: true }));

  story('a person who debugs a machine with four processors', folder, (window) => {
    it('presses F5 and sees a thread for each', async () => {
      await window().startDebugging();
      for (const number of [0, 1, 2, 3]) await window().thread(`Processor ${number}`).waitFor();
      await window().screenshot('processors-1-threads');
    });

    it('steps one, while another waits for its start', async () => {
      await window().expandThread('Processor 1');
      await window().frame(RESET).waitFor();
      await window().expandThread('Processor 0');
      const first = window().page.locator('.debug-call-stack .stack-frame').first();
      const before = (await first.locator('.label').innerText()).trim();
      assert.match(before, /^0x1\w+$/);
      await window().press('F11');
      await first.filter({ hasNotText: before }).waitFor();
      await window().frame(RESET).waitFor();
      await window().screenshot('processors-2-stepped');
    });
  });
});
