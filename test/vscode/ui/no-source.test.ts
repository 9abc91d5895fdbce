/** A program of which nothing is known but its bytes: VS Code shows its registers and steps all the same. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { elf64 } from '../../dap/sample.ts';
import { story } from './story.ts';

/** mov eax, 7; mov ecx, eax; jmp $ */
const CODE = [0xb8, 7, 0, 0, 0, 0x89, 0xc1, 0xeb, 0xfe];
/** elf64 puts the code behind its headers. */
const START = 0x10_0078;
const hex = (address: number): string => `0x${address.toString(16)}`;

const folder = mkdtempSync(join(tmpdir(), 'vmxray-ui-no-source-'));
const configuration = { name: 'no source', type: 'vmxray', request: 'launch', program: join(folder, 'code.elf') };
mkdirSync(join(folder, '.vscode'));
writeFileSync(
  join(folder, '.vscode/launch.json'),
  JSON.stringify({ version: '0.2.0', configurations: [configuration] }),
);
writeFileSync(join(folder, 'README.md'), '# No source\n');
writeFileSync(join(folder, 'code.elf'), elf64(CODE));

story('a person who debugs a program without sources', folder, (window) => {
  after(() => rmSync(folder, { recursive: true }));

  it('presses F5, and finds the place selected and its registers shown', async () => {
    await window().startDebugging();
    await window().selectedFrame(hex(START)).waitFor();
    await window().page.getByRole('tab', { name: 'Disassembly', selected: true }).waitFor();
    await window()
      .row(/^rcx.*0x0000000000000000/)
      .waitFor();
    await window().screenshot('no-source-1-entry');
  });

  it('steps, and is at the next instruction each time', async () => {
    for (const length of [5, 7]) {
      await window().press('F10');
      await window()
        .selectedFrame(hex(START + length))
        .waitFor();
    }
    await window()
      .row(/^rcx.*0x0000000000000007/)
      .waitFor();
    await window().screenshot('no-source-2-stepped');
  });

  it('goes back, by the toolbar', async () => {
    await window().toolbar('Step Back');
    await window().inPast().waitFor();
    await window()
      .row(/^rcx.*0x0000000000000000/)
      .waitFor();
  });
});
