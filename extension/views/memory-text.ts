/** Memory as a page of text. Pure. */

const PER_LINE = 16;

/**
 * Lines of 16 bytes with address, hexadecimal bytes in two groups of eight, and the printable characters.
 * @param reference as the adapter's memory references are: `0x1000`, `gpa:0x1000`, `iova:00:01.0:0x1000`
 * @param bytes what could be read of `wanted` bytes from there
 * @param before what was there before the last change; lines that differ are marked with `*`
 */
export function memoryText(reference: string, bytes: Uint8Array, wanted: number, before?: Uint8Array): string {
  const start = startOf(reference);
  const digits = Math.max(8, (start + BigInt(wanted) - 1n).toString(16).length);
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += PER_LINE) {
    const row = bytes.subarray(at, at + PER_LINE);
    const changed = before !== undefined && row.some((byte, i) => byte !== before[at + i]);
    const address = (start + BigInt(at)).toString(16).padStart(digits, '0');
    lines.push(`${changed ? '*' : ' '} ${address}  ${hexOf(row)}  ${charactersOf(row)}`);
  }
  if (bytes.length < wanted) lines.push(missing(start + BigInt(bytes.length), digits));
  return `${lines.join('\n')}\n`;
}

const missing = (address: bigint, digits: number): string =>
  `  ${address.toString(16).padStart(digits, '0')}  nothing can be read from here on: no memory, or no translation`;

/** The number behind the last colon. */
const startOf = (reference: string): bigint => BigInt(reference.slice(reference.lastIndexOf(':') + 1));

function hexOf(row: Uint8Array): string {
  const bytes = [...row].map((byte) => byte.toString(16).padStart(2, '0'));
  const half = PER_LINE / 2;
  return `${bytes.slice(0, half).join(' ')}  ${bytes.slice(half).join(' ')}`.padEnd(PER_LINE * 3);
}

const charactersOf = (row: Uint8Array): string =>
  [...row].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('');
