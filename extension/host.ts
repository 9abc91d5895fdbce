import type * as vscode from 'vscode';
import type { WorkerPort } from '../debug-adapter/inline.ts';
import type { LanguageClientHandle } from './language-client.ts';

/** What differs between the desktop's (or a server's) Node extension host and the browser's. */
export interface Host {
  /** Starts a worker with the debug adapter and the machine in it. */
  startAdapterWorker(context: vscode.ExtensionContext): WorkerPort;
  startLanguageClient(context: vscode.ExtensionContext): LanguageClientHandle;
}
