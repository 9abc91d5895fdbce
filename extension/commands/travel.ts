import * as vscode from 'vscode';
import type { VmxraySession } from '../sessions.ts';
import type { ViewNode } from '../views/node.ts';

/** To a place of the history. */
export const travel = (session: VmxraySession, to: string): Promise<unknown> =>
  session.request('vmxray/travel', { threadId: session.threadId, to });

export const backTo = (session: VmxraySession, event: 'vmExit' | 'vmEntry'): Promise<unknown> =>
  session.request('vmxray/runBackTo', { threadId: session.threadId, event });

export async function travelToInstruction(session: VmxraySession): Promise<void> {
  const { start, here, present } = await session.request('vmxray/timeline', { from: 0, to: 0 });
  const to = await vscode.window.showInputBox({
    title: vscode.l10n.t('Go to an instruction'),
    prompt: vscode.l10n.t('Instructions since the machine started: from {0} to {1}', start, present),
    value: String(here),
    validateInput: (text) => (/^\d+$/.test(text.trim()) ? undefined : vscode.l10n.t('This is no number')),
  });
  if (to !== undefined) await travel(session, to.trim());
}

/** Back to where something was changed last: what a tree's node shows, or what the user types. */
export async function backToLastChange(session: VmxraySession, node?: ViewNode): Promise<void> {
  const typed =
    node?.changes ??
    (await vscode.window.showInputBox({
      title: vscode.l10n.t('Go back to the last change'),
      prompt: vscode.l10n.t('Of a register, VMCS field or memory: cr3, vmcs.GUEST_RIP, u64(gpa:0x1000), [rsp]'),
    }));
  if (!typed?.trim()) return;
  await session.request('vmxray/lastChange', { threadId: session.threadId, expression: typed.trim() });
}

const snapshotFilter = (): Record<string, string[]> => ({ [vscode.l10n.t('VMXray snapshots')]: ['vmxsnap'] });

/** The whole machine as a file that vmxray run --snapshot and the launch attribute snapshot take. */
export async function saveSnapshot(session: VmxraySession): Promise<void> {
  const file = await vscode.window.showSaveDialog({ filters: snapshotFilter() });
  if (!file) return;
  const { data } = await session.request('vmxray/snapshot');
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  await vscode.workspace.fs.writeFile(file, bytes);
}

export async function restoreSnapshot(session: VmxraySession): Promise<void> {
  const [file] = (await vscode.window.showOpenDialog({ filters: snapshotFilter() })) ?? [];
  if (!file) return;
  const path = file.scheme === 'file' ? file.fsPath : file.toString();
  await session.request('vmxray/restoreSnapshot', { threadId: session.threadId, path });
}

/** The run up to now as a file that vmxray replay and the launch attribute replay take. */
export async function saveRecording(session: VmxraySession): Promise<void> {
  const { text } = await session.request('vmxray/recording');
  const file = await vscode.window.showSaveDialog({ filters: { [vscode.l10n.t('VMXray recordings')]: ['vmxtrace'] } });
  if (file) await vscode.workspace.fs.writeFile(file, new TextEncoder().encode(text));
}
