import * as vscode from 'vscode';
import { workerAdapter } from '../debug-adapter/connection/inline.ts';
import { registerCommands } from './commands/commands.ts';
import { registerConfigurationProviders } from './configuration/provider.ts';
import { editorFiles, pathOf, uriOf, virtualFolder } from './files.ts';
import type { Host } from './host.ts';
import { startLanguageClient } from './language-client.ts';
import { SerialConsoles } from './serial-console.ts';
import { Sessions } from './sessions.ts';
import { withSourceUris } from './source-paths.ts';
import { askToForget, TimeStatus } from './time-travel.ts';
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
    new TimeStatus(sessions),
    sessions.onDidRefuseChange(askToForget),
    registerConfigurationProviders(),
    vscode.debug.registerDebugAdapterDescriptorFactory('vmxray', {
      createDebugAdapterDescriptor: async () => {
        const adapter = workerAdapter(await host.startAdapterWorker(context), editorFiles);
        return new vscode.DebugAdapterInlineImplementation(
          virtualFolder() ? withSourceUris(adapter, (path) => uriOf(path).toString(), pathOf) : adapter,
        );
      },
    }),
    registerCommands({ context, sessions, consoles, views }),
    startLanguageClient((options) => host.createLanguageClient(context, options)),
  );
}
