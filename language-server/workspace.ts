/** The assembly files of a workspace and the way from a name to its definition, free of any file system. */

import { type Definition, type Outline, outlineOf, parentAt, qualified } from './asm/outline.ts';
import { wordAt } from './asm/source-line.ts';

/** Where texts come from: open documents first, then the client. */
export interface TextSource {
  /** @returns undefined when there is no such file. */
  text(uri: string): Promise<string | undefined>;
  /** URIs of the workspace's assembly files. */
  files(): Promise<readonly string[]>;
}

export interface Place {
  readonly uri: string;
  readonly line: number;
  readonly start: number;
  readonly end: number;
}

const C_WORD = /^[A-Za-z_]\w*$/;

export class AssemblyWorkspace {
  private readonly source: TextSource;
  private readonly outlines = new Map<string, Outline | undefined>();

  constructor(source: TextSource) {
    this.source = source;
  }

  /** A file has changed, appeared or gone. */
  forget(uri: string): void {
    this.outlines.delete(uri);
  }

  async outline(uri: string): Promise<Outline | undefined> {
    if (!this.outlines.has(uri)) {
      const text = await this.source.text(uri);
      this.outlines.set(uri, text === undefined ? undefined : outlineOf(text, uri));
    }
    return this.outlines.get(uri);
  }

  /** The file itself and what it includes, near before far; a file that includes itself is looked at once. */
  async withIncludes(uri: string): Promise<[string, Outline][]> {
    const found = new Map<string, Outline>();
    const queue = [uri];
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const outline = found.has(next) ? undefined : await this.outline(next);
      if (!outline) continue;
      found.set(next, outline);
      for (const { path } of outline.includes) {
        const target = await this.resolveInclude(next, path);
        if (target !== undefined) queue.push(target);
      }
    }
    return [...found];
  }

  /** Beside the file that includes it, else the workspace's file whose path ends so. */
  async resolveInclude(from: string, path: string): Promise<string | undefined> {
    const beside = new URL(path.split('/').map(encodeURIComponent).join('/'), from).href;
    if ((await this.outline(beside)) !== undefined) return beside;
    const ending = `/${path.replace(/^(\.\.?\/)+/, '')}`;
    return (await this.source.files()).find((uri) => decodeURIComponent(uri).endsWith(ending));
  }

  /**
   * Definitions of what stands at a place: of an include's name, of a label or constant in the file and what it
   * includes, else in any file of the workspace.
   */
  async definitions(uri: string, line: number, column: number): Promise<Place[]> {
    const outline = await this.outline(uri);
    const text = await this.source.text(uri);
    if (!outline || text === undefined) return [];
    const include = outline.includes.find((one) => one.line === line && one.start <= column && column <= one.end);
    if (include) {
      const target = await this.resolveInclude(uri, include.path);
      return target === undefined ? [] : [{ uri: target, line: 0, start: 0, end: 0 }];
    }
    const word = wordAt(text.split(/\r?\n/)[line] ?? '', column)?.text;
    if (word === undefined) return [];
    const numeric = /^([0-9]+)([bf])$/.exec(word);
    if (numeric && outline.dialect === 'gas')
      return numericLabel(uri, outline, line, numeric[1] ?? '', numeric[2] === 'f');
    return this.named(uri, outline, line, word.replace(/^[$%](?=[A-Za-z_.])/, ''));
  }

  private async named(uri: string, outline: Outline, line: number, word: string): Promise<Place[]> {
    const name = qualified(word, outline.dialect, parentAt(outline, line));
    for (const [file, one] of await this.withIncludes(uri)) {
      const places = placesOf(file, one, name);
      if (places.length > 0) return places;
    }
    if (!C_WORD.test(name)) return [];
    const everywhere: Place[] = [];
    for (const file of await this.source.files()) {
      const one = await this.outline(file);
      if (one) everywhere.push(...placesOf(file, one, name));
    }
    return everywhere;
  }
}

/** 1b is the nearest definition of 1 at or before the line, 1f the nearest after it. */
function numericLabel(uri: string, { definitions }: Outline, line: number, name: string, forward: boolean): Place[] {
  const all = definitions.filter((one) => one.kind === 'number' && one.name === name);
  const found = forward ? all.find((one) => one.line > line) : all.findLast((one) => one.line <= line);
  return found ? [placeOf(uri, found)] : [];
}

const placesOf = (uri: string, { definitions }: Outline, name: string): Place[] =>
  definitions.filter((one) => one.fullName === name).map((one) => placeOf(uri, one));

const placeOf = (uri: string, { line, column, name }: Definition): Place => ({
  uri,
  line,
  start: column,
  end: column + name.length,
});
