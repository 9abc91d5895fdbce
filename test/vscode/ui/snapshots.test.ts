/** A machine that is saved and brought back by the commands of VS Code, and a file that is none. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { placeIn, story } from './story.ts';

const SAMPLE = join(ROOT, 'examples/first-vmm');
const GUEST_START = placeIn(SAMPLE, 'guest/entry.S', 'stack_top(%rip)');
const GUEST_CALL = placeIn(SAMPLE, 'guest/guest.c', '\tlook_at_processor();');

story('a person who saves first-vmm and brings it back', SAMPLE, (window) => {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-ui-snapshot-'));
  const file = join(folder, 'guest.vmxsnap');
  const broken = join(folder, 'broken.vmxsnap');
  after(() => rmSync(folder, { recursive: true }));

  it('saves the machine at the guest’s first instruction', async () => {
    await window().toggleBreakpoint(GUEST_CALL.file, GUEST_CALL.line);
    await window().startDebugging();
    await window().stoppedAt(GUEST_START);
    await window().commandWithFile('VMXray: Save Snapshot', file);
    while (!existsSync(file) || statSync(file).size < 1000) await window().page.waitForTimeout(100);
    await window().screenshot('snapshot-1-saved');
  });

  it('goes on, and is back there with the source, the stack and the VMCS of then', async () => {
    await window().runTo('F5', GUEST_CALL);
    await window().commandWithFile('VMXray: Restore Snapshot', file);
    await window().stoppedAt(GUEST_START);
    await window().screenshot('snapshot-2-restored');
    await window().runTo('F5', GUEST_CALL);
  });

  it('says what is wrong with a file that is no snapshot, and stays where it is', async () => {
    writeFileSync(broken, readFileSync(file).subarray(0, 500));
    await window().commandWithFile('VMXray: Restore Snapshot', broken);
    // VS Code shows no toasts to its test driver.
    await window().command('Notifications: Show Notifications');
    const words = 'cannot be restored: the file is damaged';
    await window().page.locator('.notifications-center').getByText(words).first().waitFor();
    await window().screenshot('snapshot-3-refused');
    await window().stoppedAt(GUEST_CALL);
  });
});
