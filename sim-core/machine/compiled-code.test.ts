import assert from 'node:assert/strict';
import { assemble } from '../../test/support/nasm.ts';
import type { Clock, Cpu } from '../cpu/cpu.ts';
import { readRflags } from '../cpu/rflags.ts';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { CODE_MODE, GPR } from '../state/layout.ts';
import { State } from '../state/state.ts';
import { Processor } from './processor.ts';

/** Compiled code against the interpreter: both come from one semantics, and must leave the same state. */

const ORIGIN = 0x10_0000;
const DATA = 0x20_0000;
const SLICES = 60;

type Bits = 32 | 64;

function start(code: Uint8Array, compile: boolean, bits: Bits) {
  const state = new State(4 << 20);
  const physical = new PhysicalMemory(state);
  const mmu = new Mmu(state, physical, new Tlb(state));
  const clock: Clock = { cycles: () => 0 };
  const cpu = { state, mmu, clock } as unknown as Cpu;
  state.set32('codeMode', bits === 64 ? CODE_MODE.code64 : CODE_MODE.code32stack32);
  for (let segment = 0; segment < 6; segment++) {
    state.set32('segmentLimit', 0xffff_ffff, segment);
    state.set64('segmentReadTop', 1n << 32n, segment);
    state.set64('segmentWriteTop', 1n << 32n, segment);
  }
  state.set32('rflagsSystem', 2);
  state.set32('stringStep', 1);
  const breakpoints = { mayBreakAt: () => false, stopsHere: () => false };
  const processor = new Processor(cpu, new Map(), breakpoints, { compile });
  physical.poke(ORIGIN, code);
  mmu.updateContext();
  state.set64('rip', BigInt(ORIGIN));
  state.set64('gpr', BigInt(DATA), GPR.rbp);
  state.set64('gpr', BigInt(DATA + 0x10000), GPR.rsp);
  return { state, physical, processor };
}

type Run = ReturnType<typeof start>;

const picture = ({ state, physical }: Run) => ({
  rip: state.get64('rip'),
  gpr: state.elements('gpr'),
  rflags: readRflags(state),
  retired: state.getFloat('retired'),
  memory: Buffer.from(physical.peek(DATA, 0x11000)).toString('latin1'),
});

/** Parts of two pictures that differ, for a message that fits a screen. */
function differences(a: ReturnType<typeof picture>, b: ReturnType<typeof picture>): string[] {
  const list: string[] = [];
  a.gpr.forEach((value, i) => {
    if (value !== b.gpr[i]) list.push(`register ${i}: 0x${value.toString(16)}, 0x${b.gpr[i]?.toString(16)}`);
  });
  for (const key of ['rip', 'rflags', 'retired'] as const) {
    if (a[key] !== b[key]) list.push(`${key}: 0x${a[key].toString(16)}, 0x${b[key].toString(16)}`);
  }
  if (a.memory !== b.memory) list.push('memory');
  return list;
}

/** Mulberry32: small, and the same everywhere. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Registers = Readonly<Record<number, readonly string[]>>;

/** Operand registers by size; ECX counts, EBP and ESP point to memory. */
const REGISTERS: Readonly<Record<Bits, Registers>> = {
  64: {
    8: ['rax', 'rbx', 'rdx', 'rsi', 'rdi', 'r8', 'r9', 'r10'],
    4: ['eax', 'ebx', 'edx', 'esi', 'edi', 'r8d', 'r9d', 'r10d'],
    2: ['ax', 'bx', 'dx', 'si', 'di', 'r8w', 'r9w', 'r10w'],
    1: ['al', 'bl', 'dl', 'ah', 'bh', 'dh', 'al', 'bl'],
  },
  32: {
    4: ['eax', 'ebx', 'edx', 'esi', 'edi'],
    2: ['ax', 'bx', 'dx', 'si', 'di'],
    1: ['al', 'bl', 'dl', 'ah', 'bh', 'dh'],
  },
};
const SIZE_NAME: Readonly<Record<number, string>> = { 8: 'qword', 4: 'dword', 2: 'word', 1: 'byte' };
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];

/** One random instruction of those that a compiler's output is made of. */
function instruction(random: (below: number) => number, label: number, bits: Bits): string {
  const registers = REGISTERS[bits];
  const [accumulator, base, data] = bits === 64 ? ['rax', 'rbx', 'rdx'] : ['eax', 'ebx', 'edx'];
  const frame = bits === 64 ? 'rbp' : 'ebp';
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const size = pick(bits === 64 ? [8, 4, 4, 2, 1] : [4, 4, 2, 1]);
  const register = () => pick(registers[size] as readonly string[]);
  const wide = () => pick((registers[size === 1 ? 4 : size] as readonly string[]).slice(0, 5));
  const memory = () => `${SIZE_NAME[size]} [${frame} + ${random(0x1000)}]`;
  const immediate = () => random(120);
  const two = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp', 'test', 'mov'];
  return pick([
    () => `${pick(two)} ${register()}, ${register()}`,
    () => `${pick(two)} ${register()}, ${immediate()}`,
    () => `${pick(two)} ${memory()}, ${register()}`,
    () => `${pick(two.slice(0, 8))} ${register()}, ${memory()}`,
    () => `${pick(['inc', 'dec', 'neg', 'not'])} ${pick([register, memory])()}`,
    () => `${pick(['shl', 'shr', 'sar', 'rol', 'ror', 'rcl', 'rcr'])} ${pick([register, memory])()}, ${random(33)}`,
    () => `${pick(['shl', 'shr', 'sar', 'rol', 'ror', 'rcl', 'rcr'])} ${register()}, cl`,
    () => `${pick(['shld', 'shrd'])} ${wide()}, ${wide()}, ${random(16)}`,
    () => `imul ${wide()}, ${wide()}`,
    () => `${pick(['mul', 'imul'])} ${register()}`,
    () => `${pick(['bt', 'bts', 'btr', 'btc'])} ${wide()}, ${random(16)}`,
    () => `set${pick(CONDITIONS)} ${pick(registers[1] as readonly string[])}`,
    () => `cmov${pick(CONDITIONS)} ${wide()}, ${wide()}`,
    () => `lea ${pick(registers[bits / 8] as readonly string[])}, [${base} + ${data}*4 + ${immediate()}]`,
    () => `movzx edi, ${pick(['al', 'bl', 'dl', 'ax'])}`,
    () => `movsx esi, ${pick(['al', 'bl', 'ax', 'dx'])}`,
    () => `xchg ${wide()}, ${wide()}`,
    () => `cmpxchg ${memory()}, ${register()}`,
    () => `xadd ${memory()}, ${register()}`,
    () => `push ${accumulator}\npop ${data}`,
    () => `call routine${random(2)}`,
    () => `j${pick(CONDITIONS)} skip${label}\nadd eax, ${immediate()}\nskip${label}:`,
    () => pick(['stc', 'clc', 'cmc', 'cdq', 'cwd', `bswap ${accumulator}`, 'lahf', 'sahf']),
  ])();
}

function program(seed: number, bits: Bits): string {
  const random = generator(seed);
  const body = Array.from({ length: 12 + random(30) }, (_, i) => instruction(random, i, bits));
  return `bits ${bits}\norg ${ORIGIN}\nouter: mov ecx, ${50 + random(100)}\ninner: ${body.join('\n')}
    dec ecx\njnz inner\njmp outer
    routine0: inc edi\nret
    routine1: sub esi, eax\nret`;
}

describe('compiled code', () => {
  const base = Number(process.env.VMXRAY_SEED ?? 1);
  for (const bits of [64, 32] as const) {
    for (let seed = base; seed < base + 30; seed++) {
      it(`agrees with the interpreter on a random ${bits}-bit loop, seed ${seed}`, () => compare(seed, bits));
    }
  }
});

function compare(seed: number, bits: Bits): void {
  const source = program(seed, bits);
  const code = assemble(source);
  const compiled = start(code, true, bits);
  const interpreted = start(code, false, bits);
  for (let slice = 0; slice < SLICES; slice++) {
    const count = 1 + ((slice * 7919) % 8009);
    for (const { processor } of [compiled, interpreted]) {
      processor.run(count);
      processor.retire();
    }
    const different = differences(picture(compiled), picture(interpreted));
    assert.deepEqual(different, [], `after slice ${slice} of ${count}:\n${source}`);
  }
  assert.ok(compiled.processor.regions > 0, 'nothing was compiled');
}
