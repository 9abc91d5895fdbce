/** The extension in a browser's extension host. */

import * as vscode from 'vscode';
import { LanguageClient } from 'vscode-languageclient/browser';
import { webWorkerPort } from '../debug-adapter/connection/inline.ts';
import { activateWith } from './activate.ts';

export function activate(context: vscode.ExtensionContext): void {
  activateWith(
    {
      startAdapterWorker: async () => webWorkerPort(await startWorker(context, 'adapter-worker.js')),
      createLanguageClient: async (_context, options) =>
        new LanguageClient('vmxray', 'VMXray', await startWorker(context, 'language-server.js'), options),
    },
    context,
  );
}

/**
 * A browser starts no worker from another origin, and VS Code none from an extension that lies on a remote machine: the
 * script is read and started from memory. It loads nothing else.
 */
async function startWorker({ extensionUri }: vscode.ExtensionContext, name: string): Promise<Worker> {
  const script = await vscode.workspace.fs.readFile(vscode.Uri.joinPath(extensionUri, 'dist', 'web', name));
  const url = URL.createObjectURL(new Blob([new Uint8Array(script)], { type: 'text/javascript' }));
  return new Worker(url);
}
