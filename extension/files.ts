import * as vscode from 'vscode';
import type { FileReader } from '../debug-adapter/protocol.ts';
import { isUri } from './configuration/paths.ts';

/**
 * A path of a launch configuration as a URI. In a virtual workspace VS Code's variables give bare paths: they get the
 * scheme of the workspace back.
 */
export function uriOf(path: string): vscode.Uri {
  if (isUri(path)) return vscode.Uri.parse(path, true);
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  const virtual = folder !== undefined && folder.scheme !== 'file';
  return virtual ? folder.with({ path }) : vscode.Uri.file(path);
}

/** Gives the adapter's worker its files through the editor, which also reads remote and virtual ones. */
export const editorFiles: FileReader = {
  readFile: async (path) => vscode.workspace.fs.readFile(uriOf(path)),
};
