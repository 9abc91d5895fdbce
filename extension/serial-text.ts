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

/** Terminal → guest. */
export function encodeSerial(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join('');
}
