// Expected values: what c++filt makes of the same names.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { demangle } from './demangle.ts';

const CPP = [
  '_Z1fv',
  '_Z1fiz',
  '_ZN5space3fooEibc',
  '_ZN12_GLOBAL__N_11fEi.part.0',
  '_ZNK1A5beginEv',
  '_ZNKR1A1gEv',
  '_ZNO1A1hEv',
  '_ZN1AC2ERKS_',
  '_ZN1AD0Ev',
  '_ZN1AIiLb1ELj5EE1fIcEEvT_',
  '_ZN1AcvPKcEv',
  '_ZN1AlsIiEERS_T_',
  '_ZltRK1AS1_',
  '_Zli2kmy',
  '_ZnwmPv',
  '_Z1fPFivE',
  '_Z1fPFPFivEcE',
  '_Z1fRA3_A4_Ki',
  '_Z1fM1AKFivE',
  '_Z1fM1Ai',
  '_Z1fPVKDi',
  '_Z1fDnDsDu',
  '_Z1fIJicEEvDpT_',
  '_Z1fIJicEEvDpRKT_',
  '_Z1fIJEEvDpT_',
  '_Z1fIiEvOT_',
  '_Z1fIRiEvOT_',
  '_Z1fIXadL_Z1gvEEEvv',
  '_Z1fILin5EEvv',
  '_Z1fIL1E2EEvv',
  '_Z1fISt6vectorIiSaIiEEEvT_',
  '_ZZ4mainENKUlvE_clEv',
  '_ZZ4mainENKUlT_E0_clIiEEDaS_',
  '_ZZ1fvE1x',
  '_ZZ1fvE1x_0',
  '_ZZ1fvEs',
  '_ZZ1fiEd_NKUlvE_clEv',
  '_ZNUt_1fEv',
  '_ZTV1A',
  '_ZTI1A',
  '_ZTS1A',
  '_ZGVZ1fvE1x',
  '_ZThn16_N1A1fEv',
  '_ZTv0_n24_N1A1fEv',
  '_ZTCN1AE8_1B',
  '_ZTHN1A1xE',
  '_ZN1AB5cxx11C1Ev',
  '_Z1fB3tagv',
  '_ZN1f1gEv.cold',
  '_ZNSt12__shared_ptrIiLN9__gnu_cxx12_Lock_policyE2EEC1Ev',
  '_ZSt4cout',
  '_ZNSsC1EPKcRKSaIcE',
  '_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc',
];
const RUST = [
  '_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE',
  '_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE',
  '_ZN8bare_fix3foo28_$u7b$$u7b$closure$u7d$$u7d$17h05af221e174051e9E',
  '_RNvCs123_7mycrate3foo',
  '_RNvNtCs6GSVXm7oiwY_5alloc4sync3new',
  '_RNvMs_Cs4fqI2P2rA04_6sampleINtB4_4RinglKj4_E4push',
  '_RNvXCs4fqI2P2rA04_6sampleNtB2_7CounterNtB2_6Device4tick',
  '_RNCNvCs4fqI2P2rA04_6sample3run0B3_',
  '_RNCNvCs4fqI2P2rA04_6sample3runs_0B3_',
  '_RINvCs4fqI2P2rA04_6sample7largestlEB2_',
  '_RINvC1a1fFG0_RL1_hRL0_tEuE',
  '_RINvC1a1fDNtC1b1cp4Itemh NtC1b1dEL_E'.replace(' ', ''),
  '_RINvC1a1fFUKCPhOoEzE',
  '_RINvC1a1fTTEThEAhj10_SeQmRxEE',
  '_RINvC1a1fKb1_Kan5_KpE',
  '_RYhNtC1a1T',
  '_RNvC1au8gre_ekaf',
];

/** Numbers of crates, hashes, and types of constants, which people do not want to see. */
const brief = (text: string): string =>
  text
    .replaceAll(/\[[0-9a-f]{1,16}\]/g, '')
    .replace(/::h[0-9a-f]{16}$/, '')
    .replaceAll(/([0-9a-f]|true|false): (usize|isize|bool|char|[iu]\d+)/g, '$1');
/** Spaces between closing brackets, which gdb leaves out where an empty pack ends the list. */
const withoutSpaces = (text: string): string => text.replaceAll(/> (?=>)/g, '>');

function expected(names: readonly string[]): string[] {
  return execFileSync('c++filt', { input: `${names.join('\n')}\n`, encoding: 'utf8', maxBuffer: 1 << 28 })
    .trimEnd()
    .split('\n');
}

describe('mangled names', () => {
  const wanted = expected([...CPP, ...RUST]);
  for (const [index, name] of [...CPP, ...RUST].entries()) {
    const text = index < CPP.length ? (wanted[index] ?? '') : brief(wanted[index] ?? '');
    it(`${name} is ${text}`, () => {
      assert.notEqual(text, name, 'c++filt does not know it');
      assert.equal(demangle(name)?.full, text);
    });
  }

  it('are known without types, too', () => {
    assert.equal(demangle('_ZN1AIiLb1ELj5EE1fIcEEvT_')?.path, 'A<int, true, 5u>::f<char>');
    assert.equal(demangle('_ZNK1A5beginEv')?.path, 'A::begin');
  });

  it('are those of a large library', function () {
    const library = execFileSync('gcc', ['-print-file-name=libstdc++.so.6'], { encoding: 'utf8' }).trim();
    if (!existsSync(library)) this.skip();
    const listed = execFileSync('nm', ['-D', '--defined-only', library], { encoding: 'utf8', maxBuffer: 1 << 26 });
    const names = [...listed.matchAll(/ (_Z[^@\n]+)/g)].map(([, name]) => name ?? '');
    assert.ok(names.length > 5000);
    const found = names.map((name) => demangle(name)?.full ?? name);
    assert.deepEqual(found.map(withoutSpaces), expected(names).map(withoutSpaces));
  }).timeout(20_000);

  it('are left alone when they are others, or damaged', () => {
    for (const name of ['main', '_start', '_Z', '_R', '__libc', '_ZN', '_Z1', '_RNv', '_ZNSt3fooE_', '_ZS_', '_RB_']) {
      assert.equal(demangle(name), undefined, name);
    }
    let seed = Number(process.env.SEED ?? 4711);
    const random = (limit: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % limit;
    };
    const names = [...CPP, ...RUST];
    const begun = performance.now();
    for (let round = 0; round < 20_000; round++) {
      const characters = [...(names[random(names.length)] ?? '')];
      const other = names[random(names.length)] ?? '';
      characters[2 + random(characters.length)] = other[random(other.length)] ?? '';
      // Whatever it is: it neither throws nor takes long.
      assert.ok((demangle(characters.join(''))?.full.length ?? 0) < 300_000);
    }
    assert.ok(performance.now() - begun < 10_000);
  }).timeout(20_000);
});
