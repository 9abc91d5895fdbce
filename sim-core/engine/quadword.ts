import type { Code } from './code.ts';
import type { Form } from './form.ts';
import type { LowBytes, VectorPlace } from './stage.ts';
import type { I32 } from './value.ts';
import { loadVector, storeVector, type V128 } from './vector.ts';

/** Whether the form works on MMX registers: its vectors have 8 bytes, in memory at any address. */
export const hasMmxOperand = (form: Form): boolean => form.operands.some(({ kind }) => kind === 'mm');

/** An MMX register or its counterpart in memory: values have zeros above their 8 (or 4) bytes. */
export class QuadwordAt implements VectorPlace {
  readonly size: 4 | 8;
  private readonly code: Code;
  private readonly at: () => I32;
  private readonly written: () => void;

  /** @param written what follows a write. */
  constructor(code: Code, size: 4 | 8, at: () => I32, written: () => void) {
    this.code = code;
    this.size = size;
    this.at = at;
    this.written = written;
  }

  read(): V128 {
    return this.readLow(this.size);
  }

  readLow(bytes: LowBytes): V128 {
    return this.code.keep(loadVector(bytes, this.at()));
  }

  write(value: V128): void {
    this.writeLow(this.size, value);
  }

  writeLow(bytes: LowBytes, value: V128): void {
    storeVector(this.code, bytes, this.at(), value);
    this.written();
  }
}
