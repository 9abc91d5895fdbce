// Expected values: Multiboot Specification 0.6.96; System V ABI; the conventions in load.ts's description.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { CODE_MODE, GPR, SEGMENT } from '../state/layout.ts';
import { State } from '../state/state.ts';
import type { BootRequest } from './boot-request.ts';
import { ImageError, type ImageErrorId } from './image-error.ts';
import { loadImage } from './load.ts';
import { makeElf, makeMultibootHeader } from './test-images.ts';

const MIB = 2 ** 20;
const RAM = 16 * MIB;

function makeCpu(ramSize = RAM) {
  const state = new State(ramSize);
  const physical = new PhysicalMemory(state);
  return { state, mmu: new Mmu(state, physical, new Tlb(state)), physical };
}

type Parts = Partial<BootRequest> & { ramSize?: number };

function load(image: Uint8Array, { ramSize, ...parts }: Parts = {}) {
  const cpu = makeCpu(ramSize);
  const loaded = loadImage(cpu, { name: 'kernel', image, commandLine: '', modules: [], ...parts });
  const { state, physical } = cpu;
  const gpr = (index: number): number => Number(state.get64('gpr', index));
  const word = (address: number): number => physical.read(address, 4);
  const text = (address: number): string => {
    const bytes = physical.peek(address, 256);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  };
  return { loaded, state, physical, gpr, word, text };
}

function failure(image: Uint8Array, parts: Parts = {}): ImageError {
  try {
    load(image, parts);
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
  throw new assert.AssertionError({ message: 'the image was loaded' });
}

const concat = (...pieces: Uint8Array[]): Uint8Array => Uint8Array.from(pieces.flatMap((piece) => [...piece]));
const HALT = Uint8Array.of(0xfa, 0xf4);

describe('multiboot 1 loader', () => {
  const header = makeMultibootHeader(0x3);
  const kernel = makeElf({
    bits: 32,
    entry: 0x10_000c,
    segments: [{ physical: 0x10_0000, bytes: concat(header, HALT), memorySize: 0x2000 }],
  });

  it('loads the segments, clears what is not in the file, and enters as the specification says', () => {
    const { loaded, state, physical, gpr } = load(kernel);
    assert.deepEqual([loaded.format, loaded.entry], ['multiboot1', 0x10_000c]);
    assert.deepEqual(physical.peek(0x10_000c, 2), HALT);
    assert.equal(gpr(GPR.rax), 0x2bad_b002);
    assert.equal(state.get64('rip'), 0x10_000cn);
    // Protected mode, no paging; interrupts and virtual-8086 mode off.
    assert.equal(state.get64('cr0') & 0x8000_0001n, 1n);
    assert.equal(state.get32('rflagsSystem') & 0x2_0200, 0);
    assert.equal(state.get32('codeMode'), CODE_MODE.code32stack32);
    for (const index of [SEGMENT.cs, SEGMENT.ds, SEGMENT.es, SEGMENT.fs, SEGMENT.gs, SEGMENT.ss]) {
      const { base, limit, rights } = state.segment(index);
      assert.deepEqual([base, limit, rights & 0x409a], [0n, 0xffff_ffff, index === SEGMENT.cs ? 0x409a : 0x4092]);
    }
  });

  it('clears memory that an earlier program left behind', () => {
    const cpu = makeCpu();
    cpu.physical.poke(0x10_1000, Uint8Array.of(1, 2, 3));
    loadImage(cpu, { name: 'kernel', image: kernel, commandLine: '', modules: [] });
    assert.deepEqual(cpu.physical.peek(0x10_1000, 3), Uint8Array.of(0, 0, 0));
  });

  it('passes command line, loader name, memory sizes and memory map', () => {
    const { gpr, word, text, physical } = load(kernel, { commandLine: 'quiet root=none' });
    const info = gpr(GPR.rbx);
    assert.equal(word(info) & 0x245, 0x245);
    assert.equal(text(word(info + 16)), 'kernel quiet root=none');
    assert.equal(text(word(info + 64)), 'VMXray');
    assert.deepEqual([word(info + 4), word(info + 8)], [639, 15 * 1024]);
    const available: [number, number][] = [];
    const [length, start] = [word(info + 44), word(info + 48)];
    for (let at = start; at < start + length; at += word(at) + 4) {
      if (word(at + 20) === 1) available.push([Number(physical.read64(at + 4)), Number(physical.read64(at + 12))]);
    }
    assert.deepEqual(available, [
      [0, 0x9_fc00],
      [MIB, RAM - MIB],
    ]);
  });

  it('puts modules on pages above the kernel, with their command lines', () => {
    const modules = [
      { name: 'a', bytes: Uint8Array.of(1, 2, 3), commandLine: 'a one' },
      { name: 'b', bytes: new Uint8Array(5000).fill(7), commandLine: 'b two' },
    ];
    const { gpr, word, text, physical } = load(kernel, { modules });
    const info = gpr(GPR.rbx);
    assert.equal(word(info + 20), 2);
    const list = word(info + 24);
    modules.forEach(({ bytes, commandLine }, i) => {
      const [start, end] = [word(list + 16 * i), word(list + 16 * i + 4)];
      assert.equal(start % 4096, 0);
      assert.ok(start >= 0x10_2000, 'above the bss');
      assert.deepEqual(physical.peek(start, end - start), bytes);
      assert.equal(text(word(list + 16 * i + 8)), commandLine);
    });
  });

  it('moves the information out of the way of a kernel in low memory', () => {
    const low = concat(header, HALT, new Uint8Array(0x9_f000));
    const image = makeElf({ bits: 32, entry: 12, segments: [{ physical: 0, bytes: low }] });
    const { gpr, physical, word, text } = load(image, { commandLine: 'x' });
    assert.ok(gpr(GPR.rbx) >= low.length);
    assert.deepEqual(physical.peek(0, low.length), low);
    assert.equal(text(word(gpr(GPR.rbx) + 16)), 'kernel x');
  });

  it('loads 64-bit ELF files too, and translates a virtual entry point', () => {
    const bytes = concat(header, HALT);
    const segments = [{ virtual: 0x8000_0000, physical: 0x20_0000, bytes }];
    const { loaded } = load(makeElf({ bits: 64, entry: 0x8000_000c, segments }));
    assert.deepEqual([loaded.format, loaded.entry], ['multiboot1', 0x20_000c]);
  });

  it('takes addresses from the header when flag bit 16 says so', () => {
    const padding = Uint8Array.of(9, 9, 9, 9);
    const addressed = makeMultibootHeader(0x1_0000, [0x20_0004, 0x20_0000, 0x20_0026, 0x20_1000, 0x20_0024]);
    const { loaded, physical, state } = load(concat(padding, addressed, HALT, Uint8Array.of(0xee)));
    assert.equal(loaded.entry, 0x20_0024);
    assert.equal(state.get64('rip'), 0x20_0024n);
    // From the padding to load_end_addr; the last byte of the file is not loaded.
    assert.deepEqual(physical.peek(0x20_0000, 4), padding);
    assert.deepEqual(physical.peek(0x20_0024, 3), concat(HALT, Uint8Array.of(0)));
  });

  it('loads the whole file when load_end_addr is 0', () => {
    const addressed = makeMultibootHeader(0x1_0000, [0x20_0000, 0x20_0000, 0, 0, 0x20_0020]);
    const { physical } = load(concat(addressed, HALT));
    assert.deepEqual(physical.peek(0x20_0020, 2), HALT);
  });

  it('says what is wrong with a header', () => {
    const cases: [ImageErrorId, number, number[]][] = [
      ['unsupported-request', 0x8, []],
      ['malformed-header', 0x0, []],
      ['malformed-header', 0x1_0000, [0x1000, 0x2000, 0, 0, 0x2000]],
      ['truncated-segment', 0x1_0000, [0x20_0000, 0x20_0000, 0x30_0000, 0, 0x20_0000]],
      ['malformed-header', 0x1_0000, [0x20_0000, 0x20_0000, 0x20_0020, 0x20_0001, 0x20_0000]],
      ['entry-outside', 0x1_0000, [0x20_0000, 0x20_0000, 0, 0, 0x30_0000]],
      ['truncated-header', 0x1_0000, [0x20_0000]],
    ];
    for (const [id, flags, addresses] of cases) assert.equal(failure(makeMultibootHeader(flags, addresses)).id, id);
  });

  it('reports modules that do not fit', () => {
    const modules = [{ name: 'initrd', bytes: new Uint8Array(16 * MIB), commandLine: '' }];
    const error = failure(kernel, { modules });
    assert.deepEqual([error.id, error.where], ['modules-too-large', 'module initrd']);
  });
});

describe('ELF64 loader', () => {
  it('enters 64-bit mode with the first 4 GiB identity-mapped', () => {
    const { loaded, state, physical, gpr } = load(makeElf());
    assert.deepEqual([loaded.format, state.get64('rip')], ['elf64', 0x10_0000n]);
    assert.equal(state.get32('codeMode'), CODE_MODE.code64);
    assert.deepEqual([state.get64('cr0') >> 31n, state.get64('efer'), state.get64('cr4') & 0x20n], [1n, 0x500n, 0x20n]);
    const { mmu } = { mmu: new Mmu(state, physical, new Tlb(state)) };
    for (const address of [0x10_0000n, 0xab_cdefn, 0xffff_fff8n]) {
      assert.equal(mmu.explain(address, 'write').physical, Number(address));
    }
    assert.equal(mmu.explain(0x1_0000_0000n, 'read').physical, undefined);
    assert.deepEqual([gpr(GPR.rsp), gpr(GPR.rdi) === gpr(GPR.rbx)], [0x7_f000, true]);
  });

  it('has the selectors that are loaded in its descriptor table', () => {
    const { state, physical } = load(makeElf());
    const table = Number(state.get64('gdtrBase'));
    for (const index of [SEGMENT.cs, SEGMENT.ss, SEGMENT.ds]) {
      const { selector, rights } = state.segment(index);
      const descriptor = physical.read64(table + selector);
      assert.ok(selector + 7 <= state.get32('gdtrLimit'));
      // Descriptor bits 55:52 and 47:40 are the access rights.
      assert.equal(Number((descriptor >> 40n) & 0xf0ffn), rights);
    }
  });
});

describe('ELF32 and flat loaders', () => {
  it('enter 32-bit protected mode', () => {
    const bytes = concat(HALT, Uint8Array.of(1));
    const elf = load(makeElf({ bits: 32, entry: 0x20_0001, segments: [{ physical: 0x20_0000, bytes }] }));
    assert.deepEqual([elf.loaded.format, elf.state.get64('rip')], ['elf32', 0x20_0001n]);
    const flat = load(bytes, { format: 'flat' });
    assert.deepEqual([flat.loaded.format, flat.state.get64('rip')], ['flat', 0x10_0000n]);
    assert.deepEqual(flat.physical.peek(0x10_0000, 3), bytes);
    for (const { state } of [elf, flat]) assert.equal(state.get32('codeMode'), CODE_MODE.code32stack32);
  });
});

describe('images that cannot be loaded', () => {
  const elf = makeElf();
  const at = (offset: number, text: string): Uint8Array =>
    concat(
      new Uint8Array(offset),
      Uint8Array.from(text, (character) => character.charCodeAt(0)),
      new Uint8Array(64),
    );
  const patched = (offset: number, ...bytes: number[]): Uint8Array => {
    const image = Uint8Array.from(elf);
    image.set(bytes, offset);
    return image;
  };
  const segmentAt = (physical: number, memorySize: number): Uint8Array =>
    makeElf({ entry: physical, segments: [{ physical, bytes: HALT, memorySize }] });

  const cases: [string, ImageErrorId, RegExp, Uint8Array][] = [
    ['an empty file', 'empty-file', /the file is empty/, new Uint8Array()],
    ['text', 'not-an-elf', /neither a kernel of a known boot protocol nor an ELF/, at(0, '#!/bin/sh')],
    ['a bzImage cut short', 'truncated-header', /setup header: the file ends/, at(0x202, 'HdrS').subarray(0, 0x220)],
    ['an ISO', 'firmware-boot', /ISO 9660/, at(0x8001, 'CD001')],
    ['gzip', 'compressed-image', /gzip/, at(0, '\x1f\x8b')],
    ['a boot sector', 'firmware-boot', /boot sector/, at(0x1fe, '\x55\xaa')],
    ['a header cut short', 'truncated-header', /after 40 of the header's 64 bytes/, elf.subarray(0, 40)],
    ['program headers cut off', 'truncated-header', /program headers are not all/, elf.subarray(0, 100)],
    ['a segment cut off', 'truncated-segment', /program header 0: bytes 0x78 to 0x79/, elf.subarray(0, 0x78)],
    ['an ARM program', 'wrong-machine', /is for ARM, not for x86/, makeElf({ bits: 32, machine: 40 })],
    ['an AArch64 program', 'wrong-machine', /AArch64/, makeElf({ machine: 183 })],
    ['an object file', 'relocatable-object', /not been linked/, makeElf({ type: 1 })],
    ['a shared object', 'shared-object', /shared object/, makeElf({ type: 3 })],
    ['a core dump', 'core-dump', /core dump/, makeElf({ type: 4 })],
    ['big-endian', 'wrong-byte-order', /big-endian/, patched(5, 2)],
    ['an odd class', 'malformed-header', /ELF class 7/, patched(4, 7)],
    ['no program headers', 'no-segments', /no program headers/, patched(56, 0, 0)],
    ['nothing to load', 'no-segments', /no segment/, makeElf({ segments: [{ type: 4, physical: 0, bytes: HALT }] })],
    [
      'a dynamic program',
      'dynamic-program',
      /dynamic loader/,
      makeElf({ segments: [{ type: 3, physical: 0, bytes: HALT }] }),
    ],
    ['an entry elsewhere', 'entry-outside', /0x5 is in no loaded segment/, makeElf({ entry: 5 })],
    ['a segment above RAM', 'segment-outside-ram', /RAM ends at 0x1000000/, segmentAt(0xff_f000, 0x2000)],
    ['a huge segment', 'segment-outside-ram', /RAM ends/, segmentAt(0x10_0000, 2 ** 52)],
    ['a segment past 2^53', 'segment-outside-ram', /ends at 0x/, patched(64 + 24, 0, 0, 0, 0, 0, 0, 0, 0xff)],
  ];
  for (const [title, id, message, image] of cases) {
    it(`${title}: ${id}`, () => {
      const error = failure(image);
      assert.equal(error.id, id);
      assert.match(error.message, message);
      assert.ok(error.message.startsWith('kernel: ') && error.message.endsWith(error.advice));
    });
  }

  it('says when an image is not of the format that was asked for', () => {
    assert.equal(failure(elf, { format: 'elf32' }).id, 'wrong-format');
    assert.equal(failure(elf, { format: 'multiboot1' }).id, 'wrong-format');
    assert.equal(failure(HALT, { format: 'elf64' }).id, 'wrong-format');
  });
});

describe('damaged images', () => {
  /** A small generator with a fixed seed (xorshift32), so that a failure can be repeated. */
  function makeRandom(seed: number): (below: number) => number {
    let state = seed;
    return (below) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % below;
    };
  }
  const folder = new URL('../../bench/workloads/', import.meta.url);
  const programs = readdirSync(folder).filter((file) => file.endsWith('.elf'));
  const cpu = makeCpu(64 * MIB);

  /** Loads or refuses; any other exception fails the test. */
  function loadsOrRefuses(image: Uint8Array, what: string): boolean {
    try {
      loadImage(cpu, { name: 'damaged', image, commandLine: '', modules: [] });
      return true;
    } catch (error) {
      assert.ok(error instanceof ImageError, `${what}: ${error instanceof Error ? error.stack : error}`);
      return false;
    }
  }

  it('never give anything but an ImageError, cut short anywhere', () => {
    const random = makeRandom(0x5eed);
    let refused = 0;
    for (const program of programs) {
      const image = readFileSync(new URL(program, folder));
      for (let i = 0; i < 40; i++) {
        const length = i < 20 ? random(512) : random(image.length);
        if (!loadsOrRefuses(image.subarray(0, length), `${program} cut to ${length}`)) refused++;
      }
    }
    // Cuts inside the section headers and symbols at the end do no harm.
    assert.ok(refused > programs.length * 30, `${refused} refused`);
  });

  it('never give anything but an ImageError, with bytes of the headers changed', () => {
    const random = makeRandom(0xf11b);
    const outcomes = new Set<boolean>();
    for (const program of programs) {
      const image = readFileSync(new URL(program, folder));
      for (let i = 0; i < 100; i++) {
        const damaged = Uint8Array.from(image);
        const changes = Array.from({ length: 1 + random(4) }, () => [random(180), random(256)] as const);
        for (const [offset, value] of changes) damaged[offset] = value;
        outcomes.add(loadsOrRefuses(damaged, `${program} with ${JSON.stringify(changes)}`));
      }
    }
    assert.deepEqual(outcomes, new Set([true, false]));
  });
});
