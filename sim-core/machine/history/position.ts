/**
 * A place in the machine's history: instructions since boot, and then what happened between two instructions (events
 * delivered, waits in HLT) counted since boot.
 */
export interface Position {
  readonly instructions: number;
  readonly events: number;
}

export const before = (a: Position, b: Position): boolean =>
  a.instructions < b.instructions || (a.instructions === b.instructions && a.events < b.events);

export const same = (a: Position, b: Position): boolean => a.instructions === b.instructions && a.events === b.events;
