/** DAP's base protocol: a header with Content-Length, an empty line, JSON. */

const HEADER_END = '\r\n\r\n';
/** A header longer than this is none; a message longer than this is not ours. */
const LONGEST_HEADER = 4096;
const LONGEST_MESSAGE = 64 * 2 ** 20;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function frame(message: object): Uint8Array<ArrayBuffer> {
  const body = encoder.encode(JSON.stringify(message));
  const header = encoder.encode(`Content-Length: ${body.length}${HEADER_END}`);
  const out = new Uint8Array(header.length + body.length);
  out.set(header);
  out.set(body, header.length);
  return out;
}

/** Cuts a byte stream into messages. */
export class MessageReader {
  private buffer = new Uint8Array(0);
  private readonly onMessage: (message: unknown) => void;
  private readonly onProblem: (problem: string) => void;

  /** @param onProblem told of bytes that are no message; reading goes on behind them. */
  constructor(onMessage: (message: unknown) => void, onProblem: (problem: string) => void) {
    this.onMessage = onMessage;
    this.onProblem = onProblem;
  }

  push(chunk: Uint8Array): void {
    const joined = new Uint8Array(this.buffer.length + chunk.length);
    joined.set(this.buffer);
    joined.set(chunk, this.buffer.length);
    this.buffer = joined;
    while (this.next());
  }

  /** Takes one message or piece of rubbish off the buffer. @returns false when more bytes are needed. */
  private next(): boolean {
    const head = decoder.decode(this.buffer.subarray(0, LONGEST_HEADER));
    const end = head.indexOf(HEADER_END);
    if (end < 0) {
      if (this.buffer.length < LONGEST_HEADER) return false;
      return this.reject(this.buffer.length, 'no Content-Length header where one must be');
    }
    const bodyAt = encoder.encode(head.slice(0, end)).length + HEADER_END.length;
    const length = Number(
      /(?:^|\r\n)Content-Length:\s*(\d+)\s*(?:\r\n|$)/i.exec(head.slice(0, end))?.[1] ?? Number.NaN,
    );
    if (Number.isNaN(length) || length > LONGEST_MESSAGE)
      return this.reject(bodyAt, 'a header without a usable length');
    if (this.buffer.length < bodyAt + length) return false;
    const text = decoder.decode(this.buffer.subarray(bodyAt, bodyAt + length));
    this.buffer = this.buffer.slice(bodyAt + length);
    this.deliver(text);
    return true;
  }

  private reject(length: number, problem: string): boolean {
    this.buffer = this.buffer.slice(length);
    this.onProblem(problem);
    return this.buffer.length > 0;
  }

  private deliver(text: string): void {
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      this.onProblem('a message that is not JSON');
      return;
    }
    this.onMessage(message);
  }
}
