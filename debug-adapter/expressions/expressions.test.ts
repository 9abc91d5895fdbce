import assert from 'node:assert/strict';
import { RequestError } from '../errors.ts';
import { formatPlace, parsePlace } from '../worlds/memory-reference.ts';
import { assign, type Environment, evaluate, formatNumber, renderTemplate } from './evaluate.ts';
import { parseExpression, parseStatement, parseTemplate } from './parser.ts';

/** Two registers and a memory whose byte at address a is a modulo 256, in every space but gpa, which holds zeros. */
class TestEnvironment implements Environment {
  readonly wordBytes = 8;
  readonly names = new Map([
    ['rax', 0xffff_ffff_ffff_fff0n],
    ['rcx', 3n],
    ['vmcs.GUEST_RIP', 0x1000n],
  ]);
  readonly written: string[] = [];

  lookup(name: string): bigint | undefined {
    return this.names.get(name);
  }
  assign(name: string, value: bigint): string | undefined {
    if (name === 'rip') return 'it is read-only';
    this.names.set(name, value);
    return undefined;
  }
  readMemory({ space, address }: { space: string; address: bigint }, bytes: number): Uint8Array {
    return Uint8Array.from({ length: bytes }, (_, index) => (space === 'gpa' ? 0 : Number(address & 0xffn) + index));
  }
  writeMemory(place: Parameters<Environment['writeMemory']>[0], bytes: Uint8Array): void {
    this.written.push(`${formatPlace(place)}=${[...bytes].join(',')}`);
  }
}

const value = (text: string): bigint => evaluate(parseExpression(text), new TestEnvironment()).number;

function check(text: string, expected: bigint): void {
  it(`${text} is ${expected}`, () => assert.equal(value(text), expected));
}

function checkError(text: string, message: RegExp): void {
  it(`${text} is refused: ${message.source}`, () => {
    const run = (): unknown => value(text);
    assert.throws(run, (error) => error instanceof RequestError && message.test(error.message));
  });
}

describe('expressions', () => {
  // Expected numbers follow from C's precedence and arithmetic.
  check('1 + 2 * 3', 7n);
  check('(1 + 2) * 3', 9n);
  check('10 - 4 - 3', 3n);
  check('1 | 2 ^ 3 & 5', 3n);
  check('1 << 4 + 1', 32n);
  check('0x10 == 16', 1n);
  check('0b1010 + 1_000', 1010n);
  check('6 & 3 && 1 > 2', 0n);
  check('6 & 3 && 2 > 1', 1n);
  check('0 || rcx == 3', 1n);
  check('!rcx', 0n);
  check('~0 == 0xffffffffffffffff', 1n);
  check('-7 / 2', -3n);
  check('-7 % 2', -1n);
  check('rax + 0x20', 0x1_0000_0000_0000_0010n);
  check('rax + 0x20 == 0x10', 1n);
  check('signed(rax) < 0', 1n);
  check('rax < 0', 0n);
  check('1 << 65', 0n);
  check('vmcs.GUEST_RIP >= 0x1000', 1n);
  check("'A' + 1", 66n);
  check("'\\n' * 0x100 + '\\x41'", 0xa41n);
  check("'\\'' == 39 && ' ' == 32 && '\\\\' == 92 && '\\0' == 0", 1n);
  check('u8(0x1234)', 0x34n);
  check('u16(0x1234)', 0x3534n);
  check('s8(0x1280)', -128n);
  check('[0x10]', 0x1716151413121110n);
  check('u32(gpa:0x10)', 0n);
  check('u32(gpa:0x10 + rcx)', 0n);
  check('u8(hpa:rcx)', 3n);
  check('0 && 1 / 0', 0n);

  // Floating-point: as C computes with doubles.
  check('1.5 + 1 == 2.5', 1n);
  check('7 / 2.0 > 3', 1n);
  check('1e3 == 1000', 1n);
  check('-1.5 < rcx', 1n);
  check('0.5 && 1', 1n);
  check('!0.0', 1n);
  checkError('1.5 % 2', /'%' needs whole numbers \(at column 5\)/);
  checkError('1 + ~1.5', /'~' needs a whole number \(at column 5\)/);
  checkError('u8(1.5)', /whole number is needed, not 1.5.*column 4/);

  checkError('', /value is expected, but the end is there \(at column 1\)/);
  checkError('1 +', /value is expected.*column 4/);
  checkError('1 2', /operator or the end.*'2'.*column 3/);
  checkError("1 + 'a::b<int>'", /'a::b<int>' is no register.*column 5/);
  checkError("1 + ''", /''' is not understood.*column 5/);
  checkError('rxx', /'rxx' is no register.*column 1/);
  checkError('1 / (rcx - 3)', /Division by zero.*column 3/);
  checkError('(1', /'\)' is expected/);
  checkError('a # b', /'#' is not understood.*column 3/);
  checkError('f(1)', /no function 'f'/);

  it('refuses nesting that no person writes', () => {
    assert.throws(() => value(`${'('.repeat(5000)}1`), /nested too deeply/);
  });

  it('assigns registers and memory', () => {
    const environment = new TestEnvironment();
    const run = (text: string): bigint => {
      const statement = parseStatement(text);
      assert.equal(statement.kind, 'assignment');
      return statement.kind === 'assignment' ? assign(statement, environment).number : 0n;
    };
    assert.equal(run('rcx = rcx + 1'), 4n);
    assert.equal(environment.names.get('rcx'), 4n);
    run('u16(hpa:0x20) = 0x1234');
    run('[8] = -1');
    assert.deepEqual(environment.written, ['hpa:0x20=52,18', 'linear:0x8=255,255,255,255,255,255,255,255']);
    assert.throws(() => run('rip = 1'), /'rip' cannot be changed: it is read-only/);
    assert.throws(() => parseStatement('1 + 2 = 3'), /Only registers/);
  });

  it('renders log messages', () => {
    const parts = parseTemplate('rcx={rcx} {{braces}} sum {rcx + 0x10}');
    assert.equal(renderTemplate(parts, new TestEnvironment()), 'rcx=3 {braces} sum 0x13');
    assert.throws(() => parseTemplate('open {rcx'), /'\{' has no partner \(at column 6\)/);
    assert.throws(() => parseTemplate('a {rcx} b {1 +} c'), /value is expected.*\(at column 15\)/);
    assert.equal(renderTemplate(parseTemplate('{rcx / 2.0}'), new TestEnvironment()), '1.5');
  });

  it('formats numbers', () => {
    assert.deepEqual([9n, 10n, -5n, -20n, 0xffff_ffff_ffff_ffffn].map(formatNumber), [
      '9',
      '0xa',
      '-5',
      '-20',
      '0xffffffffffffffff',
    ]);
  });
});

describe('memory references', () => {
  it('name a space and an address', () => {
    assert.deepEqual(parsePlace('gpa:0x1000'), { space: 'gpa', address: 0x1000n });
    assert.deepEqual(parsePlace('0x10'), { space: 'linear', address: 0x10n });
    assert.deepEqual(parsePlace('guest: 16'), { space: 'guest', address: 16n });
  });
  it('are refused when they are something else', () => {
    for (const bad of ['', 'x', 'gpa:', 'abc:0x10', '0xg', '-1', 'gpa:0x10+1']) {
      assert.throws(() => parsePlace(bad), RequestError, bad);
    }
  });
});
