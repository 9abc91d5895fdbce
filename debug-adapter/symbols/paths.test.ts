import assert from 'node:assert/strict';
import { baseName, comparable, directoryOf, normalise, resolvePath } from './paths.ts';

describe('paths', () => {
  const check = (run: () => string, expected: string): void => {
    it(`${run} is ${expected}`, () => assert.equal(run(), expected));
  };

  // What node:path's posix and win32 give, and RFC 3986's "remove dot segments" for URIs.
  check(() => normalise('/a/./b/../c//d'), '/a/c/d');
  check(() => normalise('/../a'), '/a');
  check(() => normalise('..'), '..');
  check(() => normalise('C:\\a\\..\\b'), 'C:\\b');
  check(() => normalise('vscode-test-web://mount/a/../b.c'), 'vscode-test-web://mount/b.c');
  check(() => resolvePath('/src/vmm', 'main.c'), '/src/vmm/main.c');
  check(() => resolvePath('/src/vmm', '../lib/io.c'), '/src/lib/io.c');
  check(() => resolvePath('/src/vmm', '/abs/main.c'), '/abs/main.c');
  check(() => resolvePath('vscode-vfs://host/folder', './guest/guest.c'), 'vscode-vfs://host/folder/guest/guest.c');
  check(() => directoryOf('/a/b.elf'), '/a');
  check(() => directoryOf('/b.elf'), '/');
  check(() => directoryOf('b.elf'), '');
  check(() => baseName('C:\\x\\y.c'), 'y.c');
  check(() => comparable('C:\\x\\.\\y.c'), 'c:/x/y.c');
});
