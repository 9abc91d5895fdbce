import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as vscode from 'vscode';
import { eventually } from './poll.ts';

const NASM = `%macro enter 0
%endmacro
bits 64
start:
  vmread rax, rbx
  mov edx, 0x681E
.again:
  jmp .again
`;

let folder = '';
let count = 0;

/** A document on the disk: VS Code asks where to save untitled ones when a debug session starts. */
async function open(content: string, ending = 'asm'): Promise<vscode.TextDocument> {
  count += 1;
  const path = join(folder, `${count}.${ending}`);
  writeFileSync(path, content);
  return vscode.workspace.openTextDocument(path);
}

function hoverText(hovers: vscode.Hover[]): string {
  return hovers
    .flatMap(({ contents }) => contents)
    .map((part) => (typeof part === 'string' ? part : part.value))
    .join('\n');
}

async function hover({ uri }: vscode.TextDocument, line: number, character: number): Promise<string> {
  const ask = () =>
    vscode.commands.executeCommand<vscode.Hover[]>(
      'vscode.executeHoverProvider',
      uri,
      new vscode.Position(line, character),
    );
  return hoverText(await eventually(ask, (hovers) => hovers.length > 0));
}

describe('the language server', () => {
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-language-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('takes .S files as x86 assembly', async () => {
    const [workspace] = vscode.workspace.workspaceFolders ?? [];
    assert.ok(workspace);
    const document = await vscode.workspace.openTextDocument(vscode.Uri.joinPath(workspace.uri, 'boot.S'));
    assert.equal(document.languageId, 'vmxray-asm');
  });

  it('explains instructions and VMCS encodings', async () => {
    const document = await open(NASM);
    assert.match(await hover(document, 4, 4), /VMREAD r\/m64, r64/);
    assert.match(await hover(document, 5, 14), /GUEST_RIP/);
  });

  it('lists labels as symbols', async () => {
    const { uri } = await open(NASM);
    const symbols = await eventually(
      () => vscode.commands.executeCommand<vscode.DocumentSymbol[]>('vscode.executeDocumentSymbolProvider', uri),
      (found) => found !== undefined && found.length > 0,
    );
    assert.deepEqual(
      symbols.map(({ name, children }) => [name, children.map((child) => child.name)]),
      [
        ['enter', []],
        ['start', ['.again']],
      ],
    );
  });

  it('goes to definitions in other files of the workspace', async () => {
    const [workspace] = vscode.workspace.workspaceFolders ?? [];
    assert.ok(workspace);
    const path = vscode.Uri.joinPath(workspace.uri, 'vmexit.S');
    const text = (await vscode.workspace.openTextDocument(path)).getText();
    const label = /^(\w+):/m.exec(text)?.[1];
    assert.ok(label, 'the sample has a label in vmexit.S');
    const { uri } = await open(`extern ${label}\n  call ${label}\n`);
    const places = await eventually(
      () =>
        vscode.commands.executeCommand<(vscode.Location | vscode.LocationLink)[]>(
          'vscode.executeDefinitionProvider',
          uri,
          new vscode.Position(1, 8),
        ),
      (found) => found.length > 0,
    );
    const [place] = places;
    assert.ok(place);
    assert.equal(('uri' in place ? place.uri : place.targetUri).path, path.path);
  });

  it('offers VMCS fields with their encodings', async () => {
    const { uri } = await open('  mov rdx, GUEST_R');
    const { items } = await eventually(
      () =>
        vscode.commands.executeCommand<vscode.CompletionList>(
          'vscode.executeCompletionItemProvider',
          uri,
          new vscode.Position(0, 18),
        ),
      (list) => list.items.some(({ label }) => label === 'GUEST_RIP'),
    );
    assert.equal(items.find(({ label }) => label === 'GUEST_RIP')?.insertText, '0x681E');
  });

  it('explains VMCS encodings in C when the setting asks for it', async () => {
    const settings = vscode.workspace.getConfiguration('vmxray.languageServer');
    const document = await open('int rip = 0x681E;\n', 'c');
    await settings.update('encodingsInC', true, vscode.ConfigurationTarget.Global);
    try {
      assert.match(await hover(document, 0, 12), /GUEST_RIP/);
    } finally {
      await settings.update('encodingsInC', undefined, vscode.ConfigurationTarget.Global);
    }
  });
});
