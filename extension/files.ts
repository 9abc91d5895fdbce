import * as vscode from 'vscode';
import type { FileReader } from '../debug-adapter/protocol.ts';
import { isUri } from './configuration/paths.ts';

/** The folder whose scheme bare paths have: the first one, when it does not lie on a disk that this process sees. */
export function virtualFolder(): vscode.Uri | undefined {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  return folder?.scheme === 'file' ? undefined : folder;
}

/**
 * A path of a launch configuration as a URI. In a virtual workspace VS Code's variables give bare paths: they get the
 * scheme of the workspace back.
 */
export function uriOf(path: string): vscode.Uri {
  if (isUri(path)) return vscode.Uri.parse(path, true);
  return virtualFolder()?.with({ path }) ?? vscode.Uri.file(path);
}

/** The other way: a URI of the virtual workspace as the bare path that the adapter knows. */
export function pathOf(uri: string): string {
  const folder = virtualFolder();
  if (!folder || !isUri(uri)) return uri;
  const parsed = vscode.Uri.parse(uri, true);
  return parsed.scheme === folder.scheme && parsed.authority === folder.authority ? parsed.path : uri;
}

/** Gives the adapter's worker its files through the editor, which also reads remote and virtual ones. */
export const editorFiles: FileReader = {
  readFile: async (path) => vscode.workspace.fs.readFile(uriOf(path)),
};
