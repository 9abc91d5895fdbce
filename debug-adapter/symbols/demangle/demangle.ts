/**
 * Names of C++ and Rust from symbols. Libraries that read them are half a megabyte of WebAssembly, as much as a quarter
 * of the debug adapter; what is here is held against gdb and c++filt.
 */

import { demangleItanium } from './itanium.ts';
import { demangleLegacyRust, demangleRust } from './rust.ts';

export interface Demangled {
  /** What it is called, with what is around it: `a::B<int>::f`. */
  readonly path: string;
  /** With types of parameters, too: `a::B<int>::f(char) const`. */
  readonly full: string;
}

export const isMangled = (name: string): boolean => /^(_Z|__Z|_R[A-Z])/.test(name);

/** @returns undefined when the name is not mangled, or not understood */
export function demangle(name: string): Demangled | undefined {
  if (!isMangled(name)) return undefined;
  const rust = demangleLegacyRust(name) ?? demangleRust(name);
  return rust === undefined ? demangleItanium(name) : { path: rust, full: rust };
}

/** As people write it. */
export const readable = (name: string): string => demangle(name)?.full ?? name;
