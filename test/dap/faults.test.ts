/** Steps onto instructions that fault: they end at the first instruction of the handler, as an interrupt does not. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { useFolder } from '../support/folder.ts';
import { assemble } from '../support/nasm.ts';
import { useAdapter } from './adapter.ts';
import { elf64 } from './sample.ts';

const ORIGIN = 0x10_0078;
/** IDT entries 6 (#UD) and 14 (#PF) lead to `handler`, which skips the instruction: 2 bytes each. */
const SOURCE = `bits 64
  org ${ORIGIN}
  mov rsp, 0x200000
  lea rdi, [rel idt + 16 * 6]
  call gate
  lea rdi, [rel idt + 16 * 14]
  call gate
  lidt [rel idtr]
  mov rax, 0x7fff00000000
undefined:
  ud2
notMapped:
  mov eax, [rax]
  hlt
gate:
  lea rax, [rel handler]
  mov [rdi], ax
  mov [rdi + 2], cs
  mov word [rdi + 4], 0x8e00
  shr rax, 16
  mov [rdi + 6], ax
  ret
handler:
  nop
  test qword [rsp], -64
  jnz .noErrorCode
  add rsp, 8
.noErrorCode:
  add qword [rsp], 2
  iretq
align 16
idt: times 16 * 32 db 0
idtr:
  dw 16 * 32 - 1
  dq idt
  dq undefined, notMapped, handler
`;

describe('A step onto an instruction that faults', () => {
  const adapter = useAdapter();
  const file = useFolder();
  let program: string;
  let labels: { undefined: bigint; notMapped: bigint; handler: bigint };

  before(async () => {
    program = file('program.elf');
    const code = Buffer.from(assemble(SOURCE));
    writeFileSync(program, elf64([...code]));
    const [undefinedAt, notMapped, handler] = [24, 16, 8].map((back) => code.readBigUInt64LE(code.length - back));
    labels = { undefined: undefinedAt ?? 0n, notMapped: notMapped ?? 0n, handler: handler ?? 0n };
  });

  for (const command of ['next', 'stepIn'] as const) {
    for (const granularity of ['instruction', 'line'] as const) {
      it(`ends in the handler (${command}, ${granularity})`, async () => {
        const client = await adapter.launch({ program, stopOn: 'entry' });
        await client.run('configurationDone', {});
        const rip = async (): Promise<bigint> => BigInt(await client.value('rip'));
        for (const place of [labels.undefined, labels.notMapped]) {
          const instructionReference = `0x${place.toString(16)}`;
          await client.request('setInstructionBreakpoints', { breakpoints: [{ instructionReference }] });
          await client.run('continue');
          assert.equal(await rip(), place);
          const stop = await client.run(command, { threadId: 1, granularity });
          assert.equal(stop.body.reason, 'step');
          assert.equal(await rip(), labels.handler);
          // The NOP is the handler's first instruction: it has not been executed.
          await client.run(command, { threadId: 1, granularity: 'instruction' });
          assert.equal(await rip(), labels.handler + 1n);
        }
        await client.request('setInstructionBreakpoints', { breakpoints: [] });
        assert.equal((await client.run('continue')).body.description, 'Halted');
      });
    }
  }
});
