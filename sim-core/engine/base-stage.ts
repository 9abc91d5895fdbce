import { CR4 } from '../state/control-bits.ts';
import { CODE_MODE, FAST_TLB, OFFSET, REGION, SEGMENT } from '../state/layout.ts';
import { VECTOR } from '../state/vectors.ts';
import type { Callee, Code, Variable } from './code.ts';
import { ACCESS_FLAGS } from './core.ts';
import type { Form, OperandForm } from './form.ts';
import { hasMmxOperand, QuadwordAt } from './quadword.ts';
import type { Flags, Intent, LowBytes, Place, Stage, VectorPlace } from './stage.ts';
import { type I32, type I64, type IntLoad, i32, load32, load64, loadInt } from './value.ts';
import { loadVector, storeVector, type V128 } from './vector.ts';

const ZERO = i32(0);
export const FAST_TLB_START = REGION.fastTlb.start;
/** Bytes of half a YMM register. */
const HALF = 16;
/** Loads by integer operand size in bytes. */
export const INT_LOAD: Readonly<Record<number, IntLoad>> = { 1: 'i32u8', 2: 'i32u16', 4: 'i32', 8: 'i64' };

/** The functions that staged code calls, by name of HANDLER_IMPORTS. */
export type HandlerCallees = Readonly<Record<string, Callee>>;

/**
 * What interpreter handlers and compiled code have in common: memory accesses with their segment checks and TLB
 * probe, and faults. Where operands come from and how control flow goes on is the back end's.
 */
export abstract class BaseStage implements Stage {
  readonly code: Code;
  readonly form: Form;
  abstract readonly flags: Flags;
  protected readonly callees: HandlerCallees;

  constructor(code: Code, form: Form, callees: HandlerCallees) {
    this.code = code;
    this.form = form;
    this.callees = callees;
  }

  abstract gpr(register: number, size: 1 | 2 | 4 | 8): Place;
  abstract effectiveAddress(displacement?: I64): I64;
  abstract baseIs(register: number): I32;
  abstract budget(): I32;
  abstract shorten(instructions: number): void;
  abstract nextRip(): I64;
  abstract branchIf(condition: I32): void;
  abstract branch(): void;
  abstract branchTarget(): I64;
  abstract jump(target: I64): void;
  abstract slowIf(condition: I32): void;
  /** Register or immediate operand `i`. */
  protected abstract place(i: number, form: OperandForm): Place;
  /** Linear-memory address of register operand `i`. */
  protected abstract vectorAddress(i: number): I32;
  /** Segment number × 8 of the memory operand. */
  protected abstract segmentOffset(): I32;
  /** Leaves the code with the fault that a callback left pending; nothing of the instruction has happened. */
  protected abstract leaveWithFault(): void;
  /**
   * Sets `host` to where the data of an access is that the fast TLB does not serve, or leaves the code with a fault.
   * @param what as the engine functions `access` and `reach` take it
   */
  protected abstract slowAccess(host: Variable<'i32'>, linear: I64, what: I32): void;
  /** Finishes a write at `host`. */
  protected abstract commit(host: I32): void;

  protected callee(name: string): Callee {
    const callee = this.callees[name];
    if (!callee) throw new Error(`no engine function ${name}`);
    return callee;
  }

  private operandForm(i: number): OperandForm {
    const operand = this.form.operands[i];
    if (!operand) throw new RangeError(`${this.form.name} has no operand ${i}`);
    return operand;
  }

  when(condition: I32, then: () => void, otherwise?: () => void): void {
    this.code.if(condition, then, otherwise);
  }

  // ---- operands

  operand(i: number, intent: Intent, displacement?: I64): Place {
    const form = this.operandForm(i);
    if (form.kind === 'segment') return this.selector(i);
    if (form.kind !== 'memory') return this.place(i, form);
    const linear = this.linearOperand(form.size, intent !== 'read', displacement);
    return this.placeAt(linear, integerSize(form.size), intent, this.stackFlag());
  }

  vector(i: number, intent: Intent, aligned = false): VectorPlace {
    const form = this.operandForm(i);
    if (form.kind === 'xmm' || form.kind === 'ymm') {
      const at = this.vectorAddress(i);
      return new VectorAt(this.code, form.kind === 'xmm' ? 16 : 32, () => at);
    }
    if (form.kind === 'mm') return this.mmxRegister(this.vectorAddress(i));
    if (form.kind !== 'memory') throw new TypeError(`operand ${i} of ${this.form.name} is no vector`);
    const linear = this.linearOperand(form.size, intent !== 'read');
    if (hasMmxOperand(this.form)) return this.quadwordAt(linear, form.size === 4 ? 4 : 8, intent);
    if (aligned) this.faultIf(linear.and(form.size - 1).ne(0), VECTOR.gp);
    const probe = this.lazyProbe(linear, form.size, intent, this.stackFlag());
    return new VectorAt(this.code, form.size, probe, () => this.commit(probe()));
  }

  private selector(i: number): Place {
    const read = (): I32 => this.code.let(load32(this.vectorAddress(i)));
    return {
      size: 2,
      read,
      write: () => {
        throw new TypeError(`${this.form.name} loads a segment register: that is no staged instruction`);
      },
    };
  }

  bytesAt(linear: I64, length: I64, write: boolean): I32 {
    const { host, misses } = this.lookUp(linear, linear.add(length).sub(1), write);
    this.slowIf(misses);
    return this.code.let(host);
  }

  /** Writes to MMX registers set sign and exponent of the x87 register, as which it looks like a NaN. */
  private mmxRegister(at: I32): VectorPlace {
    const { code } = this;
    return new QuadwordAt(
      code,
      8,
      () => at,
      () => code.store(2, at, i32(0xffff), 8),
    );
  }

  private quadwordAt(linear: I64, size: 4 | 8, intent: Intent): VectorPlace {
    const probe = this.lazyProbe(linear, size, intent, this.stackFlag());
    return new QuadwordAt(this.code, size, probe, () => this.commit(probe()));
  }

  memory(segment: number, offset: I64, size: 1 | 2 | 4 | 8, intent: Intent): Place {
    const write = intent !== 'read';
    const based = segment === SEGMENT.fs || segment === SEGMENT.gs;
    const at = i32(8 * segment);
    const linear =
      this.form.mode !== CODE_MODE.code64
        ? this.checkedLinear(at, this.code.let(offset), size, write)
        : based
          ? this.code.let(offset.add(load64(at, OFFSET.segmentBase)))
          : this.code.let(offset);
    return this.placeAt(linear, size, intent, i32(segment === SEGMENT.ss ? ACCESS_FLAGS.stack : 0));
  }

  /** ACCESS_FLAGS.stack when the memory operand is in the stack segment. Evaluated in slow paths only. */
  private stackFlag(): I32 {
    return this.segmentOffset()
      .eq(8 * SEGMENT.ss)
      .mul(ACCESS_FLAGS.stack);
  }

  private placeAt(linear: I64, size: 1 | 2 | 4 | 8, intent: Intent, stack: I32): Place {
    const probe = this.lazyProbe(linear, size, intent, stack);
    return {
      size,
      read: () => this.code.let(loadInt(INT_LOAD[size] as IntLoad, probe())),
      write: (value) => {
        const host = probe();
        this.code.store(size, host, value);
        this.commit(host);
      },
    };
  }

  // ---- addresses

  /** The linear address of the memory operand, after segment checks. */
  private linearOperand(size: number, write: boolean, displacement?: I64): I64 {
    const offset = this.effectiveAddress(displacement);
    switch (this.form.address?.segmentation) {
      case 'based':
        return this.code.let(offset.add(load64(this.segmentOffset(), OFFSET.segmentBase)));
      case 'checked':
        return this.checkedLinear(this.code.let(this.segmentOffset()), offset, size, write);
      default:
        return offset;
    }
  }

  /** Limit and rights check outside 64-bit mode. @param at segment number × 8. */
  private checkedLinear(at: I32, offset: I64, size: number, write: boolean): I64 {
    const top = load64(at, write ? OFFSET.segmentWriteTop : OFFSET.segmentReadTop);
    this.code.if(offset.add(size).gtU(top), () => {
      const args = [at.shrU(3), offset.wrap(), i32(size | (write ? ACCESS_FLAGS.write : 0))];
      this.code.if(this.code.call('i32', this.callee('segment'), args).eqz(), () => this.leaveWithFault());
    });
    return this.code.let(load64(at, OFFSET.segmentBase).add(offset).zeroExtend(32));
  }

  /** Probes on first use, so that operand evaluation order is that of the semantics. */
  private lazyProbe(linear: I64, size: number, intent: Intent, stack: I32): () => I32 {
    let host: I32 | undefined;
    return () => {
      host ??= this.probe(linear, size, intent !== 'read', stack);
      return host;
    };
  }

  /** The inline TLB probe; misses, page crossings and devices go to the MMU's slow path. Gives the data's address. */
  protected probe(linear: I64, size: number, write: boolean, stack: I32): I32 {
    const { code } = this;
    const found = this.lookUp(linear, linear.add(size - 1), write);
    const host = code.variable('i32', found.host);
    code.if(found.misses, () => {
      this.slowAccess(host, linear, i32(size | (write ? ACCESS_FLAGS.write : 0)).add(stack));
    });
    return host.get();
  }

  /** Where the fast TLB says that the data at `linear` is, unless it has no entry for all bytes up to `last`. */
  private lookUp(linear: I64, last: I64, write: boolean): { readonly host: I32; readonly misses: I32 } {
    const entry = this.tlbEntry(linear);
    const tag = load64(entry, FAST_TLB_START + (write ? FAST_TLB.writeTag : FAST_TLB.readTag));
    return {
      host: linear.wrap().add(load32(entry, FAST_TLB_START + FAST_TLB.addend)),
      misses: tag.ne(this.wantedTag(last)),
    };
  }

  /** Address of the fast-TLB entry that a linear address may be in, less FAST_TLB_START. */
  protected tlbEntry(linear: I64): I32 {
    const shift = 12 - FAST_TLB.entryShift;
    return this.code.let(
      linear
        .wrap()
        .shrU(shift)
        .add(this.tlbOffset())
        .and((FAST_TLB.entries - 1) << FAST_TLB.entryShift),
    );
  }

  /** The tag of an entry that serves an access: that of its last byte, so that accesses across pages miss. */
  protected wantedTag(last: I64): I64 {
    return last.and(-4096).or(this.tlbContext());
  }

  protected tlbContext(): I64 {
    return load64(ZERO, OFFSET.tlbContext);
  }

  protected tlbOffset(): I32 {
    return load32(ZERO, OFFSET.tlbOffset);
  }

  // ---- faults

  faultIf(condition: I32, vector: number): void {
    this.code.if(condition, () => {
      this.code.do(this.callee('raise'), [i32(vector)]);
      this.leaveWithFault();
    });
  }

  checkTarget(target: I64): void {
    if (this.form.mode === CODE_MODE.code64) {
      // Canonical for 48 bits is canonical; only other addresses are worth a look at the paging mode.
      this.code.if(isNotSignExtended(target, 48), () => {
        const narrow = load32(ZERO, OFFSET.cr4).and(CR4.la57).eqz();
        this.faultIf(narrow.or(isNotSignExtended(target, 57)), VECTOR.gp);
      });
    } else this.faultIf(target.gtU(load32(ZERO, OFFSET.segmentLimit + 4 * SEGMENT.cs).extendU()), VECTOR.gp);
  }

  /** A sum with `codeBase` as the instruction pointer that the operand size leaves of it. */
  protected truncateRip(rip: I64): I64 {
    if (this.form.mode === CODE_MODE.code64) return rip;
    return rip.zeroExtend(8 * Math.min(this.form.operandSize, 4));
  }
}

const isNotSignExtended = (address: I64, width: 48 | 57): I32 =>
  address
    .shl(64 - width)
    .shrS(64 - width)
    .ne(address);

function integerSize(size: number): 1 | 2 | 4 | 8 {
  if (size === 1 || size === 2 || size === 4 || size === 8) return size;
  throw new RangeError(`no integer operand has ${size} bytes`);
}

/** A vector in linear memory: a register of the state, or guest memory after its probe. */
class VectorAt implements VectorPlace {
  readonly size: number;
  private readonly code: Code;
  private readonly at: () => I32;
  private readonly written: () => void;

  constructor(code: Code, size: number, at: () => I32, written: () => void = () => {}) {
    this.code = code;
    this.size = size;
    this.at = at;
    this.written = written;
  }

  read(half = 0): V128 {
    return this.code.keep(loadVector(16, this.at(), HALF * half));
  }

  readLow(bytes: LowBytes): V128 {
    return this.code.keep(loadVector(bytes, this.at()));
  }

  write(low: V128, high?: V128): void {
    storeVector(this.code, 16, this.at(), low);
    if (high) storeVector(this.code, 16, this.at(), high, HALF);
    this.written();
  }

  writeLow(bytes: LowBytes, value: V128): void {
    storeVector(this.code, bytes, this.at(), value);
    this.written();
  }
}
