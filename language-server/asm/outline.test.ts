import assert from 'node:assert/strict';
import { outlineOf } from './outline.ts';
import { dialectOf, parseStatement, withoutComments, wordAt } from './source-line.ts';

const NASM = `%include "vmx.inc" ; fields
bits 64
PAGE equ 4096
%macro save 1
%endmacro
global start
start:  mov rax, ';'   ; not: a_label:
.loop:  jmp .loop
message db "a: b", 0
other:
.loop:  hlt
`;

const GAS = `#include "asm.h"
.include "fields.inc"
.set STACK, 0x1000
LIMIT = 7
.macro save reg
.endm
.globl start
start: movq %rax, %rbx # no: label
/* hidden:
*/ 1: jmp 1b // also: not
.Lend: hlt
`;

const names = (text: string, uri: string) =>
  outlineOf(text, uri).definitions.map(({ fullName, kind, line, column }) => [fullName, kind, line, column]);

describe('the outline of an assembly file', () => {
  it('finds what NASM sources define, with local labels under their parents', () => {
    assert.deepEqual(names(NASM, 'a.asm'), [
      ['PAGE', 'constant', 2, 0],
      ['save', 'macro', 3, 7],
      ['start', 'label', 6, 0],
      ['start.loop', 'local', 7, 0],
      ['message', 'label', 8, 0],
      ['other', 'label', 9, 0],
      ['other.loop', 'local', 10, 0],
    ]);
  });

  it('finds what GNU as sources define, and nothing in comments', () => {
    assert.deepEqual(names(GAS, 'a.S'), [
      ['STACK', 'constant', 2, 5],
      ['LIMIT', 'constant', 3, 0],
      ['save', 'macro', 4, 7],
      ['start', 'label', 7, 0],
      ['1', 'number', 9, 3],
      ['.Lend', 'local', 10, 0],
    ]);
  });

  it('finds included files with the place of their names', () => {
    assert.deepEqual(outlineOf(NASM, 'a.asm').includes, [{ path: 'vmx.inc', line: 0, start: 10, end: 17 }]);
    assert.deepEqual(
      outlineOf(GAS, 'a.S').includes.map(({ path }) => path),
      ['asm.h', 'fields.inc'],
    );
  });
});

describe('dialectOf', () => {
  it('looks at the text before the name', () => {
    assert.equal(dialectOf(NASM, 'a.s'), 'nasm');
    assert.equal(dialectOf(GAS, 'a.asm'), 'gas');
    assert.equal(dialectOf('hlt\n', 'a.S'), 'gas');
    assert.equal(dialectOf('hlt\n', 'a.asm'), 'nasm');
  });
});

describe('source lines', () => {
  it('keep their columns when comments and strings go', () => {
    assert.deepEqual(withoutComments('db "a;b", 1 ; c', 'nasm'), ['db "   ", 1 ']);
    assert.deepEqual(withoutComments('a /* b\nc */ d', 'gas'), ['a     ', '     d']);
    assert.deepEqual(withoutComments('db "\\", 1 ; c', 'nasm'), ['db " ", 1 ']);
    assert.deepEqual(withoutComments('.ascii "\\"#", "x"', 'gas'), ['.ascii "   ", " "']);
  });

  it('are cut into label, mnemonic and operands', () => {
    assert.deepEqual(parseStatement('a:  vmread rax, rbx ', 'nasm'), {
      label: { name: 'a', column: 0 },
      mnemonic: { name: 'vmread', column: 4 },
      operands: 'rax, rbx',
    });
    assert.deepEqual(parseStatement('  hlt', 'gas'), { mnemonic: { name: 'hlt', column: 2 }, operands: '' });
  });

  it('give the word at a column, also right behind it', () => {
    assert.deepEqual(wordAt('mov eax, 0x681E', 12), { text: '0x681E', start: 9, end: 15 });
    assert.deepEqual(wordAt('jmp .loop', 9), { text: '.loop', start: 4, end: 9 });
    assert.equal(wordAt('mov   eax', 4), undefined);
  });
});
