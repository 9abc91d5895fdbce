/** Random loops of ordinary instructions, for comparing compiled code with the interpreter. */

/** Where the code is, and the 64 KiB that it reads and writes. */
export const ORIGIN = 0x10_0000;
export const DATA = 0x20_0000;

export type Bits = 32 | 64;

/** Mulberry32: small, and the same everywhere. */
export function randomNumbers(seed: number): (below: number) => number {
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

/** Vector instructions of what compilers make of floating-point and media code: 64-bit, on XMM0…XMM7 and YMM. */
const VECTOR = {
  legacy: ['addps', 'mulpd', 'subsd', 'divss', 'maxpd', 'minss', 'xorps', 'paddd', 'psubw', 'pmulld', 'pcmpgtd',
    'punpckldq', 'unpcklpd', 'pshufb', 'sqrtsd', 'cvtdq2ps', 'cvttps2dq', 'cvtps2pd', 'movaps', 'movsd'],
  vex: ['vaddps', 'vmulpd', 'vsubsd', 'vxorps', 'vpaddq', 'vfmadd231sd', 'vfmadd213pd', 'vfnmadd132ss', 'vminps'],
} as const; // biome-ignore format: a table reads better in rows

function vectorInstruction(random: (below: number) => number): string {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const xmm = () => `xmm${random(8)}`;
  const aligned = () => `[rbp + ${16 * random(0x100)}]`;
  return pick([
    () => `${pick(VECTOR.legacy)} ${xmm()}, ${xmm()}`,
    () => `${pick(VECTOR.vex)} ${xmm()}, ${xmm()}, ${xmm()}`,
    () => `${pick(['vaddps', 'vmulpd', 'vpaddd', 'vfmadd231ps'])} ymm${random(8)}, ymm${random(8)}, ymm${random(8)}`,
    () => `addps ${xmm()}, ${aligned()}`,
    () => `movups ${xmm()}, [rbp + ${random(0x1000)}]`,
    () => `movaps ${aligned()}, ${xmm()}`,
    () => `cvtsi2sd ${xmm()}, ${pick(['eax', 'rdx'])}`,
    () => `cvttsd2si ${pick(['eax', 'rdx'])}, ${xmm()}`,
    () => `${pick(['roundsd', 'roundps', 'pshufd', 'shufps', 'cmppd'])} ${xmm()}, ${xmm()}, ${random(4)}`,
    () => `ucomisd ${xmm()}, ${xmm()}`,
    () => `crc32 ${pick(['eax', 'edx'])}, ebx`,
    () => `${pick(['pdep', 'pext'])} rdx, rax, rbx`,
  ])();
}

/**
 * A loop without end of random instructions, at ORIGIN. RBP must be DATA, and RSP above it.
 * @param vectors a third of the instructions are vector instructions (64-bit code only)
 */
export function randomProgram(seed: number, bits: Bits, vectors = false): string {
  const random = randomNumbers(seed);
  const body = Array.from({ length: 12 + random(30) }, (_, i) =>
    vectors && random(3) === 0 ? vectorInstruction(random) : instruction(random, i, bits),
  );
  return `bits ${bits}\norg ${ORIGIN}\nouter: mov ecx, ${50 + random(100)}\ninner: ${body.join('\n')}
    dec ecx\njnz inner\njmp outer
    routine0: inc edi\nret
    routine1: sub esi, eax\nret`;
}

/** Random instructions without calls; labels are numbered from `firstLabel`. They change no RCX, and use RBP as above. */
export function randomBody(random: (below: number) => number, count: number, firstLabel: number): string {
  const body: string[] = [];
  while (body.length < count) {
    const one = instruction(random, firstLabel + body.length, 64);
    if (!one.startsWith('call')) body.push(one);
  }
  return body.join('\n');
}
