import assert from 'node:assert/strict';
import { outlineOf } from './asm/outline.ts';
import { completions } from './completion.ts';

const outline = outlineOf('bits 64\nGUEST_RSP equ 0x681c\n%macro save 0\n%endmacro\nstart:\n', 'a.asm');
const labels = (before: string) => completions(before, 'nasm', [outline]).map(({ label }) => label);

describe('completion', () => {
  it('offers instructions and macros where a mnemonic stands', () => {
    for (const before of ['', '  vmr', 'start: ']) {
      const offered = labels(before);
      assert.ok(offered.includes('vmread') && offered.includes('save'), before);
      assert.ok(!offered.includes('start'), before);
    }
  });

  it('offers labels, constants and fields as operands', () => {
    const offered = labels('  mov rax, ');
    assert.ok(offered.includes('start') && offered.includes('GUEST_RSP') && offered.includes('GUEST_RIP'));
    assert.ok(!offered.includes('vmread'));
  });

  it('writes the encoding of a field that the sources do not define', () => {
    const fields = completions('mov rax, GUEST', 'nasm', [outline]).filter(({ kind }) => kind === 'field');
    assert.equal(fields.find(({ label }) => label === 'GUEST_RIP')?.insertText, '0x681E');
    assert.equal(
      fields.find(({ label }) => label === 'GUEST_RSP'),
      undefined,
    );
    const gas = completions('mov GUEST', 'gas', []).find(({ label }) => label === 'GUEST_RIP');
    assert.equal(gas?.insertText, '$0x681E');
  });

  it('offers encodings with their fields where a hexadecimal number is being written', () => {
    const offered = completions('mov edx, 0x68', 'nasm', [outline]);
    assert.equal(offered.find(({ label }) => label === '0x681E')?.detail, 'GUEST_RIP');
  });
});
