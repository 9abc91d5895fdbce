import type { DebugProtocol } from '@vscode/debugprotocol';
import { errors } from './errors.ts';
import type { TypedValue } from './symbols/typed-value.ts';

/** A list of variables, made when the client opens it. */
export interface VariableList {
  variables(): DebugProtocol.Variable[];
  /** Numbered ones beside them, as many as wanted; 0: as many as are good to show. */
  indexed?(start: number, count: number): DebugProtocol.Variable[];
  /** Changes one of them. @throws notWritable or unknownVariable. @returns what it is now. */
  set?(name: string, expression: string): { value: string; variablesReference?: number };
  /** One of them that is a value of the program. */
  find?(name: string): TypedValue | undefined;
}

/** The processor that the machine shows: requests about another one's frames and variables lead back to it. */
export interface Place {
  readonly processor: number;
  goTo(processor: number): void;
}

/** Variables references of the current stop. Numbers are never used again, so that old ones are known as such. */
export class References {
  private readonly place: Place;
  private lists = new Map<number, { readonly list: VariableList; readonly processor: number }>();
  private next = 1;

  constructor(place: Place) {
    this.place = place;
  }

  add(list: VariableList): number {
    const reference = this.next++;
    this.lists.set(reference, { list, processor: this.place.processor });
    return reference;
  }

  /** The machine then shows the processor that the list is about. @throws unknownReference */
  get(reference: number): VariableList {
    const known = this.lists.get(reference);
    if (!known) throw errors.unknownReference(reference);
    this.place.goTo(known.processor);
    return known.list;
  }

  reset(): void {
    this.lists = new Map();
  }
}
