import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { elf64 } from '../../../test/dap/sample.ts';
import { assemble } from '../../../test/support/nasm.ts';
import { randomNumbers } from '../../../test/support/random-program.ts';
import { ENCODING } from '../../vmx/fields.ts';
import type { Machine } from '../api.ts';
import { createMachine } from '../machine.ts';
import type { Watch } from './watch.ts';
import { readWatched, type ValueWatch } from './watched-values.ts';

/*
 * What watches tell is held against the values themselves, compared around every single step: for random watches, the
 * places at which a change is told are the places at which the value is another one.
 */

const EXAMPLES = path.join(import.meta.dirname, '../../../examples');

/** In the first instruction of its guest. */
function bootExample(name: string, guests: readonly string[]): Machine {
  const machine = createMachine({ memory: 64 << 20 });
  const file = (part: string): Uint8Array => readFileSync(path.join(EXAMPLES, name, part));
  const modules = guests.map((guest) => ({ name: guest, bytes: file(guest), commandLine: guest }));
  machine.boot({ name, image: file(`${name}.elf`), commandLine: '', modules });
  machine.onVmEntry = () => true;
  assert.equal(machine.run(10_000_000).kind, 'vmEntry');
  machine.onVmEntry = undefined;
  return machine;
}

/** Interrupts of the local APIC's timer, #UD and #DE, through handlers that push and return; WRMSR between them. */
const EVENTS = `
bits 64
org 0x100078
  lea rdi, [rel idt]
  mov dx, cs
  mov ecx, 256
.gate:
  lea rax, [rel handler]
  cmp ecx, 256 - 6
  jne .filled
  lea rax, [rel invalid]
.filled:
  mov [rdi], ax
  mov [rdi + 2], dx
  mov word [rdi + 4], 0x8e00
  shr rax, 16
  mov [rdi + 6], ax
  mov dword [rdi + 8], 0
  mov dword [rdi + 12], 0
  add rdi, 16
  loop .gate
  lidt [rel idtr]
  mov rsp, 0x500000
  mov edi, 0xfee00000
  mov dword [rdi + 0xf0], 0x1ff      ; spurious-interrupt vector, APIC enabled
  mov dword [rdi + 0x3e0], 0xb       ; divide by 1
  mov dword [rdi + 0x320], 0x20040   ; periodic, vector 40h
  mov dword [rdi + 0x380], 97
  sti
  mov ebx, 60
.round:
  ud2
  mov ecx, 0xc0000100
  mov eax, ebx
  xor edx, edx
  wrmsr
  swapgs
  mov ecx, 0xc0000101
  wrmsr
  push rbx
  popfq
  sti
  int 0x50
  mov ax, ds
  mov fs, ax
  dec ebx
  jnz .round
  hlt
invalid:
  add qword [rsp], 2
  iretq
handler:
  push rdi
  mov edi, 0xfee00000
  mov dword [rdi + 0xb0], 0
  pop rdi
  iretq
idtr: dw 4095
  dq idt
align 16
idt: times 4096 db 0
`;

function bootEvents(): Machine {
  const machine = createMachine({ memory: 8 << 20 });
  machine.boot({ name: 'events', image: elf64([...assemble(EVENTS)]), commandLine: '', modules: [] });
  return machine;
}

const at = ({ rewindable }: Machine): string => `${rewindable.position.instructions} ${rewindable.position.events}`;

/** Where each watched value has changed, by stepping. A change of the current VMCS is another guest's value. */
function truth(machine: Machine, watches: readonly ValueWatch[], limit: number): string[] {
  const found: string[] = [];
  const values = (): readonly (readonly [string | undefined, bigint | undefined])[] =>
    watches.map((watch) => {
      const bytes = readWatched(watch, machine);
      return [bytes && Buffer.from(bytes).toString('hex'), machine.vmx.currentVmcs];
    });
  const end = machine.instructions + limit;
  for (let before = values(); machine.instructions < end; ) {
    const here = at(machine);
    const { kind } = machine.rewindable.advance();
    if (kind !== 'limit' || (at(machine) === here && kind === 'limit')) break;
    const after = values();
    for (const [i, watch] of watches.entries()) {
      const [[old, oldVmcs], [now, nowVmcs]] = [before[i] ?? [], after[i] ?? []] as const;
      const isOther = oldVmcs !== nowVmcs && (watch.kind === 'field' || watch.world === 'guest');
      if (!isOther && old !== undefined && now !== undefined && old !== now)
        found.push(`${nameOf(watch)} ${at(machine)}`);
    }
    before = after;
  }
  return found;
}

/** The same as told by watches, in one run. */
function told(machine: Machine, watches: readonly ValueWatch[], limit: number): string[] {
  const found: string[] = [];
  machine.setWatches(watches);
  machine.onWatch = (hits) => {
    const names = new Set(hits.filter(({ before, after }) => before !== after).map(({ watch }) => nameOf(watch)));
    for (const watch of watches) if (names.has(nameOf(watch))) found.push(`${nameOf(watch)} ${at(machine)}`);
    return true;
  };
  const end = machine.instructions + limit;
  while (machine.instructions < end && machine.run(end - machine.instructions).kind === 'watchpoint');
  return found;
}

function nameOf(watch: Watch): string {
  if (watch.kind === 'register') return `${watch.world ?? ''}.${watch.name}`;
  return watch.kind === 'msr' ? `msr ${watch.index.toString(16)}` : JSON.stringify(watch);
}

const REGISTERS = [
  ...['rax', 'rbx', 'rsp', 'esp', 'rdi', 'r12', 'rflags', 'cs', 'ss', 'ds', 'fs', 'gs', 'fs.base', 'gs.base', 'cpl'],
  ...['cr0', 'cr2', 'cr3', 'cr4', 'dr7', 'cs.rights', 'ss.rights', 'tr', 'idtr.base', 'gdtr.limit', 'xmm0'],
];
const MSRS = [0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0100, 0xc000_0101, 0xc000_0102, 0x174, 0x277, 0x1d9];
const FIELDS = ['GUEST_RIP', 'GUEST_CR3', 'EXIT_REASON', 'GUEST_RSP', 'EXIT_QUALIFICATION', 'HOST_RSP'] as const;

function randomWatches(seed: number, worlds: boolean): ValueWatch[] {
  const random = randomNumbers(seed);
  const some = <T>(all: readonly T[]): T[] => all.filter(() => random(1000) < 700);
  const world = (): 'guest' | 'vmm' | undefined =>
    worlds ? ([undefined, 'guest', 'vmm'] as const)[random(3)] : undefined;
  return [
    ...some(REGISTERS).map((name) => ({ kind: 'register', name, world: world(), access: 'change' }) as const),
    ...some(MSRS).map((index) => ({ kind: 'msr', index, access: 'change' }) as const),
    ...(worlds ? some(FIELDS) : []).map(
      (name) => ({ kind: 'field', encoding: ENCODING[name], access: 'change' }) as const,
    ),
  ];
}

describe('watched values against values compared at every step', () => {
  const CASES = [
    ['events', bootEvents, false, 6000],
    ['first-vmm', () => bootExample('first-vmm', ['guest.elf']), true, 10_000],
    ['two-guests', () => bootExample('two-guests', ['primes.elf', 'collatz.elf']), true, 20_000],
  ] as const;
  for (const [name, boot, worlds, limit] of CASES) {
    for (const seed of [1, 2]) {
      it(`${name}, seed ${seed}`, function () {
        this.timeout(60_000);
        const watches = randomWatches(seed, worlds);
        const expected = truth(boot(), watches, limit);
        assert.ok(expected.length > 20);
        assert.deepEqual(told(boot(), watches, limit), expected);
      });
    }
  }
});
