import assert from 'node:assert/strict';
import { elf64 } from '../../test/dap/sample.ts';
import { assemble } from '../../test/support/nasm.ts';
import { XORSHIFT, XORSHIFT_SEED } from '../../test/support/xorshift.ts';
import { explainStaleUse } from '../mmu/explain-stale.ts';
import type { StaleUse } from '../mmu/table-watch.ts';
import { REGION } from '../state/layout.ts';
import type { Machine } from './api.ts';
import { createMachine } from './machine.ts';

const ORIGIN = 0x10_0078;
const MEMORY = 8 * 2 ** 20;
const WINDOW = 0x60_0000n;

/** 4-level tables at 2 MiB: 4 MiB as they are in large pages, and 17 pages at 6 MiB through a table at 203000h. */
const TABLES = `
  mov edi, 0x200000
  mov ecx, 0x4000 / 8
  xor eax, eax
  rep stosq
  mov qword [0x200000], 0x201003
  mov qword [0x201000], 0x202003
  mov qword [0x202000], 0x000083
  mov qword [0x202008], 0x200083
  mov qword [0x202010], 0x400083
  mov qword [0x202018], 0x203003
  mov eax, 0x400003
  xor ecx, ecx
.fill:
  mov [0x203000 + 8 * rcx], rax
  add eax, 0x1000
  inc ecx
  cmp ecx, 17
  jb .fill
  mov eax, 0x200000
  mov cr3, rax
`;

/** One thing in each round, chosen by a generator: table writes, invalidations, loads of CR3, reads and writes. */
const RANDOM_ROUNDS = `
  mov rbx, ${XORSHIFT_SEED}
.round:
  ${XORSHIFT}
  mov ecx, ebx
  shr ecx, 8
  and ecx, 15
  mov r8d, ecx
  shl r8d, 12
  add r8d, 0x600000
  mov edx, ebx
  shr edx, 16
  and edx, 15
  shl edx, 12
  add edx, 0x400003
  mov eax, ebx
  shr eax, 24
  and eax, 15
  cmp eax, 2
  jb .writeTable
  je .readModifyWrite
  cmp eax, 5
  jb .invalidate
  je .loadCr3
  cmp eax, 9
  jb .writePage
  add rsi, [r8]
  add rsi, [r8 + 0xffc]  ; and into the next page
  jmp .round
.writeTable:
  mov [0x203000 + 8 * rcx], rdx
  jmp .round
.readModifyWrite:
  and qword [0x203000 + 8 * rcx], -1
  jmp .round
.invalidate:
  invlpg [r8]
  jmp .round
.loadCr3:
  mov rax, cr3
  mov cr3, rax
  jmp .round
.writePage:
  mov [r8 + 8], rbx
  jmp .round
`;

function boot(source: string, options: { compile?: boolean; cpus?: number; cpuModel?: string } = {}): Machine {
  const machine = createMachine({ memory: MEMORY, ...options });
  const code = assemble(`bits 64\norg ${ORIGIN}\n${source}`);
  machine.boot({ name: 'test', image: elf64([...code]), commandLine: '', modules: [] });
  return machine;
}

/** All that a guest could see, and what the TLB holds. */
function picture({ state, mmu, instructions, cycles }: Machine) {
  const ram = Buffer.from(state.bytes.buffer, REGION.ram.start, MEMORY);
  return {
    instructions,
    cycles,
    gpr: state.elements('gpr'),
    rip: state.get64('rip'),
    tlb: mmu.tlb.entries(),
    references: [mmu.tlb.counters.pagingReferences, mmu.tlb.counters.linearMisses],
    ram: Buffer.from(ram).toString('latin1'),
  };
}

describe('Use of a stale translation', () => {
  const PROGRAM = `${TABLES}
    add eax, [0x600000]
  remap:
    mov qword [0x203000], 0x405003
    nop
  use:
    add eax, [0x600010]
    nop
    hlt
    dq remap, use`;

  for (const compile of [false, true]) {
    it(`stops behind the instruction and names the write (${compile ? 'compiled' : 'interpreted'})`, () => {
      const machine = boot(PROGRAM, { compile });
      machine.watchTables(true);
      machine.onStaleUse = () => true;
      const stop = machine.run(10_000);
      assert.ok(stop.kind === 'staleUse', stop.kind);
      const labels = Buffer.from(assemble(`bits 64\norg ${ORIGIN}\n${PROGRAM}`)).subarray(-16);
      const [remap, use] = [labels.readBigUInt64LE(0), labels.readBigUInt64LE(8)];
      assert.deepEqual([stop.use.write?.at.address, stop.use.at.address], [remap, use]);
      assert.equal(stop.use.at.instructions, machine.instructions);
      // MOV, NOP, ADD: two instructions lie between.
      assert.equal((stop.use.write?.at.instructions ?? 0) + 2, machine.instructions);
      assert.equal(machine.state.get64('rip'), use + 7n);
      assert.equal(machine.run(10_000).kind, 'halted');
    });
  }

  it('stops in front of an instruction whose fetch is the use, and goes on behind it', () => {
    // The page at 6 MiB holds RET; it is mapped elsewhere, where INC EAX and RET are.
    const machine = boot(`${TABLES}
      mov esp, 0x1f0000
      mov byte [0x400000], 0xc3
      mov dword [0x405000], 0xc3c0ff
      xor eax, eax
      mov ebx, 0x600000
      call rbx
      mov qword [0x203000], 0x405003
      call rbx
      invlpg [0x600000]
      call rbx
      hlt`);
    machine.watchTables(true);
    machine.onStaleUse = () => true;
    const stop = machine.run(10_000);
    assert.ok(stop.kind === 'staleUse' && stop.use.access === 'execute', stop.kind);
    assert.equal(machine.state.get64('rip'), WINDOW);
    assert.equal(machine.run(10_000).kind, 'halted');
    assert.equal(machine.state.get64('gpr', 0), 1n);
  });

  it('notices that code unmaps the page that it runs from', () => {
    // At 6 MiB: MOV [0x203000], RDX; NOP; RET. The page that it maps itself away to holds nothing.
    const machine = boot(`${TABLES}
      mov esp, 0x1f0000
      mov rax, 0x0020300025148948
      mov [0x400000], rax
      mov word [0x400008], 0xc390
      mov edx, 0x405003
      mov ebx, 0x600000
      call rbx
      hlt`);
    machine.watchTables(true);
    machine.onStaleUse = () => true;
    const stop = machine.run(10_000);
    assert.ok(stop.kind === 'staleUse', stop.kind);
    assert.deepEqual([stop.use.access, stop.use.write?.at.address], ['execute', WINDOW]);
    assert.equal(machine.state.get64('rip'), WINDOW + 8n);
    assert.equal(machine.run(10_000).kind, 'halted');
  });

  it('is watched for without any effect on what runs', () => {
    const run = (watch: boolean, compile: boolean, slice: number): [ReturnType<typeof picture>, StaleUse[]] => {
      const machine = boot(TABLES + RANDOM_ROUNDS, { compile });
      const uses: StaleUse[] = [];
      machine.onStaleUse = (use) => {
        uses.push(use);
        return uses.length % 3 === 0;
      };
      machine.watchTables(watch);
      while (machine.instructions < 400_000) machine.run(Math.min(slice, 400_000 - machine.instructions));
      return [picture(machine), uses];
    };
    const [plain] = run(false, true, 400_000);
    for (const [compile, slice] of [
      [true, 400_000],
      [true, 997],
      [false, 400_000],
    ] as const) {
      const [watched, uses] = run(true, compile, slice);
      assert.deepEqual(watched, plain);
      assert.ok(uses.length > 100, `${uses.length} uses`);
    }
  });

  it('is found where another processor has changed the tables and told nobody', () => {
    const STARTED = 0x1_0000;
    // The other processor: from real-address mode into 64-bit mode with the first one's tables, then two looks.
    const other = assemble(`bits 16
      org ${STARTED}
      cli
      mov ax, 0x1000
      mov ds, ax
      o32 lgdt [gdtr - ${STARTED}]
      mov eax, cr4
      or eax, 0x20
      mov cr4, eax
      mov eax, 0x200000
      mov cr3, eax
      mov ecx, 0xc0000080
      rdmsr
      or eax, 0x100
      wrmsr
      mov eax, 0x80000011
      mov cr0, eax
      jmp dword 8:code64
    bits 64
    code64:
      mov eax, [0x600000]
      mov byte [0x500], 1
    .wait:
      pause
      cmp byte [0x501], 0
      je .wait
      mov eax, [0x600000]
      cli
      hlt
    align 8
    gdt: dq 0, 0x00af9b000000ffff
    gdtr: dw 15
      dd gdt`);
    const source = `${TABLES}
      mov eax, 0xc0000083 ; the local APIC, in a page of 1 GiB
      mov [0x201018], rax
      mov ebx, 0xfee00300
      mov dword [rbx], 0xc4500 ; INIT, to all others
      mov dword [rbx], 0xc4610 ; start-up IPI: 10000h
    .wait:
      pause
      cmp byte [0x500], 0
      je .wait
    remap:
      mov qword [0x203000], 0x405003
      invlpg [0x600000]
      mov byte [0x501], 1
      cli
      hlt
      dq remap`;
    const machine = boot(source, { cpus: 2, cpuModel: 'max' });
    machine.physical.poke(STARTED, other);
    machine.watchTables(true);
    machine.onStaleUse = () => true;
    const stop = machine.run(1_000_000);
    assert.ok(stop.kind === 'staleUse', stop.kind);
    const remap = Buffer.from(assemble(`bits 64\norg ${ORIGIN}\n${source}`))
      .subarray(-8)
      .readBigUInt64LE();
    assert.equal(stop.use.write?.at.address, remap);
    assert.ok(stop.use.at.address > BigInt(STARTED) && stop.use.at.address < BigInt(STARTED + other.length));
    assert.deepEqual([stop.use.accessed, machine.selected], [WINDOW, 1]);
    assert.deepEqual([stop.use.write?.at.processor, stop.use.at.processor], [0, 1]);
    assert.match(explainStaleUse(stop.use).details.join('\n'), /on processor 0, instr.*\n.*on processor 1, instr/);
  });

  it('is found by a watch that begins in the middle as by one from the beginning', () => {
    const count = (from: number): string[] => {
      const machine = boot(TABLES + RANDOM_ROUNDS);
      const uses: string[] = [];
      machine.run(from);
      machine.watchTables(true);
      machine.onStaleUse = (use) => {
        uses.push(`${use.at.instructions} ${use.accessed} ${use.write?.at.instructions ?? 'unknown'}`);
        return false;
      };
      machine.run(100_000 - machine.instructions);
      return uses;
    };
    const all = count(1000);
    const later = count(50_000);
    const tail = all.filter((line) => Number(line.split(' ')[0]) > 60_000);
    assert.ok(tail.length > 20);
    assert.deepEqual(
      later.filter((line) => Number(line.split(' ')[0]) > 60_000),
      tail,
    );
  });
});
