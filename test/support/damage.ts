/** Reads everything that there is in debug information, as a person does who opens everything; and damages it. */

import assert from 'node:assert/strict';
import { FormatError } from '../../debug-adapter/symbols/byte-reader.ts';
import { AT } from '../../debug-adapter/symbols/dwarf/constants.ts';
import { expressionAt } from '../../debug-adapter/symbols/dwarf/lists.ts';
import { type ExpressionContext, locate, Unavailable } from '../../debug-adapter/symbols/dwarf/location-expressions.ts';
import { strip, type Type } from '../../debug-adapter/symbols/dwarf/types.ts';
import type { Entry } from '../../debug-adapter/symbols/dwarf/unit.ts';
import type { Program } from '../../debug-adapter/symbols/program.ts';

/** Looks at a type as a person who opens everything would, but not for ever. */
function look(type: Type, depth = 0): void {
  assert.equal(typeof type.name, 'string');
  const plain = strip(type);
  assert.ok(plain.size === undefined || plain.size >= 0);
  if (depth > 3) return;
  if (plain.kind === 'record') for (const member of plain.members.slice(0, 20)) look(member.type, depth + 1);
  else if (plain.kind === 'array') look(plain.element, depth + 1);
  else if (plain.kind === 'pointer') look(plain.target, depth + 1);
  else if (plain.kind === 'enumeration') assert.ok(plain.values.length >= 0);
}

const registers = (entry: Entry): ExpressionContext => ({
  unit: entry.unit,
  addressSize: 8,
  place: (address) => address,
  threadLocal: (offset) => 0x3000n + offset,
  register: (number) => BigInt(number) << 12n,
  read: (_address, bytes) => new Uint8Array(Math.min(bytes, 64)),
  frameBase: () => 0x1000n,
  cfa: () => 0x2000n,
  entryValue: () => 0n,
  parameterValue: () => 0n,
});

/** Reads everything there is about some addresses. @returns how many variables there were. */
export function lookAtVariables(program: Program, addresses: readonly bigint[]): number {
  let count = 0;
  for (const address of addresses) {
    program.lineAt(address);
    program.frameRules(address);
    for (const activation of program.activationsAt(address)) {
      program.callLine(activation, address);
      program.attempt('variables', undefined, () => {
        for (const { entry } of program.scopes.variablesOf(activation)) {
          count++;
          look(program.scopes.types.type(entry.reference(AT.type)));
          const attribute = entry.find(AT.location);
          const expression = attribute && expressionAt(attribute.entry.unit, attribute.value, address);
          if (expression) tolerate(() => locate(expression, registers(entry)));
        }
      });
    }
  }
  program.attempt('names', undefined, () => program.scopes.globalNamed('shared', addresses[0] ?? 0n));
  return count;
}

function tolerate(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof Unavailable || error instanceof FormatError)) throw error;
  }
}

/** Bytes [start, start + size) of a file. */
export interface Place {
  readonly start: number;
  readonly size: number;
}

/** Whole numbers below a limit, the same ones for the same seed. */
export function randomNumbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
}

/** A copy of which some bytes in the places are others. */
export function damaged(bytes: Uint8Array, places: readonly Place[], random: (limit: number) => number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  for (let flip = 0; flip < 1 + random(8); flip++) {
    const place = places[random(places.length)];
    if (place && place.size > 0) copy[place.start + random(place.size)] = random(256);
  }
  return copy;
}
