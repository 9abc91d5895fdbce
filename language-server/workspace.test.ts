import assert from 'node:assert/strict';
import { symbolTree } from './symbols.ts';
import { AssemblyWorkspace } from './workspace.ts';

const FILES: Readonly<Record<string, string>> = {
  'file:///w/main.asm': `%include "inc/vmx.inc"
%include "shared.inc"
start: call helper
.loop: jmp .loop
other:
.loop: jmp .loop
  jmp start.loop
  mov rax, GUEST
`,
  'file:///w/inc/vmx.inc': '%include "../main.asm"\nGUEST equ 0x681e\n',
  'file:///w/lib/shared.inc': 'SHARED equ 1\n',
  'file:///w/helper.asm': 'global helper\nhelper: ret\n',
  'file:///w/gas.S': '.globl f\n1: nop\njmp 1b\njmp 1f\n1: nop\nmov $LIMIT, %eax\n.set LIMIT, 3\n',
};

const workspace = new AssemblyWorkspace({
  text: async (uri) => FILES[uri],
  files: async () => Object.keys(FILES),
});

/** Where the word at a place of a line is defined, as 'file:line:column'. */
async function definitions(file: string, line: number, word: string): Promise<string[]> {
  const column = (FILES[`file:///w/${file}`]?.split('\n')[line] ?? '').lastIndexOf(word) + 1;
  const places = await workspace.definitions(`file:///w/${file}`, line, column);
  return places.map(({ uri, line: at, start }) => `${uri.slice('file:///w/'.length)}:${at}:${start}`);
}

describe('definitions', () => {
  it('are found in the file, local labels under their own parent', async () => {
    assert.deepEqual(await definitions('main.asm', 3, '.loop'), ['main.asm:3:0']);
    assert.deepEqual(await definitions('main.asm', 5, '.loop'), ['main.asm:5:0']);
    assert.deepEqual(await definitions('main.asm', 6, 'start.loop'), ['main.asm:3:0']);
  });

  it('are found in included files, though they include each other', async () => {
    assert.deepEqual(await definitions('main.asm', 7, 'GUEST'), ['inc/vmx.inc:1:0']);
  });

  it('are found in other files of the workspace', async () => {
    assert.deepEqual(await definitions('main.asm', 2, 'helper'), ['helper.asm:1:0']);
  });

  it('of an include are the file, wherever it lies', async () => {
    assert.deepEqual(await definitions('main.asm', 0, 'vmx.inc'), ['inc/vmx.inc:0:0']);
    assert.deepEqual(await definitions('main.asm', 1, 'shared.inc'), ['lib/shared.inc:0:0']);
  });

  it('of numeric labels are the nearest in their direction', async () => {
    assert.deepEqual(await definitions('gas.S', 2, '1b'), ['gas.S:1:0']);
    assert.deepEqual(await definitions('gas.S', 3, '1f'), ['gas.S:4:0']);
  });

  it('of immediate operands of GNU as leave out the $', async () => {
    assert.deepEqual(await definitions('gas.S', 5, '$LIMIT'), ['gas.S:6:5']);
  });

  it('do not exist for registers and missing files', async () => {
    assert.deepEqual(await definitions('main.asm', 7, 'rax'), []);
    assert.deepEqual(await workspace.definitions('file:///w/none.asm', 0, 0), []);
  });

  it('follow an edit after the file is forgotten', async () => {
    let text = 'a: nop\njmp b\n';
    const edited = new AssemblyWorkspace({ text: async () => text, files: async () => [] });
    assert.deepEqual(await edited.definitions('file:///a.asm', 1, 4), []);
    text = 'b: nop\njmp b\n';
    edited.forget('file:///a.asm');
    assert.equal((await edited.definitions('file:///a.asm', 1, 4)).length, 1);
  });
});

describe('document symbols', () => {
  it('nest local labels and reach to the next label', async () => {
    const outline = await workspace.outline('file:///w/main.asm');
    assert.ok(outline);
    const tree = symbolTree(outline, 8);
    assert.deepEqual(
      tree.map(({ name, line, endLine, children }) => [name, line, endLine, children.map((child) => child.name)]),
      [
        ['start', 2, 3, ['.loop']],
        ['other', 4, 8, ['.loop']],
      ],
    );
  });
});
