import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FormatError } from '../byte-reader.ts';
import { Program } from '../program.ts';
import { AT } from './constants.ts';
import { expressionAt } from './lists.ts';
import { type ExpressionContext, locate, Unavailable } from './location-expressions.ts';
import { strip, type Type } from './types.ts';
import type { Entry } from './unit.ts';

const SAMPLE = join(import.meta.dirname, '../../../test/variables/sample.c');
const DEBUG_SECTION = /^\.debug_(info|types|abbrev|line|loc|loclists|ranges|rnglists|str_offsets|addr|aranges)$/;

const SEED = Number(process.env.SEED ?? 4711);

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
function lookAtVariables(program: Program, addresses: readonly bigint[]): number {
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

for (const options of [
  ['-O2', '-gdwarf-5'],
  ['-O1', '-gdwarf-4'],
  ['-O0', '-gdwarf-5', '-gdwarf64'],
  ['-O1', '-gdwarf-4', '-fdebug-types-section'],
  ['-O2', '-gdwarf-5', '-fdebug-types-section', '-gz=zlib'],
]) {
  describe(`damaged debug information (${options.join(' ')}; seed ${SEED})`, () => {
    let folder: string;
    let bytes: Uint8Array;
    let places: readonly { readonly start: number; readonly size: number }[];
    let addresses: readonly bigint[];
    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'vmxray-damaged-'));
      const file = join(folder, 'sample.elf');
      const flags = ['-ffreestanding', '-nostdlib', '-static', '-no-pie', '-Wl,-emain', '-o', file, SAMPLE];
      execFileSync('gcc', [...options, ...flags], { stdio: 'ignore' });
      bytes = readFileSync(file);
      const program = new Program('sample', file, bytes);
      places = program.elf.sections
        .filter(({ name }) => DEBUG_SECTION.test(name))
        .map(({ offset, size }) => ({ start: offset, size }));
      addresses = program.functions.flatMap(({ start, end }) => [start, (start + end) / 2n]);
    });
    after(() => rmSync(folder, { recursive: true }));

    it('is read whole when it is sound', () => {
      const program = new Program('sample', 'sample.elf', bytes);
      assert.ok(lookAtVariables(program, addresses) > 30);
      assert.deepEqual(program.problems, []);
    });

    it('is told of and never hangs or throws anything but FormatError', () => {
      let seed = SEED;
      const random = (limit: number): number => {
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
        return (seed >>> 8) % limit;
      };
      let damaged = 0;
      for (let round = 0; round < 60; round++) {
        const copy = Uint8Array.from(bytes);
        for (let flip = 0; flip < 1 + random(8); flip++) {
          const place = places[random(places.length)];
          if (place && place.size > 0) copy[place.start + random(place.size)] = random(256);
        }
        const begun = performance.now();
        try {
          const program = new Program('damaged', 'damaged.elf', copy);
          lookAtVariables(program, addresses);
          if (program.problems.length > 0) damaged++;
        } catch (error) {
          assert.ok(error instanceof FormatError, `seed ${SEED}, round ${round}: ${(error as Error).stack}`);
        }
        assert.ok(performance.now() - begun < 5000, `round ${round} takes too long`);
      }
      assert.ok(damaged > 5, `only ${damaged} of 60 damages were told of`);
    }).timeout(120_000);
  });
}
