import { OFFSET } from '../state/layout.ts';
import { BaseStage, type HandlerCallees, INT_LOAD } from './base-stage.ts';
import type { Code, Variable } from './code.ts';
import { storeRecordRip, storeRip } from './core.ts';
import { LazyFlags, memoryFlagCells } from './flags.ts';
import type { Form, OperandForm } from './form.ts';
import { LINK, RECORD } from './record.ts';
import type { Flags, Place } from './stage.ts';
import { type I32, type I64, type IntLoad, i32, load8, load16, load32, load64, loadInt, type Word } from './value.ts';

const ZERO = i32(0);

/** Staging for interpreter handlers: what depends on the instance is loaded from the record. */
export class InterpreterStage extends BaseStage {
  readonly flags: Flags;
  private readonly record: I32;

  constructor(code: Code, form: Form, callees: HandlerCallees) {
    super(code, form, callees);
    this.record = code.parameter(0, 'i32');
    this.flags = new LazyFlags(code, memoryFlagCells(code));
  }

  protected place(i: number, form: OperandForm): Place {
    if (form.kind === 'gpr') return new RegisterPlace(this.code, this.vectorAddress(i), 0, form.size);
    if (form.kind === 'immediate') return new ImmediatePlace(this.code, this.record, form.size);
    throw new TypeError(`operand ${i} of ${this.form.name} is no integer`);
  }

  gpr(register: number, size: 1 | 2 | 4 | 8): Place {
    return new RegisterPlace(this.code, ZERO, OFFSET.gpr + 8 * register, size);
  }

  protected vectorAddress(i: number): I32 {
    return this.code.let(load16(this.record, RECORD.operand + 2 * i));
  }

  protected segmentOffset(): I32 {
    return load8(this.record, RECORD.segment);
  }

  baseIs(register: number): I32 {
    return load16(this.record, RECORD.base).eq(OFFSET.gpr + 8 * register);
  }

  effectiveAddress(displacement?: I64): I64 {
    const form = this.form.address;
    if (!form) throw new TypeError(`${this.form.name} has no memory operand`);
    const record = this.record;
    let address = load64(load16(record, RECORD.base)).add(load64(record, RECORD.displacement));
    if (form.hasIndex) {
      address = address.add(load64(load16(record, RECORD.index)).shl(load8(record, RECORD.scale).extendU()));
    }
    if (displacement) address = address.add(displacement);
    return this.code.let(address.zeroExtend(8 * form.size));
  }

  // ---- control flow

  budget(): I32 {
    return load32(ZERO, OFFSET.budget);
  }

  shorten(instructions: number): void {
    const left = this.code.let(this.budget().sub(instructions));
    this.slowIf(left.ltS(0));
    this.code.store(4, ZERO, left, OFFSET.budget);
  }

  nextRip(): I64 {
    return load64(ZERO, OFFSET.codeBase).add(load16(this.record, RECORD.nextOffset).extendU());
  }

  branchIf(condition: I32): void {
    this.code.if(condition, () => this.branch());
  }

  branch(): void {
    const { code } = this;
    const target = code.let(load32(this.record, RECORD.target));
    code.if(target.gtU(LINK.lookup), () => code.return(target));
    storeRip(code, this.branchTarget());
    code.if(target.eq(LINK.unresolved), () => {
      const linked = code.let(code.call('i32', this.callee('link'), [this.record]));
      code.if(linked, () => code.return(linked));
    });
    code.return(code.call('i32', this.callee('lookup'), []));
  }

  branchTarget(): I64 {
    return this.code.let(this.truncateRip(load64(ZERO, OFFSET.codeBase).add(load64(this.record, RECORD.immediate))));
  }

  jump(target: I64): void {
    storeRip(this.code, target);
    this.code.return(this.code.call('i32', this.callee('lookup'), []));
  }

  slowIf(condition: I32): void {
    this.code.if(condition, () => {
      storeRecordRip(this.code, this.record);
      this.code.return(this.code.call('i32', this.callee('slow'), [this.record]));
    });
  }

  protected leaveWithFault(): void {
    this.code.return(this.code.call('i32', this.callee('fault'), [this.record]));
  }

  protected slowAccess(host: Variable<'i32'>, linear: I64, what: I32): void {
    const args = [linear.wrap(), linear.shrU(32).wrap(), what, this.record];
    host.set(this.code.call('i32', this.callee('access'), args));
    this.code.if(host.get().eqz(), () => this.leaveWithFault());
  }

  protected commit(host: I32): void {
    this.code.if(host.eq(OFFSET.bounce), () => this.code.do(this.callee('commit'), []));
  }

  /** Ends the handler: on to the next record. */
  finish(): void {
    this.code.result(load32(this.record, RECORD.next));
  }
}

class RegisterPlace implements Place {
  readonly size: 1 | 2 | 4 | 8;
  private readonly code: Code;
  private readonly at: I32;
  private readonly offset: number;

  constructor(code: Code, at: I32, offset: number, size: 1 | 2 | 4 | 8) {
    this.code = code;
    this.at = at;
    this.offset = offset;
    this.size = size;
  }

  read(): Word {
    return this.code.let(loadInt(INT_LOAD[this.size] as IntLoad, this.at, this.offset));
  }

  write(value: Word): void {
    if (this.size === 4) this.code.store(8, this.at, value.extendU(), this.offset);
    else this.code.store(this.size, this.at, value, this.offset);
  }
}

class ImmediatePlace implements Place {
  readonly size: number;
  private readonly code: Code;
  private readonly record: I32;

  constructor(code: Code, record: I32, size: number) {
    this.code = code;
    this.record = record;
    this.size = size;
  }

  read(): Word {
    return this.code.let(loadInt(INT_LOAD[this.size] as IntLoad, this.record, RECORD.immediate));
  }

  write(): void {
    throw new TypeError('an immediate cannot be written');
  }
}
