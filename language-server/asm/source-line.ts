/** Lines of NASM and GNU as sources, cut into what the rest of the server looks at. Pure. */

export type Dialect = 'nasm' | 'gas';

/** A statement: `label: mnemonic operands`. Columns count UTF-16 units from the start of the line. */
export interface Statement {
  readonly label?: { readonly name: string; readonly column: number };
  /** The first word that is not a label: an instruction, a directive or a macro. */
  readonly mnemonic?: { readonly name: string; readonly column: number };
  /** What follows the mnemonic, without comments. */
  readonly operands: string;
}

/**
 * A text's lines with comments and the contents of strings turned into blanks, so that columns stay.
 * Strings keep their quotes.
 */
export function withoutComments(text: string, dialect: Dialect): string[] {
  let inBlock = false;
  return text.split(/\r?\n/).map((line) => {
    const stripped = stripLine(line, dialect, inBlock);
    inBlock = stripped.inBlock;
    return stripped.line;
  });
}

function stripLine(line: string, dialect: Dialect, startsInBlock: boolean): { line: string; inBlock: boolean } {
  let result = '';
  let inBlock = startsInBlock;
  let quote = '';
  for (let at = 0; at < line.length; at += 1) {
    const character = line[at] ?? '';
    const pair = line.slice(at, at + 2);
    if (inBlock) {
      if (pair === '*/') {
        inBlock = false;
        at += 1;
        result += ' ';
      }
      result += ' ';
    } else if (quote !== '') {
      const isEscape = character === '\\' && (dialect === 'gas' || quote === '`');
      if (character === quote) quote = '';
      result += quote === '' ? character : ' ';
      if (isEscape && at + 1 < line.length) {
        at += 1;
        result += ' ';
      }
    } else if (pair === '/*') {
      inBlock = true;
      at += 1;
      result += '  ';
    } else if (startsComment(line, at, dialect)) break;
    else {
      if (character === '"' || (dialect === 'nasm' && (character === "'" || character === '`'))) quote = character;
      result += character;
    }
  }
  return { line: result, inBlock };
}

function startsComment(line: string, at: number, dialect: Dialect): boolean {
  if (dialect === 'nasm') return line[at] === ';';
  if (line.startsWith('//', at)) return true;
  // `#include` and its like belong to the C preprocessor of .S files.
  return line[at] === '#' && !/^\s*#\s*(include|define|undef|if|else|elif|endif|error|pragma)/.test(line);
}

const LABEL = /^(\s*)([A-Za-z_.$?@%][\w.$?@~#%]*|[0-9]+)\s*:(?!:)/;
/** NASM needs no colon when an instruction-like word for data follows. */
const NASM_DATA_LABEL =
  /^(\s*)([A-Za-z_.$?@][\w.$?@~#]*)(?=\s+(?:times\s|d[bwdqtoyz]\b|res[bwdqtoyz]\b|equ\b|istruc\b))/i;
const ASSIGNMENT = /^(\s*)([A-Za-z_.$][\w.$]*)\s*=(?!=)/;
const WORD = /^(\s*)([%.#]?[A-Za-z_][\w.$]*)/;

/** @param line a line that `withoutComments` gave */
export function parseStatement(line: string, dialect: Dialect): Statement {
  const match = LABEL.exec(line) ?? (dialect === 'nasm' ? NASM_DATA_LABEL.exec(line) : ASSIGNMENT.exec(line));
  const label = match ? { name: match[2] ?? '', column: match[1]?.length ?? 0 } : undefined;
  const start = match?.[0].length ?? 0;
  const word = WORD.exec(line.slice(start));
  const operandsAt = start + (word?.[0].length ?? 0);
  return {
    ...(label ? { label } : {}),
    ...(word ? { mnemonic: { name: word[2] ?? '', column: start + (word[1]?.length ?? 0) } } : {}),
    operands: line.slice(operandsAt).trim(),
  };
}

const NASM_MARKS =
  /^\s*(%(include|define|macro|if|assign)|\[?\s*(bits|default|section|segment|global|extern)\b|\w+:?\s+(db|dw|dd|dq|equ|resb)\b)/im;
const GAS_MARKS =
  /^\s*\.(globl|global|text|data|section|long|quad|asciz|include|macro|code(16|32|64)|intel_syntax|set|equ)\b|%[re]?[abcd]x\b|%r\d|#\s*include/im;

/** Told from the file's own text, then from its name. */
export function dialectOf(text: string, uri: string): Dialect {
  if (NASM_MARKS.test(text) && !GAS_MARKS.test(text)) return 'nasm';
  if (GAS_MARKS.test(text)) return 'gas';
  return /\.s$/i.test(uri) ? 'gas' : 'nasm';
}

export interface Word {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

const WORDS = /[A-Za-z_.$?@%#][\w.$?@~#]*|[0-9][\w]*/g;

/** The identifier, number or directive that holds a column; a column right after it counts. */
export function wordAt(line: string, column: number): Word | undefined {
  for (const match of line.matchAll(WORDS)) {
    const end = match.index + match[0].length;
    if (match.index <= column && column <= end) return { text: match[0], start: match.index, end };
  }
  return undefined;
}
