import type { SectionPlaces } from '../symbols/object-file.ts';
import type { Place, Program } from '../symbols/program.ts';
import { findOffset } from './load-address.ts';
import { applies, type When } from './symbol-context.ts';
import type { WorldView } from './world-view.ts';

/** Finds where the kernel of a world has put the sections of a module of it. */
export type FindModule = (view: WorldView, module: Program) => SectionPlaces | undefined;

/** A program, and where its symbols hold. */
export class LoadedProgram {
  readonly when: When;
  private known: Program;
  private found: Place | undefined;
  private readonly at: ((place: Place) => Program) | undefined;

  /** @param at makes the program anew for another place, which is to be searched for; undefined: it is known */
  constructor(program: Program, when: When, at?: (place: Place) => Program) {
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
    return this.isSearched && this.found === undefined;
  }

  /** Looks for the program in worlds where it may be. @returns whether it has been found, or found elsewhere */
  locate(views: readonly WorldView[], findModule: FindModule): boolean {
    const { at, known } = this;
    if (!at) return false;
    for (const view of views) {
      if (!view.exists || !applies(this.when, view)) continue;
      const place = known.elf.isObject ? findModule(view, known) : addressIn(view, known);
      if (place === undefined || samePlace(place, this.found)) continue;
      this.found = place;
      this.known = at(place);
      return true;
    }
    return false;
  }
}

function addressIn(view: WorldView, program: Program): bigint | undefined {
  const offset = findOffset(program, view);
  const { lowestAddress } = program;
  return offset === undefined || lowestAddress === undefined ? undefined : lowestAddress + offset;
}

function samePlace(a: Place, b: Place | undefined): boolean {
  if (typeof a === 'bigint' || typeof b === 'bigint' || b === undefined) return a === b;
  return a.size === b.size && [...a].every(([section, address]) => b.get(section) === address);
}
