import * as vscode from 'vscode';
import { reporting } from './reporting.ts';
import type { RefusedChange, Sessions } from './sessions.ts';

/** An item of the status bar while the session is in the past; a click goes back to the present. */
export class TimeStatus implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem('vmxray.time', vscode.StatusBarAlignment.Left, 50);
  private readonly subscription: vscode.Disposable;

  constructor(sessions: Sessions) {
    this.item.name = vscode.l10n.t('VMXray: place in time');
    this.item.command = 'vmxray.travelToPresent';
    this.item.backgroundColor = new vscode.ThemeColor('statusBarItem.warningBackground');
    this.subscription = sessions.onDidChange((session) => this.show(session?.past));
  }

  dispose(): void {
    this.subscription.dispose();
    this.item.dispose();
  }

  private show(past: { readonly instructions: number; readonly present: number } | undefined): void {
    if (!past) {
      this.item.hide();
      return;
    }
    this.item.text = `$(history) ${vscode.l10n.t('In the past: {0} instructions ago', past.present - past.instructions)}`;
    this.item.tooltip = vscode.l10n.t(
      'Instruction {0} of {1}. Click to go to the present.',
      past.instructions,
      past.present,
    );
    this.item.show();
  }
}

/** Asks whether a change in the past may forget the future, and then makes it. */
export async function askToForget({ session, request }: RefusedChange): Promise<void> {
  const go = vscode.l10n.t('Forget the Future');
  const detail = vscode.l10n.t('What was recorded after this place is forgotten, and the machine goes on another way.');
  const text = vscode.l10n.t('This is the past. Change it?');
  if ((await vscode.window.showWarningMessage(text, { modal: true, detail }, go)) !== go) return;
  await reporting(async () => {
    await session.request('vmxray/forgetFuture');
    await session.session.customRequest(request.command, request.arguments);
  });
}
