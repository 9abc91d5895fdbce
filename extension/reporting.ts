import * as vscode from 'vscode';

/** Runs an action that the user asked for; its error is shown, not lost. @returns undefined after an error. */
export async function reporting<T>(action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    vscode.window.showErrorMessage(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}
