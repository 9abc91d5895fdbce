/** package.json is the extension's face: here it is held against the tables and types that it mirrors. */

import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import type { LaunchArguments, When } from '../debug-adapter/protocol.ts';
import { ASSEMBLY_LANGUAGES } from '../language-server/protocol.ts';
import { MODEL_NAMES } from '../sim-core/cpu/models.ts';
import { IMAGE_FORMATS } from '../sim-core/loaders/boot-request.ts';
import { DEFAULT_QUANTUM } from '../sim-core/machine/machine.ts';
import { DEVICE_KINDS } from '../sim-core/platform/devices.ts';
import { DEFAULT_START_TIME } from '../sim-core/platform/rtc.ts';
import { EXIT_REASONS } from '../sim-core/vmx/exit-reasons.ts';

const fileText = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');
const manifest = JSON.parse(fileText('package.json'));
const { contributes } = manifest;
const [vmxray] = contributes.debuggers;
const launch = vmxray.configurationAttributes.launch;

/** The compiler keeps each list complete: a missing or an unknown key is a type error. */
type Keys<T> = Record<keyof Required<T>, true>;
const LAUNCH: Keys<Omit<LaunchArguments, 'noDebug'>> = {
  program: true,
  args: true,
  modules: true,
  guests: true,
  symbols: true,
  format: true,
  machine: true,
  stopOn: true,
  breakOnVmExit: true,
  consoles: true,
  maxInstructions: true,
  sourceMap: true,
  history: true,
  replay: true,
  snapshot: true,
  stopAtEnd: true,
};
const MACHINE: Keys<NonNullable<LaunchArguments['machine']>> = {
  memory: true,
  cpus: true,
  cpuModel: true,
  vmx: true,
  quantum: true,
  startTime: true,
  devices: true,
  iommu: true,
};
const GUEST: Keys<NonNullable<LaunchArguments['guests']>[number]> = {
  name: true,
  program: true,
  loadAddress: true,
  when: true,
};
const SYMBOLS: Keys<Exclude<NonNullable<LaunchArguments['symbols']>[number], string>> = {
  path: true,
  name: true,
  loadAddress: true,
  sections: true,
  when: true,
};
const WHEN: Keys<When> = { mode: true, vpid: true, eptp: true, cr3: true, from: true, to: true };
const STOP_ON: Record<NonNullable<LaunchArguments['stopOn']>, true> = {
  entry: true,
  vmlaunch: true,
  firstExit: true,
  none: true,
};

interface Schema {
  readonly markdownDescription?: unknown;
  readonly enum?: unknown;
  readonly markdownEnumDescriptions?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
}

const sorted = (names: Iterable<string>) => [...names].sort();

describe("package.json's launch schema", () => {
  it('has exactly the attributes of LaunchArguments (noDebug is VS Code’s own: Run Without Debugging)', () => {
    assert.deepEqual(sorted(Object.keys(launch.properties)), sorted(Object.keys(LAUNCH)));
    assert.deepEqual(sorted(Object.keys(launch.properties.machine.properties)), sorted(Object.keys(MACHINE)));
    assert.deepEqual(sorted(Object.keys(launch.properties.guests.items.properties)), sorted(Object.keys(GUEST)));
    const { guests, symbols } = launch.properties;
    assert.deepEqual(sorted(Object.keys(symbols.items.properties)), sorted(Object.keys(SYMBOLS)));
    for (const { items } of [guests, symbols]) {
      assert.deepEqual(sorted(Object.keys(items.properties.when.properties)), sorted(Object.keys(WHEN)));
    }
    assert.deepEqual(sorted(launch.properties.stopOn.enum), sorted(Object.keys(STOP_ON)));
  });

  it('offers every processor model and every kind of device', () => {
    const { cpuModel, devices } = launch.properties.machine.properties;
    assert.deepEqual(cpuModel.enum, MODEL_NAMES);
    const pattern = new RegExp(devices.items.pattern);
    const offered = devices.items.defaultSnippets.map(({ body }: { body: string }) => body);
    assert.deepEqual(sorted(offered.map((body: string) => body.split(',')[0])), sorted(DEVICE_KINDS));
    for (const text of [...offered, 'edu,dma_mask=0xffffffff', 'virtio-blk,file=/disk.img,write=on']) {
      assert.match(text, pattern);
    }
    for (const text of ['e1000', 'edu,', 'virtio-blk file=disk.img']) assert.doesNotMatch(text, pattern);
  });

  it('offers every way to boot', () => {
    assert.deepEqual(launch.properties.format.enum, ['auto', ...IMAGE_FORMATS]);
  });

  it('has the defaults of the machine', () => {
    const { quantum, startTime, memory, cpus } = launch.properties.machine.properties;
    assert.equal(quantum.default, DEFAULT_QUANTUM);
    assert.equal(Date.parse(startTime.default) / 1000, DEFAULT_START_TIME);
    assert.deepEqual([memory.default, cpus.minimum, cpus.default], ['256M', 1, 1]);
  });

  it('offers every VM exit by its name and with its documentation', () => {
    const { items } = launch.properties.breakOnVmExit;
    assert.deepEqual(items.enum, ['*', ...EXIT_REASONS.map(({ name }) => name)]);
    assert.deepEqual(items.markdownEnumDescriptions.slice(1), [
      ...EXIT_REASONS.map(({ documentation }) => documentation),
    ]);
  });

  it('describes every attribute, and every value of an enumeration', () => {
    const check = ([name, schema]: [string, Schema]): void => {
      assert.equal(typeof schema.markdownDescription, 'string', name);
      if (Array.isArray(schema.enum)) {
        assert.ok(Array.isArray(schema.markdownEnumDescriptions), name);
        assert.equal(schema.markdownEnumDescriptions.length, schema.enum.length, name);
      }
      const inner = { ...schema.properties, ...schema.items?.properties };
      for (const [part, partSchema] of Object.entries(inner)) check([`${name}.${part}`, partSchema]);
    };
    for (const attribute of Object.entries<Schema>(launch.properties)) check(attribute);
  });
});

describe("package.json's contributions", () => {
  it('have a text in package.nls.json for each key, and no text too many', () => {
    const used = [...fileText('package.json').matchAll(/"%([^%"]+)%"/g)].map(([, key]) => key ?? '');
    assert.deepEqual(sorted(new Set(used)), sorted(Object.keys(JSON.parse(fileText('package.nls.json')))));
  });

  it('name only commands that exist in menus, keys and walkthroughs', () => {
    const known = new Set(contributes.commands.map(({ command }: { command: string }) => command));
    const used = [...Object.values(contributes.menus).flat(), ...contributes.keybindings] as { command: string }[];
    for (const { command } of used) assert.ok(known.has(command), command);
    for (const [, command = ''] of fileText('package.nls.json').matchAll(/command:(vmxray\.\w+)/g)) {
      assert.ok(known.has(command), command);
    }
  });

  it('implement each command that they name', () => {
    const table = /return \{\n([\s\S]*?)\n {2}\};/.exec(fileText('extension/commands/commands.ts'))?.[1] ?? '';
    const implemented = [...table.matchAll(/^ {4}(\w+):/gm)].map(([, name]) => `vmxray.${name}`);
    const named = contributes.commands.map(({ command }: { command: string }) => command);
    assert.deepEqual(sorted(implemented), sorted(named));
  });

  it('point to files that are there', () => {
    const paths = [...fileText('package.json').matchAll(/"\.\/((?:extension|syntaxes)\/[^"]+)"/g)];
    assert.ok(paths.length > 5);
    for (const [, path = ''] of paths) assert.ok(existsSync(new URL(`../${path}`, import.meta.url)), path);
  });

  it('activate on debugging and assembly only', () => {
    const allowed = /^(onDebug(Resolve|DynamicConfigurations):vmxray|onDebugInitialConfigurations|onLanguage:[\w-]+)$/;
    for (const event of manifest.activationEvents) assert.match(event, allowed);
  });

  it('take breakpoints in every assembly language that the language server knows', () => {
    const languages = contributes.breakpoints.map(({ language }: { language: string }) => language);
    assert.deepEqual(sorted(languages), sorted([...ASSEMBLY_LANGUAGES, 'c', 'cpp', 'rust']));
    assert.deepEqual(sorted(vmxray.languages), sorted(ASSEMBLY_LANGUAGES));
  });
});

describe('l10n/bundle.l10n.json', () => {
  it('has exactly the sentences that the sources say', () => {
    const root = new URL('..', import.meta.url);
    const sources = globSync('extension/**/*.ts', { cwd: root }).filter((path) => !path.endsWith('.test.ts'));
    const said = new Set<string>();
    for (const path of sources) {
      for (const [, quoted, single, double] of fileText(path).matchAll(
        /l10n\.t\(\s*('((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")/g,
      )) {
        assert.ok(quoted);
        said.add(single ?? double ?? '');
      }
    }
    const bundle = JSON.parse(fileText('l10n/bundle.l10n.json'));
    assert.deepEqual(sorted(Object.keys(bundle)), sorted(said));
    for (const [key, text] of Object.entries(bundle)) assert.equal(text, key);
  });
});
