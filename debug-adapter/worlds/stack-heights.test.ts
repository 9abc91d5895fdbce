// Expected values follow from what each instruction does to RSP and RBP (SDM Vol. 2).
import assert from 'node:assert/strict';
import { assemble } from '../../test/support/nasm.ts';
import { stackHeights } from './stack-heights.ts';

const START = 0x1000n;

/** Heights in front of the instructions behind which `; here` stands, in their order. */
function heights(source: string, bits: 32 | 64 = 64): ([sp: number | undefined, fp: number | undefined] | undefined)[] {
  const lines = `bits ${bits}\norg ${START}\n${source}`.split('\n');
  const marks = lines.filter((line) => line.includes('; here')).length;
  const marked = lines.map((line, index) => (line.includes('; here') ? `mark${index}:\n${line}` : line));
  const names = lines.flatMap((line, index) => (line.includes('; here') ? [`mark${index}`] : []));
  const whole = assemble(`${marked.join('\n')}\nend:\n${names.map((name) => `dd ${name}`).join('\n')}`);
  const code = whole.subarray(0, whole.length - 4 * marks);
  const places = new DataView(whole.buffer, whole.byteOffset + code.length);
  const found = stackHeights([{ start: START, bytes: code }], bits);
  return names.map((_, index) => {
    const height = found.get(BigInt(places.getUint32(4 * index, true)));
    return height && [height.sp, height.fp];
  });
}

describe('what a function does to the stack', () => {
  it('is followed through pushes, numbers, calls and its end', () => {
    const source = `
      push rbx ; here
      sub rsp, 0x20 ; here
      call 0x5000 ; here
      lea rsp, [rsp+0x20] ; here
      pop rbx ; here
      ret ; here`;
    assert.deepEqual(
      heights(source),
      [[0], [-8], [-40], [-40], [-8], [0]].map(([sp]) => [sp, undefined]),
    );
  });

  it('is known by the frame pointer where the stack is aligned', () => {
    const source = `
      push rbp
      mov rbp, rsp ; here
      push r12
      and rsp, -32
      sub rsp, 64
      nop ; here
      lea rsp, [rbp-8]
      pop r12 ; here
      pop rbp
      ret ; here`;
    assert.deepEqual(heights(source), [
      [-8, undefined],
      [undefined, -8],
      [-16, -8],
      [0, undefined],
    ]);
  });

  it('is followed along branches, whatever stands between', () => {
    const source = `
      test edi, edi
      js early
      push rbp
      mov rbp, rsp
      push rbx
    again:
      dec edi ; here
      jnz again
      pop rbx
      leave
      ret ; here
    early:
      mov eax, 1 ; here
      ret`;
    assert.deepEqual(heights(source), [
      [-16, -8],
      [0, undefined],
      [0, undefined],
    ]);
  });

  it('is that of a jump through a table where the table leads', () => {
    const source = `
      sub rsp, 24
      jmp [rax*8+0x5000]
      nop ; here
      add rsp, 24
      ret
      inc eax ; here
      jmp out
      dec eax ; here
    out:
      add rsp, 24
      ret ; here`;
    const inside = [-24, undefined];
    assert.deepEqual(heights(source), [inside, inside, inside, [0, undefined]]);
  });

  it('is unknown where nothing leads, and behind what makes another stack', () => {
    const source = `
      mov rsp, [rdi] ; here
      mov rbp, [rsi] ; here
      ret ; here
      nop ; here`;
    assert.deepEqual(heights(source), [[0, undefined], [undefined, undefined], [undefined, undefined], undefined]);
  });

  it('tells where the registers of the caller are', () => {
    const code = assemble('bits 64\npush rbp\nmov rbp, rsp\npush r15\npush rax\npush rbx\nxor ebx, ebx\nnop');
    const found = stackHeights([{ start: 0n, bytes: code }], 64).get(BigInt(code.length - 1));
    assert.deepEqual(
      found?.saved,
      new Map([
        ['rbp', -8],
        ['r15', -16],
        ['rbx', -32],
      ]),
    );
  });

  it('counts words of four bytes in 32-bit code', () => {
    const source = `
      push ebp
      mov ebp, esp
      push esi
      sub esp, 12
      nop ; here
      leave
      ret ; here`;
    assert.deepEqual(heights(source, 32), [
      [-20, -4],
      [0, undefined],
    ]);
  });

  it('is followed into parts that were moved away', () => {
    const hot = assemble('bits 64\norg 0x1000\npush rbx\ntest edi, edi\njz near 0x9000\npop rbx\nret');
    const cold = assemble('bits 64\norg 0x9000\nnop\nud2');
    const found = stackHeights(
      [
        { start: 0x1000n, bytes: hot },
        { start: 0x9000n, bytes: cold },
      ],
      64,
    );
    assert.equal(found.get(0x9001n)?.sp, -8);
  });
});
