/** The extension in a Node extension host: VS Code on the desktop, or a VS Code server. */

import { Worker } from 'node:worker_threads';
import * as vscode from 'vscode';
import { LanguageClient, TransportKind } from 'vscode-languageclient/node';
import { nodeWorkerPort } from '../debug-adapter/inline.ts';
import { activateWith } from './activate.ts';
import { languageClientOptions, startedClient } from './language-client.ts';

export function activate(context: vscode.ExtensionContext): void {
  const dist = (name: string) => vscode.Uri.joinPath(context.extensionUri, 'dist', name).fsPath;
  activateWith(
    {
      startAdapterWorker: () => nodeWorkerPort(new Worker(dist('adapter-worker.cjs'))),
      startLanguageClient: () => {
        const server = { module: dist('language-server.cjs'), transport: TransportKind.ipc };
        return startedClient(new LanguageClient('vmxray', 'VMXray', server, languageClientOptions()));
      },
    },
    context,
  );
}
