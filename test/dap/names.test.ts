// Names of C++ and Rust in expressions. Expected values follow from the samples' sources.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { ROOT } from './sample.ts';

const SAMPLES = join(ROOT, 'test/variables');
const LINK = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x200000,--build-id=none'];
const CPP = '-g -O0 -ffreestanding -fno-stack-protector -fcf-protection=none -fno-exceptions -fno-rtti'.split(' ');
const RUST = '-g --edition 2021 --crate-name sample -C panic=abort -C relocation-model=static -C linker=gcc'.split(' ');

describe('names in expressions', () => {
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;
  let frameId = 0;
  const program = (): string => file('program.elf');

  /** Stops at a line of a sample. */
  async function stopAt(file: string, text: string): Promise<void> {
    client = await adapter.connect();
    await client.request('initialize', { adapterID: 'vmxray' });
    await client.request('launch', { program: program(), stopOn: 'entry' });
    await client.run('configurationDone', {});
    // The samples use SSE.
    await client.request('evaluate', { expression: 'cr4 = cr4 | 0x600', context: 'repl' });
    const path = join(SAMPLES, file);
    const line = readFileSync(path, 'utf8')
      .split('\n')
      .findIndex((each) => each.includes(text));
    await client.request('setBreakpoints', { source: { path }, breakpoints: [{ line: line + 1 }] });
    await client.run('continue');
    const [frame] = (await client.request('stackTrace', { threadId: 1 })).body.stackFrames;
    assert.equal(frame?.line, line + 1);
    frameId = frame?.id ?? 0;
  }
  async function evaluate(expression: string, context = 'hover'): Promise<string> {
    const { success, message, body } = await client.request('evaluate', { expression, frameId, context });
    return success ? body.result : (message ?? '');
  }
  async function check(expected: Readonly<Record<string, string | RegExp>>): Promise<void> {
    for (const [expression, value] of Object.entries(expected)) {
      const found = await evaluate(expression);
      if (typeof value === 'string') assert.equal(found, value, expression);
      else assert.match(found, value, expression);
    }
  }

  it('are those of C++', async () => {
    const sources = ['start.S', 'sample.cc'].map((file) => join(SAMPLES, file));
    execFileSync('g++', [...CPP, ...LINK, '-o', program(), ...sources], { stdio: 'pipe' });
    await stopAt('sample.cc', 'if (mode != Mode::Real) history');
    await check({
      // machine::Device::tick(): the first call, of the first device.
      'this->id': '1',
      'this->count': '1',
      '(*this).step': '1',
      count: '1',
      id: '1',
      'history.next': '0',
      'before + count': '1',
      'other.count': '1',
      'this == &other': '1',
      mode: /Protected/,
      'mode == Mode::Protected': '1',
      'mode == machine::Mode::Long': '0',
      'machine::Mode::Long': /Long/,
      'machine::Device::made': '2',
      'Device::made': '2',
      made: '2',
      'machine::hidden': /^-?\d+/,
      hidden: /^-?\d+/,
      'sizeof(machine::Device) == sizeof(*this)': '1',
      'sizeof(Counter)': /\b16\b/,
      "sizeof('machine::Ring<int, 4>')": /\b20\b/,
      "(('Ring<int, 4>' *)&history)->next": '0',
      'machine::Device::tick': /^0x[0-9a-f]+ <machine::Device::tick/,
      "'machine::Ring<int, 4>::push' != 0": '1',
      'readAll != 0': '1',
      'machine::nothing': "'machine::nothing' is no register, field, variable or symbol (at column 1)",
    });
    const set = await client.request('setExpression', { expression: 'this->step', value: '40', frameId });
    assert.equal(set.success, true, set.message);
    assert.equal(await evaluate('step', 'watch'), '40');
    const { body } = await client.request('completions', { text: 'this->his', column: 10, frameId });
    assert.deepEqual(
      (body as { targets: { label: string }[] }).targets.map(({ label }) => label),
      ['history'],
    );
  });

  it('of functions are read from symbols where there is no debug information', async () => {
    const sources = ['start.S', 'sample.cc'].map((file) => join(SAMPLES, file));
    const flags = [...CPP.filter((option) => option !== '-g'), '-fno-inline', '-fno-omit-frame-pointer'];
    execFileSync('g++', [...flags, ...LINK, '-o', program(), ...sources], { stdio: 'pipe' });
    client = await adapter.connect();
    await client.request('initialize', { adapterID: 'vmxray' });
    await client.request('launch', { program: program(), stopOn: 'none' });
    const breakpoints = [{ name: 'Device::tick' }];
    const set = await client.request('setFunctionBreakpoints', { breakpoints });
    assert.deepEqual(
      (set.body as { breakpoints: { verified: boolean }[] }).breakpoints.map(({ verified }) => verified),
      [true],
    );
    await client.run('configurationDone', {});
    const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
    assert.deepEqual(
      stackFrames.map(({ name }) => name),
      [
        'machine::Device::tick(machine::Counter const&)',
        'machine::run(machine::Device*, int, long&)',
        'main',
        '_start',
      ],
    );
    const memoryReference = stackFrames[0]?.instructionPointerReference ?? '';
    const { body } = await client.request('disassemble', { memoryReference, instructionCount: 60 });
    const symbols = body.instructions.map(({ symbol }) => symbol ?? '').join('\n');
    assert.match(symbols, /^machine::Device::tick\(machine::Counter const&\)/m);
    assert.equal(symbols.includes('_ZN'), false);
    const called = body.instructions.map(({ instruction }) => instruction).filter((text) => text.startsWith('call'));
    assert.ok(
      called.some((text) => text.includes('machine::Ring<int, 4>::push(int)')),
      called.join('\n'),
    );
    frameId = stackFrames[0]?.id ?? 0;
    await check({
      'machine::run': /^0x[0-9a-f]+ <machine::run\(machine::Device\*, int, long&\)>/,
      "'machine::Ring<int, 4>::push' > 0": '1',
    });
    const request = { text: 'machine::re', column: 12, frameId };
    const found = (await client.request('completions', request)).body as { targets: { label: string }[] };
    assert.deepEqual(
      found.targets.map(({ label }) => label),
      ['machine::readAll'],
    );
  });

  for (const mangling of ['legacy', 'v0']) {
    it(`are those of Rust (${mangling})`, async function () {
      try {
        execFileSync('rustc', ['--version'], { stdio: 'ignore' });
      } catch {
        this.skip();
      }
      const start = file('start.o');
      execFileSync('gcc', ['-c', '-o', start, join(SAMPLES, 'start.S')]);
      const link = ['-nostartfiles', ...LINK, start].flatMap((option) => ['-C', `link-arg=${option}`]);
      const unstable = mangling === 'legacy' ? [] : ['-C', `symbol-mangling-version=${mangling}`];
      execFileSync('rustc', [...RUST, ...unstable, ...link, '-o', program(), join(SAMPLES, 'sample.rs')], {
        stdio: 'pipe',
      });
      await stopAt('sample.rs', 'if self.mode != Mode::Real');
      await check({
        'self.count == before + 3 * by': '1',
        'self.history.slots[0]': '0',
        '(*self).pair.__0': '7',
        'self.pair.__1': /120|'x'/,
        'self.mode': /Real/,
        'self.mode == Mode::Real': '1',
        'sample::Mode::Long': /Long/,
        TOTAL: '5',
        'sample::TOTAL': '5',
        'sample::inner::mix': /^0x[0-9a-f]+ <sample::inner::mix/,
        "sizeof('sample::Ring<i32, 4>')": /\b24\b/,
      });
    });
  }
});
