import * as vscode from 'vscode';
import type { BaseLanguageClient, LanguageClientOptions } from 'vscode-languageclient';
import {
  ASSEMBLY_GLOB,
  ASSEMBLY_LANGUAGES,
  C_LANGUAGES,
  type FilesAnswer,
  METHODS,
  type TextAnswer,
} from '../language-server/protocol.ts';

const MAX_FILES = 2000;
const LEFT_OUT = '**/{node_modules,.git,dist}/**';

/**
 * Starts the client that `create` makes, and answers what its server asks: the server reads no files itself, so that it
 * works the same on a disk, on a remote machine and in a browser.
 */
export function startLanguageClient(
  create: (options: LanguageClientOptions) => Promise<BaseLanguageClient>,
): vscode.Disposable {
  const running = start(create);
  running.catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    vscode.window.showErrorMessage(vscode.l10n.t('VMXray: the language server did not start: {0}', reason));
  });
  return new vscode.Disposable(() => {
    running.then(
      (client) => client.dispose(),
      // It never ran, which was said above.
      () => undefined,
    );
  });
}

async function start(
  create: (options: LanguageClientOptions) => Promise<BaseLanguageClient>,
): Promise<BaseLanguageClient> {
  const client = await create(clientOptions());
  client.onRequest(METHODS.files, async (): Promise<FilesAnswer> => {
    const uris = await vscode.workspace.findFiles(ASSEMBLY_GLOB, LEFT_OUT, MAX_FILES);
    return { uris: uris.map(String) };
  });
  client.onRequest(METHODS.read, async ({ uri }: { uri: string }): Promise<TextAnswer> => {
    const bytes = await vscode.workspace.fs.readFile(vscode.Uri.parse(uri, true));
    return { text: new TextDecoder().decode(bytes) };
  });
  await client.start();
  return client;
}

function clientOptions(): LanguageClientOptions {
  return {
    documentSelector: [...ASSEMBLY_LANGUAGES, ...C_LANGUAGES].map((language) => ({ language })),
    synchronize: {
      configurationSection: 'vmxray',
      fileEvents: vscode.workspace.createFileSystemWatcher(ASSEMBLY_GLOB),
    },
  };
}
