/** Paths as launch configurations and debug adapters have them, for POSIX, Windows and virtual folders. Pure. */

const URI = /^[a-z][a-z0-9+.-]+:\/\//i;

export const isUri = (path: string): boolean => URI.test(path);

const isAbsolute = (path: string): boolean =>
  isUri(path) || path.startsWith('/') || path.startsWith('\\\\') || /^[a-z]:[\\/]/i.test(path);

/** `path` itself when it is absolute, else below `folder`. */
export function absolute(path: string, folder: string | undefined): string {
  if (isAbsolute(path) || folder === undefined) return path;
  return `${folder.replace(/[\\/]$/, '')}/${path.replace(/^\.[\\/]/, '')}`;
}

/** A module is 'path arguments…'; a path with spaces is in double quotes. */
export function mapModulePath(module: string, change: (path: string) => string): string {
  const parts = /^("[^"]*"|\S+)(.*)$/s.exec(module);
  if (!parts) return module;
  const [, path = '', rest = ''] = parts;
  return path.startsWith('"') ? `"${change(path.slice(1, -1))}"${rest}` : `${change(path)}${rest}`;
}

/** The path of a module. */
export function modulePath(module: string): string {
  let found = module;
  mapModulePath(module, (path) => {
    found = path;
    return path;
  });
  return found;
}

/** A device is 'kind,option=value…'; the option 'file' is a path. */
export const mapDevicePath = (device: string, change: (path: string) => string): string =>
  device.replace(/(,\s*file=)([^,]+)/, (_whole, option: string, path: string) => `${option}${change(path)}`);

/** launch.json's way to name a file of the folder it lies in. */
export const inWorkspaceFolder = (name: string): string => `\${workspaceFolder}/${name}`;
