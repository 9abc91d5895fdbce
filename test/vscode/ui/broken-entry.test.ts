/** The sample whose VM entry fails: what VS Code says of it, and the repair. */
import { join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { Workbench } from './workbench.ts';

describe('a person who debugs broken-entry', function () {
  this.timeout(120_000);
  this.bail(true);
  let vscode: Workbench;

  before(async () => {
    vscode = await Workbench.open(join(ROOT, 'examples/broken-entry'));
  });
  after(() => vscode.close());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') await vscode.screenshot('failed');
  });

  it('presses F5 and reads which check failed, on which field, and where the manual says so', async () => {
    await vscode.startDebugging();
    const widget = vscode.page.locator('.exception-widget');
    await widget.getByText('HOST_TR_SELECTOR must not be 0').first().waitFor();
    await widget.getByText('SDM Vol. 3C').first().waitFor();
    await vscode.screenshot('broken-entry-1-failed');
  });

  it('corrects the field and has the checks made again', async () => {
    await vscode.setSection('VMCS', true);
    await vscode.expand(/^Host state/);
    await vscode.editRow(await vscode.findRow('VMCS', 'HOST_TR_SELECTOR'), '0x18');
    await vscode.row(/^HOST_TR_SELECTOR 0x18/).waitFor();
    await vscode.command('VMXray: Check VM Entry Now');
    await vscode.preview().getByText('VM entry would succeed').waitFor();
    await vscode.screenshot('broken-entry-2-corrected');
  });
});
