/** Completion in assembly. Pure. */

import { VMCS_FIELDS } from '../sim-core/vmx/fields.ts';
import type { Outline } from './asm/outline.ts';
import { type Dialect, parseStatement } from './asm/source-line.ts';
import { instructionForms } from './knowledge/instructions.ts';
import { hex4 } from './knowledge/numbers.ts';
import { fieldByWord, fieldMarkdown } from './knowledge/vmcs.ts';

export interface Completion {
  readonly label: string;
  readonly kind: 'instruction' | 'label' | 'constant' | 'macro' | 'field';
  readonly detail?: string;
  readonly insertText?: string;
  /** Markdown. */
  readonly documentation?: string;
}

/**
 * @param before the line up to the cursor, without comments
 * @param outlines the document's and those of the files that it includes
 */
export function completions(before: string, dialect: Dialect, outlines: readonly Outline[]): Completion[] {
  if (isMnemonicPlace(before, dialect)) return [...instructions(), ...names(outlines, ['macro'])];
  const word = /[\w.$?@~#%]*$/.exec(before)?.[0] ?? '';
  if (/^\$?0x/i.test(word)) return encodings(word.startsWith('$') ? '$' : '');
  return [...names(outlines, ['label', 'constant', 'local']), ...fields(outlines, dialect)];
}

/** Nothing but a label stands before the word that is being written. */
function isMnemonicPlace(before: string, dialect: Dialect): boolean {
  const { mnemonic } = parseStatement(before, dialect);
  return mnemonic === undefined ? /(^|[\s:])$/.test(before) : mnemonic.column + mnemonic.name.length === before.length;
}

let allInstructions: Completion[] | undefined;

function instructions(): Completion[] {
  allInstructions ??= [...instructionForms()].map(([mnemonic, forms]) => ({
    label: mnemonic.toLowerCase(),
    kind: 'instruction',
    detail: forms[0]?.operands ?? mnemonic,
  }));
  return allInstructions;
}

function names(outlines: readonly Outline[], kinds: readonly string[]): Completion[] {
  const found = new Map<string, Completion>();
  for (const { definitions } of outlines) {
    for (const { name, kind } of definitions) {
      if (kind === 'number' || !kinds.includes(kind)) continue;
      found.set(name, { label: name, kind: kind === 'local' ? 'label' : kind });
    }
  }
  return [...found.values()];
}

const encodings = (prefix: string): Completion[] =>
  VMCS_FIELDS.map((field) => ({
    label: `${prefix}${hex4(field.encoding)}`,
    kind: 'field',
    detail: field.name,
    documentation: fieldMarkdown(field),
  }));

/** Field names that no constant defines are written as their encodings. */
function fields(outlines: readonly Outline[], dialect: Dialect): Completion[] {
  const defined = new Set(
    outlines.flatMap(({ definitions }) => definitions.map(({ name }) => fieldByWord(name)?.name)),
  );
  return VMCS_FIELDS.filter(({ name }) => !defined.has(name)).map((field) => ({
    label: field.name,
    kind: 'field',
    detail: hex4(field.encoding),
    insertText: `${dialect === 'gas' ? '$' : ''}${hex4(field.encoding)}`,
    documentation: fieldMarkdown(field),
  }));
}
