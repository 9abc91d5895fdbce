/** Linux with three consoles in VS Code: COM1, COM2 and hvc0 are a terminal each, to be clicked and typed into. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConsoleFiles } from '../../linux/console-files.ts';
import { debianFiles } from '../../linux/debian.ts';
import { story } from './story.ts';

/** From F5 to the shells' prompts, in milliseconds. */
const BOOT = 120_000;
const NAME = 'Consoles';
const CONSOLES = [
  { terminal: `Serial: ${NAME}`, prompt: 'com1#', device: '/dev/ttyS0', number: 6 },
  { terminal: `COM2: ${NAME}`, prompt: 'com2#', device: '/dev/ttyS1', number: 7 },
  { terminal: `virtio-console: ${NAME}`, prompt: 'hvc0#', device: '/dev/hvc0', number: 8 },
] as const;

function makeWorkspace({ folder, launch }: ConsoleFiles): string {
  const configuration = { name: NAME, type: 'vmxray', request: 'launch', ...launch };
  mkdirSync(join(folder, '.vscode'));
  const contents = { version: '0.2.0', configurations: [configuration] };
  writeFileSync(join(folder, '.vscode/launch.json'), JSON.stringify(contents));
  writeFileSync(join(folder, 'README.md'), '# Linux with three consoles\n');
  return folder;
}

describe('Linux with three consoles', () => {
  let files: ConsoleFiles | undefined;
  let folder = '';

  before(function () {
    const found = debianFiles();
    if (typeof found === 'string') {
      console.log(`      skipped: ${found}`);
      return this.skip();
    }
    files = new ConsoleFiles(found);
    folder = makeWorkspace(files);
  });
  after(() => files?.remove());

  story(
    'a person at three consoles of one guest',
    () => folder,
    (window) => {
      it('presses F5, and sees a terminal come for each console that says something', async () => {
        await window().startDebugging();
        for (const { terminal } of CONSOLES) await window().terminalTab(terminal).waitFor({ timeout: BOOT });
      });

      for (const { terminal, prompt, device, number } of CONSOLES) {
        it(`clicks ${terminal}, and gets an answer there`, async () => {
          await window().selectTerminal(terminal);
          await window().waitForTerminal(new RegExp(`${prompt}\\s*$`));
          await window().typeInTerminal(`echo $((${number} * 7)) $(tty)`);
          await window().waitForTerminal(new RegExp(`^${number * 7} ${device}\\s+${prompt}\\s*$`, 'm'));
          await window().screenshot(`consoles-${device.slice('/dev/'.length)}`);
        });
      }

      it('pauses, types at hvc0, and sees it taken when the guest goes on', async () => {
        await window().toolbar('Pause');
        await window().page.locator('.debug-toolbar').getByRole('button', { name: 'Continue' }).waitFor();
        await window().selectTerminal(CONSOLES[2].terminal);
        await window().typeInTerminal('echo $((9 * 7))');
        await window().toolbar('Continue');
        await window().waitForTerminal(/^63\s+hvc0#\s*$/m);
        await window().screenshot('consoles-continued');
      });

      it('ends the session; the terminals stay and say so', async () => {
        await window().toolbar('Stop');
        for (const { terminal } of CONSOLES) {
          await window().selectTerminal(terminal);
          await window().waitForTerminal(/\[session ended\]/);
        }
        await window().screenshot('consoles-ended');
      });
    },
  );
});
