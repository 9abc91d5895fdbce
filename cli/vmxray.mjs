#!/usr/bin/env node
// The `vmxray` command: runs the built bundle, which needs no other file of the checkout.
import { existsSync } from 'node:fs';
import * as modules from 'node:module';
import { fileURLToPath } from 'node:url';

const bundle = fileURLToPath(new URL('../dist/cli.cjs', import.meta.url));
if (existsSync(bundle)) {
  // Node 22 and later keep the compiled bundle from run to run.
  modules.enableCompileCache?.();
  modules.createRequire(import.meta.url)(bundle);
} else {
  console.error('vmxray: dist/cli.cjs is missing: run `npm install && npm run build` in the checkout first.');
  process.exitCode = 2;
}
