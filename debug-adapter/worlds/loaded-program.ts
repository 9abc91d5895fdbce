import type { Program } from '../symbols/program.ts';
import { findOffset } from './load-address.ts';
import { applies, type When } from './symbol-context.ts';
import type { WorldView } from './world-view.ts';

/** A program, and where its symbols hold. */
export class LoadedProgram {
  readonly when: When;
  private known: Program;
  private found = false;
  private readonly at: ((loadAddress: bigint) => Program) | undefined;

  /** @param at makes the program anew for another load address, which is to be searched for; undefined: it is known */
  constructor(program: Program, when: When, at?: (loadAddress: bigint) => Program) {
    this.known = program;
    this.when = when;
    this.at = at;
  }

  get program(): Program {
    return this.known;
  }

  /** Whether it may be elsewhere than it was linked. */
  get isSearched(): boolean {
    return this.at !== undefined;
  }

  /** Whether it is not known yet where it is. */
  get isMissing(): boolean {
    return this.isSearched && !this.found;
  }

  /** Looks for the program in worlds where it may be. @returns whether it has been found, or found elsewhere */
  locate(views: readonly WorldView[]): boolean {
    const { at } = this;
    const lowest = lowestAddress(this.known);
    if (!at || lowest === undefined) return false;
    for (const view of views) {
      if (!view.exists || !applies(this.when, view)) continue;
      const offset = findOffset(this.known, view);
      if (offset === undefined || (this.found && offset === this.known.offset)) continue;
      this.found = true;
      this.known = at(lowest + offset);
      return true;
    }
    return false;
  }
}

/** Where a program's lowest segment was linked. */
function lowestAddress({ elf }: Program): bigint | undefined {
  const addresses = elf.segments.map(({ address }) => address);
  return addresses.reduce<bigint | undefined>((low, at) => (low === undefined || at < low ? at : low), undefined);
}
