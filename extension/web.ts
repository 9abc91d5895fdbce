/** The extension in a browser's extension host. */

import * as vscode from 'vscode';
import { LanguageClient } from 'vscode-languageclient/browser';
import { webWorkerPort } from '../debug-adapter/inline.ts';
import { activateWith } from './activate.ts';
import { languageClientOptions, startedClient } from './language-client.ts';

export function activate(context: vscode.ExtensionContext): void {
  const start = (name: string) =>
    new Worker(vscode.Uri.joinPath(context.extensionUri, 'dist', 'web', name).toString(true));
  activateWith(
    {
      startAdapterWorker: () => webWorkerPort(start('adapter-worker.js')),
      startLanguageClient: () =>
        startedClient(new LanguageClient('vmxray', 'VMXray', start('language-server.js'), languageClientOptions())),
    },
    context,
  );
}
