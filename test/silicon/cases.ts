import { Encoder, Instruction, OpKind, Register } from 'iced-x86';
import { REGISTERS } from '../../sim-core/isa/registers.ts';
import { RFLAGS } from '../../sim-core/state/control-bits.ts';
import { GPR } from '../../sim-core/state/layout.ts';
import { type Approximation, approximationOf, isApproximation } from './approximations.ts';
import type { OperandSource, TestForm } from './forms.ts';
import { ADDRESS, type Case, MODES, PAGE_BOUNDARY, type TestMode, YMM_BYTES } from './layout.ts';
import type { Random } from './random.ts';
import { undefinedFlags, undefinedResult } from './undefined.ts';
import {
  isOutsideRange,
  randomExtended,
  randomX87,
  TRANSCENDENTAL,
  undefinedRelation,
  undefinedStatus,
} from './x87.ts';

/** Random cases of a form: operands, addresses, and a state in which the instruction stays inside the mapped pages. */

const MXCSR_DEFAULT = 0x1f80;
const STATUS_AND_DIRECTION = 0xcd5;
const MIDDLE = 0x800;
const MOST_ATTEMPTS = 50;

const registersOf = (kind: 'gpr' | 'xmm' | 'ymm', size: number): readonly Register[] =>
  [...REGISTERS]
    .filter(([, location]) => location.kind === kind && location.size === size)
    .map(([register]) => register);
const GPRS: Readonly<Record<number, readonly Register[]>> = {
  1: registersOf('gpr', 1), 2: registersOf('gpr', 2), 4: registersOf('gpr', 4), 8: registersOf('gpr', 8),
}; // biome-ignore format: one line says it
const VECTORS = { xmm: registersOf('xmm', 16), ymm: registersOf('ymm', 32) } as const;
const numberOf = (register: Register): number => REGISTERS.get(register)?.number ?? -1;
const low64 = (value: bigint): bigint => BigInt.asUintN(64, value);

/** Instructions that push, pop or go through RSP: it must not serve as another operand's address. */
const STACK_USERS = new Set(['Push', 'Pop', 'Call', 'Ret', 'Leave', 'Enter', 'Pushfq', 'Popf', 'Popfd', 'Popfq']);

/** Base and index registers of 16-bit addresses. */
const BASES_16 = [
  [Register.BX, Register.SI], [Register.BX, Register.DI], [Register.BP, Register.SI], [Register.BP, Register.DI],
  [Register.SI, Register.None], [Register.DI, Register.None], [Register.BP, Register.None],
  [Register.BX, Register.None],
] as const; // biome-ignore format: a table reads better in rows

/** Operand kinds of string instructions, and XLAT's base, by address size. */
const STRING_KINDS = {
  2: { rsi: OpKind.MemorySegSI, rdi: OpKind.MemoryESDI, masked: OpKind.MemorySegDI, table: Register.BX },
  4: { rsi: OpKind.MemorySegESI, rdi: OpKind.MemoryESEDI, masked: OpKind.MemorySegEDI, table: Register.EBX },
  8: { rsi: OpKind.MemorySegRSI, rdi: OpKind.MemoryESRDI, masked: OpKind.MemorySegRDI, table: Register.RBX },
} as const;

/** A case under construction. */
class Builder {
  readonly instruction = new Instruction();
  readonly gpr: bigint[];
  readonly ymm = new Uint8Array(YMM_BYTES);
  readonly memory = new Uint8Array(ADDRESS.WINDOW_SIZE);
  readonly x87: Uint8Array;
  /** Registers whose values an address depends on. */
  private readonly pinned = new Set<number>([GPR.rsp]);
  /** Linear address of the memory operand. */
  private address = PAGE_BOUNDARY;
  /** Address size of string instructions in bytes. */
  private readonly addressSize: 2 | 4 | 8;
  private readonly form: TestForm;
  private readonly random: Random;

  private readonly segments: (typeof MODES)[TestMode];
  /** 8 or 16. */
  private readonly registers: 8 | 16;

  constructor(form: TestForm, random: Random) {
    this.form = form;
    this.random = random;
    this.registers = form.mode === 'code64' ? 16 : 8;
    this.addressSize = form.mode === 'code64' ? random.pick([4, 8, 8]) : form.mode === 'code32' ? 4 : 2;
    this.gpr = Array.from({ length: 16 }, () => random.integer());
    this.segments = MODES[form.mode];
    this.gpr[GPR.rsp] = BigInt(this.offsetNearBoundary());
    this.gpr[GPR.rbp] =
      form.mnemonic === 'Leave' || form.mnemonic === 'Enter' ? BigInt(this.offsetNearBoundary()) : random.integer();
    this.fillVectors(this.ymm, 0);
    this.fillVectors(this.memory, 0);
    this.x87 = randomX87(random, form.mnemonic);
    this.instruction.code = form.code;
  }

  private fillVectors(bytes: Uint8Array, from: number): void {
    const view = new DataView(bytes.buffer);
    // Now and then equal vectors, so that comparisons find something.
    const common = this.random.vector();
    for (let at = from; at + 16 <= bytes.length; at += 16) {
      const [low, high] = this.random.chance(20) ? common : this.random.vector();
      view.setBigUint64(at, low, true);
      view.setBigUint64(at + 8, high, true);
    }
  }

  /** An address around the page boundary, usually a multiple of `size`. */
  private nearBoundary(size: number): number {
    const address = PAGE_BOUNDARY - 64 + this.random.below(128);
    // Which fault comes first when 16 or 32 bytes are neither aligned nor within the segment, the manual does not say.
    // This vendor's SHA instructions take any address; the manual's ask for alignment like all others.
    const aligned =
      this.random.chance(75) || (size >= 16 && this.form.mode === 'code16') || this.form.mnemonic.startsWith('Sha');
    return aligned ? address - (address % size) : address;
  }

  private offsetNearBoundary(): number {
    // Processors may leave these half done when they fault, or fault for bytes that they do not write.
    const stepwise = ['Popa', 'Popad', 'Enter', 'Maskmovdqu', 'Vmaskmovdqu', 'Maskmovq'].includes(this.form.mnemonic);
    return this.nearBoundary(8) - (stepwise ? 64 : 0) - this.segments.dataBase;
  }

  /** A 64-bit value stored in the window. */
  private poke(address: number, value: bigint): void {
    new DataView(this.memory.buffer).setBigUint64(address - ADDRESS.WINDOW, low64(value), true);
  }

  /** 80-bit numbers at the end of `size` bytes, after an environment that has few unmasked exceptions. */
  private pokeExtended(address: number, size: number): void {
    const start = address - ADDRESS.WINDOW;
    for (let at = start + (size % 10 === 0 ? 0 : size - 80); at < start + size; at += 10) {
      this.memory.set(randomExtended(this.random), Math.max(at, start));
    }
  }

  // ---- operands

  fillOperands(rip: number): void {
    // Memory first: it pins registers that other operands must leave alone.
    const order = this.form.operands.map((_, i) => i).sort((a, b) => this.rank(a) - this.rank(b));
    for (const i of order) this.fill(i, this.form.operands[i] as OperandSource, rip);
  }

  private rank(i: number): number {
    const kind = this.form.operands[i]?.kind;
    return kind === 'memory' || kind === 'vsib' ? 0 : 1;
  }

  private fill(i: number, operand: OperandSource, rip: number): void {
    const { instruction, random } = this;
    switch (operand.kind) {
      case 'gpr':
        return this.setRegister(i, this.chooseGpr(operand.size));
      case 'xmm':
      case 'ymm':
        return this.setRegister(i, VECTORS[operand.kind][random.below(this.registers)] as Register);
      case 'mm':
        return this.setRegister(i, Register.MM0 + random.below(8));
      case 'st':
        return this.setRegister(i, Register.ST0 + (operand.fixed ? 0 : random.below(8)));
      case 'fixed':
        return this.setRegister(i, Register[operand.register]);
      case 'memory':
        return this.fillMemory(i, operand.size);
      case 'vsib':
        return this.fillGather(i, operand);
      case 'immediate':
        return this.setImmediate(i, operand);
      case 'one':
        instruction.setOpKind(i, OpKind.Immediate8);
        return instruction.setImmediateU32(i, 1);
      case 'branch':
        return this.setBranch(i, operand.size, rip + 20 + random.below(80));
      case 'string':
        return this.fillString(i, operand.index);
    }
  }

  private setBranch(i: number, size: 2 | 4 | 8, target: number): void {
    const { instruction } = this;
    const kinds = { 2: OpKind.NearBranch16, 4: OpKind.NearBranch32, 8: OpKind.NearBranch64 } as const;
    instruction.setOpKind(i, kinds[size]);
    if (size === 8) instruction.nearBranch64 = BigInt(target);
    else if (size === 4) instruction.nearBranch32 = target;
    else instruction.nearBranch16 = target;
  }

  private setRegister(i: number, register: Register): void {
    this.instruction.setOpKind(i, OpKind.Register);
    this.instruction.setOpRegister(i, register);
  }

  private gprs(size: number): readonly Register[] {
    return (GPRS[size] as readonly Register[]).filter((register) => numberOf(register) < this.registers);
  }

  private chooseGpr(size: 1 | 2 | 4 | 8): Register {
    const { form, random, gpr } = this;
    const all = this.gprs(size);
    const free = all.filter((choice) => !this.pinned.has(numberOf(choice)));
    // CALL through RSP would push into the code that it calls.
    if (form.mnemonic === 'Call') return random.pick(free);
    if (!form.mnemonic.startsWith('Bt') || form.operands[0]?.kind !== 'memory') return random.pick(all);
    // A bit offset reaches far beyond its operand: keep it in the window.
    const chosen = random.pick(free);
    const bits = BigInt.asUintN(8 * size, BigInt(random.below(512) - 256));
    gpr[numberOf(chosen)] = ((random.bits64() << BigInt(8 * size)) & (2n ** 64n - 1n)) | bits;
    return chosen;
  }

  private setImmediate(i: number, { size, extended }: Extract<OperandSource, { kind: 'immediate' }>): void {
    const kinds = {
      1: OpKind.Immediate8,
      2: OpKind.Immediate16,
      4: OpKind.Immediate32,
      8: OpKind.Immediate64,
    } as const;
    const extensions: Readonly<Record<string, OpKind>> = {
      '1.2': OpKind.Immediate8to16, '1.4': OpKind.Immediate8to32, '1.8': OpKind.Immediate8to64,
      '4.8': OpKind.Immediate32to64,
    }; // biome-ignore format: a table reads better in rows
    const second = i === 1 && this.form.operands[0]?.kind === 'immediate';
    const kind = second ? OpKind.Immediate8_2nd : size === extended ? kinds[size] : extensions[`${size}.${extended}`];
    this.instruction.setOpKind(i, kind as OpKind);
    // ENTER's and RET's numbers move the stack pointer: they stay small.
    const value =
      STACK_USERS.has(this.form.mnemonic) && size <= 2 ? BigInt(this.random.below(4)) : this.random.integer();
    if (size === extended) this.instruction.setImmediateU64(i, BigInt.asUintN(8 * size, value));
    else this.instruction.setImmediateI64(i, BigInt.asIntN(8 * size, value));
  }

  /** [rSI], [rDI]; [rBX + AL]. */
  private fillString(i: number, index: 'rsi' | 'rdi' | 'rbx'): void {
    const { instruction, gpr, addressSize } = this;
    const address = BigInt(this.offsetNearBoundary());
    const kinds = STRING_KINDS[addressSize];
    if (index === 'rbx') {
      instruction.setOpKind(i, OpKind.Memory);
      instruction.memoryBase = kinds.table;
      instruction.memoryIndex = Register.AL;
      gpr[GPR.rbx] = this.withUpperHalf(low64(address - ((gpr[GPR.rax] as bigint) & 0xffn)));
      return;
    }
    instruction.setOpKind(i, /^V?Maskmov/i.test(this.form.mnemonic) ? kinds.masked : kinds[index]);
    gpr[GPR[index]] = this.withUpperHalf(address);
  }

  /** What is above the address size does not count. */
  private withUpperHalf(value: bigint): bigint {
    const bits = BigInt(8 * this.addressSize);
    return low64(this.random.bits64() << bits) | BigInt.asUintN(Number(bits), value);
  }

  // ---- memory operands

  private fillMemory(i: number, size: number): void {
    const { instruction, random } = this;
    // LEA and prefetches give no size.
    const target = this.nearBoundary(size || 8);
    this.address = target;
    instruction.setOpKind(i, OpKind.Memory);
    this.fillVectors(this.memory, target - ADDRESS.WINDOW);
    if (size >= 10 && this.form.mnemonic.startsWith('F')) this.pokeExtended(target, size);
    if (this.form.mode === 'code16') return this.fillMemory16(target - this.segments.dataBase);
    if (this.form.mode === 'code32') return this.fillMemory32(target);
    if (this.form.text.includes('moffs')) return this.absolute(target, 8);
    const way = random.pick([
      () => this.based(target, 8, false),
      () => this.based(target, 8, true),
      () => this.based(target, 8, true),
      () => this.based(target, 4, random.chance(50)),
      () => this.absolute(target, 8),
      () => this.absolute(target, 4),
      () => this.relative(target),
      () => {
        instruction.segmentPrefix = Register.GS;
        this.based(target - ADDRESS.GS_BASE, 8, random.chance(50));
      },
    ]);
    way();
  }

  private fillMemory32(target: number): void {
    if (this.form.text.includes('moffs') || this.random.chance(20)) this.absolute(target, 4);
    else this.based(target, 4, this.random.chance(50));
  }

  private fillMemory16(offset: number): void {
    if (this.form.text.includes('moffs') || this.random.chance(20)) return this.absolute(offset, 2);
    if (this.random.chance(30)) return this.based(offset, 4, this.random.chance(50));
    const { instruction, random, gpr } = this;
    const displacement = random.pick([0, random.below(256) - 128, random.below(0x1_0000)]);
    const [base, index] = random.pick(BASES_16);
    instruction.memoryBase = base;
    instruction.memoryIndex = index;
    instruction.memoryDisplSize = displacement === 0 ? 0 : 1;
    instruction.memoryDisplacement = BigInt.asUintN(16, BigInt(displacement));
    const indexed = index === Register.None ? 0n : (gpr[numberOf(index)] as bigint);
    const value = BigInt.asUintN(16, BigInt(offset - displacement) - indexed);
    gpr[numberOf(base)] = low64(random.bits64() << 16n) | value;
    for (const register of [base, index]) this.pinned.add(numberOf(register));
  }

  /** [base + vector × scale]: the indices reach a little to both sides of the base. */
  private fillGather(i: number, { register, width }: Extract<OperandSource, { kind: 'vsib' }>): void {
    const { instruction, random, gpr } = this;
    const base = random.pick(this.gprs(this.form.mode === 'code64' ? 8 : 4).filter((r) => numberOf(r) !== GPR.rsp));
    const index = VECTORS[register][random.below(this.registers)] as Register;
    instruction.setOpKind(i, OpKind.Memory);
    instruction.memoryBase = base;
    instruction.memoryIndex = index;
    instruction.memoryIndexScale = random.pick([1, 2, 4, 8]);
    instruction.memoryDisplSize = 1;
    gpr[numberOf(base)] = BigInt(PAGE_BOUNDARY - this.segments.dataBase);
    const view = new DataView(this.ymm.buffer, 32 * numberOf(index), 32);
    for (let at = 0; at < 32; at += width) {
      const value = BigInt(random.below(24) - 12);
      if (width === 8) view.setBigInt64(at, value, true);
      else view.setInt32(at, Number(value), true);
    }
  }

  private absolute(target: number, addressSize: 2 | 4 | 8): void {
    this.instruction.memoryDisplSize = addressSize;
    this.instruction.memoryDisplacement = BigInt(target);
  }

  private relative(target: number): void {
    this.instruction.memoryBase = Register.RIP;
    this.absolute(target, 8);
  }

  /** [base + index × scale + displacement]: whatever index and displacement are, the base makes up for it. */
  private based(target: number, addressSize: 4 | 8, indexed: boolean): void {
    const { instruction, random, gpr } = this;
    const candidates = this.gprs(addressSize);
    const usesStack = STACK_USERS.has(this.form.mnemonic);
    const base = random.pick(usesStack ? candidates.filter((choice) => numberOf(choice) !== GPR.rsp) : candidates);
    const displacement = random.pick([0, random.below(256) - 128, (random.next() | 0) >> 1]);
    instruction.memoryBase = base;
    instruction.memoryDisplSize = displacement === 0 ? 0 : 1;
    instruction.memoryDisplacement = BigInt.asUintN(8 * addressSize, BigInt(displacement));
    let offset = BigInt(displacement);
    if (indexed) {
      const index = random.pick(candidates.filter((choice) => numberOf(choice) !== GPR.rsp && choice !== base));
      const scale = random.pick([1, 2, 4, 8]);
      instruction.memoryIndex = index;
      instruction.memoryIndexScale = scale;
      this.pinned.add(numberOf(index));
      offset += (gpr[numberOf(index)] as bigint) * BigInt(scale);
    }
    this.pinned.add(numberOf(base));
    const value = BigInt.asUintN(8 * addressSize, BigInt(target) - offset);
    // With 32-bit addresses the upper half of the register does not count.
    gpr[numberOf(base)] = addressSize === 8 ? value : (BigInt(random.next()) << 32n) | value;
  }

  /** Bytes of the last operand, which is a vector register or memory. */
  lastSource(): Uint8Array {
    const last = this.form.operands.length - 1;
    if (this.form.operands[last]?.kind === 'memory') return this.memory.subarray(this.address - ADDRESS.WINDOW);
    return this.ymm.subarray(32 * numberOf(this.instruction.opRegister(last)));
  }

  // ---- what single instructions need

  prepare(): void {
    const { form, random, instruction } = this;
    if (form.canLock && random.chance(25)) instruction.hasLockPrefix = true;
    if (form.operands.some((operand) => operand.kind === 'string')) this.prepareString();
    if (form.mnemonic === 'Div' || form.mnemonic === 'Idiv') this.prepareDivision();
    if (form.mnemonic.startsWith('Cmpxchg')) this.prepareComparison();
    const goesIndirect = form.mnemonic === 'Jmp' || form.mnemonic === 'Call';
    if (form.mnemonic.startsWith('Popf')) this.poke(Number(this.gpr[GPR.rsp]) + this.segments.dataBase, this.flags());
    if (form.mnemonic === 'Ret') this.poke(Number(this.gpr[GPR.rsp]) + this.segments.dataBase, this.codeAddress());
    else if (goesIndirect && form.operands[0]?.kind === 'gpr') {
      this.gpr[numberOf(instruction.opRegister(0))] = this.codeAddress();
    } else if (goesIndirect && form.operands[0]?.kind === 'memory') this.poke(this.address, this.codeAddress());
  }

  /** Flags that user mode may change and leave so, and those that it cannot change. */
  private flags(): bigint {
    return this.random.bits64() & BigInt(STATUS_AND_DIRECTION | RFLAGS.if | RFLAGS.iopl | RFLAGS.vm);
  }

  private codeAddress(): bigint {
    return BigInt(ADDRESS.CODE - this.segments.codeBase + this.random.below(0x700));
  }

  private prepareString(): void {
    if (!this.form.canRepeat) return;
    this.gpr[GPR.rcx] = this.withUpperHalf(BigInt(this.random.below(10)));
    const prefix = this.random.below(3);
    if (prefix === 1) this.instruction.hasRepPrefix = true;
    if (prefix === 2) this.instruction.hasRepnePrefix = true;
  }

  /** Half of all dividends such that the quotient fits. */
  private prepareDivision(): void {
    const rax = this.gpr[GPR.rax] as bigint;
    if (!this.pinned.has(GPR.rdx) && this.random.chance(50))
      this.gpr[GPR.rdx] = this.random.pick([0n, low64(BigInt.asIntN(64, rax) >> 63n), 1n]);
  }

  /** Half of all comparisons find equality. */
  private prepareComparison(): void {
    if (this.random.chance(50)) return;
    const operand = this.form.operands[0];
    if (operand?.kind === 'gpr') {
      const number = numberOf(this.instruction.opRegister(0));
      if (!this.pinned.has(number)) this.gpr[number] = this.gpr[GPR.rax] as bigint;
      return;
    }
    const { address } = this;
    const [low, high] = [this.gpr[GPR.rax] as bigint, this.gpr[GPR.rdx] as bigint];
    this.poke(address, this.form.mnemonic === 'Cmpxchg8b' ? (high << 32n) | (low & 0xffff_ffffn) : low);
    if (this.form.mnemonic === 'Cmpxchg16b') this.poke(address + 8, high);
  }
}

/** A shift's count before masking: CL, or the immediate. */
function countOf(builder: Builder, form: TestForm): number {
  const last = form.operands.length - 1;
  const operand = form.operands[last];
  if (operand?.kind === 'fixed') return Number((builder.gpr[GPR.rcx] as bigint) & 0xffn);
  return operand?.kind === 'immediate' ? Number(builder.instruction.immediate(last) & 0xffn) : 1;
}

/** The registers as the case's mode has them: 32-bit code has eight, and their upper halves are zero. */
const visible = (form: TestForm, gpr: readonly bigint[]): readonly bigint[] =>
  form.mode === 'code64' ? gpr : gpr.map((value, number) => (number < 8 ? BigInt.asUintN(32, value) : 0n));

function encode(encoder: Encoder, builder: Builder, rip: number): Uint8Array | undefined {
  try {
    encoder.encode(builder.instruction, BigInt(rip));
  } catch {
    encoder.takeBuffer();
    return undefined;
  }
  return encoder.takeBuffer();
}

function approximationOfCase(form: TestForm, builder: Builder): Approximation | undefined {
  if (!isApproximation(form.mnemonic)) return undefined;
  const size = form.operands[0]?.kind === 'ymm' ? 32 : 16;
  return approximationOf(form.mnemonic, numberOf(builder.instruction.opRegister(0)), size, builder.lastSource());
}

const usesVectors = ({ operands }: TestForm): boolean => operands.some(({ kind }) => kind === 'xmm' || kind === 'ymm');

const PRECISION_FLAG = 0x20;
const MXCSR_MASKS = 0x1f80;

/** Usually the default, with and without the sticky precision flag; else any rounding, masks, DAZ and FTZ. */
function randomMxcsr(random: Random): number {
  if (random.chance(50)) return random.pick([MXCSR_DEFAULT, MXCSR_DEFAULT | PRECISION_FLAG]);
  const word = random.next() & 0xffff;
  return random.chance(50) ? word | MXCSR_MASKS : word;
}

/** One random case of `form`. @throws when no choice of operands can be encoded. */
export function randomCase(form: TestForm, random: Random): Case {
  const encoder = new Encoder(MODES[form.mode].bitness);
  try {
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
      const made = attemptCase(form, random, encoder);
      if (made) return made;
    }
  } finally {
    encoder.free();
  }
  throw new Error(`${form.text} cannot be encoded`);
}

function attemptCase(form: TestForm, random: Random, encoder: Encoder): Case | undefined {
  // A fifth of the instructions cross into the second code page.
  const inPages = random.chance(20) ? 0x1000 - 1 - random.below(3) : MIDDLE;
  const rip = ADDRESS.CODE + inPages - MODES[form.mode].codeBase;
  const builder = new Builder(form, random);
  try {
    builder.fillOperands(rip);
    builder.prepare();
    const code = encode(encoder, builder, rip);
    if (!code) return undefined;
    const first = form.operands[0];
    const size = first && 'size' in first ? first.size : 0;
    const count = countOf(builder, form);
    const approximation = approximationOfCase(form, builder);
    return {
      mode: form.mode,
      text: `${form.text} (${form.operands.map((operand) => operand.kind).join(', ')}) in ${form.mode}`,
      code,
      undefinedFlags: undefinedFlags(form.mnemonic, size, count) | undefinedRelation(form.mnemonic, builder.x87),
      undefinedResult: undefinedResult(form.mnemonic, size, count) || isOutsideRange(form.mnemonic, builder.x87),
      undefinedStatus: undefinedStatus(form.mnemonic),
      ...(approximation ? { approximation } : {}),
      ...(TRANSCENDENTAL.has(form.mnemonic) ? { approximate: form.mnemonic } : {}),
      before: {
        gpr: visible(form, builder.gpr),
        rflags: BigInt((random.next() & STATUS_AND_DIRECTION) | 2),
        rip: BigInt(rip),
        mxcsr: usesVectors(form) ? randomMxcsr(random) : MXCSR_DEFAULT,
        ymm: builder.ymm,
        x87: builder.x87,
        memory: builder.memory,
      },
    };
  } finally {
    builder.instruction.free();
  }
}
