// Variables, registers and VMCS fields that a person changes: the program goes on with the new values. Expected values
// follow from the source.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { firstVmm, ROOT } from './sample.ts';

const FLAGS = '-g -O0 -ffreestanding -fno-stack-protector -fcf-protection=none -mgeneral-regs-only'.split(' ');
const LINK = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x200000,--build-id=none'];
const SOURCE = `
#include <elf.h>
enum mode { OFF, SLOW = 3, FAST = 200 };
struct pair { int first; long second; };
struct bits { unsigned low : 3; signed middle : 7; unsigned long wide : 40; _Bool on : 1; };
struct device {
  enum mode mode; struct bits bits; short table[4]; struct device *next; unsigned char letter;
  union { unsigned whole; unsigned char bytes[4]; };
  __int128 big; double weight;
};
struct device devices[2] = {{.mode = SLOW, .bits = {1, -2, 3, 0}, .next = &devices[1], .letter = 'a'}};
__thread int counter = 5;
static __thread struct pair pair = {6, 7};
static char threads[256] __attribute__((aligned(64)));
long results[16];
extern const Elf64_Ehdr __ehdr_start;

/* Gives the only thread its copy of the variables, below what FS leads to. */
static void begin_thread(void)
{
  const char *file = (const char *)&__ehdr_start;
  const Elf64_Phdr *header = (const Elf64_Phdr *)(file + __ehdr_start.e_phoff);
  while (header->p_type != PT_TLS) header++;
  char *end = threads + sizeof threads - 64;
  *(char **)end = end;
  unsigned long size = (header->p_memsz + header->p_align - 1) & -header->p_align;
  for (unsigned long i = 0; i < header->p_filesz; i++) (end - size)[i] = ((const char *)header->p_vaddr)[i];
  unsigned long base = (unsigned long)end;
  __asm__ volatile("wrmsr" : : "c"(0xc0000100), "a"((unsigned)base), "d"((unsigned)(base >> 32)));
}
__attribute__((noinline)) int doubled(int number) { return 2 * number; }
__attribute__((noinline)) int tripled(int number) { return 3 * number; }
int (*apply)(int) = doubled;

__attribute__((noinline)) int check(struct device *device, int number)
{
  int local = number;
  int *there = &counter;
  results[0] = -1;
  results[1] = device->mode;
  results[2] = 10 * device->bits.low + device->bits.on;
  results[3] = device->bits.middle;
  results[4] = device->bits.wide;
  results[5] = device->table[2];
  results[6] = device->next->letter;
  results[7] = device->whole;
  results[8] = (long)(device->big >> 64);
  results[9] = *there;
  results[10] = pair.second;
  results[11] = apply(local);
  unsigned long flags = 0;
  __asm__ volatile("nop" ::: "cc");
  __asm__ volatile("pushf; pop %0" : "=r"(flags));
  results[12] = flags & 0xad5;
  return (int)results[1];
}
int main(void)
{
  begin_thread();
  return check(devices, 21);
}
`;
const lineOf = (text: string): number => SOURCE.split('\n').findIndex((line) => line.includes(text)) + 1;

type Answer = { success?: boolean; message?: string; body: { value?: string } };
/** The new value, or why there is none. */
const answer = ({ success, message, body }: Answer): string => (success ? (body.value ?? '') : (message ?? ''));

describe('values that a person changes', () => {
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;
  let frameId = 0;

  before(async () => {
    writeFileSync(file('program.c'), SOURCE);
    const sources = [join(ROOT, 'test/variables/start.S'), file('program.c')];
    execFileSync('gcc', [...FLAGS, ...LINK, '-o', file('program.elf'), ...sources]);
  });

  const frame = async (): Promise<DebugProtocol.StackFrame> => {
    const [first] = (await client.request('stackTrace', { threadId: 1 })).body.stackFrames;
    assert.ok(first);
    return first;
  };
  const evaluate = async (expression: string): Promise<string> => {
    const { success, message, body } = await client.request('evaluate', { expression, frameId, context: 'watch' });
    return success ? body.result : (message ?? '');
  };
  const setExpression = async (expression: string, value: string): Promise<string> =>
    answer((await client.request('setExpression', { expression, value, frameId })) as Answer);
  const variables = async (variablesReference: number): Promise<DebugProtocol.Variable[]> =>
    (await client.request('variables', { variablesReference })).body.variables;
  const scope = async (name: string): Promise<number> => {
    const { scopes } = (await client.request('scopes', { frameId })).body;
    return scopes.find((candidate) => candidate.name === name)?.variablesReference ?? 0;
  };
  /** Opens one after the other, then sets the last one in the list of the one before. */
  async function setIn(scopeName: string, path: readonly string[], value: string): Promise<string> {
    let reference = await scope(scopeName);
    for (const name of path.slice(0, -1)) {
      const found = (await variables(reference)).find((variable) => variable.name === name);
      assert.ok(found, `${name} of ${path.join(' / ')}`);
      reference = found.variablesReference;
    }
    const args = { variablesReference: reference, name: path.at(-1) ?? '', value };
    return answer((await client.request('setVariable', args)) as Answer);
  }
  async function launch(args: object, line?: number): Promise<void> {
    client = await adapter.connect();
    await client.request('initialize', { adapterID: 'vmxray' });
    await client.request('launch', args);
    const breakpoints = line === undefined ? [] : [{ line }];
    await client.request('setBreakpoints', { source: { path: file('program.c') }, breakpoints });
    await client.run('configurationDone', {});
    frameId = (await frame()).id;
  }
  async function runTo(text: string): Promise<void> {
    const breakpoints = [{ line: lineOf(text) }];
    await client.request('setBreakpoints', { source: { path: file('program.c') }, breakpoints });
    await client.run('continue');
    frameId = (await frame()).id;
  }

  describe('in a C program', () => {
    beforeEach(() => launch({ program: file('program.elf'), stopOn: 'none' }, lineOf('results[0] = -1')));

    it('are members, bit fields, elements, enumerations, pointers and locals of the Variables view', async () => {
      assert.equal(await setIn('Arguments', ['device', 'mode'], 'FAST'), 'FAST');
      assert.equal(await setIn('Arguments', ['device', 'bits', 'low'], '5'), '5');
      assert.equal(await setIn('Arguments', ['device', 'bits', 'middle'], '-60'), '-60');
      assert.equal(await setIn('Arguments', ['device', 'bits', 'wide'], '0xffffffffff'), '1099511627775');
      assert.equal(await setIn('Arguments', ['device', 'bits', 'on'], '1'), 'true');
      assert.equal(await setIn('Arguments', ['device', 'table', '[2]'], 'number - 1000'), '-979');
      assert.match(await setIn('Arguments', ['device', 'next'], '&devices[0]'), /^0x[0-9a-f]+/);
      assert.equal(await setIn('Arguments', ['device', 'next', 'letter'], "'z'"), "122 'z'");
      assert.equal(await setIn('Arguments', ['device', '(anonymous)', 'bytes', '[3]'], '0x80'), "128 '\\x80'");
      assert.equal(await setIn('Arguments', ['device', 'weight'], '-0.5'), '-0.5');
      assert.match(await setExpression('device->big', '0x30000000000000000'), /^55340232221128654848/);
      assert.equal(await setExpression('*there', '77'), '77');
      assert.equal(await setExpression('pair.second', 'counter * 2'), '154');
      assert.match(await setExpression('apply', '&tripled'), /<tripled>/);
      assert.equal(await setIn('Locals', ['local'], 'local + 4'), '25');
      assert.equal(await evaluate('device->weight * 2'), '-1');
      await runTo('return (int)results[1]');
      const results = [-1, 200, 51, -60, 0xff_ffff_ffff, -979, 122, 0x8000_0000, 3, 77, 154, 75];
      for (const [index, result] of results.entries()) {
        assert.equal(await evaluate(`results[${index}] == ${result}`), '1', `results[${index}]`);
      }
    });

    it('are variables of which each thread has a copy', async () => {
      assert.equal(await evaluate('counter'), '5');
      assert.equal(await evaluate('pair.first + pair.second'), '0xd (13)');
      assert.equal(await evaluate('&counter == there'), '1');
      assert.equal(await evaluate('[counter]'), await evaluate('[5]'));
      assert.match(await evaluate('&counter'), /^0x[0-9a-f]+/);
      await setExpression('fs.base', '0');
      assert.match(await evaluate('counter'), /thread-local, but the bases of FS and GS are 0/);
    });

    it('are registers of every width, and what they hold goes on', async () => {
      assert.equal(await setExpression('rax', '0x1122334455667788'), '0x1122334455667788');
      const widths = { ax: '0xabcd', al: '0x12', ah: '0x34', eax: '0x89abcdef' };
      const wholes = ['0x112233445566abcd', '0x112233445566ab12', '0x1122334455663412', '0x89abcdef (2309737967)'];
      for (const [index, [name, value]] of Object.entries(widths).entries()) {
        await setExpression(name, value);
        assert.equal(await evaluate('rax'), wholes[index]);
      }
      assert.equal(await setIn('General', ['r8'], '-1'), `0x${'f'.repeat(16)}`);
      assert.equal(await evaluate('r8d'), '0xffffffff (4294967295)');
      const wide = '0x0123456789abcdeffedcba9876543210';
      assert.equal(await setIn('Vector registers', ['xmm3'], wide), wide);
      assert.equal(await evaluate('xmm3 >> 64'), '0x123456789abcdef');
      const minusTen = `0xc002${'a'.padEnd(16, '0')}`;
      assert.equal(await setIn('x87 registers', ['st2'], minusTen), minusTen);
      assert.equal(await evaluate('st2 >> 64'), '0xc002 (49154)');
      assert.match(await setIn('Segments', ['cs'], '8'), /'cs' cannot be changed: it can only be read here/);
      assert.match(await setIn('General', ['rax'], '1 +'), /A value is expected.*column 4/);
    });

    it('are bits of RFLAGS, which the next instructions find', async () => {
      await runTo('"nop"');
      for (const [name, value] of Object.entries({ CF: '1', ZF: '1', OF: '1', SF: '0', PF: '0', AF: '0' })) {
        assert.equal(await setIn('General', ['rflags', name], value), value);
      }
      assert.match(
        await setIn('General', ['rflags', 'CF'], '2'),
        /'CF' cannot be changed: 2 does not fit into one bit/,
      );
      assert.match(await setIn('General', ['rflags', 'XX'], '1'), /XX/);
      await runTo('return (int)results[1]');
      const [CF, ZF, OF] = [1, 0x40, 0x800];
      assert.equal(await evaluate('results[12]'), String(CF | ZF | OF));
    });

    it('may be given with the words that explain what was there', async () => {
      const general = await variables(await scope('General'));
      const rip = general.find(({ name }) => name === 'rip')?.value ?? '';
      assert.match(rip, /^0x[0-9a-f]+ <check\+\d+>$|^0x[0-9a-f]+ <.*>$/);
      assert.equal((await setIn('General', ['rip'], rip)).slice(0, 18), rip.slice(0, 18));
      const shown = await evaluate('apply');
      assert.match(shown, / <doubled>$/);
      assert.equal(await setExpression('apply', shown), shown);
    });

    it('are refused with the reason where that is not possible', async () => {
      assert.match(await setExpression('device->bits', '1'), /is of type struct bits; change its parts/);
      assert.match(await setExpression('device->table', '1'), /is of type short int \[4\]; change its parts/);
      assert.match(await setExpression('doubled', '1'), /'doubled' cannot be changed/);
      assert.match(await setExpression('number + 1', '1'), /only registers, VMCS fields, variables and memory/);
      assert.match(await setExpression('*(int *)0xffff800000000000', '1'), /it is not mapped RAM/);
      assert.match(await setExpression('device->none', '1'), /has no member 'none' \(at column 7\)/);
      assert.match(await setExpression('vmcs.GUEST_RIP', '1'), /there is no current VMCS/);
      const [, main] = (await client.request('stackTrace', { threadId: 1 })).body.stackFrames;
      frameId = main?.id ?? 0;
      assert.match(await setIn('General', ['rax'], '1'), /belongs to a caller/);
      assert.match(await setExpression('rax', '1'), /belongs to a caller/);
    });

    it('are registers of a caller, where the function that it has called has saved them', async () => {
      // Clients ask for the stack again when something has been changed.
      const goTo = async (depth: number): Promise<void> => {
        const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
        frameId = stackFrames[depth]?.id ?? 0;
      };
      await goTo(1);
      assert.equal(await setIn('General', ['rbp'], '0x1234567890'), '0x0000001234567890');
      await goTo(1);
      assert.equal(await evaluate('$rbp == 0x1234567890'), '1');
      // What check has pushed is at the bottom of its own frame.
      await goTo(0);
      assert.equal(await evaluate('[$rbp] == 0x1234567890'), '1');
      await goTo(1);
      await setExpression('rbp', '0x77');
      await goTo(0);
      assert.equal(await evaluate('[$rbp] == 0x77'), '1');
    });
  });

  describe('of a virtual machine', () => {
    beforeEach(() => launch(firstVmm({ stopOn: 'vmlaunch' })));

    it('are fields and their bits, which the processor loads at the next VM entry', async () => {
      const controls = 'Processor-based VM-execution controls';
      const groups = await variables(await scope('VMCS'));
      const group = async (field: string): Promise<string> => {
        for (const { name, variablesReference } of groups) {
          if ((await variables(variablesReference)).some((variable) => variable.name === field)) return name;
        }
        return '';
      };
      const guest = await group('GUEST_RFLAGS');
      const before = BigInt((await evaluate('vmcs.GUEST_RFLAGS')).split(' ')[0] ?? '');
      assert.equal(await setIn('VMCS', [guest, 'GUEST_RFLAGS', 'CF'], '1'), '1');
      assert.equal(BigInt((await evaluate('vmcs.GUEST_RFLAGS')).split(' ')[0] ?? ''), before | 1n);
      assert.ok(controls.length > 0);
      const readOnly = /the processor writes it, and software reads it/;
      const exit = await group('EXIT_REASON');
      assert.match(await setIn('VMCS', [exit, 'EXIT_REASON'], '1'), readOnly);
      assert.match(await setExpression('vmcs.EXIT_REASON', '1'), readOnly);
      assert.match(await setExpression('vmcs.GUEST_NOTHING', '1'), /GUEST_NOTHING/);
    });
  });
});
