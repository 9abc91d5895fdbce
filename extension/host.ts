import type * as vscode from 'vscode';
import type { BaseLanguageClient, LanguageClientOptions } from 'vscode-languageclient';
import type { WorkerPort } from '../debug-adapter/connection/inline.ts';

/** What differs between the desktop's (or a server's) Node extension host and the browser's. */
export interface Host {
  /** Starts a worker with the debug adapter and the machine in it. */
  startAdapterWorker(context: vscode.ExtensionContext): Promise<WorkerPort>;
  /** Makes a client that is not started yet. */
  createLanguageClient(context: vscode.ExtensionContext, options: LanguageClientOptions): Promise<BaseLanguageClient>;
}
