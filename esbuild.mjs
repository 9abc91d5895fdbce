/**
 * Bundles everything that ships into dist/. `node esbuild.mjs [OUTPUT…]` builds only the named outputs.
 * An entry that fails does not keep the others from being built.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('.', import.meta.url));

/**
 * The npm glue of iced-x86 reads its WebAssembly file with `fs` when it is loaded. Bundles carry the bytes instead, so
 * that they are one file and work in a browser: its `fs`, `path` and `util` become small stand-ins.
 */
const embedIced = {
  name: 'embed-iced-x86',
  setup(plugin) {
    const glue = /[\\/]node_modules[\\/]iced-x86[\\/]/;
    const standIns = {
      fs: "const bytes = require('./iced_x86_bg.wasm'); exports.readFileSync = () => bytes;",
      path: "exports.join = (...parts) => parts.join('/');",
      util: 'exports.TextDecoder = TextDecoder; exports.TextEncoder = TextEncoder;',
    };
    plugin.onResolve({ filter: /^(fs|path|util)$/ }, ({ path, importer }) =>
      glue.test(importer) ? { path, namespace: 'iced', pluginData: dirname(importer) } : undefined,
    );
    plugin.onLoad({ filter: /.*/, namespace: 'iced' }, ({ path, pluginData }) => ({
      contents: standIns[path],
      resolveDir: pluginData,
    }));
    plugin.onLoad({ filter: /iced_x86_bg\.wasm$/ }, ({ path }) => ({
      contents: readFileSync(path),
      loader: 'binary',
    }));
  },
};

const NODE = {
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  // Sources say import.meta.url where they look for files beside them; CommonJS has __filename.
  define: { 'import.meta.url': 'bundleUrl' },
  banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
};
const BROWSER = {
  platform: 'browser',
  target: 'es2022',
  format: 'iife',
  // The glue of iced-x86 names the file beside it by __dirname before the embedded bytes are read.
  define: { 'import.meta.url': '"bundle:"', __dirname: '"bundle:"' },
};

/** Output in dist/ → entry and options. */
const BUNDLES = {
  'extension.cjs': { entry: 'extension/main.ts', options: { ...NODE, external: ['vscode'] } },
  'language-server.cjs': { entry: 'language-server/main.ts', options: NODE },
  'adapter-worker.cjs': { entry: 'debug-adapter/connection/worker.ts', options: NODE },
  'region-compiler.cjs': { entry: 'debug-adapter/compiling/worker.ts', options: NODE },
  'adapter.cjs': { entry: 'debug-adapter/connection/program.ts', options: NODE },
  'cli.cjs': { entry: 'cli/main.ts', options: NODE },
  'web/extension.cjs': { entry: 'extension/web.ts', options: { ...BROWSER, format: 'cjs', external: ['vscode'] } },
  'web/language-server.js': { entry: 'language-server/web.ts', options: BROWSER },
  // The worker asks for Node's threads and files only where there is Node.
  'web/adapter-worker.js': {
    entry: 'debug-adapter/connection/worker.ts',
    options: { ...BROWSER, external: ['node:worker_threads', 'node:fs'] },
  },
};

/** Tests that run inside VS Code: the program that finds them and one bundle for each file. */
for (const entry of ['test/vscode/host.ts', ...globSync('test/vscode/suite/**/*.test.ts', { cwd: ROOT })]) {
  const output = entry.replace(/^test\/vscode\//, 'test/').replace(/\.ts$/, '.cjs');
  BUNDLES[output] = { entry, options: { ...NODE, external: ['vscode', 'mocha'] } };
}

function bundle([output, { entry, options }]) {
  return build({
    ...options,
    absWorkingDir: ROOT,
    entryPoints: [entry],
    outfile: join('dist', output),
    bundle: true,
    sourcemap: true,
    // Names stay, for stack traces.
    minifyWhitespace: true,
    minifySyntax: true,
    logLevel: 'warning',
    plugins: [embedIced],
  });
}

const wanted = process.argv.slice(2);
const jobs = Object.entries(BUNDLES).filter(([output]) => wanted.length === 0 || wanted.includes(output));
const results = await Promise.allSettled(jobs.map(bundle));
const failed = jobs.filter((_, index) => results[index].status === 'rejected').map(([output]) => output);
if (failed.length > 0) {
  console.error(`Not built: ${failed.join(', ')}`);
  process.exitCode = 1;
}
