/** The samples as the tests run them. */

import { join } from 'node:path';

const EXAMPLES = join(import.meta.dirname, '../../examples');

export interface Sample {
  readonly name: string;
  /** Path of the ELF file. */
  readonly kernel: string;
  readonly modules: readonly string[];
  /** Path of a file with what Bochs prints on the serial port. */
  readonly expectedOutput: string;
  /** What the sample writes to the debug-exit port: 0 when all went well. */
  readonly exitValue: number;
}

const GUEST = join(EXAMPLES, 'first-vmm/guest.elf');

const twoGuests = (name: string): string => join(EXAMPLES, `two-guests/${name}.elf`);

const sample = (name: string, exitValue: number, modules = [GUEST]): Sample => ({
  name,
  kernel: join(EXAMPLES, name, `${name}.elf`),
  modules,
  expectedOutput: join(EXAMPLES, name, 'expected-output.txt'),
  exitValue,
});

export const SAMPLES = {
  firstVmm: sample('first-vmm', 0),
  brokenEntry: sample('broken-entry', 1),
  staleTlb: sample('stale-tlb', 0, []),
  shadowPaging: sample('shadow-paging', 0, [join(EXAMPLES, 'shadow-paging/guest.elf')]),
  migration: sample('migration', 0, [join(EXAMPLES, 'migration/guest.elf')]),
  twoGuests: sample('two-guests', 0, ['primes', 'collatz'].map(twoGuests)),
} as const satisfies Record<string, Sample>;
