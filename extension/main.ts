/** The extension in a Node extension host: VS Code on the desktop, or a VS Code server. */

import { Worker } from 'node:worker_threads';
import * as vscode from 'vscode';
import { LanguageClient, TransportKind } from 'vscode-languageclient/node';
import { nodeWorkerPort } from '../debug-adapter/connection/inline.ts';
import { activateWith } from './activate.ts';

export function activate(context: vscode.ExtensionContext): void {
  const dist = (name: string) => vscode.Uri.joinPath(context.extensionUri, 'dist', name).fsPath;
  activateWith(
    {
      startAdapterWorker: async () => nodeWorkerPort(new Worker(dist('adapter-worker.cjs'))),
      createLanguageClient: async (_context, options) => {
        const server = { module: dist('language-server.cjs'), transport: TransportKind.ipc };
        return new LanguageClient('vmxray', 'VMXray', server, options);
      },
    },
    context,
  );
}
