import assert from 'node:assert/strict';
import { dirname, normalize } from 'node:path';
import { assertNone, projectFiles, readText, stripComments } from './project-files.ts';

interface LayerRule {
  /** Path prefixes below which a layer may import; its own folder always is. */
  readonly paths: readonly string[];
  /** npm packages; `node:` stands for Node's own modules. */
  readonly packages: readonly string[];
}

/** docs/architecture.md, "Layers". Folders that are not here (test, scripts) may import everything. */
const LAYERS: Readonly<Record<string, LayerRule>> = {
  extension: {
    paths: ['debug-adapter/protocol.ts', 'debug-adapter/connection/inline.ts', 'language-server/protocol.ts'],
    packages: ['vscode', 'vscode-languageclient', '@vscode/debugprotocol', 'node:'],
  },
  'language-server': {
    paths: ['sim-core/isa/', 'sim-core/vmx/', 'sim-core/cpu/msrs.ts', 'sim-core/sdm.ts'],
    packages: ['vscode-languageserver', 'vscode-languageserver-textdocument', 'iced-x86', 'node:'],
  },
  cli: { paths: ['debug-adapter/', 'sim-core/'], packages: ['node:'] },
  bench: { paths: ['cli/', 'sim-core/', 'test/dap/plain-client.ts', 'test/linux/'], packages: ['node:'] },
  'debug-adapter': {
    paths: ['sim-core/'],
    packages: ['@vscode/debugadapter', '@vscode/debugprotocol', 'iced-x86', 'node:'],
  },
  'sim-core': { paths: [], packages: ['iced-x86'] },
};

/** Folders of sim-core from the top down; a file imports from its own row or from rows below. */
const SIM_CORE_ROWS: readonly (readonly string[])[] = [
  ['machine'],
  ['platform', 'iommu', 'loaders'],
  ['vmx'],
  ['cpu'],
  ['mmu'],
  ['isa'],
  ['engine'],
  ['state'],
];

interface Import {
  readonly from: string;
  /** A path relative to the top, or a package's name with what follows it. */
  readonly target: string;
  readonly relative: boolean;
}

const FROM = /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"\n]+)['"]/gm;
const FOR_ITS_EFFECT = /^\s*import\s*['"]([^'"\n]+)['"]/gm;
const DYNAMIC = /(?<![.\w])import\(\s*['"]([^'"\n]+)['"]/g;

function importsOf(path: string): Import[] {
  const source = stripComments(readText(path));
  const found = [FROM, FOR_ITS_EFFECT, DYNAMIC].flatMap((form) => [...source.matchAll(form)]);
  return found.map(([, specifier = '']) => {
    const relative = specifier.startsWith('.');
    return { from: path, relative, target: relative ? normalize(`${dirname(path)}/${specifier}`) : specifier };
  });
}

function folderOf(path: string): string {
  return path.split('/')[0] ?? '';
}

/** Undefined for a file directly in sim-core/: those are facts for every layer, and import nothing. */
function simCoreRow(path: string): number | undefined {
  const folder = path.split('/')[1] ?? '';
  if (folder.endsWith('.ts')) return undefined;
  const row = SIM_CORE_ROWS.findIndex((folders) => folders.includes(folder));
  assert.notEqual(row, -1, `${path}: sim-core/${folder} has no place in the layers; give it one in this test`);
  return row;
}

function isAllowed({ from, target, relative }: Import): boolean {
  const folder = folderOf(from);
  const rule = LAYERS[folder];
  if (!rule) return true;
  if (relative) return target.startsWith(`${folder}/`) || rule.paths.some((path) => target.startsWith(path));
  return rule.packages.some((name) => target === name || target.startsWith(name.endsWith(':') ? name : `${name}/`));
}

function pointsDown({ from, target }: Import): boolean {
  const lowest = SIM_CORE_ROWS.length;
  return (simCoreRow(from) ?? lowest) <= (simCoreRow(target) ?? lowest);
}

function describeImports(imports: readonly Import[]): string[] {
  return imports.map(({ from, target }) => `${from} imports ${target}`);
}

describe('imports', () => {
  const sources = projectFiles().filter((path) => /\.(ts|mjs)$/.test(path));
  const shipped = sources.filter((path) => !path.endsWith('.test.ts'));
  const imports = shipped.flatMap(importsOf);
  const inSimCore = imports.filter(({ from }) => from.startsWith('sim-core/'));

  it('are found in sources', () => {
    const own = importsOf('test/imports.test.ts').map(({ target }) => target);
    assert.deepEqual(own, ['node:assert/strict', 'node:path', 'test/project-files.ts']);
  });

  it('point down the layers, types too', () => {
    assertNone(describeImports(imports.filter((one) => !isAllowed(one))));
  });

  it('point down inside sim-core', () => {
    const up = inSimCore.filter((one) => one.relative && one.target.startsWith('sim-core/') && !pointsDown(one));
    assertNone(describeImports(up));
  });

  it('name files with their .ts ending', () => {
    const bare = sources
      .flatMap(importsOf)
      .filter(({ relative, target }) => relative && !/\.(ts|mjs|json)$/.test(target));
    assertNone(describeImports(bare));
  });
});

describe('sim-core', () => {
  it('reads no clock, no randomness and nothing of its host', () => {
    const clock = /\b(?:Date|performance)\.\w+|\bnew Date\b|\bset(?:Timeout|Interval|Immediate)\(/;
    const host = /\b(?:process|Buffer|crypto)\.\w+|Math\.random/;
    const either = new RegExp(`${clock.source}|${host.source}`, 'g');
    const sources = projectFiles().filter((path) => /^sim-core\/.*(?<!\.test)\.ts$/.test(path));
    const found = sources.flatMap((path) =>
      [...stripComments(readText(path)).matchAll(either)].map(([word]) => `${path}: ${word}`),
    );
    assertNone(found);
  });
});
