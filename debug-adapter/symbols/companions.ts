/** The other files that a program's debug information may lie in, and where they are looked for. */

import { ByteReader, FormatError } from './byte-reader.ts';
import { AT } from './dwarf/constants.ts';
import { DebugInformation, splitIdentity } from './dwarf/debug-information.ts';
import { splitPackage } from './dwarf/split-package.ts';
import { type ElfFile, parseElf, sectionNamed } from './elf.ts';
import type { FileImage } from './file-image.ts';
import { baseName, directoryOf, resolvePath } from './paths.ts';
import { isSystemMap } from './system-map.ts';

/** Files beside a program, opened. */
export interface Companions {
  /** What `strip` or `objcopy --only-keep-debug` has taken out of the program: an ELF file. */
  readonly separate: FileImage | undefined;
  /** What dwz has moved to a file that several programs share. */
  readonly shared: ElfFile | undefined;
  /** Files of split units, by the names that the program has for them… */
  readonly split: ReadonlyMap<string, ElfFile>;
  /** …or all of them in one file. */
  readonly package: ElfFile | undefined;
  /** What was looked for in vain, for people. */
  readonly problems: readonly string[];
}

export const NO_COMPANIONS: Companions = {
  separate: undefined,
  shared: undefined,
  split: new Map(),
  package: undefined,
  problems: [],
};

/** @returns undefined when there is no such file */
export type Opener = (path: string) => Promise<FileImage | undefined>;

/** Opens what belongs to the program at a path. What makes no sense is left for the program's own reading to tell. */
export async function openCompanions(path: string, file: FileImage, open: Opener): Promise<Companions> {
  const search = new Search(path, open);
  try {
    return isSystemMap(file) ? NO_COMPANIONS : await search.run(parseElf(file));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return NO_COMPANIONS;
  }
}

const hasInformation = (elf: ElfFile): boolean =>
  elf.sections.some(({ name, size }) => /^\.z?debug_(info|line)$/.test(name) && size > 0);

interface Opened {
  readonly file: FileImage;
  readonly elf: ElfFile;
}

class Search {
  private readonly name: string;
  private readonly folder: string;
  private readonly path: string;
  private readonly open: Opener;
  private readonly problems: string[] = [];

  constructor(path: string, open: Opener) {
    this.path = path;
    this.name = baseName(path);
    this.folder = directoryOf(path);
    this.open = open;
  }

  async run(elf: ElfFile): Promise<Companions> {
    const separate = hasInformation(elf) ? undefined : await this.separate(elf);
    const whole = separate?.elf ?? elf;
    const shared = await this.shared(whole);
    const { split, package: packed } = await this.split(whole);
    return { separate: separate?.file, shared, split, package: packed, problems: this.problems };
  }

  /** The first of some files that is there and fits. */
  private async first(paths: readonly string[], fits: (elf: ElfFile) => boolean): Promise<Opened | undefined> {
    for (const path of new Set(paths)) {
      const file = path === this.path ? undefined : await this.open(path);
      if (!file) continue;
      try {
        const elf = parseElf(file);
        if (fits(elf)) return { file, elf };
        this.problems.push(`${this.name}: ${path} is not used: it belongs to another build of the program`);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        this.problems.push(`${this.name}: ${path} cannot be used: ${error.message}`);
      }
    }
    return undefined;
  }

  private async separate(elf: ElfFile): Promise<Opened | undefined> {
    const identifier = buildIdentifier(elf);
    const link = sectionNamed(elf, '.gnu_debuglink');
    const linked = link && new ByteReader(link.read(0, link.size)).string();
    if (!linked && identifier === undefined) return undefined;
    const byIdentifier = identifier === undefined ? [] : identifierPaths(this.folder, identifier, '.debug');
    const byName = linked ? namedPaths(this.folder, linked) : [];
    const usual = linked ? [] : [`${this.path}.debug`];
    const found = await this.first(
      [...byIdentifier, ...byName, ...usual],
      (other) => identifier === undefined || buildIdentifier(other) === identifier,
    );
    // A program that was never compiled for debugging has a build identifier, too: only a link says that there is more.
    if (!found && linked) {
      this.problems.push(
        `${this.name}: its debug information is in ${linked}, which is in none of: ${byName.join(', ')}`,
      );
    }
    return found;
  }

  private async shared(elf: ElfFile): Promise<ElfFile | undefined> {
    const link = sectionNamed(elf, '.gnu_debugaltlink');
    if (!link) return undefined;
    const reader = new ByteReader(link.read(0, link.size));
    const linked = reader.string();
    const identifier = hexOf(reader.bytes.subarray(reader.at));
    const paths = [...identifierPaths(this.folder, identifier, '.debug'), ...namedPaths(this.folder, linked)];
    const found = await this.first(paths, (other) => buildIdentifier(other) === identifier);
    if (!found) {
      this.problems.push(
        `${this.name}: it shares debug information with other programs in ${linked} (dwz), which was not found: ` +
          'types and names that are there are missing',
      );
    }
    return found?.elf;
  }

  private async split(elf: ElfFile): Promise<Pick<Companions, 'split' | 'package'>> {
    const split = new Map<string, ElfFile>();
    const wanted = splitNames(elf);
    if (wanted.length === 0) return { split, package: undefined };
    const packed = (await this.first([`${this.path}.dwp`], () => true))?.elf;
    const inPackage = packed && splitPackage((name) => sectionNamed(packed, name));
    const missing: string[] = [];
    for (const { name, directory, identifier } of wanted) {
      if (inPackage?.unit(identifier)) continue;
      const paths = [
        resolvePath(directory, name),
        ...[name, baseName(name)].map((each) => resolvePath(this.folder, each)),
      ];
      const found = await this.first(paths, () => true);
      if (found) split.set(name, found.elf);
      else missing.push(name);
    }
    if (missing.length > 0) {
      const more = missing.length > 3 ? ` and ${missing.length - 3} more` : '';
      this.problems.push(
        `${this.name}: its variables and types are in ${missing.slice(0, 3).join(', ')}${more}, not found beside it`,
      );
    }
    return { split, package: packed };
  }
}

interface SplitName {
  readonly name: string;
  readonly directory: string;
  readonly identifier: bigint;
}

function splitNames(elf: ElfFile): SplitName[] {
  // Split units need it; looking through the units of a large program takes its time.
  if (!elf.sections.some(({ name }) => name === '.debug_addr')) return [];
  const info = new DebugInformation((name) => sectionNamed(elf, name));
  return info.headers.flatMap((header) => {
    const root = info.rootOf(header);
    const identity = splitIdentity(root);
    return identity ? [{ ...identity, directory: root.text(AT.directory) ?? '' }] : [];
  });
}

const DEBUG_ROOT = '/usr/lib/debug';

/** Where gdb looks, too: beside the program, in .debug there, and in the system's folder for debug information. */
function namedPaths(folder: string, name: string): string[] {
  const beside = [resolvePath(folder, name), resolvePath(folder, `.debug/${baseName(name)}`)];
  return [...beside, `${DEBUG_ROOT}${folder}/${baseName(name)}`];
}

function identifierPaths(folder: string, identifier: string, ending: string): string[] {
  const name = `.build-id/${identifier.slice(0, 2)}/${identifier.slice(2)}${ending}`;
  return [resolvePath(folder, name), `${DEBUG_ROOT}/${name}`];
}

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** NT_GNU_BUILD_ID of an ELF note. */
const BUILD_ID_NOTE = 3;

/** What the linker has made of a program's contents, in hexadecimal. */
function buildIdentifier(elf: ElfFile): string | undefined {
  const note = elf.sections.find(({ name }) => name === '.note.gnu.build-id');
  if (!note || note.content.size === 0) return undefined;
  const reader = new ByteReader(note.content.read(0, note.content.size));
  const [nameSize, size, type] = [reader.u32(), reader.u32(), reader.u32()];
  reader.skip((nameSize + 3) & ~3);
  if (type !== BUILD_ID_NOTE) return undefined;
  const start = reader.at;
  reader.skip(size);
  return hexOf(reader.bytes.subarray(start, start + size));
}
