/** Between a guest's serial port, whose bytes the protocol carries as Latin-1 text, and a terminal. Pure. */

/** Guest → terminal: UTF-8 across messages, and a carriage return before a bare line feed, which terminals need. */
export class SerialDecoder {
  private readonly utf8 = new TextDecoder('utf-8');
  private lastWasReturn = false;

  decode(latin1: string): string {
    const bytes = Uint8Array.from(latin1, (character) => character.charCodeAt(0));
    const text = this.utf8.decode(bytes, { stream: true });
    let shown = '';
    for (const character of text) {
      shown += character === '\n' && !this.lastWasReturn ? '\r\n' : character;
      this.lastWasReturn = character === '\r';
    }
    return shown;
  }
}

/**
 * What a guest sends for the terminal to answer: reports of status and position (DSR), attributes (DA, DECID), modes
 * (DECRQM), settings (DECRQSS), colours (OSC 4, 10 to 19), and ENQ. ECMA-48; xterm's control sequences.
 */
const QUESTIONS = new RegExp(
  [
    '\\x05',
    '\\x1bZ',
    '\\x1b\\[[?>=]?[0-9;]*[cnx]',
    '\\x1b\\[\\??[0-9;]*\\$p',
    '\\x1bP\\$q[^\\x1b]*\\x1b\\\\',
    '\\x1b\\](?:4;[0-9]+|1[0-9]);\\?(?:\\x07|\\x1b\\\\)',
  ].join('|'),
  'g',
);

/** Text to be shown again: the terminal must not answer a second time what was asked in it, as if somebody typed. */
export const withoutQuestions = (text: string): string => text.replace(QUESTIONS, '');

/** Terminal → guest. */
export function encodeSerial(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join('');
}
