import assert from 'node:assert/strict';
import { frame, MessageReader } from './framing.ts';

function read(chunks: readonly Uint8Array[]): { messages: unknown[]; problems: string[] } {
  const messages: unknown[] = [];
  const problems: string[] = [];
  const reader = new MessageReader(
    (message) => messages.push(message),
    (problem) => problems.push(problem),
  );
  for (const chunk of chunks) reader.push(chunk);
  return { messages, problems };
}
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('DAP framing', () => {
  // Header and body as the specification's "Base Protocol" shows them; lengths are in bytes, not characters.
  it('writes a header with the length in bytes', () => {
    assert.equal(new TextDecoder().decode(frame({ a: 'é' })), 'Content-Length: 10\r\n\r\n{"a":"é"}');
  });

  it('reads messages however they are cut', () => {
    const stream = bytes(
      'Content-Length: 7\r\n\r\n{"a":1}Content-Length: 9\r\nX: y\r\n\r\n{"a":"€"}'.replace('9', '11'),
    );
    for (let size = 1; size <= stream.length; size++) {
      const chunks = Array.from({ length: Math.ceil(stream.length / size) }, (_, index) =>
        stream.subarray(index * size, (index + 1) * size),
      );
      assert.deepEqual(read(chunks), { messages: [{ a: 1 }, { a: '€' }], problems: [] });
    }
  });

  it('goes on after a body that is not JSON, and after headers without a length', () => {
    const stream = 'Content-Length: 3\r\n\r\n{{{Foo: 1\r\n\r\nContent-Length: 2\r\n\r\n{}';
    const { messages, problems } = read([bytes(stream)]);
    assert.deepEqual(messages, [{}]);
    assert.equal(problems.length, 2);
  });

  it('does not collect a header without end', () => {
    const { problems } = read([bytes('x'.repeat(10_000))]);
    assert.equal(problems.length, 1);
  });
});
