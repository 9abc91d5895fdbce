import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as vscode from 'vscode';
import { inWorkspaceFolder } from '../../../extension/configuration/paths.ts';

/** Tries to start a session while error messages are caught. @returns what was said to the user. */
async function messagesOf(configuration: Partial<vscode.DebugConfiguration>): Promise<string[]> {
  const said: string[] = [];
  const original = vscode.window.showErrorMessage;
  const catching = async (message: string) => {
    said.push(message);
    return undefined;
  };
  Object.assign(vscode.window, { showErrorMessage: catching });
  try {
    const [folder] = vscode.workspace.workspaceFolders ?? [];
    const started = await vscode.debug.startDebugging(folder, {
      type: 'vmxray',
      request: 'launch',
      name: 'test',
      ...configuration,
    });
    assert.equal(started, false);
  } finally {
    Object.assign(vscode.window, { showErrorMessage: original });
  }
  return said;
}

describe('launch configurations', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-launch-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('without the image are refused with its path', async () => {
    const [message = ''] = await messagesOf({ program: '/nowhere/vmm.elf' });
    assert.match(message, /\/nowhere\/vmm\.elf .* does not exist/);
  });

  it('with a folder, an empty file or an ELF file for Arm are refused in words', async () => {
    const empty = join(folder, 'empty.elf');
    writeFileSync(empty, '');
    assert.match((await messagesOf({ program: empty }))[0] ?? '', /is empty/);
    assert.match((await messagesOf({ program: folder }))[0] ?? '', /is a folder/);
    const arm = join(folder, 'arm.elf');
    const header = Buffer.alloc(64);
    header.write('\x7fELF\x02\x01\x01', 'latin1');
    header.writeUInt16LE(183, 18);
    writeFileSync(arm, header);
    assert.match((await messagesOf({ program: arm }))[0] ?? '', /ELF file for AArch64/);
  });

  it('whose guest is missing are refused, with the attribute’s name', async () => {
    const [message = ''] = await messagesOf({
      program: inWorkspaceFolder('first-vmm.elf'),
      guests: [{ name: 'guest', program: 'none.elf' }],
    });
    assert.match(message, /none\.elf \("guests" of the launch configuration\) does not exist/);
  });
});
