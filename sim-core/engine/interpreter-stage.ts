import { CODE_MODE, FAST_TLB, OFFSET, REGION, SEGMENT } from '../state/layout.ts';
import type { Callee, Code } from './code.ts';
import { storeRecordRip, storeRip } from './core.ts';
import { LazyFlags, memoryFlagCells } from './flags.ts';
import type { Form } from './form.ts';
import { LINK, RECORD } from './record.ts';
import type { Flags, Intent, Place, Stage, VectorPlace } from './stage.ts';
import {
  type I32, type I64, i32, type IntLoad, load16, load32, load64, load8, loadInt, Value, type Word,
} from './value.ts'; // biome-ignore format: a table reads better in rows

const ZERO = i32(0);
/** Loads and value types by integer operand size in bytes. */
const INT_LOAD: Readonly<Record<number, IntLoad>> = { 1: 'i32u8', 2: 'i32u16', 4: 'i32', 8: 'i64' };

/** The functions that handler code calls, by name of HANDLER_IMPORTS. */
export type HandlerCallees = Readonly<Record<string, Callee>>;

/** Where an access goes: a linear-memory address that is valid after the probe. */
interface Probe {
  readonly host: I32;
}

/** Staging for interpreter handlers: what depends on the instance is loaded from the record. */
export class InterpreterStage implements Stage {
  readonly code: Code;
  readonly form: Form;
  readonly flags: Flags;
  private readonly record: I32;
  private readonly callees: HandlerCallees;

  constructor(code: Code, form: Form, callees: HandlerCallees) {
    this.code = code;
    this.form = form;
    this.callees = callees;
    this.record = code.parameter(0, 'i32');
    this.flags = new LazyFlags(code, memoryFlagCells(code));
  }

  private callee(name: string): Callee {
    const callee = this.callees[name];
    if (!callee) throw new Error(`no engine function ${name}`);
    return callee;
  }

  private operandForm(i: number) {
    const operand = this.form.operands[i];
    if (!operand) throw new RangeError(`${this.form.name} has no operand ${i}`);
    return operand;
  }

  // ---- operands

  operand(i: number, intent: Intent, displacement?: I64): Place {
    const form = this.operandForm(i);
    switch (form.kind) {
      case 'gpr': {
        const at = this.code.let(load16(this.record, RECORD.operand + 2 * i));
        return new RegisterPlace(this.code, at, 0, form.size);
      }
      case 'immediate':
        return new ImmediatePlace(this.code, this.record, form.size);
      case 'memory':
        return this.placeAt(this.linearOperand(form.size, intent !== 'read', displacement), integerSize(form.size), intent);
      default:
        throw new TypeError(`operand ${i} of ${this.form.name} is no integer`);
    }
  }

  gpr(register: number, size: 1 | 2 | 4 | 8): Place {
    return new RegisterPlace(this.code, ZERO, OFFSET.gpr + 8 * register, size);
  }

  vector(i: number, intent: Intent, aligned = false): VectorPlace {
    const form = this.operandForm(i);
    if (form.kind === 'xmm') {
      const at = this.code.let(load16(this.record, RECORD.operand + 2 * i));
      return new VectorAt(this.code, 16, () => at);
    }
    if (form.kind !== 'memory') throw new TypeError(`operand ${i} of ${this.form.name} is no vector`);
    const linear = this.linearOperand(form.size, intent !== 'read');
    if (aligned) this.faultIf(linear.and(15).ne(0), 13);
    const probe = this.lazyProbe(linear, form.size, intent);
    return new VectorAt(this.code, form.size, () => probe().host, () => this.commit(probe().host));
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
    return this.placeAt(linear, size, intent);
  }

  private placeAt(linear: I64, size: 1 | 2 | 4 | 8, intent: Intent): Place {
    const probe = this.lazyProbe(linear, size, intent);
    return {
      size,
      read: () => this.code.let(loadInt(INT_LOAD[size] as IntLoad, probe().host)),
      write: (value) => {
        const { host } = probe();
        this.code.store(size, host, value);
        this.commit(host);
      },
    };
  }

  // ---- addresses

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

  /** The linear address of the memory operand, after segment checks. */
  private linearOperand(size: number, write: boolean, displacement?: I64): I64 {
    const offset = this.effectiveAddress(displacement);
    switch (this.form.address?.segmentation) {
      case 'based':
        return this.code.let(offset.add(load64(load8(this.record, RECORD.segment), OFFSET.segmentBase)));
      case 'checked':
        return this.checkedLinear(this.code.let(load8(this.record, RECORD.segment)), offset, size, write);
      default:
        return offset;
    }
  }

  /** Limit and rights check outside 64-bit mode. @param at segment number × 8. */
  private checkedLinear(at: I32, offset: I64, size: number, write: boolean): I64 {
    const top = load64(at, write ? OFFSET.segmentWriteTop : OFFSET.segmentReadTop);
    this.code.if(offset.add(size).gtU(top), () => {
      const args = [at.shrU(3), offset.wrap(), i32(size | (write ? 0x100 : 0))];
      this.leaveOnFault(this.code.call('i32', this.callee('segment'), args).eqz());
    });
    return this.code.let(load64(at, OFFSET.segmentBase).add(offset).zeroExtend(32));
  }

  /** Probes on first use, so that operand evaluation order is that of the semantics. */
  private lazyProbe(linear: I64, size: number, intent: Intent): () => Probe {
    let probe: Probe | undefined;
    return () => {
      probe ??= this.probe(linear, size, intent !== 'read');
      return probe;
    };
  }

  /** The inline TLB probe; misses, page crossings and devices go to the MMU's slow path. */
  private probe(linear: I64, size: number, write: boolean): Probe {
    const { code } = this;
    const index = linear.shrU(12).wrap().and(FAST_TLB.entries - 1);
    const entry = code.let(index.shl(FAST_TLB.entryShift).add(REGION.fastTlb.start));
    const wanted = linear.add(size - 1).and(-4096).or(load64(ZERO, OFFSET.tlbContext));
    const host = code.variable('i32', linear.wrap().add(load32(entry, FAST_TLB.addend)));
    code.if(load64(entry, write ? FAST_TLB.writeTag : FAST_TLB.readTag).ne(wanted), () => {
      const args = [linear.wrap(), linear.shrU(32).wrap(), i32(size | (write ? 0x100 : 0))];
      host.set(code.call('i32', this.callee('access'), args));
      this.leaveOnFault(host.get().eqz());
    });
    return { host: host.get() };
  }

  private commit(host: I32): void {
    this.code.if(host.eq(OFFSET.bounce), () => this.code.do(this.callee('commit'), []));
  }

  // ---- control flow

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
    const target = load64(ZERO, OFFSET.codeBase).add(load64(this.record, RECORD.immediate));
    return this.code.let(this.truncateRip(target));
  }

  private truncateRip(rip: I64): I64 {
    if (this.form.mode === CODE_MODE.code64) return rip;
    return rip.zeroExtend(8 * Math.min(this.form.operandSize, 4));
  }

  jump(target: I64): void {
    storeRip(this.code, target);
    this.code.return(this.code.call('i32', this.callee('lookup'), []));
  }

  checkTarget(target: I64): void {
    if (this.form.mode === CODE_MODE.code64) this.faultIf(target.shl(16).shrS(16).ne(target), 13);
    else this.faultIf(target.gtU(load32(ZERO, OFFSET.segmentLimit + 4 * SEGMENT.cs).extendU()), 13);
  }

  faultIf(condition: I32, vector: number): void {
    this.code.if(condition, () => {
      this.code.do(this.callee('raise'), [i32(vector)]);
      this.leaveOnFault();
    });
  }

  slowIf(condition: I32): void {
    this.code.if(condition, () => {
      storeRecordRip(this.code, this.record);
      this.code.return(this.code.call('i32', this.callee('slow'), [this.record]));
    });
  }

  private leaveOnFault(condition?: I32): void {
    const leave = () => this.code.return(this.code.call('i32', this.callee('fault'), [this.record]));
    if (condition) this.code.if(condition, leave);
    else leave();
  }

  /** Ends the handler: on to the next record. */
  finish(): void {
    this.code.result(load32(this.record, RECORD.next));
  }
}


function integerSize(size: number): 1 | 2 | 4 | 8 {
  if (size === 1 || size === 2 || size === 4 || size === 8) return size;
  throw new RangeError(`no integer operand has ${size} bytes`);
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

const V128_LOAD = 0;

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

  read(): Value<'v128'> {
    const at = this.at();
    return this.code.keep(
      new Value('v128', (out) => {
        at.emit(out);
        out.append([0xfd, V128_LOAD, 0, 0]);
      }),
    );
  }

  write(value: Value<'v128'>): void {
    this.code.store(16, this.at(), value);
    this.written();
  }

  readF64(): Value<'f64'> {
    return this.code.keep(floatLoad('f64', 0x2b, this.at()));
  }
  readF32(): Value<'f32'> {
    return this.code.keep(floatLoad('f32', 0x2a, this.at()));
  }
  readI64(): I64 {
    return this.code.let(load64(this.at()));
  }
  readI32(): I32 {
    return this.code.let(load32(this.at()));
  }

  writeLow(value: Value<'f64'> | Value<'f32'> | I64 | I32): void {
    const width = value.type === 'f64' || value.type === 'i64' ? 8 : 4;
    this.code.store(width, this.at(), value);
    this.written();
  }
}

function floatLoad<T extends 'f32' | 'f64'>(type: T, opcode: number, at: I32): Value<T> {
  return new Value(type, (out) => {
    at.emit(out);
    out.append([opcode, 0, 0]);
  });
}

