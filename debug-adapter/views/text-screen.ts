/** What a guest has written to a PC's text screen: 80 columns and 25 rows in memory at B8000h. */

import type { PhysicalMemory } from '../../sim-core/mmu/physical-memory.ts';

const SCREEN = { address: 0xb8000, columns: 80, rows: 25 } as const;
/** Two bytes for each character: its code, and its colours. */
const CELL = 2;
const FIRST_PRINTABLE = 0x20;
/** Code page 437 from 80h on, as the character generator of a PC shows it. */
const UPPER_HALF = [
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»',
  '░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀',
  'αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ',
].join('');

function characterOf(code: number): string {
  if (code >= 0x80) return UPPER_HALF[code - 0x80] ?? ' ';
  return code < FIRST_PRINTABLE || code === 0x7f ? ' ' : String.fromCharCode(code);
}

/** @returns the screen's lines, without blanks at their ends and empty lines at the end */
export function textScreen(physical: PhysicalMemory): string[] {
  const bytes = physical.peek(SCREEN.address, SCREEN.columns * SCREEN.rows * CELL);
  const lines = Array.from({ length: SCREEN.rows }, (_, row) => {
    const cells = Array.from({ length: SCREEN.columns }, (_, column) => bytes[(row * SCREEN.columns + column) * CELL]);
    return cells
      .map((code) => characterOf(code ?? 0))
      .join('')
      .trimEnd();
  });
  return lines.slice(0, lines.findLastIndex((line) => line !== '') + 1);
}
