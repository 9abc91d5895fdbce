/** The workloads: what each must print. One row per file in bench/workloads; the benchmark and its test read it. */

export interface Workload {
  readonly name: string;
  /** File in bench/workloads. */
  readonly file: string;
  /** Result of each phase, hexadecimal without leading zeros, in the order printed. START and END are 0. */
  readonly results: Readonly<Record<string, string>>;
  /**
   * Millions of guest instructions between START and END, as Bochs counts them (a REP instruction counts once per
   * iteration there, so workloads that are string instructions have none).
   */
  readonly millions?: number;
  /** Exact VM exits by name, where the workload is a hypervisor. */
  readonly vmExits?: Readonly<Record<string, number>>;
}

const integerResults = { sieve: '1b453c', crc32: '5f25dd7d', quicksort: 'ffd031dd' } as const;
const stringResults = { movsb_64k: '0', movsb_48: '0', stos: 'ff' } as const;
const fibonacciResults = { fib36: 'e3d1b0', indirect: '214feb0' } as const;

export const WORKLOADS: readonly Workload[] = [
  { name: 'n_null', file: 'n_null.elf', results: {} },
  { name: 'a_int', file: 'a_int.elf', results: integerResults, millions: 1541 },
  { name: 'b_chase', file: 'b_chase.elf', results: { setup: '0', chase: '4000000' }, millions: 63 },
  { name: 'c_string', file: 'c_string.elf', results: stringResults },
  { name: 'd_fib', file: 'd_fib.elf', results: fibonacciResults, millions: 896 },
  { name: 'e_matmul', file: 'e_matmul.elf', results: { matmul: '41b83b657fff5580' }, millions: 363 },
  {
    name: 'f_vmx',
    file: 'f_vmx.elf',
    results: { setup: '0', cpuid_exits: 'f4241' },
    millions: 66,
    vmExits: { CPUID: 1_000_000, VMCALL: 1 },
  },
  {
    name: 'g_vmxint',
    file: 'g_vmxint.elf',
    results: { setup: '0', ...integerResults, guest: '1' },
    millions: 1542,
    vmExits: { VMCALL: 1 },
  },
  { name: 'n_null.32', file: 'n_null.32.elf', results: {} },
  { name: 'a_int.32', file: 'a_int.32.elf', results: integerResults },
  { name: 'c_string.32', file: 'c_string.32.elf', results: stringResults },
  { name: 'd_fib.32', file: 'd_fib.32.elf', results: fibonacciResults },
];
