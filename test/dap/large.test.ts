/** Deep stacks, long arrays, much code and output: all of it arrives, and in the pieces that were asked for. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';

const CALLS = 10_000;
const ELEMENTS = 1_000_000;
const PRINTED = 1_000_000;
const OPTIONS =
  '-g -O0 -ffreestanding -nostdlib -static -no-pie -fno-stack-protector -mno-red-zone -Wl,-Ttext=0x100000,--build-id=none';

describe('much of everything', function () {
  this.timeout(60_000);
  const adapter = useAdapter();
  let client: PlainClient;
  const file = useFolder();

  before(async () => {
    const program = file('large.elf');
    execFileSync('gcc', [...OPTIONS.split(' '), join(import.meta.dirname, 'large.c'), '-o', program]);
    client = await adapter.launch({ program });
    await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'descend', hitCondition: `${CALLS}` }] });
    await client.run('configurationDone', {});
    await client.run('continue');
  });

  const page = async (startFrame: number, levels: number) =>
    (await client.request('stackTrace', { threadId: 1, startFrame, levels })).body;

  it('shows a stack of ten thousand calls by pages, and unwinds no further than asked', async () => {
    const first = await page(0, 20);
    assert.deepEqual([first.stackFrames.length, first.totalFrames], [20, 21]);
    const inside = await page(5000, 20);
    assert.deepEqual([inside.stackFrames.length, inside.totalFrames], [20, 5021]);
    assert.equal(new Set([...first.stackFrames, ...inside.stackFrames].map(({ id }) => id)).size, 40);
    const last = await page(CALLS - 1, 20);
    assert.deepEqual(
      last.stackFrames.map(({ name }) => name),
      ['descend', 'work', '_start'],
    );
    assert.equal(last.totalFrames, CALLS + 2);
    // The variables of a frame in the middle: each call has one less to go.
    const { scopes } = (await client.request('scopes', { frameId: inside.stackFrames[3]?.id })).body;
    const { variablesReference } = scopes.find(({ name }) => name === 'Arguments') ?? { variablesReference: 0 };
    const { variables } = (await client.request('variables', { variablesReference })).body;
    assert.deepEqual(
      variables.map(({ name, value }) => [name, value]),
      [['left', '5003']],
    );
  });

  it('shows a million elements by pages', async () => {
    const { variablesReference, indexedVariables } = (await client.request('evaluate', { expression: 'numbers' })).body;
    assert.equal(indexedVariables, ELEMENTS);
    const args = { variablesReference, filter: 'indexed', start: ELEMENTS - 100, count: 100 };
    const { variables } = (await client.request('variables', args)).body;
    assert.deepEqual([variables[0]?.name, variables[0]?.value], ['[999900]', '999900']);
    assert.equal(variables.length, 100);
    const all = { ...args, start: 5, count: ELEMENTS };
    const [last, ...rest] = (await client.request('variables', all)).body.variables.toReversed();
    assert.equal(rest.length, 10_000);
    assert.equal(rest[0]?.name, '[10004]');
    assert.match(last?.value ?? '', /^989995 more: ask for them with start 10005,/);
  });

  it('disassembles a thousand instructions on each side of a place', async () => {
    const [frame] = (await page(0, 1)).stackFrames;
    const memoryReference = frame?.instructionPointerReference ?? '';
    const args = { memoryReference, instructionOffset: -1000, instructionCount: 2000 };
    const { instructions } = (await client.request('disassemble', args)).body;
    assert.equal(instructions.length, 2000);
    assert.equal(`vmm:${instructions[1000]?.address}`, memoryReference);
  });

  it('passes a million characters on, also when they come all of a sudden', async () => {
    await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'finish' }] });
    await client.run('continue');
    const text = client.received
      .filter(({ event, body }) => event === 'output' && 'category' in body && body.category === 'stdout')
      .map(({ body }) => (body as { output: string }).output)
      .join('');
    assert.equal(text.length, PRINTED);
    assert.ok(text.startsWith('abcdefghijklmnopqrstuvwxyzabc'));
  });
});
