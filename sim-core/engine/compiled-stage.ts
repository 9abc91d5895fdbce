import { CODE_MODE, FAST_TLB, OFFSET } from '../state/layout.ts';
import { BaseStage, FAST_TLB_START } from './base-stage.ts';
import type { Variable } from './code.ts';
import { ACCESS_FLAGS, LEAVE, storeRip, TOUCH } from './core.ts';
import type { OperandForm } from './form.ts';
import { LINK, RECORD } from './record.ts';
import type { RegionBuilder, RegionInstruction } from './region.ts';
import type { Flags, Place } from './stage.ts';
import { type I32, type I64, Int, i32, i64, load32, load64, type Word } from './value.ts';

const ZERO = i32(0);
const PAGE = 4096;

/** Staging for compiled regions: operand numbers are constants, registers and flags are locals of the region. */
export class CompiledStage extends BaseStage {
  readonly flags: Flags;
  private readonly region: RegionBuilder;
  private readonly instruction: RegionInstruction;
  /** Instructions of the block after this one: counted on entry, to be given back when the block is left here. */
  private readonly unused: number;
  private ended = false;

  constructor(region: RegionBuilder, instruction: RegionInstruction, unused: number) {
    super(region.code, instruction.form, region.callees);
    this.region = region;
    this.flags = region.flags;
    this.instruction = instruction;
    this.unused = unused;
  }

  private u16(field: number): number {
    return this.region.state.view.getUint16(this.instruction.record + field, true);
  }
  private i64At(field: number): bigint {
    return this.region.state.view.getBigInt64(this.instruction.record + field, true);
  }

  override when(condition: I32, then: () => void, otherwise?: () => void): void {
    if (condition.constant !== undefined) return super.when(condition, then, otherwise);
    this.region.flags.conditionally((branch) => {
      this.code.if(condition, branch(then), otherwise && branch(otherwise));
    });
  }

  // ---- operands

  protected place(i: number, form: OperandForm): Place {
    if (form.kind === 'gpr') {
      const address = this.u16(RECORD.operand + 2 * i) - OFFSET.gpr;
      return new LocalRegister(this.region, address >> 3, form.size, (address & 1) !== 0);
    }
    if (form.kind === 'immediate') return new Constant(form.size, this.i64At(RECORD.immediate));
    throw new TypeError(`operand ${i} of ${this.form.name} is no integer`);
  }

  gpr(register: number, size: 1 | 2 | 4 | 8): Place {
    return new LocalRegister(this.region, register, size, false);
  }

  protected vectorAddress(i: number): I32 {
    return i32(this.u16(RECORD.operand + 2 * i));
  }

  protected segmentOffset(): I32 {
    return i32(this.region.state.view.getUint8(this.instruction.record + RECORD.segment));
  }

  baseIs(register: number): I32 {
    return i32(this.u16(RECORD.base) === OFFSET.gpr + 8 * register ? 1 : 0);
  }

  /** The register at a state address: a local, `codeBase`, or nothing. */
  private addressPart(at: number): I64 {
    if (at === OFFSET.zero) return i64(0);
    if (at === OFFSET.codeBase) return this.region.codeBase;
    return this.region.gpr((at - OFFSET.gpr) >> 3).get();
  }

  effectiveAddress(displacement?: I64): I64 {
    const form = this.form.address;
    if (!form) throw new TypeError(`${this.form.name} has no memory operand`);
    let address = this.addressPart(this.u16(RECORD.base));
    if (form.hasIndex) {
      const scale = this.region.state.view.getUint8(this.instruction.record + RECORD.scale);
      const index = this.addressPart(this.u16(RECORD.index)).shl(scale);
      address = address.constant === 0n ? index : address.add(index);
    }
    const constant = this.i64At(RECORD.displacement);
    address = address.constant === 0n ? i64(constant) : address.add(constant);
    if (displacement) address = address.add(displacement);
    return this.code.let(address.zeroExtend(8 * form.size));
  }

  protected override tlbContext(): I64 {
    return this.region.tlbContext;
  }

  protected override tlbOffset(): I32 {
    return this.region.tlbOffset;
  }

  // ---- control flow

  budget(): I32 {
    return this.region.exactBudget(this.unused);
  }

  shorten(instructions: number): void {
    this.slowIf(this.region.exactBudget(0).ltS(instructions));
    this.region.shorten(instructions);
  }

  nextRip(): I64 {
    return this.region.codeBase.add(this.u16(RECORD.nextOffset));
  }

  branchTarget(): I64 {
    return this.code.let(this.truncateRip(this.region.codeBase.add(this.i64At(RECORD.immediate))));
  }

  branchIf(condition: I32): void {
    this.code.if(condition, () => this.branch());
    this.ended = false;
  }

  branch(): void {
    this.ended = true;
    const { far } = this.instruction;
    if (far !== 0) {
      const rip = this.branchTarget();
      this.region.crossTo(far, rip, this.unused);
      return this.leaveAt(rip);
    }
    const record = this.targetRecord();
    if (record !== 0) this.region.goTo(record, this.unused);
    else this.leaveAt(this.branchTarget());
  }

  /** Record of the near target when it is decoded in this page, else 0. */
  private targetRecord(): number {
    const { state } = this.region;
    const target = state.u32[(this.instruction.record + RECORD.target) >>> 2] as number;
    return target > LINK.lookup ? target : 0;
  }

  private leaveAt(rip: I64): void {
    storeRip(this.code, rip);
    this.region.leaveWith(LEAVE.lookup, ZERO, this.unused);
  }

  jump(target: I64): void {
    const { code, region } = this;
    this.ended = true;
    if (region.runningTable !== region.table) return region.findNext(target, this.unused);
    const offset = code.let(target.sub(region.codeBase));
    code.if(offset.ltU(PAGE), () => {
      const record = code.let(load32(offset.wrap().shl(2), region.table));
      code.if(record, () => {
        code.if(load32(record, RECORD.handler).eq(region.self), () => {
          region.goToBlock(entryOf(record));
        });
      });
    });
    region.findNext(target, this.unused);
  }

  slowIf(condition: I32): void {
    this.code.if(condition, () => this.region.leaveWith(LEAVE.slow, i32(this.instruction.record), this.unused));
  }

  protected leaveWithFault(): void {
    this.region.leaveWith(LEAVE.fault, i32(this.instruction.record), this.unused);
  }

  /** Stack accesses look at the region's own copy of the entry that the last of them used, which is in locals. */
  protected override probe(linear: I64, size: number, write: boolean, stack: I32): I32 {
    if (stack.constant !== BigInt(ACCESS_FLAGS.stack)) return super.probe(linear, size, write, stack);
    const { code } = this;
    const { tag, addend } = this.region.stackEntry;
    const wanted = code.let(this.wantedTag(linear.add(size - 1)));
    const host = code.variable('i32', linear.wrap().add(addend.get()));
    code.if(wanted.ne(tag.get()), () => {
      host.set(super.probe(linear, size, write, stack));
      const entry = this.tlbEntry(linear);
      tag.set(load64(entry, FAST_TLB_START + FAST_TLB.writeTag));
      addend.set(load32(entry, FAST_TLB_START + FAST_TLB.addend));
    });
    return host.get();
  }

  /** Everything but RAM that the fast TLB can hold is left to the interpreter: devices, page crossings, code. */
  protected slowAccess(host: Variable<'i32'>, linear: I64, what: I32): void {
    const { code, region } = this;
    region.stackEntry.tag.set(i64(-1));
    host.set(code.call('i32', this.callee('reach'), [linear, what, this.budget()]));
    code.if(host.get().leU(TOUCH.interpret), () => {
      region.leaveUntouched(host.get(), i32(this.instruction.record));
    });
    region.reloadBudget(this.unused);
  }

  protected commit(): void {}

  /** In 64-bit mode a target in the running page is canonical, as the page is. */
  override checkTarget(target: I64): void {
    if (this.form.mode !== CODE_MODE.code64) return super.checkTarget(target);
    this.code.if(target.sub(this.region.codeBase).geU(PAGE), () => super.checkTarget(target));
  }

  /** Ends the instruction. @returns whether control never falls through. */
  finish(): boolean {
    return this.ended;
  }
}

const entryOf = (record: I32): I32 => load32(record, RECORD.entry - 2).shrU(16);

/** A general-purpose register, or a part of it, in a local of the region. */
class LocalRegister implements Place {
  readonly size: 1 | 2 | 4 | 8;
  private readonly region: RegionBuilder;
  private readonly register: number;
  private readonly high: boolean;

  constructor(region: RegionBuilder, register: number, size: 1 | 2 | 4 | 8, high: boolean) {
    this.region = region;
    this.register = register;
    this.size = size;
    this.high = high;
  }

  read(): Word {
    const { code } = this.region;
    const whole = this.region.gpr(this.register).get();
    if (this.size === 8) return code.let(whole);
    const low = this.high ? whole.wrap().shrU(8) : whole.wrap();
    return code.let(this.size === 4 ? low : low.zeroExtend(8 * this.size));
  }

  write(value: Word): void {
    if (this.size >= 4) {
      this.region.setGpr(this.register, value.extendU());
      return;
    }
    const shift = this.high ? 8 : 0;
    const mask = ((1n << BigInt(8 * this.size)) - 1n) << BigInt(shift);
    const rest = this.region.gpr(this.register).get().and(~mask);
    const part = value
      .extendU()
      .zeroExtend(8 * this.size)
      .shl(shift);
    this.region.setGpr(this.register, rest.or(part));
  }
}

class Constant implements Place {
  readonly size: number;
  private readonly value: bigint;

  constructor(size: number, value: bigint) {
    this.size = size;
    this.value = value;
  }

  read(): Word {
    if (this.size === 8) return Int.of('i64', this.value);
    const bits = 8 * this.size;
    return Int.of('i32', BigInt.asUintN(bits, this.value));
  }

  write(): void {
    throw new TypeError('an immediate cannot be written');
  }
}
