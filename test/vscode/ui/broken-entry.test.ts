/** The sample whose VM entry fails: what VS Code says of it, and the repair. */
import { join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { story } from './story.ts';

story('a person who debugs broken-entry', join(ROOT, 'examples/broken-entry'), (window) => {
  it('presses F5 and reads which check failed, on which field, and where the manual says so', async () => {
    await window().startDebugging();
    const box = await window().stopExplanation('launch_guest');
    await box.getByText('HOST_TR_SELECTOR must not be 0').first().waitFor();
    await box.getByText('SDM Vol. 3C').first().waitFor();
    await window().screenshot('broken-entry-1-failed');
  });

  it('corrects the field and has the checks made again', async () => {
    await window().setSection('VMCS', true);
    await window().expand(/^Host state/);
    await window().editRow(await window().findRow('VMCS', 'HOST_TR_SELECTOR'), '0x18');
    await window()
      .row(/^HOST_TR_SELECTOR 0x18/)
      .waitFor();
    await window().command('VMXray: Check VM Entry Now');
    await window().preview().getByText('VM entry would succeed').waitFor();
    await window().screenshot('broken-entry-2-corrected');
  });
});
