import * as vscode from 'vscode';
import { workerAdapter } from '../debug-adapter/inline.ts';
import { registerCommands } from './commands/commands.ts';
import { registerConfigurationProviders } from './configuration/provider.ts';
import { editorFiles } from './files.ts';
import type { Host } from './host.ts';
import { SerialConsoles } from './serial-console.ts';
import { Sessions } from './sessions.ts';
import { createViews } from './views/views.ts';

/** What both entries (main.ts and web.ts) do. */
export function activateWith(host: Host, context: vscode.ExtensionContext): void {
  const sessions = new Sessions();
  const consoles = new SerialConsoles(sessions);
  const views = createViews(sessions);
  context.subscriptions.push(
    sessions,
    consoles,
    views,
    registerConfigurationProviders(),
    vscode.debug.registerDebugAdapterDescriptorFactory('vmxray', {
      createDebugAdapterDescriptor: () =>
        new vscode.DebugAdapterInlineImplementation(workerAdapter(host.startAdapterWorker(context), editorFiles)),
    }),
    registerCommands({ context, sessions, consoles, views }),
    host.startLanguageClient(context),
  );
}
