/** File paths and URIs as text: the adapter also runs where there is no node:path. */

const ABSOLUTE = /^(\/|\\|[a-zA-Z]:[\\/]|[a-zA-Z][a-zA-Z0-9+.-]+:\/\/)/;

const isAbsolute = (path: string): boolean => ABSOLUTE.test(path);

export function directoryOf(path: string): string {
  const at = Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\'));
  return at <= 0 ? path.slice(0, at + 1) : path.slice(0, at);
}

export const baseName = (path: string): string =>
  path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);

/** `name` seen from `directory`, with '.' and '..' taken out. */
export const resolvePath = (directory: string, name: string): string =>
  normalise(isAbsolute(name) || directory === '' ? name : `${directory}/${name}`);

/** Takes '.', '..' and doubled separators out. The scheme and host of a URI and a drive stay. */
export function normalise(path: string): string {
  const root = /^([a-zA-Z][a-zA-Z0-9+.-]+:\/\/[^/]*\/?|[a-zA-Z]:[\\/]|[\\/])?/.exec(path)?.[0] ?? '';
  const separator = root.includes('\\') || (root === '' && path.includes('\\') && !path.includes('/')) ? '\\' : '/';
  const parts: string[] = [];
  for (const part of path.slice(root.length).split(/[\\/]/)) {
    if (part === '' || part === '.') continue;
    if (part === '..' && parts.length > 0 && parts.at(-1) !== '..') parts.pop();
    else if (part !== '..' || root === '') parts.push(part);
  }
  return root + parts.join(separator);
}

/** What two names of the same file have in common: separators alike, a drive letter in lower case. */
export const comparable = (path: string): string =>
  normalise(path)
    .replaceAll('\\', '/')
    .replace(/^[A-Z]:/, (drive) => drive.toLowerCase());
