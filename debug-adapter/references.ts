import type { DebugProtocol } from '@vscode/debugprotocol';
import { errors } from './errors.ts';

/** A list of variables, made when the client opens it. */
export interface VariableList {
  variables(): DebugProtocol.Variable[];
  /** Changes one of them. @throws notWritable or unknownVariable. @returns what it is now. */
  set?(name: string, expression: string): { value: string; variablesReference?: number };
}

/** Variables references of the current stop. Numbers are never used again, so that old ones are known as such. */
export class References {
  private lists = new Map<number, VariableList>();
  private next = 1;

  add(list: VariableList): number {
    const reference = this.next++;
    this.lists.set(reference, list);
    return reference;
  }

  get(reference: number): VariableList {
    const list = this.lists.get(reference);
    if (!list) throw errors.unknownReference(reference);
    return list;
  }

  reset(): void {
    this.lists = new Map();
  }
}
