// Expected values: Linux, Documentation/arch/x86/boot.rst and zero-page.rst; Multiboot2 Specification 2.0; Xen,
// "x86/HVM direct boot ABI" and include/public/arch-x86/hvm/start_info.h.
import assert from 'node:assert/strict';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { CODE_MODE, GPR, SEGMENT } from '../state/layout.ts';
import { State } from '../state/state.ts';
import type { BootRequest } from './boot-request.ts';
import { ImageError } from './image-error.ts';
import { loadImage } from './load.ts';
import { makeBzImage, makeElf, makeMultiboot2Header } from './test-images.ts';

const MIB = 2 ** 20;
const RSDP = 0xf_0000;
const HALT = Uint8Array.of(0xfa, 0xf4);

function load(image: Uint8Array, parts: Partial<BootRequest> = {}, ramSize = 64 * MIB) {
  const state = new State(ramSize);
  const physical = new PhysicalMemory(state);
  physical.poke(RSDP, new TextEncoder().encode('RSD PTR '));
  const cpu = { state, mmu: new Mmu(state, physical, new Tlb(state)) };
  const loaded = loadImage(cpu, { name: 'kernel', image, commandLine: 'a=1 b', modules: [], ...parts }, RSDP);
  const gpr = (index: number): number => Number(state.get64('gpr', index));
  const word = (address: number): number => physical.read(address, 4);
  const long = (address: number): number => Number(physical.read64(address));
  const text = (address: number): string => {
    const bytes = physical.peek(address, 256);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  };
  return { loaded, state, physical, mmu: cpu.mmu, gpr, word, long, text };
}

function failure(image: Uint8Array, parts: Partial<BootRequest> = {}, ramSize?: number): ImageError {
  try {
    load(image, parts, ramSize);
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
  throw new assert.AssertionError({ message: 'the image was loaded' });
}

const initrd = (size: number) => ({ name: 'initrd', bytes: new Uint8Array(size).fill(0x77), commandLine: '' });

describe('bzImage loader', () => {
  const kernel = makeBzImage({ code: HALT, address: 0x100_0000, initSize: 0x20_0000 });

  it('enters the 64-bit entry point with the zero page in RSI and the segments of the protocol', () => {
    const { loaded, state, gpr, mmu } = load(kernel);
    assert.deepEqual([loaded.format, state.get64('rip')], ['bzimage', 0x100_0200n]);
    assert.equal(state.get32('codeMode'), CODE_MODE.code64);
    assert.deepEqual([state.segment(SEGMENT.cs).selector, state.segment(SEGMENT.ds).selector], [0x10, 0x18]);
    assert.equal(state.get32('rflagsSystem') & 0x200, 0);
    for (const address of [gpr(GPR.rsi), 0x100_0000, 0x3ff_f000]) {
      assert.equal(mmu.explain(BigInt(address), 'write').physical, address);
    }
  });

  it('fills the zero page: command line, initrd at the top, memory map, RSDP, loader', () => {
    const { gpr, word, long, text, physical } = load(kernel, { modules: [initrd(5000)] });
    const zeroPage = gpr(GPR.rsi);
    assert.equal(text(word(zeroPage + 0x228)), 'a=1 b');
    const [address, size] = [word(zeroPage + 0x218), word(zeroPage + 0x21c)];
    assert.deepEqual([address, size], [0x400_0000 - 0x2000, 5000]);
    assert.deepEqual(physical.peek(address, 5000), new Uint8Array(5000).fill(0x77));
    assert.equal(long(zeroPage + 0x70), RSDP);
    assert.equal(physical.read(zeroPage + 0x210, 1), 0xff);
    // The setup header is the file's.
    assert.equal(word(zeroPage + 0x202), 0x5372_6448);
    const entries = Array.from({ length: physical.read(zeroPage + 0x1e8, 1) }, (_, i) => {
      const at = zeroPage + 0x2d0 + 20 * i;
      return [long(at), long(at + 8), word(at + 16)];
    });
    assert.deepEqual(entries[0], [0, 0x9_fc00, 1]);
    assert.ok(entries.some(([start, length, type]) => start === MIB && length === 63 * MIB && type === 1));
  });

  it('says what is wrong with kernels and initrds', () => {
    const cases: [string, RegExp, Uint8Array, Partial<BootRequest>, number?][] = [
      ['truncated-segment', /has 2000/, kernel.subarray(0, 2000), {}],
      ['truncated-header', /ends after 560 bytes/, kernel.subarray(0, 560), {}],
      ['unsupported-request', /boot protocol 2.06/, makeBzImage({ code: HALT, version: 0x206 }), {}],
      ['unsupported-request', /no 64-bit entry/, makeBzImage({ code: HALT, extendedFlags: 0 }), {}],
      ['modules-too-large', /initrd initrd: 67108864 bytes do not fit/, kernel, { modules: [initrd(64 * MIB)] }],
      ['unsupported-request', /2 modules/, kernel, { modules: [initrd(1), initrd(1)] }],
      ['unsupported-request', /command line of 3000 bytes/, kernel, { commandLine: 'x'.repeat(3000) }],
      ['segment-outside-ram', /RAM ends at 0x1000000/, kernel, {}, 16 * MIB],
    ];
    for (const [id, message, image, parts, ramSize] of cases) {
      const error = failure(image, parts, ramSize);
      assert.deepEqual([error.id, message.test(error.message)], [id, true], error.message);
    }
  });
});

describe('multiboot 2 loader', () => {
  const bytes = (tags: readonly (readonly number[])[], rest = HALT): Uint8Array =>
    Uint8Array.from([...makeMultiboot2Header(tags), ...rest]);
  const elf = (tags: readonly (readonly number[])[]): Uint8Array =>
    makeElf({ entry: 0x10_0000, segments: [{ physical: 0x10_0000, bytes: bytes(tags) }] });

  /** The information's tags: type → physical addresses of their contents. */
  function tagsOf({ gpr, word }: ReturnType<typeof load>): Map<number, number[]> {
    const start = gpr(GPR.rbx);
    const tags = new Map<number, number[]>();
    for (let at = start + 8; at < start + word(start); at += Math.ceil(word(at + 4) / 8) * 8) {
      tags.set(word(at), [...(tags.get(word(at)) ?? []), at + 8]);
    }
    return tags;
  }

  it('enters as the specification says, with the information in tags', () => {
    const modules = [initrd(100), { name: 'second', bytes: Uint8Array.of(5), commandLine: 'second x' }];
    const machine = load(elf([[1, 0, 12, 6]]), { modules });
    const { loaded, state, gpr, word, text, physical } = machine;
    assert.deepEqual([loaded.format, state.get64('rip')], ['multiboot2', 0x10_0000n]);
    assert.equal(gpr(GPR.rax), 0x36d7_6289);
    assert.equal(gpr(GPR.rbx) % 8, 0);
    assert.equal(state.get32('codeMode'), CODE_MODE.code32stack32);
    const tags = tagsOf(machine);
    assert.deepEqual(
      [...tags.keys()].sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 6, 14, 15],
    );
    assert.equal(text(tags.get(1)?.[0] ?? 0), 'kernel a=1 b');
    const second = tags.get(3)?.[1] ?? 0;
    assert.deepEqual([word(second + 4) - word(second), text(second + 8)], [1, 'second x']);
    assert.equal(physical.read(word(second), 1), 5);
    assert.equal(text(tags.get(15)?.[0] ?? 0), 'RSD PTR ');
    const map = tags.get(6)?.[0] ?? 0;
    assert.deepEqual([word(map), word(map + 4), word(map + 16), word(map + 24)], [24, 0, 0x9_fc00, 1]);
  });

  it('takes addresses from the header', () => {
    const addresses = [2, 0, 24, 0x20_0000, 0x20_0000, 0, 0x20_1000];
    const image = bytes([addresses, [3, 0, 12, 0x20_0040]], new Uint8Array(64));
    const { loaded, state } = load(image);
    assert.deepEqual([loaded.entry, state.get64('rip')], [0x20_0040, 0x20_0040n]);
  });

  it('says what it cannot do', () => {
    assert.match(failure(elf([[1, 0, 12, 8]])).message, /requires boot information of type 8/);
    assert.match(failure(elf([[5, 0, 20, 0, 0, 0]])).message, /requires a graphics framebuffer/);
    assert.equal(load(elf([[5, 1, 20, 0, 0, 0]])).loaded.format, 'multiboot2');
    assert.match(failure(bytes([])).message, /no ELF file and the header has no address tag/);
    assert.match(
      failure(makeElf(), { format: 'multiboot2' }).message,
      /no multiboot 2 header.*this is a 64-bit ELF file/,
    );
  });
});

describe('PVH loader', () => {
  /** namesz, descsz, type 18, "Xen\0", the entry. */
  const note = (entry: number): Uint8Array => new Uint8Array(Uint32Array.of(4, 4, 18, 0x006e_6558, entry).buffer);
  const kernel = (entry: number): Uint8Array =>
    makeElf({
      segments: [
        { physical: 0x10_0000, bytes: HALT, memorySize: 0x1000 },
        { type: 4, physical: 0, bytes: note(entry) },
      ],
    });

  it('enters the note’s entry in 32-bit mode with the start information in EBX', () => {
    const { loaded, state, gpr, word, long, text } = load(kernel(0x10_0001), { modules: [initrd(10)] });
    assert.deepEqual([loaded.format, state.get64('rip')], ['pvh', 0x10_0001n]);
    assert.equal(state.get32('codeMode'), CODE_MODE.code32stack32);
    assert.equal(state.get64('cr0') & 0x8000_0001n, 1n);
    const info = gpr(GPR.rbx);
    assert.deepEqual([word(info), word(info + 4), word(info + 12)], [0x336e_c578, 1, 1]);
    const modules = long(info + 16);
    assert.deepEqual([long(modules + 8), word(long(modules))], [10, 0x7777_7777]);
    assert.deepEqual([text(long(info + 24)), long(info + 32)], ['a=1 b', RSDP]);
    const map = long(info + 40);
    assert.deepEqual([long(map), long(map + 8), word(map + 16)], [0, 0x9_fc00, 1]);
    assert.ok(word(info + 48) >= 4);
  });

  it('is refused when the entry is nowhere, or there is no note', () => {
    assert.equal(failure(kernel(0x50_0000)).id, 'entry-outside');
    assert.match(failure(makeElf(), { format: 'pvh' }).message, /no ELF note with a PVH entry; this is a 64-bit ELF/);
  });
});

describe('firmware loader', () => {
  it('starts at the reset vector in real-address mode, with a copy below 1 MiB and the whole below 4 GiB', () => {
    const image = new Uint8Array(0x2_0000).fill(0xcc);
    image.set([0xea, 0x5b, 0xe0, 0x00, 0xf0], 0x1_fff0);
    const { loaded, state, physical, word } = load(image, { format: 'firmware' });
    assert.deepEqual([loaded.format, loaded.entry], ['firmware', 0xf_fff0]);
    assert.deepEqual([state.segment(SEGMENT.cs).base, state.get64('rip')], [0xf_0000n, 0xfff0n]);
    assert.equal(state.get32('codeMode'), CODE_MODE.code16stack16);
    assert.deepEqual([word(0xf_fff0), word(0xffff_fff0), word(0xfffe_0000)], [0x00e0_5bea, 0x00e0_5bea, 0xcccc_cccc]);
    physical.write(0xffff_fff0, 4, 0);
    assert.equal(word(0xffff_fff0), 0x00e0_5bea);
  });

  it('refuses what is no firmware by its size', () => {
    assert.match(failure(new Uint8Array(1000), { format: 'firmware' }).message, /multiple of 64 KiB/);
  });
});

describe('a chosen format that does not fit', () => {
  it('is told together with what the image is', () => {
    const bzImage = makeBzImage({ code: HALT });
    for (const format of ['multiboot1', 'multiboot2', 'pvh', 'elf64'] as const) {
      const error = failure(bzImage, { format });
      assert.deepEqual([error.id, /this is a Linux kernel \(bzImage\)/.test(error.message)], ['wrong-format', true]);
    }
    assert.match(
      failure(makeElf(), { format: 'bzimage' }).message,
      /no Linux kernel \(bzImage\); this is a 64-bit ELF/,
    );
  });
});
