import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';

const START = `
        .globl _start
_start: lea stack_top(%rip), %rsp
        call main
        mov $0, %eax
        out %eax, $0xf4
        hlt
        .bss
        .skip 4096
stack_top:
`;
const C_SOURCE = `int leaf(int x);
int calls;
__attribute__((noinline)) int depth(int n)
{
  if (n == 0)
    return leaf(n);
  int below = depth(n - 1);
  return below + leaf(n);
}
__attribute__((noinline)) int leaf(int x)
{
  calls++;
  return x * 2;
}
int main(void)
{
  int result = depth(3);
  result += leaf(5);
  return result;
}
`;
const NASM_SOURCE = `bits 64
section .text
global _start
_start:
    mov rsp, stack_top
    mov ecx, 3
    xor ebx, ebx
again:
    call add_one
    loop again
    mov eax, 0
    out 0xf4, eax
    hlt
add_one:
    inc rbx
    ret
section .bss
    resb 512
stack_top:
`;
/** Programs the timer, waits until its interrupt is pending, and lets it come in front of the second NOP. */
const INTERRUPT_SOURCE = `bits 64
section .text
global _start
%macro port 2
    mov al, %2
    out %1, al
%endmacro
_start:
    mov rsp, stack_top
    mov rax, handler
    mov rdi, idt + 0x20 * 16
    mov [rdi], ax
    mov [rdi + 2], cs
    mov byte [rdi + 5], 0x8e
    shr rax, 16
    mov [rdi + 6], ax
    lidt [idtr]
    port 0x20, 0x11
    port 0x21, 0x20
    port 0x21, 0x04
    port 0x21, 0x01
    port 0x21, 0xfe
    port 0x43, 0x30
    port 0x40, 0x10
    port 0x40, 0x00
    port 0x20, 0x0a
pending:
    in al, 0x20
    test al, 1
    jz pending
    xor ebx, ebx
    sti
shadow:
    nop
interrupted:
    nop
behind:
    nop
    hlt
handler:
    inc rbx
    push rax
    port 0x20, 0x20
    pop rax
    iretq
section .data
idtr: dw 0xfff
    dq idt
section .bss
alignb 16
idt: resb 4096
    resb 512
stack_top:
`;
const THREAD = { threadId: 1 };
const LINK = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack'];

describe('programs of other compilers and options', () => {
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;

  before(async () => {
    writeFileSync(file('start.S'), START);
    writeFileSync(file('program.c'), C_SOURCE);
    writeFileSync(file('program.asm'), NASM_SOURCE);
  });

  async function launch(program: string, functions: readonly string[]): Promise<void> {
    client = await adapter.launch({ program, stopOn: 'none' });
    await client.request('setFunctionBreakpoints', { breakpoints: functions.map((name) => ({ name })) });
    await client.run('configurationDone', {});
  }
  const frames = async (): Promise<string[]> => {
    const { stackFrames } = (await client.request('stackTrace', THREAD)).body;
    return stackFrames.map(({ name, line }: { name: string; line: number }) => `${name}:${line}`);
  };
  const functions = async (): Promise<string[]> => (await frames()).map((frame) => frame.split(':')[0] ?? '');

  const OPTIONS: Readonly<Record<string, readonly string[]>> = {
    'gcc -O0 without call-frame information': ['-O0', '-fno-omit-frame-pointer', '-fno-dwarf2-cfi-asm', '-g1'],
    'gcc -O2 without frame pointers': ['-O2', '-fno-optimize-sibling-calls', '-fno-asynchronous-unwind-tables'],
    'gcc -O1 with .eh_frame only': ['-O1', '-fomit-frame-pointer', '-fasynchronous-unwind-tables'],
  };
  for (const [name, options] of Object.entries(OPTIONS)) {
    it(`finds every caller of a recursion compiled by ${name}`, async () => {
      const program = file('program.elf');
      const flags = ['-ffreestanding', '-fcf-protection=none', '-fno-ipa-cp', '-fno-ipa-icf', '-g', ...options];
      execFileSync('gcc', [...flags, ...LINK, '-o', program, file('start.S'), file('program.c')]);
      if (name.includes('without call-frame'))
        execFileSync('objcopy', ['--remove-section=.eh_frame', program], { stdio: 'ignore' });
      await launch(program, ['leaf']);
      // leaf is first reached from depth(0), called by depth(1), depth(2), depth(3) and main.
      assert.deepEqual(await functions(), ['leaf', 'depth', 'depth', 'depth', 'depth', 'main', '_start']);
      await client.run('continue');
      assert.deepEqual(await functions(), ['leaf', 'depth', 'depth', 'depth', 'main', '_start']);
      await client.request('setFunctionBreakpoints', { breakpoints: [] });
      await client.run('stepOut');
      assert.deepEqual(await functions(), ['depth', 'depth', 'depth', 'main', '_start']);
    });
  }

  it('steps over a recursive call in one activation, and into it', async () => {
    const program = file('recursion.elf');
    const flags = ['-ffreestanding', '-fcf-protection=none', '-O0', '-g'];
    execFileSync('gcc', [...flags, ...LINK, '-o', program, file('start.S'), file('program.c')]);
    await launch(program, ['depth']);
    assert.deepEqual(await frames(), ['depth:5', 'main:17', '_start:4']);
    await client.request('setFunctionBreakpoints', { breakpoints: [] });
    await client.run('next');
    assert.deepEqual((await frames())[0], 'depth:7');
    await client.run('next');
    assert.deepEqual(await frames(), ['depth:8', 'main:17', '_start:4']);
    assert.equal(await client.value('u32(calls)'), '3');
    await client.run('stepIn');
    assert.deepEqual(await frames(), ['leaf:12', 'depth:8', 'main:17', '_start:4']);
    await client.run('next');
    await client.run('next');
    await client.run('next');
    assert.deepEqual(await functions(), ['depth', 'main', '_start']);
    await client.run('stepOut');
    assert.deepEqual(await frames(), ['main:17', '_start:4']);
  });

  it('steps through assembly of nasm line by line', async () => {
    const program = file('nasm.elf');
    execFileSync('nasm', ['-g', '-F', 'dwarf', '-f', 'elf64', '-o', file('nasm.o'), file('program.asm')]);
    execFileSync('ld', ['-Ttext=0x100000', '-o', program, file('nasm.o')], { stdio: 'ignore' });
    await launch(program, ['again']);
    assert.deepEqual(await frames(), ['again:9']);
    await client.request('setFunctionBreakpoints', { breakpoints: [] });
    await client.run('stepIn');
    assert.deepEqual(await frames(), ['add_one:15', 'again:9']);
    await client.run('stepOut');
    assert.deepEqual(await frames(), ['again:10']);
    await client.run('next');
    assert.deepEqual(await frames(), ['again:9']);
    await client.run('next');
    assert.equal(await client.value('rbx'), '2');
    const source = { path: file('program.asm') };
    const set = await client.request('setBreakpoints', { source, breakpoints: [{ line: 11, condition: 'ecx == 0' }] });
    assert.deepEqual([set.body.breakpoints[0]?.verified, set.body.breakpoints[0]?.line], [true, 11]);
    await client.run('continue');
    assert.deepEqual(await frames(), ['again:11']);
    assert.equal(await client.value('rbx'), '3');
  });

  for (const [motion, where] of [
    ['next', 'behind'],
    ['stepIn', 'handler'],
  ] as const) {
    it(`${motion} at an instruction that an interrupt comes in front of leads to ${where}`, async () => {
      const program = file('interrupt.elf');
      writeFileSync(file('interrupt.asm'), INTERRUPT_SOURCE);
      execFileSync('nasm', ['-g', '-F', 'dwarf', '-f', 'elf64', '-o', file('interrupt.o'), file('interrupt.asm')]);
      execFileSync('ld', ['-Ttext=0x100000', '-o', program, file('interrupt.o')], { stdio: 'ignore' });
      await launch(program, ['shadow']);
      assert.equal(await client.value('rbx'), '0');
      await client.run('next', { ...THREAD, granularity: 'instruction' });
      assert.deepEqual((await functions())[0], 'interrupted');
      await client.run(motion, { ...THREAD, granularity: 'instruction' });
      assert.deepEqual((await functions())[0], where);
      assert.equal(await client.value('rbx'), where === 'behind' ? '1' : '0');
    });
  }

  it('debugs 32-bit code and code without symbols', async () => {
    const program = file('program32.elf');
    const source = file('start32.S');
    writeFileSync(source, '.globl _start\n_start: mov $0x100, %ecx\n1: dec %ecx\n jnz 1b\n hlt\n');
    execFileSync('gcc', ['-m32', ...LINK, '-o', program, source]);
    execFileSync('strip', [program]);
    await launch(program, []);
    assert.equal(await client.value('ecx'), '0');
    const stack = (await client.request('stackTrace', THREAD)).body.stackFrames;
    const { instructions } = (
      await client.request('disassemble', {
        memoryReference: stack[0]?.instructionPointerReference,
        instructionOffset: -4,
        instructionCount: 4,
      })
    ).body;
    // objdump -d of the same bytes.
    const dump = execFileSync('objdump', ['-d', '-M', 'intel', '--no-show-raw-insn', program], { encoding: 'utf8' });
    const expected = [...dump.matchAll(/^\s+([0-9a-f]+):\t(\w+)/gm)].map(
      ([, address, mnemonic]) => `0x${address} ${mnemonic}`,
    );
    const found = instructions.map(
      ({ address, instruction }: { address: string; instruction: string }) => `${address} ${instruction.split(' ')[0]}`,
    );
    assert.deepEqual(
      found.map((line: string) => line.replace('jne', 'jnz').replace('jnz', 'jne')),
      expected,
    );
  });
});
