import assert from 'node:assert/strict';
import * as vscode from 'vscode';

describe('the extension', () => {
  it('is found under its name', () => {
    const extension = vscode.extensions.getExtension('vmxray.vmxray');
    assert.equal(extension?.packageJSON.displayName, 'VMXray');
  });

  it('activates', async () => {
    const extension = vscode.extensions.getExtension('vmxray.vmxray');
    await extension?.activate();
    assert.equal(extension?.isActive, true);
  });
});
