// Expected values follow from the sample's source, and sizes from gdb.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { ROOT } from './sample.ts';

const SAMPLE = join(ROOT, 'test/variables');
const FLAGS = '-g -ffreestanding -fno-stack-protector -fcf-protection=none -mgeneral-regs-only'.split(' ');
const LINK = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x200000,--build-id=none'];
/** Needs no floating point, for which a program has to turn SSE on. */
const SOURCE = `
struct point { int x, y; };
struct vcpu { const char *name; unsigned long registers[4]; struct point at; unsigned mode : 3; struct vcpu *next; };
enum state { IDLE, RUNNING = 5 };
struct vcpu vcpus[300];
static int calls;
double weight = 2.5;
float ratio = 0.5f;
long double wide = 1.25L;
static inline __attribute__((always_inline)) int twice(int value)
{
  int doubled = value * 2;
  calls += doubled;
  return doubled;
}
__attribute__((noinline)) int visit(struct vcpu *vcpu, enum state state)
{
  int sum = 0;
  for (int i = 0; i < 4; i++)
    sum += (int)vcpu->registers[i];
  calls++;
  return sum + twice(sum);
}
int main(void)
{
  vcpus[7].name = "seven";
  vcpus[7].next = &vcpus[3];
  vcpus[7].mode = 5;
  for (int i = 0; i < 4; i++) vcpus[7].registers[i] = 10 * i;
  struct { int mark; } guest = {7};
  int result = visit(&vcpus[7], RUNNING) + guest.mark;
  return result;
}
`;

describe('variables of a C program', () => {
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;
  let frameId: number;

  before(async () => {
    writeFileSync(file('program.c'), SOURCE);
    const sources = [join(SAMPLE, 'start.S'), file('program.c')];
    execFileSync('gcc', [...FLAGS, '-O0', ...LINK, '-o', file('program.elf'), ...sources]);
  });

  const lineOf = (text: string): number => SOURCE.split('\n').findIndex((line) => line.includes(text)) + 1;
  beforeEach(async () => {
    client = await adapter.launch({ program: file('program.elf'), stopOn: 'none' });
    const breakpoints = [{ line: lineOf('sum += (int)'), condition: 'i == 2 && vcpu->registers[1] == 10' }];
    await client.request('setBreakpoints', { source: { path: file('program.c') }, breakpoints });
    await client.run('configurationDone', {});
    const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
    assert.deepEqual(
      stackFrames.map(({ name }) => name),
      ['visit', 'main', '_start'],
    );
    frameId = stackFrames[0]?.id ?? 0;
  });

  const evaluate = async (expression: string, context = 'watch'): Promise<string> => {
    const answer = await client.request('evaluate', { expression, frameId, context });
    return answer.success ? answer.body.result : (answer.message ?? '');
  };
  const scope = async (name: string): Promise<number> => {
    const { scopes } = (await client.request('scopes', { frameId })).body;
    return scopes.find((candidate) => candidate.name === name)?.variablesReference ?? 0;
  };
  const open = async (variablesReference: number, more: object = {}): Promise<DebugProtocol.Variable[]> =>
    (await client.request('variables', { variablesReference, ...more })).body.variables;
  const named = (list: readonly DebugProtocol.Variable[], name: string): DebugProtocol.Variable => {
    const found = list.find((variable) => variable.name === name);
    assert.ok(found, `${name} among ${list.map((variable) => variable.name)}`);
    return found;
  };
  const gdb = (expression: string): string => {
    const text = execFileSync('gdb', ['-nx', '-batch', '-ex', `print ${expression}`, file('program.elf')], {
      encoding: 'utf8',
    });
    return /\$1 = (.*)/.exec(text)?.[1] ?? text;
  };

  it('take part in floating-point arithmetic, and are set', async () => {
    assert.equal(await evaluate('weight * 2 + ratio'), '5.5');
    assert.equal(await evaluate('wide + 1'), '2.25');
    assert.equal(await evaluate('(double)i / 4 < weight'), '1');
    assert.equal(await evaluate('(int)weight + i'), '4');
    assert.match(await evaluate('weight % 2'), /'%' needs whole numbers \(at column 8\)/);
    assert.match(await evaluate('vcpu->registers[weight]'), /column/);
    const set = async (expression: string, value: string): Promise<string> => {
      const answer = await client.request('setExpression', { expression, value, frameId });
      return answer.success ? (answer.body as { value: string }).value : (answer.message ?? '');
    };
    assert.equal(await set('weight', 'ratio * 3'), '1.5');
    assert.equal(await set('wide', '-0.375'), '-0.375');
    assert.equal(await set('vcpu->mode', '6'), '6');
    assert.equal(await set('sum', '7.9'), '7');
    assert.match(await set('vcpu->at', '1'), /'The value' cannot be changed: it is of type/);
    assert.match(await set('ratio', '1 +'), /A value is expected.*column 4/);
    assert.equal(await evaluate('ratio = 0.25', 'repl'), '0.25');
    assert.equal(await evaluate('ratio'), '0.25');
  });

  it('are told of with the column where something is wrong with an expression', async () => {
    // The mark stands in front of what is wrong.
    const mistakes = {
      '1 + |vmcs.GUEST_RIP': /no current VMCS/,
      '1 + |vmcs.GUEST_NOTHING': /is no VMCS field/,
      'i + |guest.rip': /no guest/i,
      'i + |[0xffff800000000000]': /Nothing can be read/,
      '2 * u8(|[0xffff800000000000])': /Nothing can be read/,
      'i == 2 && |nothing': /is no register/,
      '(i + |wide_nothing)': /is no register/,
      '1 + |ratio.x': /has no member 'x'/,
      'sum + vcpu|->at.z': /has no member 'z'/,
      '(int)vcpu + |((struct nothing *)vcpu)': /no type/,
      '1 + |*i': /is no pointer/,
      'i + |(struct point)5': /needs a variable/,
      'sum & (i |% 0)': /Division by zero/,
      'sum + |&7': /have an address/,
    };
    for (const [marked, message] of Object.entries(mistakes)) {
      const expression = marked.replace('|', '');
      const told = await evaluate(expression);
      assert.match(told, message, expression);
      // A cast begins behind the parenthesis around it.
      const column = marked.indexOf('|') + 1 + (marked.includes('|((') ? 1 : 0);
      assert.ok(told.endsWith(`(at column ${column})`), `${marked}: ${told}`);
    }
    assert.match(await evaluate('i = 1 + vmcs.GUEST_RIP', 'repl'), /\(at column 9\)$/);
    assert.match(await evaluate('vmcs.GUEST_RIP = 1', 'repl'), /no current VMCS \(at column 1\)$/);
  });

  it('stand before a world’s registers only where they have such a member', async () => {
    const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
    const inMain = async (expression: string): Promise<string> => {
      const answer = await client.request('evaluate', { expression, frameId: stackFrames[1]?.id, context: 'watch' });
      return answer.success ? answer.body.result : (answer.message ?? '');
    };
    assert.equal(await inMain('guest.mark'), '7');
    // No hypervisor runs.
    assert.match(await inMain('guest.cr3'), /no guest/i);
    assert.match(await inMain('guest.nothing'), /has no member 'nothing'/);
    assert.equal(await inMain('vmm.cr3'), await inMain('cr3'));
  });

  it('are completed in the debug console, with their members', async () => {
    const complete = async (text: string): Promise<readonly string[]> => {
      const { body } = await client.request('completions', { text, column: text.length + 1, frameId });
      const { targets } = body as { targets: DebugProtocol.CompletionItem[] };
      return targets.map(
        ({ label, start = 0, length = 0 }) => text.slice(0, start - 1) + label + text.slice(start - 1 + length),
      );
    };
    assert.deepEqual(await complete('1 + su'), ['1 + sum']);
    assert.deepEqual(await complete('vcpu->n'), ['vcpu->name', 'vcpu->next']);
    assert.deepEqual(await complete('vcpus[7].at.'), ['vcpus[7].at.x', 'vcpus[7].at.y']);
    assert.deepEqual(await complete('sum+vcpu->at.x'), ['sum+vcpu->at.x']);
    assert.deepEqual(await complete('@addr'), ['@address-space']);
    assert.ok((await complete('@vmw')).includes('@vmwrite'));
    assert.deepEqual(await complete('@vmwrite GUEST_RI'), ['@vmwrite GUEST_RIP']);
    assert.deepEqual(await complete('@wrmsr ia32_ef'), ['@wrmsr IA32_EFER']);
    assert.deepEqual(await complete('@read cr3'), ['@read cr3']);
    assert.deepEqual(await complete('last-e'), ['last-exit']);
    assert.match(await evaluate('@vmwrite GUEST_RIP', 'repl'), /^VMWRITE GUEST_RIP: add a function breakpoint/);
  });

  it('are listed by scope, with types and what is inside', async () => {
    const locals = await open(await scope('Locals'));
    assert.deepEqual(
      locals.map(({ name, value, type }) => [name, value, type]),
      [
        ['i', '2', 'int'],
        ['sum', '10', 'int'],
      ],
    );
    const parameters = await open(await scope('Arguments'));
    assert.equal(named(parameters, 'state').value, 'RUNNING');
    const vcpu = named(parameters, 'vcpu');
    assert.equal(vcpu.type, 'struct vcpu *');
    const members = await open(vcpu.variablesReference);
    assert.match(named(members, 'name').value, /^0x[0-9a-f]+ "seven"$/);
    assert.equal(named(members, 'mode').value, '5');
    const registers = named(members, 'registers');
    assert.deepEqual([registers.value, registers.indexedVariables], ['{0, 10, 20, 30}', 4]);
    assert.equal(registers.evaluateName, 'vcpu->registers');
    const globals = await open(await scope('Globals of the source file'));
    assert.equal(named(globals, 'calls').value, '0');
  });

  it('are given in parts when they are many', async () => {
    const globals = await open(await scope('Globals of the source file'));
    const vcpus = named(globals, 'vcpus');
    assert.equal(vcpus.indexedVariables, 300);
    const part = await open(vcpus.variablesReference, { filter: 'indexed', start: 5, count: 3 });
    assert.deepEqual(
      part.map(({ name }) => name),
      ['[5]', '[6]', '[7]'],
    );
    assert.match(part[2]?.value ?? '', /"seven".*mode = 5/);
  });

  it('are what expressions of C work with', async () => {
    assert.equal(await evaluate('vcpu->registers[3] + i'), '0x20 (32)');
    assert.equal(await evaluate('vcpu->next->mode'), '0');
    assert.equal(await evaluate('vcpus[7].at.x == 0 && vcpu == &vcpus[7]'), '1');
    assert.equal(await evaluate('*(&sum)'), '10');
    assert.equal(await evaluate('(unsigned char)(sum - 11)'), "255 '\\xff'");
    assert.equal(await evaluate('((struct point *)&vcpu->at)->y', 'hover'), '0');
    assert.equal(await evaluate('*(vcpu->registers + 1)'), '10');
    assert.equal(await evaluate('&vcpus[8] - vcpu'), '1');
    assert.equal(
      await evaluate('sizeof(struct vcpu)'),
      `0x${Number(gdb('sizeof(struct vcpu)')).toString(16)} (${gdb('sizeof(struct vcpu)')})`,
    );
    assert.equal(await evaluate('u32(calls)'), '0');
    assert.match(await evaluate('vcpu->nothing'), /struct vcpu \* has no member 'nothing'/);
    assert.match(await evaluate('*sum'), /int is no pointer/);
    assert.match(await evaluate('(struct nothing *)vcpu'), /no type 'struct nothing \*'/);
  });

  it('are changed by name, in lists and by assignments', async () => {
    const variablesReference = await scope('Locals');
    const set = await client.request('setVariable', { variablesReference, name: 'sum', value: 'i + 40' });
    assert.equal(set.success, true, set.message);
    assert.equal(await evaluate('sum'), '42');
    await client.request('setExpression', { expression: 'vcpu->mode', value: '9', frameId });
    assert.equal(await evaluate('vcpu->mode'), '1');
    await evaluate('vcpus[7].registers[3] = 1000', 'repl');
    await client.request('setBreakpoints', { source: { path: file('program.c') }, breakpoints: [] });
    await client.run('stepOut');
    const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
    assert.equal(stackFrames[0]?.name, 'main');
    frameId = stackFrames[0]?.id ?? 0;
    // sum was 42 before 20 and 1000 were added; visit returns it three times.
    assert.equal(await evaluate('(int)rax'), String(3 * (42 + 20 + 1000)));
  });

  it('of callers are those of their frames, and inlined functions have frames', async () => {
    const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
    frameId = stackFrames[1]?.id ?? 0;
    assert.deepEqual(
      (await open(await scope('Locals'))).map(({ name }) => name),
      ['guest', 'result'],
    );
    const startLine =
      readFileSync(join(SAMPLE, 'start.S'), 'utf8')
        .split('\n')
        .findIndex((text) => /call/.test(text)) + 1;
    const line = lineOf('calls += doubled');
    await client.request('setBreakpoints', { source: { path: file('program.c') }, breakpoints: [{ line }] });
    await client.run('continue');
    const inner = (await client.request('stackTrace', { threadId: 1 })).body.stackFrames;
    assert.deepEqual(
      inner.map((frame) => [frame.name, frame.line]),
      [
        ['twice', line],
        ['visit', lineOf('return sum + twice')],
        ['main', lineOf('int result = visit')],
        ['_start', startLine],
      ],
    );
    frameId = inner[0]?.id ?? 0;
    assert.equal(await evaluate('doubled'), '120');
    frameId = inner[1]?.id ?? 0;
    assert.equal(await evaluate('sum'), '60');
    assert.match(await evaluate('doubled'), /'doubled' is no register/);
  });
});
