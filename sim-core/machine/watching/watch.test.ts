import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Mnemonic } from 'iced-x86';
import { elf64 } from '../../../test/dap/sample.ts';
import { assemble } from '../../../test/support/nasm.ts';
import { randomNumbers } from '../../../test/support/random-program.ts';
import { XORSHIFT, XORSHIFT_SEED } from '../../../test/support/xorshift.ts';
import { REGION } from '../../state/layout.ts';
import { ENCODING } from '../../vmx/fields.ts';
import type { Machine } from '../api.ts';
import { createMachine } from '../machine.ts';
import type { Watch, WatchAccess, WatchHit } from './watch.ts';

const ORIGIN = 0x10_0078;
const MEMORY = 8 * 2 ** 20;
const SAMPLE = join(import.meta.dirname, '../../../examples/first-vmm');
const LIMIT = 3_000_000;

function boot(source: string, options: { compile?: boolean; cpuModel?: string } = {}): Machine {
  const machine = createMachine({ memory: MEMORY, ...options });
  const code = assemble(`bits 64\norg ${ORIGIN}\n${source}`);
  machine.boot({ name: 'test', image: elf64([...code]), commandLine: '', modules: [] });
  return machine;
}

function bootSample(): Machine {
  const machine = createMachine({ memory: 16 << 20 });
  const file = (name: string) => readFileSync(join(SAMPLE, name));
  const guest = { name: 'guest.elf', bytes: file('guest.elf'), commandLine: 'guest.elf' };
  machine.boot({ name: 'first-vmm', image: file('first-vmm.elf'), commandLine: '', modules: [guest] });
  return machine;
}

/** Every hit until HLT or the end of the machine; the machine stops at each. */
function hitsOf(machine: Machine, watches: readonly Watch[]): WatchHit[] {
  const hits: WatchHit[] = [];
  machine.setWatches(watches);
  machine.onWatch = () => true;
  for (;;) {
    const reason = machine.run(LIMIT);
    if (reason.kind !== 'watchpoint') return hits;
    hits.push(...reason.hits);
  }
}

const memory = (address: bigint, length: number, access: WatchAccess, space: 'linear' | 'hpa' = 'linear'): Watch => ({
  kind: 'memory',
  space,
  address,
  length,
  access,
});

/** A hit in a line: access, before and after. */
const line = ({ access, by, before, after }: WatchHit): string =>
  `${by} ${access} ${before?.toString(16) ?? '-'} ${after?.toString(16) ?? '-'}`;

const DATA = 0x40_0000n;
const ACCESSES = `
  mov rdi, 0x400000
  mov qword [rdi], 0x11     ; write
  mov qword [rdi], 0x11     ; write of the same value
  add dword [rdi + 4], 1    ; reads and writes
  mov al, [rdi + 7]         ; read
  mov al, [rdi + 8]         ; beside
  mov [rdi - 4], rdi        ; across the page's beginning: 400000h
  hlt
`;

describe('watched memory', () => {
  // Values follow from the program above.
  const WRITES = ['0 11', '11 11', '11 100000011', '100000011 100000000'];
  for (const space of ['linear', 'hpa'] as const) {
    const check = (access: WatchAccess, expected: readonly string[]): Mocha.Test =>
      it(`tells every ${access} of 8 bytes by ${space} address`, () => {
        assert.deepEqual(hitsOf(boot(ACCESSES), [memory(DATA, 8, access, space)]).map(line), expected);
      });
    const write = (values: string): string => `instruction write ${values}`;
    const read = (value: string): string => `instruction read ${value} ${value}`;
    check('write', WRITES.map(write));
    check('change', WRITES.filter((_, i) => i !== 1).map(write));
    check('read', ['instruction read 11 100000011', read('100000011')]);
    check('readWrite', [...WRITES.slice(0, 3).map(write), read('100000011'), ...WRITES.slice(3).map(write)]);
  }

  it('stops behind the instruction and names it', () => {
    const machine = boot('mov rdi, 0x400000\nhere: mov [rdi], edi\nnop\nhlt');
    machine.setWatches([memory(DATA, 1, 'write')]);
    machine.onWatch = () => true;
    const reason = machine.run(LIMIT);
    assert.equal(reason.kind === 'watchpoint' && reason.hits[0]?.at, BigInt(ORIGIN + 5));
    assert.equal(machine.state.get64('rip'), BigInt(ORIGIN + 7));
    assert.equal(machine.instructions, 2);
  });

  it('sees string instructions, pushes, vector stores and locked instructions', () => {
    const machine = boot(`
      mov rdi, 0x400000
      mov rsp, 0x400010
      mov ecx, 3
      mov al, 0x55
      rep stosb
      push rdi
      movups xmm0, [rsp]
      movups [0x400008], xmm0
      lock xadd [0x400008], rax
      hlt`);
    const at = hitsOf(machine, [memory(DATA, 16, 'write')]).map((hit) => Number(hit.at) - ORIGIN);
    // The encodings are 5, 5, 5, 2, 2, 1, 4 and 8 bytes long.
    assert.deepEqual([...new Set(at)], [17, 19, 24, 32]);
  });

  it('takes any number of watches of any length', () => {
    const watches = Array.from({ length: 500 }, (_, i) => memory(DATA + BigInt(8 * i), 8, 'write'));
    const machine = boot('mov rdi, 0x400000\nmov ecx, 500\nnext: mov [rdi], rdi\nadd rdi, 8\nloop next\nhlt');
    const hits = hitsOf(machine, [...watches, memory(0n, MEMORY, 'write')]);
    assert.deepEqual(
      hits.filter(({ watch }) => watch.kind === 'memory' && watch.length === 8).map(({ watch }) => watch),
      watches,
    );
    assert.equal(hits.length, 1000);
  });

  it('sees the processor set accessed and dirty flags', () => {
    // SDM Vol. 3A, "Accessed and Dirty Flags": bits 5 and 6.
    const machine = boot(`
      mov rax, cr3
      mov rbx, [rax]
      and rbx, ~0xfff
      mov rcx, [rbx]
      and rcx, ~0xfff
      and qword [rcx + 16], ~0x60   ; maps 400000h
      mov rax, cr3
      mov cr3, rax
      mov al, [0x400000]
      mov [0x400000], al
      hlt`);
    const table = (entry: bigint): bigint => machine.physical.read64(Number(entry)) & ~0xfffn;
    const entry = table(table(machine.state.get64('cr3'))) + 16n;
    const hits = hitsOf(machine, [memory(entry, 8, 'change', 'hpa')]);
    assert.deepEqual(
      hits.filter(({ by }) => by === 'processor').map(({ before = 0n, after = 0n }) => before ^ after),
      [0x20n, 0x40n],
    );
  });

  it('follows a table entry when tables above it, or CR3, change', () => {
    // Bits 9, 10 and 11 of paging-structure entries are ignored (SDM Vol. 3A, "4-Level Paging and 5-Level Paging").
    const machine = boot(`
      mov rbx, cr3
      mov rbp, [rbx]
      and rbp, ~0xfff              ; the PDPT
      mov rsi, [rbp]
      and rsi, ~0xfff              ; the page directory
      mov rdx, rsi
      mov edi, 0x500000
      mov ecx, 512
      rep movsq
      or qword [0x500010], 0x200   ; another entry that would map 400000h: not yet
      mov rax, [rbp]
      and eax, 0xfff
      add eax, 0x500000
      mov [rbp], rax               ; now it does
      or qword [rdx + 16], 0x400   ; the former one: no more
      or qword [0x500010], 0x400
      mov rsi, rbx
      mov edi, 0x600000
      mov ecx, 512
      rep movsq
      mov rsi, rbp
      mov edi, 0x601000
      mov ecx, 512
      rep movsq
      sub qword [0x600000], rbp
      add qword [0x600000], 0x601000
      mov rdi, 0x600000
      mov cr3, rdi                 ; by the same entry still
      mov qword [rbp], 0           ; a table that is not used any more
      or qword [0x500010], 0x800
      mov al, [0x500010]
      hlt`);
    machine.run(7);
    const watch = { kind: 'tableEntry', of: 'linear', world: 'vmm', address: DATA } as const;
    const hits = hitsOf(machine, [{ ...watch, access: 'readWrite' }]);
    const bits = (value: bigint | undefined): bigint => (value ?? 0n) & 0xe00n;
    const byInstructions = hits.filter(({ by }) => by === 'instruction');
    assert.deepEqual(
      byInstructions.map(({ access, before, after }) => [access, bits(before), bits(after)]),
      [
        ['read', 0n, 0n],
        ['write', 0n, 0x200n],
        ['write', 0x200n, 0x600n],
        ['write', 0x600n, 0xe00n],
        ['read', 0xe00n, 0xe00n],
      ],
    );
  });

  for (const seed of [1, 2, 3]) {
    it(`tells exactly the changes that comparing memory finds, compiled and interpreted, seed ${seed}`, () => {
      const random = randomNumbers(seed);
      const start = DATA + BigInt(random(4096));
      const length = 1 + random(300);
      const source = `
        mov rbx, ${XORSHIFT_SEED + BigInt(seed)}
        mov ecx, 3000
      .round:
        ${XORSHIFT}
        mov eax, ebx
        and eax, 0x1fff
        add eax, 0x400000
        mov [rax], bx
        mov edx, ebx
        shr edx, 20
        add [rax + rdx], rdx
        dec ecx
        jnz .round
        hlt`;
      const bytes = ({ physical }: Machine): string =>
        Buffer.from(physical.peek(Number(start), length)).toString('hex');
      const stepped = boot(source);
      const expected: number[] = [];
      for (let before = bytes(stepped); stepped.step().kind === 'limit' && stepped.instructions < 70_000; ) {
        const after = bytes(stepped);
        if (after !== before) expected.push(stepped.instructions);
        before = after;
      }
      for (const compile of [true, false]) {
        const machine = boot(source, { compile });
        const found: number[] = [];
        machine.setWatches([memory(start, length, 'change')]);
        machine.onWatch = () => found.push(machine.instructions) > 0;
        while (machine.run(LIMIT).kind === 'watchpoint');
        assert.deepEqual(found, expected);
      }
      assert.ok(expected.length > 10);
    });
  }

  it('changes nothing of the run', () => {
    const picture = (machine: Machine) => ({
      cycles: machine.cycles,
      gpr: machine.state.elements('gpr'),
      tlb: machine.mmu.tlb.entries(),
      ram: Buffer.from(machine.state.bytes.buffer, REGION.ram.start, machine.config.memory),
    });
    const plain = bootSample();
    plain.run(LIMIT);
    const watched = bootSample();
    hitsOf(watched, [
      memory(0x20_0000n, 1 << 20, 'readWrite'),
      { kind: 'memory', space: 'gpa', address: 0n, length: 1 << 20, access: 'readWrite' },
      { kind: 'register', name: 'cr3', access: 'write' },
      { kind: 'register', name: 'rsp', world: 'guest', access: 'change' },
      { kind: 'msr', index: 0xc000_0080, access: 'change' },
      { kind: 'tableEntry', of: 'linear', world: 'guest', address: 0x4000_8110n, access: 'readWrite' },
      { kind: 'tableEntry', of: 'gpa', world: 'guest', address: 0n, access: 'readWrite' },
      { kind: 'field', encoding: ENCODING.GUEST_RIP, access: 'write' },
      { kind: 'event', event: 'addressSpace', access: 'write' },
    ]);
    assert.deepEqual(picture(watched), picture(plain));
  });
});

describe('watched registers, MSRs and ports', () => {
  it('tells instructions that write a register or a part of it, explicitly and implicitly', () => {
    const machine = boot('mov al, 1\nxor ebx, ebx\ncpuid\nmov cl, al\npush rcx\nhlt');
    const hits = hitsOf(machine, [{ kind: 'register', name: 'eax', access: 'write' }]);
    assert.deepEqual(
      hits.map(({ at }) => Number(at) - ORIGIN),
      [0, 4],
    );
  });

  it('tells that FXSAVE and XSAVE read vector registers', () => {
    const source = `
      mov rax, cr4
      or eax, 0x40200            ; OSFXSR, OSXSAVE
      mov cr4, rax
      mov edi, 0x400000
      fxsave [rdi]
      movaps xmm1, xmm3
      mov eax, 3
      xor edx, edx
      xsave [rdi]
      hlt`;
    const hits = hitsOf(boot(source, { cpuModel: 'skylake' }), [{ kind: 'register', name: 'xmm3', access: 'read' }]);
    assert.equal(hits.length, 3);
  });

  it('tells reads of a register, and changes only where the value changes', () => {
    const machine = boot('mov rax, cr3\nmov cr3, rax\nmov rbx, cr4\nor rbx, 0x80\nmov cr4, rbx\nmov cr4, rbx\nhlt');
    const hits = hitsOf(machine, [
      { kind: 'register', name: 'cr3', access: 'readWrite' },
      { kind: 'register', name: 'cr4', access: 'change' },
    ]);
    assert.deepEqual(
      hits.map(({ watch, access, before = 0n, after = 0n }) => [
        watch.kind === 'register' && watch.name,
        access,
        before ^ after,
      ]),
      [
        ['cr3', 'read', 0n],
        ['cr3', 'write', 0n],
        ['cr4', 'write', 0x80n],
      ],
    );
  });

  it('tells RDMSR and WRMSR of one MSR, and not those that fault', () => {
    const machine = boot(`
      mov ecx, 0xc0000082
      rdmsr
      mov eax, 0x1234
      xor edx, edx
      wrmsr
      mov ecx, 0xc0000081
      wrmsr
      mov ecx, 0xc0000082
      mov edx, 0x80000000
      wrmsr                      ; not canonical: #GP
      hlt`);
    const hits = hitsOf(machine, [{ kind: 'msr', index: 0xc000_0082, access: 'readWrite' }]);
    assert.deepEqual(hits.map(line), ['instruction read 0 0', 'instruction write 0 1234']);
  });

  it('tells accesses to ports with their values', () => {
    const machine = boot('mov dx, 0x3fb\nmov al, 3\nout dx, al\nin al, dx\nmov dx, 0x3f9\nin al, dx\nhlt');
    const hits = hitsOf(machine, [{ kind: 'port', port: 0x3fa, ports: 2, access: 'readWrite' }]);
    assert.deepEqual(hits.map(line), ['instruction write - 3', 'instruction read - 3']);
    assert.deepEqual([hits[0]?.address, hits[0]?.length], [0x3fbn, 1]);
  });
});

describe('watched device memory', () => {
  // The local APIC's task-priority register (SDM Vol. 3A, "Task and Processor Priorities") keeps bits 7:0.
  const TPR = 0xfee0_0080n;
  const source = `
    mov edi, 0xfee00080
    mov dword [rdi], 0x123
    mov eax, [rdi]
    add dword [rdi], 4
    hlt`;

  for (const space of ['linear', 'hpa'] as const) {
    it(`tells what the device gave and got, by ${space} address`, () => {
      const hits = hitsOf(boot(source), [memory(TPR, 4, 'readWrite', space)]);
      assert.deepEqual(hits.map(line), ['instruction write - 123', 'instruction read - 23', 'instruction write - 27']);
    });
  }

  it('tells of a wider watch what was accessed', () => {
    const hits = hitsOf(boot(source), [memory(TPR - 4n, 6, 'write')]);
    assert.deepEqual(
      hits.map(({ address, length, after }) => [address, length, after]),
      [
        [TPR, 2, 0x123n],
        [TPR, 2, 0x27n],
      ],
    );
  });
});

describe('watched VMCS fields and events, in the sample hypervisor', () => {
  it('tells VMREAD, VMWRITE and the processor’s writes at VM exits', () => {
    const machine = bootSample();
    let exits = 0;
    const reasons: bigint[] = [];
    machine.onVmExit = ({ reason }) => {
      exits++;
      if (reasons.at(-1) !== BigInt(reason)) reasons.push(BigInt(reason));
      return false;
    };
    const rip: Watch = { kind: 'field', encoding: ENCODING.GUEST_RIP, access: 'readWrite' };
    const reason: Watch = { kind: 'field', encoding: ENCODING.EXIT_REASON, access: 'change' };
    const hits = hitsOf(machine, [rip, reason]);
    const of = (watch: Watch, by: WatchHit['by']) => hits.filter((hit) => hit.watch === watch && hit.by === by);
    // A change is one from the reason of the VM exit before; the field is 0 at first.
    assert.deepEqual(
      of(reason, 'processor').map(({ after }) => after),
      reasons,
    );
    assert.ok(exits > 3 && of(rip, 'processor').length > 0);
    const written = of(rip, 'instruction').filter(({ access }) => access === 'write');
    assert.ok(written.length > 1);
    const vmwrites = new Set(written.map(({ at }) => Mnemonic[machine.decodeAt(at)?.mnemonic ?? 0]));
    assert.deepEqual([...vmwrites], ['Vmwrite']);
  });

  it('stops in front of kinds of instructions, by their arguments, too', () => {
    const machine = bootSample();
    const stop = { kind: 'mnemonic', mnemonics: new Set([Mnemonic.Vmwrite]), argument: 0x681en } as const;
    machine.setInstructionStops([stop]);
    const reason = machine.run(LIMIT);
    assert.equal(reason.kind, 'breakpoint');
    assert.deepEqual(machine.instructionStopsHere(), [stop]);
    const instruction = machine.decodeAt(machine.state.get64('rip'));
    assert.equal(instruction?.mnemonic, Mnemonic.Vmwrite);
    const { instructions } = machine;
    assert.equal(machine.run(LIMIT).kind, 'breakpoint');
    assert.ok(machine.instructions > instructions);
  });
});

describe('watched guest-physical memory and devices', () => {
  it('tells a guest’s accesses by guest-physical address as by linear and host-physical ones', () => {
    const probe = bootSample();
    probe.onVmEntry = () => true;
    probe.run(LIMIT);
    // general_protection_count in the sample's guest.
    const linear = 0x4000_8110n;
    const { guestPhysical, physical } = probe.mmu.explain(linear, 'read');
    assert.ok(guestPhysical !== undefined && physical !== undefined && guestPhysical !== physical);
    const common = { kind: 'memory', length: 4, access: 'readWrite', world: 'guest' } as const;
    const watches: Watch[] = [
      { ...common, space: 'linear', address: linear },
      { ...common, space: 'gpa', address: BigInt(guestPhysical) },
      { ...common, space: 'hpa', address: BigInt(physical) },
    ];
    const hits = hitsOf(bootSample(), watches);
    const [byLinear, byGuestPhysical, byHostPhysical] = watches.map((watch) =>
      hits.filter((hit) => hit.watch === watch).map(({ at, access, before, after }) => ({ at, access, before, after })),
    );
    assert.ok((byLinear?.length ?? 0) > 0);
    assert.deepEqual(byGuestPhysical, byLinear);
    assert.deepEqual(byHostPhysical, byLinear);
  });

  it('tells a device’s accesses by the device’s addresses and by host-physical ones', () => {
    const name = 'direct-assignment';
    const folder = join(import.meta.dirname, '../../../examples', name);
    const file = (path: string) => readFileSync(join(folder, path));
    const machine = createMachine({ memory: 64 << 20, devices: [{ kind: 'edu' }], iommu: true });
    const modules = [{ name: 'guest.elf', bytes: file('guest.elf'), commandLine: 'guest.elf' }];
    machine.boot({ name, image: file(`${name}.elf`), commandLine: '', modules });
    const dma = { kind: 'dma', requester: 8, address: 0n, length: 2 ** 32, access: 'readWrite' } as const;
    const hits = hitsOf(machine, [
      dma,
      { kind: 'memory', space: 'hpa', address: 0n, length: 64 << 20, access: 'write' },
    ]);
    const devices = hits.filter(({ by }) => by === 'device');
    assert.ok(devices.some(({ watch, access }) => watch === dma && access === 'read'));
    assert.ok(devices.some(({ watch, access }) => watch === dma && access === 'write'));
    assert.ok(devices.some(({ watch }) => watch.kind === 'memory'));
  });
});

describe('watched events', () => {
  it('tell the first instruction at CPL 3', () => {
    const machine = boot(`
      mov ecx, 0xc0000080
      rdmsr
      or eax, 1                  ; IA32_EFER.SCE
      wrmsr
      mov ecx, 0xc0000081
      xor eax, eax
      mov edx, 0x00100008
      wrmsr
      mov ecx, 0x123456
      mov r11d, 2
      o64 sysret`);
    const stopped: bigint[] = [];
    machine.setWatches([{ kind: 'event', event: 'ring3', access: 'write' }]);
    machine.onWatch = (hits) => hits.some(({ at }) => stopped.push(at) > 0);
    assert.equal(machine.run(LIMIT).kind, 'watchpoint');
    assert.deepEqual(stopped, [0x12_3456n]);
    assert.equal(machine.state.get32('cpl'), 3);
  });
});
