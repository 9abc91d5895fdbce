import * as vscode from 'vscode';
import { reporting } from '../reporting.ts';
import type { SerialConsoles } from '../serial-console.ts';
import type { Sessions, VmxraySession } from '../sessions.ts';
import { MemoryDocuments } from '../views/memory-documents.ts';
import type { ViewNode } from '../views/node.ts';
import type { Views } from '../views/views.ts';
import { editVmcsField } from './edit-vmcs-field.ts';
import { newSample } from './new-sample.ts';
import { ReportDocuments } from './report-documents.ts';
import { entryReport, exitReport, staleReport } from './reports.ts';
import { askForMemory } from './show-memory.ts';
import { askForAddress } from './translate.ts';
import {
  backTo,
  backToLastChange,
  restoreSnapshot,
  saveRecording,
  saveSnapshot,
  travel,
  travelToInstruction,
} from './travel.ts';

export interface CommandServices {
  readonly context: vscode.ExtensionContext;
  readonly sessions: Sessions;
  readonly consoles: SerialConsoles;
  readonly views: Views;
}

/** What a command does; menus of trees pass the node they were opened on. */
type Command = (node?: ViewNode) => Promise<unknown>;

/** Registers every command of package.json. */
export function registerCommands(services: CommandServices): vscode.Disposable {
  const reports = new ReportDocuments();
  const memory = new MemoryDocuments(services.sessions);
  const commands = Object.entries(commandTable(services, reports, memory)).map(([name, run]) =>
    vscode.commands.registerCommand(`vmxray.${name}`, (node?: ViewNode) => reporting(() => run(node))),
  );
  return vscode.Disposable.from(reports, memory, ...commands);
}

function commandTable(
  services: CommandServices,
  reports: ReportDocuments,
  memory: MemoryDocuments,
): Readonly<Record<string, Command>> {
  const { context, sessions, consoles, views } = services;
  const inSession =
    (run: (session: VmxraySession, node?: ViewNode) => Promise<unknown>): Command =>
    (node) =>
      run(currentSession(sessions), node);
  return {
    runToVmExit: inSession((session) =>
      session.request('vmxray/runTo', { threadId: session.threadId, event: 'vmExit' }),
    ),
    runToVmEntry: inSession((session) =>
      session.request('vmxray/runTo', { threadId: session.threadId, event: 'vmEntry' }),
    ),
    backToVmExit: inSession((session) => backTo(session, 'vmExit')),
    backToVmEntry: inSession((session) => backTo(session, 'vmEntry')),
    backToLastChange: inSession(backToLastChange),
    travelToInstruction: inSession(travelToInstruction),
    travelToStart: inSession((session) => travel(session, 'start')),
    travelToPresent: inSession((session) => travel(session, 'present')),
    travelHere: inSession((session, node) => travel(session, node?.place ?? 'present')),
    saveRecording: inSession(saveRecording),
    saveSnapshot: inSession(saveSnapshot),
    restoreSnapshot: inSession(restoreSnapshot),
    explainExit: inSession(async (session) =>
      reports.show('VM exit', exitReport(await session.request('vmxray/vmExits'))),
    ),
    checkVmEntry: inSession(async (session) => {
      const answer = await session.request('vmxray/checkVmEntry');
      // The VMCS tree marks the fields that fail from now on.
      sessions.refresh();
      await reports.show('VM entry', entryReport(answer));
    }),
    showStaleTranslations: inSession(async (session) =>
      reports.show('Stale translations', staleReport(await session.request('vmxray/tlb'))),
    ),
    translateAddress: inSession(async (session, node) => {
      const address = await askForAddress(session, node);
      if (address) await views.translate(address);
    }),
    showMemory: inSession(async (session, node) => {
      const reference = await askForMemory(session, node);
      if (reference !== undefined) await memory.show(reference);
    }),
    editVmcsField: inSession(async (session, node) => {
      if (await editVmcsField(session, node)) sessions.refresh();
    }),
    clearVmExitStops: inSession(async (session) => {
      await session.request('vmxray/setVmExitStops', { reasons: [] });
      sessions.refresh();
    }),
    copyValue: async (node) => vscode.env.clipboard.writeText(node?.value ?? ''),
    refresh: async () => sessions.refresh(),
    openSerialConsole: async () => consoles.open(),
    newSample: () => newSample(context),
  };
}

/** @throws when no VMXray session is there: the command came from a keybinding or another extension. */
function currentSession(sessions: Sessions): VmxraySession {
  const session = sessions.current;
  if (session) return session;
  throw new Error(vscode.l10n.t('No VMXray debug session is active. Press F5 first.'));
}
