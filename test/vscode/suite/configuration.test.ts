import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as vscode from 'vscode';
import { inWorkspaceFolder } from '../../../extension/configuration/paths.ts';
import { eventually } from './poll.ts';

/** Replaces functions of vscode.window while `action` runs. */
async function answering<T>(answers: Partial<typeof vscode.window>, action: () => PromiseLike<T>): Promise<T> {
  const original = { ...vscode.window };
  Object.assign(vscode.window, answers);
  try {
    return await action();
  } finally {
    for (const name of Object.keys(answers) as (keyof typeof answers)[]) {
      Object.assign(vscode.window, { [name]: original[name] });
    }
  }
}

const TEST = { type: 'vmxray', request: 'launch', name: 'test' } as const;

/** Tries to start a session in vain. @returns what was said to the user. */
async function messagesOf(configuration: Partial<vscode.DebugConfiguration>): Promise<string[]> {
  const said: string[] = [];
  const showErrorMessage = async (message: string) => {
    said.push(message);
    return undefined;
  };
  await answering({ showErrorMessage } as Partial<typeof vscode.window>, async () => {
    const [folder] = vscode.workspace.workspaceFolders ?? [];
    assert.equal(await vscode.debug.startDebugging(folder, { ...TEST, ...configuration }), false);
  });
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

  it('are guessed when nobody has written one', async () => {
    const [workspace] = vscode.workspace.workspaceFolders ?? [];
    assert.equal(await vscode.debug.startDebugging(workspace, { ...TEST, stopOn: 'entry' }), true);
    const session = await eventually(
      () => vscode.debug.activeDebugSession,
      (active) => active !== undefined,
    );
    assert.ok(session);
    const { program, modules, guests } = session.configuration;
    assert.match(program, /^\/.*\/first-vmm\.elf$/);
    assert.deepEqual(guests, [{ name: 'guest', program: join(program, '../guest.elf') }]);
    assert.deepEqual(modules, [join(program, '../guest.elf')]);
    await vscode.debug.stopDebugging(session);
    await eventually(
      () => vscode.debug.activeDebugSession,
      (active) => active === undefined,
    );
  });
});

describe('a new sample', () => {
  it('is copied with what F5 needs', async () => {
    const parent = mkdtempSync(join(tmpdir(), 'vmxray-sample-'));
    const answers = {
      showQuickPick: async ([first]: readonly unknown[]) => first,
      showOpenDialog: async () => [vscode.Uri.file(parent)],
      showInformationMessage: async () => undefined,
    };
    try {
      await answering(answers as unknown as Partial<typeof vscode.window>, () =>
        vscode.commands.executeCommand('vmxray.newSample'),
      );
      for (const name of ['first-vmm.elf', 'guest.elf', '.vscode/launch.json', 'main.c']) {
        assert.ok(existsSync(join(parent, 'first-vmm', name)), name);
      }
    } finally {
      rmSync(parent, { recursive: true });
    }
  });
});
