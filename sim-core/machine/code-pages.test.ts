import assert from 'node:assert/strict';
import { elf64 } from '../../test/dap/sample.ts';
import { LateCompiler } from '../../test/support/late-compiler.ts';
import { assemble } from '../../test/support/nasm.ts';
import { randomBody, randomNumbers } from '../../test/support/random-program.ts';
import type { MachineConfig } from './api.ts';
import { createMachine } from './machine.ts';
import { STAGED_SEMANTICS } from './semantics.ts';
import { Verification } from './verify.ts';

/** Compiled code that runs through several pages, against the interpreter, while these pages change. */

const ORIGIN = 0x10_0078;
const MEMORY = 8 * 2 ** 20;
/** Linear addresses of 17 pages; they lead to 16 pages of code, which can be written where they are. */
const WINDOW = 0x60_0000;
const CODE = 0x40_0000;
const PAGES = 16;
/** Offsets in a page of code. */
const ROUTINE = 0;
const SHARED_END = 0x400;
const CALLER = 0x600;
const PAGE_SIZE = 0x700;
/** Where instructions of ROUTINE and of SHARED_END have the page's number as their 32-bit immediate. */
const NUMBERS = [ROUTINE + 19, SHARED_END + 3];

/** 4-level tables at `root` and the three pages behind it: 6 MiB as they are, then the window, from page `first` on. */
const tables = (root: number, first: number): string => `
  mov edi, ${root}
  mov ecx, 0x4000 / 8
  xor eax, eax
  rep stosq
  mov qword [${root}], ${root + 0x1003}
  mov qword [${root + 0x1000}], ${root + 0x2003}
  mov qword [${root + 0x2000}], 0x000083
  mov qword [${root + 0x2008}], 0x200083
  mov qword [${root + 0x2010}], 0x400083
  mov qword [${root + 0x2018}], ${root + 0x3003}
  xor ecx, ecx
%%fill:
  lea eax, [rcx + ${first}]
  and eax, ${PAGES - 1}
  shl eax, 12
  add eax, ${CODE + 3}
  mov [${root + 0x3000} + 8 * rcx], rax
  inc ecx
  cmp ecx, 17
  jb %%fill`;

const ROOTS = [0x20_0000, 0x21_0000] as const;

/** What all pages of code begin with; each gets its own number as immediate. Jumps and calls go to the next page. */
const codePage = (random: (below: number) => number): string => `
  routine: inc r13
  test r13d, 0x3ff
  jz near seldom
  warm: db 0x48, 0x81, 0xc6
  dd 0                         ; ADD RSI, the number
  ${randomBody(random, 6, 0)}
  test sil, 1
  jnz onward
  ret
  onward: jmp $ + 0x1000 + sharedEnd - onward
  seldom: test sil, 2
  jz warm
  inc r11
  jmp warm
  times ${SHARED_END} - ($ - template) db 0xcc
  sharedEnd: db 0x48, 0x81, 0xf7
  dd 0                         ; XOR RDI, the number
  ${randomBody(random, 4, 100)}
  ret
  times ${CALLER} - ($ - template) db 0xcc
  caller: call $ + 0x1000 + routine - caller
  inc r14
  ret
  times ${PAGE_SIZE} - ($ - template) db 0xcc`;

/** A loop that calls a page of the window, hot after one round. */
const loop = (random: (below: number) => number, number: number): string => {
  const target = WINDOW + 0x1000 * random(12) + (random(3) === 0 ? CALLER : ROUTINE);
  const written = CODE + 0x1000 * random(PAGES) + (NUMBERS[random(2)] ?? 0);
  return `
  loop${number}:
    mov ecx, 700
  again${number}:
    call ${target}
    ${randomBody(random, 3, 1000 * (number + 1))}
    ${number === 0 ? `test cl, 127\njnz kept\ninc byte [${written}]\nkept:` : ''}
    dec ecx
    jnz again${number}
    jmp change`;
};

/** Loops in random order; between them the tables change, the root of the tables, or the code. */
const program = (seed: number): string => {
  const random = randomNumbers(seed);
  const pageNumber = (shift: number): string => `mov eax, r12d\nshr eax, ${shift}\nand eax, ${PAGES - 1}`;
  return `
%macro tablesAt0 0\n${tables(ROOTS[0], 0)}\n%endmacro
%macro tablesAt1 0\n${tables(ROOTS[1], 1)}\n%endmacro
  tablesAt0
  tablesAt1
  xor ebx, ebx
.page:
  lea rsi, [rel template]
  mov edi, ebx
  shl edi, 12
  add edi, ${CODE}
  mov [rdi + ${PAGE_SIZE}], ebx
  mov ecx, ${PAGE_SIZE}
  rep movsb
  ${NUMBERS.map((at) => `mov [rdi - ${PAGE_SIZE} + ${at}], ebx`).join('\n')}
  inc ebx
  cmp ebx, ${PAGES}
  jb .page
  mov eax, ${ROOTS[0]}
  mov cr3, rax
  mov esp, 0x1f0000
  mov ebp, 0x300000
  mov r12, ${88172645463325252n + BigInt(seed)}
next:
  ${[13, -7, 17].map((by) => `mov rax, r12\n${by > 0 ? 'shl' : 'shr'} rax, ${Math.abs(by)}\nxor r12, rax`).join('\n')}
  mov eax, r12d
  shr eax, 8
  and eax, 3
${[0, 1, 2].map((number) => `cmp eax, ${number}\nje loop${number}`).join('\n')}
  jmp loop3
${[0, 1, 2, 3].map((number) => loop(random, number)).join('\n')}
change:
  mov eax, r12d
  shr eax, 16
  and eax, 7
  cmp eax, 2
  jb .tableEntry
  cmp eax, 3
  jb .otherRoot
  cmp eax, 5
  jb .code
  jmp next
.tableEntry:
  ${pageNumber(20)}
  mov ebx, eax
  ${pageNumber(24)}
  shl eax, 12
  add eax, ${CODE + 3}
  mov rdx, cr3
  mov [rdx + 0x3000 + 8 * rbx], rax
  test r12d, 0x40000000
  jz next                      ; the former translation may stay in use
  shl ebx, 12
  invlpg [rbx + ${WINDOW}]
  jmp next
.otherRoot:
  mov rax, cr3
  xor eax, ${ROOTS[0] ^ ROOTS[1]}
  mov cr3, rax
  jmp next
.code:
  ${pageNumber(20)}
  shl eax, 12
  test r12d, 0x40000000
  jz .end
  inc byte [rax + ${CODE} + ${NUMBERS[0]}]
  jmp next
.end:
  inc byte [rax + ${CODE} + ${NUMBERS[1]}]
  jmp next
template:
${codePage(random)}`;
};

const boot = (source: string, config: Partial<MachineConfig>) => {
  const machine = createMachine({ memory: MEMORY, ...config });
  const image = elf64([...assemble(`bits 64\norg ${ORIGIN}\n${source}`)]);
  machine.boot({ name: 'test', image, commandLine: '', modules: [] });
  return machine;
};

describe('compiled code of several pages', function () {
  this.timeout(60_000);
  const base = Number(process.env.VMXRAY_SEED ?? 1);

  for (let seed = base; seed < base + 8; seed++) {
    it(`agrees with the interpreter while tables and code change, seed ${seed}`, () => {
      const source = program(seed);
      const verification = new Verification((config) => boot(source, config), { maxInstructions: 1_500_000 });
      let outcome = verification.advance();
      while (!outcome) outcome = verification.advance();
      assert.deepEqual(outcome, { kind: 'limit' });
    });
  }

  it('agrees when regions arrive late', () => {
    const random = randomNumbers(base);
    const source = program(base);
    const compilers: LateCompiler[] = [];
    const start = (config: Partial<MachineConfig>) => {
      const compiler = new LateCompiler(STAGED_SEMANTICS, () => random(3) === 0);
      compilers.push(compiler);
      return boot(source, { ...config, compiler });
    };
    const verification = new Verification(start, { maxInstructions: 1_500_000 });
    let outcome = verification.advance();
    while (!outcome) outcome = verification.advance();
    assert.deepEqual(outcome, { kind: 'limit' });
    assert.ok(compilers.some(({ answered }) => answered > 3));
  });
});
