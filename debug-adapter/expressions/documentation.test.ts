// docs/expressions.md against the language: its examples are worked out, its mistakes made.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseInstructionKind } from '../stops/instruction-kinds.ts';
import type { Place } from '../worlds/memory-reference.ts';
import { type Environment, evaluate, floatIn } from './evaluate.ts';
import { parseExpression, parseStatement, parseTemplate } from './parser.ts';

const DOCUMENT = readFileSync(path.join(import.meta.dirname, '../../docs/expressions.md'), 'utf8');

/** Rows of the table with these headings: what is in the first column as code, and the second column. */
function table(first: string, second: string): (readonly [code: string, text: string])[] {
  const [, after] = DOCUMENT.split(`| ${first} | ${second} |\n|---|---|\n`);
  const rows = (after ?? '').split('\n\n')[0]?.split('\n') ?? [];
  return rows
    .filter((row) => row !== '')
    .map((row) => {
      const [, code = '', text = ''] = /^\| (.*) \| (.*) \|$/.exec(row) ?? [];
      return [code, text];
    });
}

const codes = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code ?? '');

/** What the document says of its examples: RCX, RAX, and memory. */
const environment: Environment = {
  wordBytes: 8,
  lookup: (name) => ({ rcx: 3n, rax: 0xffff_ffff_ffff_fff0n })[name],
  assign: () => undefined,
  readMemory: ({ address }: Place, bytes) => Uint8Array.from({ length: bytes }, (_, i) => Number(address & 0xffn) + i),
  writeMemory: () => undefined,
};

describe('docs/expressions.md', () => {
  const values = table('expression', 'value');
  const mistakes = table('expression', 'answer');
  const kinds = table('name', 'stops at');

  it('has the tables', () => {
    assert.deepEqual([values.length, mistakes.length, kinds.length], [8, 11, 8]);
  });

  for (const [cell, expected] of values) {
    const [code = ''] = codes(cell);
    it(`${code} is ${expected}`, () => {
      const value = evaluate(parseExpression(code), environment);
      assert.equal(String(floatIn(value, 0) ?? value.number), expected);
    });
  }

  for (const [cell, expected] of mistakes) {
    const [code = ''] = codes(cell);
    it(`${code} is answered: ${expected}`, () => {
      const run = (): void => {
        if (code.includes('{')) parseTemplate(code);
        const statement = parseStatement(code);
        if (statement.kind !== 'assignment') assert.ok(evaluate(statement, environment).number >= 0n);
      };
      assert.throws(run, { message: expected });
    });
  }

  it('names values that the language knows the form of', () => {
    for (const code of table('written', 'is').flatMap(([cell]) => codes(cell))) {
      if (/^(\w+:a)$/.test(code)) parseExpression(`[${code}]`);
      parseExpression(code);
    }
  });

  it('names kinds of instructions that there are', () => {
    for (const code of kinds.flatMap(([cell]) => codes(cell))) {
      assert.notEqual(parseInstructionKind(code).kind, 'problem', code);
    }
    assert.equal(parseInstructionKind('@vmwrote').kind, 'problem');
  });
});
