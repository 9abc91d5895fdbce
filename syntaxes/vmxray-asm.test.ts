/** The grammar in VS Code's own engine: which scope each word of real lines gets. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { IGrammar } from 'vscode-textmate';

const require = createRequire(import.meta.url);
const { createOnigScanner, createOnigString, loadWASM } = require('vscode-oniguruma');
const { INITIAL, parseRawGrammar, Registry } = require('vscode-textmate');

let grammar: IGrammar;

/** The innermost scope of each token that is not blank, without the grammar's suffix. */
function scopes(text: string): [string, string][] {
  let state = INITIAL;
  return text.split('\n').flatMap((line) => {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, state);
    state = ruleStack;
    return tokens.flatMap(({ startIndex, endIndex, scopes: all }): [string, string][] => {
      const word = line.slice(startIndex, endIndex).trim();
      const scope = (all.at(-1) ?? '').replace(/\.?(source)?\.asm\.vmxray$/, '');
      return word === '' || scope === '' ? [] : [[word, scope]];
    });
  });
}

const CASES: readonly { readonly name: string; readonly line: string; readonly scopes: [string, string][] }[] = [
  {
    name: 'VMX instructions with NASM registers and a comment',
    line: 'vmread rax, rbx ; the field',
    scopes: [
      ['vmread', 'keyword.mnemonic.vmx'],
      ['rax', 'variable.language.register'],
      ['rbx', 'variable.language.register'],
      ['; the field', 'comment.line.semicolon'],
    ],
  },
  {
    name: 'VMX instructions with GNU as suffix and registers',
    line: '\tvmwriteq %rax, %rdx',
    scopes: [
      ['vmwriteq', 'keyword.mnemonic.vmx'],
      ['%rax', 'variable.language.register'],
      ['%rdx', 'variable.language.register'],
    ],
  },
  {
    name: 'a label before an instruction',
    line: 'exit_handler: push r15',
    scopes: [
      ['exit_handler', 'entity.name.function.label'],
      [':', 'punctuation.separator.label'],
      ['push', 'keyword.mnemonic'],
      ['r15', 'variable.language.register'],
    ],
  },
  {
    name: "NASM's local label, which begins like a directive of GNU as",
    line: '.loop:',
    scopes: [
      ['.loop', 'entity.name.function.label'],
      [':', 'punctuation.separator.label'],
    ],
  },
  { name: 'a directive of GNU as', line: '    .globl vmexit', scopes: [['.globl', 'keyword.other.directive.gas']] },
  {
    name: 'a numeric label of GNU as and its use',
    line: '1: jmp 1b',
    scopes: [
      ['1', 'entity.name.function.label'],
      [':', 'punctuation.separator.label'],
      ['jmp', 'keyword.control.flow'],
      ['1b', 'constant.numeric.binary'],
    ],
  },
  {
    name: 'an include and its file',
    line: '%include "vmx.inc"',
    scopes: [
      ['%include', 'keyword.control.preprocessor.nasm'],
      ['"', 'string.quoted.double'],
      ['vmx.inc', 'string.quoted.double'],
      ['"', 'string.quoted.double'],
    ],
  },
  {
    name: 'a constant with a VMCS field’s name',
    line: '  mov edx, GUEST_RIP',
    scopes: [
      ['mov', 'keyword.mnemonic'],
      ['edx', 'variable.language.register'],
      ['GUEST_RIP', 'support.constant.vmcs'],
    ],
  },
  {
    name: 'NASM data with a label without a colon',
    line: 'message db "hi", 10, 0',
    scopes: [
      ['message', 'entity.name.function.label'],
      ['db', 'keyword.other.directive.nasm'],
      ['"', 'string.quoted.double'],
      ['hi', 'string.quoted.double'],
      ['"', 'string.quoted.double'],
      ['10', 'constant.numeric.decimal'],
      ['0', 'constant.numeric.decimal'],
    ],
  },
  {
    name: 'hexadecimal numbers in each spelling',
    line: '  dd 0x681E, 681Eh, $0F',
    scopes: [
      ['dd', 'keyword.other.directive.nasm'],
      ['0x681E', 'constant.numeric.hex'],
      ['681Eh', 'constant.numeric.hex'],
      ['$0F', 'constant.numeric.hex'],
    ],
  },
  {
    name: 'an instruction after a prefix',
    line: '  rep movsb',
    scopes: [
      ['rep', 'keyword.operator.prefix'],
      ['movsb', 'keyword.mnemonic'],
    ],
  },
  {
    name: 'preprocessor lines of .S files, whose # is no comment',
    line: '#include "asm.h"',
    scopes: [
      ['#include', 'keyword.control.preprocessor.cpp'],
      ['"', 'string.quoted.double'],
      ['asm.h', 'string.quoted.double'],
      ['"', 'string.quoted.double'],
    ],
  },
  { name: 'comments of GNU as', line: '# a note', scopes: [['# a note', 'comment.line.number-sign']] },
  {
    name: 'comments over several lines',
    line: '/* vmread\nvmwrite */ hlt',
    scopes: [
      ['/*', 'comment.block'],
      ['vmread', 'comment.block'],
      ['vmwrite', 'comment.block'],
      ['*/', 'comment.block'],
      ['hlt', 'keyword.mnemonic.system'],
    ],
  },
];

describe('the assembly grammar', () => {
  before(async () => {
    await loadWASM(readFileSync(require.resolve('vscode-oniguruma/release/onig.wasm')));
    const path = new URL('vmxray-asm.tmLanguage.json', import.meta.url);
    const registry = new Registry({
      onigLib: Promise.resolve({ createOnigScanner, createOnigString }),
      loadGrammar: async () => parseRawGrammar(readFileSync(path, 'utf8'), 'vmxray-asm.tmLanguage.json'),
    });
    grammar = await registry.loadGrammar('source.asm.vmxray');
  });

  for (const { name, line, scopes: expected } of CASES) {
    it(`colours ${name}`, () => assert.deepEqual(scopes(line), expected));
  }
});
