/** What one assembly file defines and includes. Pure. */

import { type Dialect, dialectOf, parseStatement, withoutComments } from './source-line.ts';

export interface Definition {
  /** As written: '.loop', 'vmexit', '1'. */
  readonly name: string;
  /** Local labels with the label that they belong to: 'vmexit.loop'. */
  readonly fullName: string;
  readonly kind: 'label' | 'local' | 'number' | 'constant' | 'macro';
  readonly line: number;
  readonly column: number;
}

export interface Include {
  readonly path: string;
  readonly line: number;
  readonly start: number;
  readonly end: number;
}

export interface Outline {
  readonly dialect: Dialect;
  readonly definitions: readonly Definition[];
  readonly includes: readonly Include[];
}

const INCLUDE = /^\s*(?:%include|\.include|#\s*include)\s+["'<]([^"'>]+)["'>]/i;
const MACRO_LINE = /^\s*(?:%(?:i|r)?macro|\.macro)\s+([A-Za-z_.$?@][\w.$?@~#]*)/i;
const CONSTANT_LINE = /^\s*(?:%(?:x|i)?define|%i?assign|#\s*define|\.(?:set|equ|equiv))\s+([A-Za-z_.$?@][\w.$?@~#]*)/i;

export function outlineOf(text: string, uri: string): Outline {
  const dialect = dialectOf(text, uri);
  const original = text.split(/\r?\n/);
  const definitions: Definition[] = [];
  const includes: Include[] = [];
  let parent = '';
  withoutComments(text, dialect).forEach((line, number) => {
    // The path is in a string, which the stripped line has blanked out.
    const include = line.trim() === '' ? undefined : includeOn(original[number] ?? '', number);
    if (include) includes.push(include);
    const named = namedOn(line, number) ?? labelOn(line, number, dialect, parent);
    if (!named) return;
    definitions.push(named);
    if (named.kind === 'label') parent = named.name;
  });
  return { dialect, definitions, includes };
}

function includeOn(line: string, number: number): Include | undefined {
  const match = INCLUDE.exec(line);
  if (!match) return undefined;
  const [whole, path = ''] = match;
  const start = whole.length - 1 - path.length;
  return { path, line: number, start, end: start + path.length };
}

function namedOn(line: string, number: number): Definition | undefined {
  const macro = MACRO_LINE.exec(line);
  const match = macro ?? CONSTANT_LINE.exec(line);
  if (!match) return undefined;
  const [whole, name = ''] = match;
  const column = whole.length - name.length;
  return { name, fullName: name, kind: macro ? 'macro' : 'constant', line: number, column };
}

function labelOn(line: string, number: number, dialect: Dialect, parent: string): Definition | undefined {
  const { label, mnemonic } = parseStatement(line, dialect);
  if (!label) return undefined;
  const { name, column } = label;
  const at = { name, line: number, column };
  if (/^[0-9]+$/.test(name)) return { ...at, fullName: name, kind: 'number' };
  const constant = /^equ$/i.test(mnemonic?.name ?? '') || /^\s*=/.test(line.slice(column + name.length));
  if (constant) return { ...at, fullName: qualified(name, dialect, parent), kind: 'constant' };
  const local = dialect === 'nasm' ? name.startsWith('.') && !name.startsWith('..') : name.startsWith('.L');
  return { ...at, fullName: qualified(name, dialect, parent), kind: local ? 'local' : 'label' };
}

/** NASM's .name belongs to the label before it; a reference to it from elsewhere is written in full. */
export function qualified(name: string, dialect: Dialect, parent: string): string {
  return dialect === 'nasm' && name.startsWith('.') && !name.startsWith('..') ? `${parent}${name}` : name;
}

/** The label that the local labels of a line belong to. */
export function parentAt({ definitions }: Outline, line: number): string {
  return definitions.findLast((one) => one.kind === 'label' && one.line <= line)?.name ?? '';
}
