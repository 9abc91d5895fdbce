import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CONTROL_FIELDS } from '../sim-core/vmx/controls.ts';
import { assertNone, projectFiles, ROOT, readText, stripComments } from './project-files.ts';

interface Manifest {
  readonly name: string;
  readonly displayName: string;
  readonly version: string;
  readonly publisher: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
}

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly resolved?: string }>>;
}

const files = projectFiles();
const sources = files.filter((path) => /\.(ts|mjs)$/.test(path));
/** The benchmark's programs stay as they were when other machines were measured with them. */
const AS_MEASURED = 'bench/workloads/';
const formatted = files.filter(
  (path) => /\.(ts|mjs|c|h|S|s|asm|inc|nasm|ld)$/.test(path) && !path.startsWith(AS_MEASURED),
);
const texts = files.filter((path) => /\.(ts|mjs|json|md|c|h|S|s|asm|inc|nasm|ld|yml)$|Makefile$/.test(path));

/** 'path:line' of every line that the test accepts. */
function linesThat(paths: readonly string[], test: (line: string) => boolean, text = readText): string[] {
  return paths.flatMap((path) =>
    text(path)
      .split('\n')
      .flatMap((line, index) => (test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 100)}`] : [])),
  );
}

/** A line with its strings and regular expressions emptied. */
function withoutStrings(line: string): string {
  return line.replace(/'[^']*'|"[^"]*"|`[^`]*`|\/[^/ ]+\/[a-z]*/g, "''");
}

describe('sources', () => {
  it('have no type any', () => {
    const anyType = /(?:[:<,|&(]|\bas)\s*any\b(?!['\w(])/;
    assertNone(
      linesThat(
        sources.filter((path) => path.endsWith('.ts')),
        (line) => anyType.test(withoutStrings(line)),
        (path) => stripComments(readText(path)),
      ),
    );
  });

  it('silence no type error', () => {
    const own = 'test/tidy.test.ts';
    const silenced = linesThat(
      sources.filter((path) => path !== own),
      (line) => /@ts-(ignore|expect-error|nocheck)/.test(line),
    );
    assertNone(silenced);
  });

  it('have lines of at most 120 columns, but for sentences in tables', () => {
    assertNone(linesThat(formatted, (line) => withoutStrings(line).length > 120));
  });

  it('name no folder of the machine they were written on', () => {
    const own = 'test/tidy.test.ts';
    const places = /(?:^|[\s'"`(=])\/(?:home|root|work|Users)\/\w/;
    assertNone(
      linesThat(
        texts.filter((path) => path !== own),
        (line) => places.test(line),
      ),
    );
  });
});

describe('documents', () => {
  it('link to files that exist', () => {
    const broken = files
      .filter((path) => path.endsWith('.md'))
      .flatMap((path) =>
        [...readText(path).matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
          .map(([, target = '']) => target)
          .filter((target) => !/^[a-z]+:/.test(target) && !existsSync(join(ROOT, dirname(path), target)))
          .map((target) => `${path}: ${target}`),
      );
    assertNone(broken);
  });

  it('name every VMX control that is not simulated among the limits', () => {
    const words = readText('docs/limits.md').replace(/\s+/g, ' ');
    const missing = CONTROL_FIELDS.flatMap(({ field, bits }) =>
      bits
        .filter(({ simulated, title }) => !simulated && !words.includes(title))
        .map(({ title }) => `${field}: ${title}`),
    );
    assertNone(missing);
  });

  it('tell of this version in the change log', () => {
    const { version }: Manifest = JSON.parse(readText('package.json'));
    assert.match(readText('CHANGELOG.md'), new RegExp(`^## \\[?${version.replaceAll('.', '\\.')}\\]?`, 'm'));
  });
});

describe('package.json', () => {
  const manifest: Manifest = JSON.parse(readText('package.json'));

  it('keeps the names that users and other tools rely on', () => {
    assert.equal(manifest.name, 'vmxray');
    assert.equal(manifest.publisher, 'vmxray');
    assert.equal(manifest.displayName, 'VMXray');
    assert.deepEqual(Object.keys(manifest.bin), ['vmxray']);
  });

  it('names scripts and programs that exist', () => {
    const programs = Object.values(manifest.scripts).flatMap((script) => script.match(/\S+\.(?:mjs|ts)\b/g) ?? []);
    const missing = [...programs, ...Object.values(manifest.bin)].filter((path) => !existsSync(join(ROOT, path)));
    assertNone(missing);
  });

  it('is locked to versions, not to download addresses', () => {
    const locks = files.filter((path) => /(^|\/)package-lock\.json$/.test(path));
    const addresses = locks.flatMap((path) => {
      const { packages }: LockFile = JSON.parse(readText(path));
      return Object.values(packages).flatMap(({ resolved }) => (resolved ? [`${path}: ${resolved}`] : []));
    });
    assert.ok(locks.length > 0);
    assertNone(addresses);
  });
});
