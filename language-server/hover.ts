/** What the editor shows about the word under the pointer. Pure: Markdown or nothing. */

import { citeInFull } from '../sim-core/sdm.ts';
import { EXIT, exitTitle } from '../sim-core/vmx/exit-reasons.ts';
import { type Dialect, parseStatement, type Word, withoutComments, wordAt } from './asm/source-line.ts';
import { type InstructionForm, instructionForms, mnemonicOf } from './knowledge/instructions.ts';
import { msrHover } from './knowledge/msrs.ts';
import { describeVmExit, vmExitRules } from './knowledge/vm-exits.ts';
import { encodingHover, vmcsHover } from './knowledge/vmcs.ts';

export interface HoverText {
  readonly markdown: string;
  readonly word: Word;
}

const MAX_FORMS = 12;

/** @param lines the whole document's lines without comments (`withoutComments`). */
export function assemblyHover(
  lines: readonly string[],
  dialect: Dialect,
  line: number,
  column: number,
): HoverText | undefined {
  const text = lines[line] ?? '';
  const word = wordAt(text, column);
  if (!word) return undefined;
  const { mnemonic, operands } = parseStatement(text, dialect);
  const isMnemonic = mnemonic?.column === word.start || isAfterPrefix(text, word);
  const parts = [
    ...(isMnemonic ? [instructionHover(word.text, operands)] : []),
    vmcsHover(word.text),
    msrHover(word.text, text),
  ].filter((part) => part !== undefined);
  return parts.length > 0 ? { markdown: parts.join('\n\n---\n\n'), word } : undefined;
}

/** In C only numbers that are VMCS encodings are explained. */
export function cHover(text: string, line: number, column: number): HoverText | undefined {
  const word = wordAt(withoutComments(text, 'gas')[line] ?? '', column);
  const markdown = word && encodingHover(word.text);
  return word && markdown ? { markdown, word } : undefined;
}

const isAfterPrefix = (line: string, word: Word): boolean =>
  /\b(lock|repn?[ez]?|bnd|notrack|xacquire|xrelease)\s+$/i.test(line.slice(0, word.start));

function instructionHover(written: string, operands: string): string | undefined {
  const mnemonic = mnemonicOf(written);
  const forms = mnemonic === undefined ? undefined : instructionForms().get(mnemonic);
  if (mnemonic === undefined || !forms) return undefined;
  const exits = vmExitRules(mnemonic, operands).map((rule) =>
    describeVmExit(rule, rule.exits.map((exit) => exitTitle(EXIT[exit])).join(', ')),
  );
  const privileged = forms.every((form) => form.privileged) ? ['Only at CPL 0.'] : [];
  return [
    `**${mnemonic}**`,
    formTable(forms),
    ...privileged,
    ...exits,
    ...(exits.length > 0
      ? [`*${citeInFull(alwaysExits(mnemonic, operands) ? 'unconditionalExits' : 'conditionalExits')}*`]
      : []),
  ].join('\n\n');
}

const alwaysExits = (mnemonic: string, operands: string): boolean =>
  vmExitRules(mnemonic, operands).every(({ controls, condition }) => controls.length === 0 && condition === undefined);

function formTable(forms: readonly InstructionForm[]): string {
  const shown = forms.slice(0, MAX_FORMS);
  const rows = shown.map(
    ({ operands, opcode, features, in64Bit, in32Bit }) =>
      `| \`${operands}\` | \`${opcode}\` | ${modes(in64Bit, in32Bit)} | ${features.join(', ')} |`,
  );
  const more = forms.length > shown.length ? [`\n… and ${forms.length - shown.length} more forms`] : [];
  return ['| Form | Opcode | Modes | CPUID |', '| --- | --- | --- | --- |', ...rows, ...more].join('\n');
}

const modes = (in64Bit: boolean, in32Bit: boolean): string =>
  in64Bit ? (in32Bit ? 'all' : '64-bit') : '16- and 32-bit';
