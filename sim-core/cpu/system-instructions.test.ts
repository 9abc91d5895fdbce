import assert from 'node:assert/strict';
import { exception, generalProtection, VECTOR } from '../mmu/fault.ts';
import { ACTIVITY, GPR, SEGMENT } from '../state/layout.ts';
import { FEATURES } from './features.ts';
import { findModel, MODEL_NAMES } from './models.ts';
import { MSRS } from './msrs.ts';
import { readRflags, writeRflags } from './rflags.ts';
import { AT, dwords, enter32, enter64, newCpu, run, SELECTOR, type TestCpu } from './test-cpu.ts';

const set = (cpu: TestCpu, register: number, value: bigint): void => cpu.state.set64('gpr', value, register);
const get = (cpu: TestCpu, register: number): bigint => cpu.state.get64('gpr', register);

function cpuid(cpu: TestCpu, leaf: number, subleaf = 0): bigint[] {
  set(cpu, GPR.rax, BigInt(leaf));
  set(cpu, GPR.rcx, BigInt(subleaf));
  assert.equal(run(cpu, '0f a2'), undefined);
  return [GPR.rax, GPR.rbx, GPR.rcx, GPR.rdx].map((register) => get(cpu, register));
}

describe('CPUID', () => {
  it('names the vendor in EBX, EDX, ECX', () => {
    const [, ebx, ecx, edx] = cpuid(enter64(newCpu()), 0);
    const text = [ebx, edx, ecx].map((word) =>
      String.fromCharCode(...[0n, 8n, 16n, 24n].map((shift) => Number(((word ?? 0n) >> shift) & 0xffn))),
    );
    assert.equal(text.join(''), 'GenuineIntel');
  });

  it('has the bits that 64-bit kernels need: FPU PSE MSR PAE CX8 PGE CMOV FXSR SSE SSE2, LM and NX', () => {
    const cpu = enter64(newCpu());
    const edx = cpuid(cpu, 1)[3] ?? 0n;
    for (const bit of [0n, 3n, 5n, 6n, 8n, 13n, 15n, 24n, 25n, 26n]) assert.equal((edx >> bit) & 1n, 1n, `bit ${bit}`);
    assert.equal(cpuid(cpu, 0x8000_0001)[3], (1n << 11n) | (1n << 20n) | (1n << 26n) | (1n << 27n) | (1n << 29n));
  });

  it('hides VMX on request', () => {
    const cpu = enter64(newCpu());
    assert.equal(((cpuid(cpu, 1)[2] ?? 0n) >> 5n) & 1n, 1n);
    assert.equal(findModel('westmere', false).features.has('vmx'), false);
    assert.equal(findModel('westmere', false).cr4Bits & 0x2000, 0);
  });

  it('gives 40 physical and 48 linear address bits', () => {
    assert.equal(cpuid(enter64(newCpu()), 0x8000_0008)[0], 0x3028n);
  });

  it('answers leaves beyond the last basic one as the last one', () => {
    const cpu = enter64(newCpu());
    assert.deepEqual(cpuid(cpu, 0x4000_0000), cpuid(cpu, 0xb));
  });

  it('keeps every feature in a bit of its own', () => {
    const places = Object.values(FEATURES).map(({ leaf, register, bit }) => `${leaf}.${register}.${bit}`);
    assert.equal(new Set(places).size, places.length);
    for (const name of MODEL_NAMES) assert.equal(findModel(name).name, name);
    assert.throws(() => findModel('pentium'), /no CPU model 'pentium'; there are westmere, skylake, icelake, max/);
  });
});

describe('MSRs', () => {
  const RDMSR = '0f 32';
  const WRMSR = '0f 30';
  const write = (cpu: TestCpu, index: number, value: bigint) => {
    set(cpu, GPR.rcx, BigInt(index));
    set(cpu, GPR.rax, value & 0xffff_ffffn);
    set(cpu, GPR.rdx, value >> 32n);
    return run(cpu, WRMSR);
  };
  const read = (cpu: TestCpu, index: number) => {
    set(cpu, GPR.rcx, BigInt(index));
    return run(cpu, RDMSR) ?? (get(cpu, GPR.rdx) << 32n) | get(cpu, GPR.rax);
  };

  it('are written and read in halves', () => {
    const cpu = enter64(newCpu());
    assert.equal(write(cpu, 0xc000_0082, 0xffff_8000_1234_5678n), undefined);
    assert.equal(read(cpu, 0xc000_0082), 0xffff_8000_1234_5678n);
  });

  it('raise #GP for unknown numbers, for reserved bits and above CPL 0', () => {
    const cpu = enter64(newCpu());
    assert.deepEqual(read(cpu, 0x1234), generalProtection());
    assert.deepEqual(write(cpu, 0x1234, 0n), generalProtection());
    assert.deepEqual(write(cpu, 0xc000_0082, 0x8000_0000_0000n), generalProtection());
    assert.deepEqual(write(cpu, 0x277, 0x02n), generalProtection());
    assert.deepEqual(write(cpu, 0xc000_0080, 0x8000n), generalProtection());
    cpu.state.set32('cpl', 3);
    assert.deepEqual(read(cpu, 0x10), generalProtection());
  });

  it('EFER.LME cannot change while paging is on; LMA is read-only', () => {
    const cpu = enter64(newCpu());
    assert.deepEqual(write(cpu, 0xc000_0080, 0x1n), generalProtection());
    assert.equal(write(cpu, 0xc000_0080, 0x900n), undefined);
    assert.equal(read(cpu, 0xc000_0080), 0xd00n);
  });

  it('IA32_FEATURE_CONTROL is locked by its bit 0', () => {
    const cpu = enter64(newCpu());
    assert.equal(write(cpu, 0x3a, 5n), undefined);
    assert.deepEqual(write(cpu, 0x3a, 1n), generalProtection());
    assert.equal(read(cpu, 0x3a), 5n);
  });

  it('FS and GS bases are those of the segments', () => {
    const cpu = enter64(newCpu());
    assert.equal(write(cpu, 0xc000_0100, 0x1234n), undefined);
    assert.equal(cpu.state.get64('segmentBase', SEGMENT.fs), 0x1234n);
  });

  it('of the local APIC and of VMX are asked from their owners', () => {
    const cpu = enter64(newCpu());
    assert.equal(read(cpu, 0x1b), 0xfee0_0900n);
    assert.equal(write(cpu, 0x80b, 0n), undefined);
    assert.deepEqual(write(cpu, 0x80c, 0n), generalProtection());
    assert.equal(read(cpu, 0x480), 0x1234n);
    assert.deepEqual(read(cpu, 0x492), generalProtection());
  });

  it('that real systems read at boot exist', () => {
    for (const index of [0x17, 0x3a, 0x8b, 0xce, 0xe2, 0x130, 0x131, 0x179, 0x19b, 0x19c, 0x1a0, 0x1fc, 0x277, 0x2ff]) {
      assert.ok(MSRS.has(index), index.toString(16));
    }
  });

  it('the time-stamp counter counts cycles from where it was set, with the VMX offset', () => {
    const cpu = enter64(newCpu());
    cpu.cycles = 1000;
    assert.equal(write(cpu, 0x10, 5n), undefined);
    cpu.cycles = 1010;
    assert.equal(run(cpu, '0f 31'), undefined);
    assert.equal(get(cpu, GPR.rax), 15n);
    cpu.state.set64('tscOffset', 0xffff_ffff_ffff_fff1n);
    assert.equal(read(cpu, 0x10), 0n);
    cpu.state.set64('msrTscAux', 7n);
    assert.equal(run(cpu, '0f 01 f9'), undefined);
    assert.equal(get(cpu, GPR.rcx), 7n);
    cpu.state.set64('cr4', cpu.state.get64('cr4') | 4n);
    cpu.state.set32('cpl', 3);
    assert.deepEqual(run(cpu, '0f 31'), generalProtection());
  });
});

describe('Flags and halting', () => {
  it('CLI and STI need CPL ≤ IOPL', () => {
    const cpu = enter64(newCpu(), 3);
    assert.deepEqual(run(cpu, 'fa'), generalProtection());
    writeRflags(cpu.state, 0x3000);
    assert.equal(run(cpu, 'fb'), undefined);
    assert.equal(readRflags(cpu.state), 0x3202);
    assert.equal(cpu.state.get32('interruptibility'), 1);
    assert.equal(cpu.state.get32('attention'), 1);
    // With IF set already there is no shadow.
    cpu.state.set32('interruptibility', 0);
    run(cpu, 'fb');
    assert.equal(cpu.state.get32('interruptibility'), 0);
  });

  it('POPF at CPL 3 leaves IOPL, and IF above IOPL, alone', () => {
    const cpu = enter64(newCpu(), 3);
    cpu.mmu.physical.write64(AT.stack, 0x3edfd7n);
    assert.equal(run(cpu, '9d'), undefined);
    // VM, RF, VIF, VIP, IOPL and IF stay 0.
    assert.equal(readRflags(cpu.state), 0x24_4dd7);
    assert.equal(get(cpu, GPR.rsp), BigInt(AT.stack + 8));
  });

  it('PUSHF shows RF and VM as 0', () => {
    const cpu = enter64(newCpu());
    writeRflags(cpu.state, 0x1_0247);
    assert.equal(run(cpu, '9c'), undefined);
    assert.equal(cpu.mmu.physical.read64(AT.stack - 8), 0x247n);
  });

  it('HLT halts at CPL 0, unless VMX takes it', () => {
    const cpu = enter64(newCpu());
    assert.equal(run(cpu, 'f4'), undefined);
    assert.equal(cpu.state.get32('activity'), ACTIVITY.hlt);
    assert.equal(cpu.state.get64('rip'), BigInt(AT.code + 1));
    cpu.state.set32('cpl', 3);
    assert.deepEqual(run(cpu, 'f4'), generalProtection());
    cpu.state.set32('cpl', 0);
    cpu.state.set32('nonRoot', 1);
    cpu.exits = ({ kind }) => kind === 'hlt';
    assert.equal(run(cpu, 'f4')?.kind, 'vmExit');
  });

  it('INVLPG drops the page, global or not', () => {
    const cpu = enter64(newCpu());
    cpu.mmu.read(0x1000n, 1);
    cpu.mmu.read(0x20_0000n, 1);
    set(cpu, GPR.rax, 0x12_3456n);
    assert.equal(run(cpu, '0f 01 38'), undefined);
    assert.deepEqual(
      cpu.mmu.tlb.entries().map(({ page }) => page),
      [0x20_0000n],
    );
  });

  it('CLFLUSH faults as a read does', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rax, 0x5_0000n);
    assert.equal(run(cpu, '0f ae 38'), undefined);
    set(cpu, GPR.rax, 0x40_0000n);
    assert.deepEqual(run(cpu, '0f ae 38'), { ...exception(VECTOR.pf, 0), linearAddress: 0x40_0000n });
  });

  it('XSETBV is #UD without CR4.OSXSAVE, RSM outside SMM, UD2 always', () => {
    const cpu = enter64(newCpu());
    assert.deepEqual(run(cpu, '0f aa'), exception(VECTOR.ud));
    assert.deepEqual(run(cpu, '0f 01 d1'), exception(VECTOR.ud));
    assert.deepEqual(run(cpu, '0f 0b'), exception(VECTOR.ud));
  });
});

describe('Port instructions', () => {
  it('move AL, AX and EAX', () => {
    const cpu = enter64(newCpu());
    cpu.portValue = 0x1122_3344;
    set(cpu, GPR.rax, 0xffff_ffff_ffff_ffffn);
    set(cpu, GPR.rdx, 0x3f8n);
    assert.equal(run(cpu, 'ec'), undefined);
    assert.equal(get(cpu, GPR.rax), 0xffff_ffff_ffff_ff44n);
    run(cpu, '66 e5 60');
    run(cpu, 'ed');
    assert.equal(get(cpu, GPR.rax), 0x1122_3344n);
    run(cpu, 'ee');
    run(cpu, 'e7 80');
    assert.deepEqual(cpu.log, ['in 3f8 1', 'in 60 2', 'in 3f8 4', 'out 3f8 1 44', 'out 80 4 11223344']);
  });

  it('need IOPL or the permission bitmap', () => {
    const cpu = enter64(newCpu(), 3);
    set(cpu, GPR.rdx, 0x3f8n);
    cpu.mmu.physical.write(AT.tss + 0x66, 2, 0x68);
    assert.deepEqual(run(cpu, 'ec'), generalProtection());
    cpu.state.set32('segmentLimit', 0x68 + 0x80, SEGMENT.tr);
    cpu.mmu.physical.write(AT.tss + 0x68 + 0x7f, 2, 0x0002);
    assert.equal(run(cpu, 'ec'), undefined);
    assert.deepEqual(run(cpu, 'ed'), generalProtection());
    writeRflags(cpu.state, 0x3000);
    assert.equal(run(cpu, 'ed'), undefined);
  });

  it('OUTS and INS repeat element by element, and tell VMX all about them', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rdx, 0x3f8n);
    set(cpu, GPR.rcx, 3n);
    set(cpu, GPR.rsi, 0x5_0000n);
    cpu.mmu.physical.write(0x5_0000, 4, 0x0043_4241);
    assert.equal(run(cpu, 'f3 6e'), undefined);
    assert.deepEqual(cpu.log, ['out 3f8 1 41', 'out 3f8 1 42', 'out 3f8 1 43']);
    assert.deepEqual([get(cpu, GPR.rcx), get(cpu, GPR.rsi)], [0n, 0x5_0003n]);
    cpu.state.set32('nonRoot', 1);
    set(cpu, GPR.rcx, 1n);
    set(cpu, GPR.rdi, 0x6_0000n);
    const queries: unknown[] = [];
    cpu.exits = (query) => {
      queries.push(query);
      return true;
    };
    assert.equal(run(cpu, 'f3 6d')?.kind, 'vmExit');
    const expected = { kind: 'io', port: 0x3f8, size: 4, input: true, string: true, rep: true, immediate: false };
    assert.deepEqual(queries, [{ ...expected, addressSize: 8, segment: SEGMENT.es, linearAddress: 0x6_0000n }]);
  });
});

describe('Descriptor-table instructions', () => {
  it('LGDT and SGDT use 10 bytes in 64-bit mode, 6 elsewhere', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rax, 0x5_0000n);
    set(cpu, GPR.rbx, 0x5_0100n);
    cpu.mmu.physical.write64(0x5_0000, 0x8000_1234_5678_0fffn);
    cpu.mmu.physical.write(0x5_0008, 2, 0xffff);
    assert.equal(run(cpu, '0f 01 10'), undefined);
    assert.equal(cpu.state.get64('gdtrBase'), 0xffff_8000_1234_5678n);
    assert.equal(cpu.state.get32('gdtrLimit'), 0xfff);
    assert.equal(run(cpu, '0f 01 03'), undefined);
    assert.equal(cpu.mmu.physical.read64(0x5_0100), 0x8000_1234_5678_0fffn);
    assert.equal(cpu.mmu.physical.read(0x5_0108, 2), 0xffff);
    const other = enter32(newCpu());
    set(other, GPR.rax, 0x5_0000n);
    other.mmu.physical.write64(0x5_0000, 0xff12_3456_7fffn);
    assert.equal(run(other, '66 0f 01 18'), undefined);
    assert.equal(other.state.get64('idtrBase'), 0x12_3456n);
  });

  it('report displacement and operand to VMX', () => {
    const cpu = enter64(newCpu());
    cpu.state.set32('nonRoot', 1);
    const queries: unknown[] = [];
    cpu.exits = (query) => {
      queries.push(query);
      return true;
    };
    // lidt [rbx + rcx*4 + 0x10]: scale 2, address size 64-bit (2), 32-bit operand bit, DS (3), index RCX, base RBX,
    // LIDT (3).
    assert.equal(run(cpu, '0f 01 5c 8b 10')?.kind, 'vmExit');
    const information = 2 | (2 << 7) | (1 << 11) | (3 << 15) | (1 << 18) | (3 << 23) | (3 << 28);
    assert.deepEqual(queries, [{ kind: 'descriptorTable', instruction: 'lidt', displacement: 0x10n, information }]);
  });

  it('LTR marks the TSS busy and takes 64 bits of its base', () => {
    const cpu = enter64(newCpu());
    cpu.mmu.physical.write(AT.gdt + SELECTOR.tss + 5, 1, 0x89);
    cpu.mmu.physical.write(AT.gdt + SELECTOR.tss + 8, 4, 0xffff_8000);
    set(cpu, GPR.rax, BigInt(SELECTOR.tss));
    assert.equal(run(cpu, '0f 00 d8'), undefined);
    assert.equal(cpu.state.segment(SEGMENT.tr).base, 0xffff_8000_0000_0000n | BigInt(AT.tss));
    assert.equal(cpu.mmu.physical.read(AT.gdt + SELECTOR.tss + 5, 1), 0x8b);
    assert.deepEqual(run(cpu, '0f 00 d8'), generalProtection(SELECTOR.tss));
    assert.equal(run(cpu, '0f 00 cb'), undefined);
    assert.equal(get(cpu, GPR.rbx) & 0xffffn, BigInt(SELECTOR.tss));
  });

  it('LAR, LSL, VERR and VERW say by ZF what may be seen', () => {
    const cpu = enter32(newCpu(), 3);
    const zf = (): number => (readRflags(cpu.state) >> 6) & 1;
    set(cpu, GPR.rax, BigInt(SELECTOR.data3 | 3));
    run(cpu, '0f 02 d8');
    assert.deepEqual([zf(), get(cpu, GPR.rbx)], [1, 0xcf_f300n]);
    run(cpu, '0f 03 d8');
    assert.deepEqual([zf(), get(cpu, GPR.rbx)], [1, 0xffff_ffffn]);
    run(cpu, '0f 00 e8');
    assert.equal(zf(), 1);
    set(cpu, GPR.rax, BigInt(SELECTOR.code3 | 3));
    run(cpu, '0f 00 e8');
    assert.equal(zf(), 0);
    run(cpu, '0f 00 e0');
    assert.equal(zf(), 1);
    set(cpu, GPR.rax, BigInt(SELECTOR.data0));
    run(cpu, '0f 02 d8');
    assert.equal(zf(), 0);
  });

  it('ARPL raises the RPL', () => {
    const cpu = enter32(newCpu());
    set(cpu, GPR.rax, 0x10n);
    set(cpu, GPR.rbx, 0x1bn);
    run(cpu, '63 d8');
    assert.equal(get(cpu, GPR.rax), 0x13n);
  });
});

describe('Rare arithmetic', () => {
  /** SDM Vol. 2A's own examples for DAA and DAS, flags OF and AF included where they are defined. */
  const decimal: [string, string, number, number, number, number][] = [
    ['DAA', '27', 0xae, 0, 0x14, 0x15],
    ['DAS', '2f', 0xee, 0x91, 0x88, 0x95],
    ['AAA', '37', 0x0b, 0, 0x0101, 0x11],
    ['AAS', '3f', 0x02ff, 0x11, 0x0109, 0x11],
  ];
  for (const [name, bytes, ax, flagsBefore, expected, flags] of decimal) {
    it(`${name} corrects AX = ${ax.toString(16)}`, () => {
      const cpu = enter32(newCpu());
      set(cpu, GPR.rax, BigInt(ax));
      writeRflags(cpu.state, flagsBefore);
      run(cpu, bytes);
      assert.equal(get(cpu, GPR.rax), BigInt(expected));
      assert.equal(readRflags(cpu.state) & flags & 0xd5, flags & 0xd5);
    });
  }

  it('AAM divides and AAD multiplies by the immediate; AAM 0 is #DE', () => {
    const cpu = enter32(newCpu());
    set(cpu, GPR.rax, 63n);
    run(cpu, 'd4 0a');
    assert.equal(get(cpu, GPR.rax), 0x0603n);
    run(cpu, 'd5 0a');
    assert.equal(get(cpu, GPR.rax), 63n);
    assert.deepEqual(run(cpu, 'd4 00'), exception(VECTOR.de));
  });

  it('DIV and IDIV divide double-width numbers and raise #DE for what does not fit', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rdx, 1n);
    set(cpu, GPR.rax, 5n);
    set(cpu, GPR.rcx, 3n);
    assert.equal(run(cpu, '48 f7 f1'), undefined);
    assert.deepEqual([get(cpu, GPR.rax), get(cpu, GPR.rdx)], [0x5555_5555_5555_5557n, 0n]);
    set(cpu, GPR.rdx, 3n);
    assert.deepEqual(run(cpu, '48 f7 f1'), exception(VECTOR.de));
    set(cpu, GPR.rdx, 0xffff_ffffn);
    set(cpu, GPR.rax, 0xffff_fff9n);
    set(cpu, GPR.rcx, 2n);
    assert.equal(run(cpu, 'f7 f9'), undefined);
    assert.deepEqual([get(cpu, GPR.rax), get(cpu, GPR.rdx)], [0xffff_fffdn, 0xffff_ffffn]);
    set(cpu, GPR.rax, 0x8000n);
    set(cpu, GPR.rcx, 0xffn);
    assert.deepEqual(run(cpu, 'f6 f9'), exception(VECTOR.de));
    set(cpu, GPR.rax, 0xff81n);
    set(cpu, GPR.rcx, 0n);
    assert.deepEqual(run(cpu, 'f6 f1'), exception(VECTOR.de));
  });

  it('CMPXCHG16B compares and exchanges, and needs its alignment', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rdi, 0x5_0000n);
    cpu.mmu.physical.write64(0x5_0000, 1n);
    cpu.mmu.physical.write64(0x5_0008, 2n);
    [GPR.rax, GPR.rdx, GPR.rbx, GPR.rcx].forEach((register, i) => {
      set(cpu, register, BigInt(i + 1));
    });
    assert.equal(run(cpu, '48 0f c7 0f'), undefined);
    assert.equal((readRflags(cpu.state) >> 6) & 1, 1);
    assert.deepEqual([cpu.mmu.physical.read64(0x5_0000), cpu.mmu.physical.read64(0x5_0008)], [3n, 4n]);
    assert.equal(run(cpu, '48 0f c7 0f'), undefined);
    assert.equal((readRflags(cpu.state) >> 6) & 1, 0);
    assert.deepEqual([get(cpu, GPR.rax), get(cpu, GPR.rdx)], [3n, 4n]);
    set(cpu, GPR.rdi, 0x5_0008n);
    assert.deepEqual(run(cpu, '48 0f c7 0f'), generalProtection());
  });

  it('ENTER builds nested frames', () => {
    const cpu = enter32(newCpu());
    set(cpu, GPR.rbp, 0x6_0000n);
    cpu.mmu.physical.write(0x6_0000 - 4, 4, 0xaaaa);
    assert.equal(run(cpu, 'c8 10 00 02'), undefined);
    assert.equal(get(cpu, GPR.rbp), BigInt(AT.stack - 4));
    assert.equal(get(cpu, GPR.rsp), BigInt(AT.stack - 12 - 16));
    assert.deepEqual(dwords(cpu, AT.stack - 12, 3), [AT.stack - 4, 0xaaaa, 0x6_0000]);
  });
});

describe('x87 and SSE state', () => {
  it('FNINIT sets the default control and status words', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rax, 0x5_0000n);
    assert.equal(run(cpu, 'db e3'), undefined);
    assert.equal(run(cpu, 'd9 38'), undefined);
    assert.equal(cpu.mmu.physical.read(0x5_0000, 2), 0x37f);
    assert.equal(run(cpu, 'df e0'), undefined);
    assert.equal(get(cpu, GPR.rax) & 0xffffn, 0n);
  });

  it('CR0.TS and EM raise #NM; LDMXCSR without OSFXSR is #UD, with reserved bits #GP', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rax, 0x5_0000n);
    cpu.mmu.physical.write(0x5_0000, 4, 0x1_0000);
    assert.deepEqual(run(cpu, '0f ae 10'), generalProtection());
    cpu.mmu.physical.write(0x5_0000, 4, 0x1fc0);
    assert.equal(run(cpu, '0f ae 10'), undefined);
    assert.equal(cpu.state.get32('mxcsr'), 0x1fc0);
    cpu.state.set64('cr0', cpu.state.get64('cr0') | 8n);
    assert.deepEqual(run(cpu, 'db e3'), exception(VECTOR.nm));
    assert.deepEqual(run(cpu, '0f ae 10'), exception(VECTOR.nm));
    cpu.state.set64('cr4', 0x20n);
    assert.deepEqual(run(cpu, '0f ae 10'), exception(VECTOR.ud));
  });

  it('FXRSTOR loads what FXSAVE stored, in the layout of the manual', () => {
    const cpu = enter64(newCpu());
    set(cpu, GPR.rax, 0x5_0ff0n);
    run(cpu, 'db e3');
    cpu.state.set64('ymm', 0x1122_3344_5566_7788n, 4 * 15);
    assert.equal(run(cpu, '0f ae 00'), undefined);
    assert.equal(cpu.mmu.physical.read(0x5_0ff0, 2), 0x37f);
    assert.equal(cpu.mmu.physical.read(0x5_0ff0 + 24, 4), 0x1f80);
    assert.equal(cpu.mmu.physical.read64(0x5_0ff0 + 160 + 16 * 15), 0x1122_3344_5566_7788n);
    cpu.state.set64('ymm', 0n, 4 * 15);
    cpu.state.set32('x87Control', 0);
    assert.equal(run(cpu, '0f ae 08'), undefined);
    assert.equal(cpu.state.get64('ymm', 4 * 15), 0x1122_3344_5566_7788n);
    assert.equal(cpu.state.get32('x87Control'), 0x37f);
    assert.equal(cpu.state.get32('x87Tag'), 0xffff);
    set(cpu, GPR.rax, 0x5_0ff8n);
    assert.deepEqual(run(cpu, '0f ae 00'), generalProtection());
  });
});
