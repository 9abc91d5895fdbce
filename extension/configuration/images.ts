import * as vscode from 'vscode';
import type { FoundImage } from './guess.ts';
import { classifyImage } from './image-kind.ts';
import { inWorkspaceFolder } from './paths.ts';

/** Linked images have these endings or none at all; objects, archives and libraries are not looked into. */
const CANDIDATE = /(\/|^)[^./][^/]*\.(elf|elf32|elf64|exe|out|kernel|img|bin)$|(\/|^)[^./]+$/i;
const LEFT_OUT = '**/{node_modules,.git,.hg,.svn,.vscode,dist}/**';
const MAX_FILES = 5000;
const MAX_CANDIDATES = 300;
const MAX_IMAGE_BYTES = 64 * 1024 * 1024;

/** ELF files in a folder that are worth offering. Files that cannot be read are passed over. */
export async function findImages(
  folder: vscode.WorkspaceFolder,
  token?: vscode.CancellationToken,
): Promise<FoundImage[]> {
  const pattern = new vscode.RelativePattern(folder, '**/*');
  const files = await vscode.workspace.findFiles(pattern, LEFT_OUT, MAX_FILES, token);
  const candidates = files
    .map((uri) => ({ uri, name: uri.path.slice(folder.uri.path.length).replace(/^\//, '') }))
    .filter(({ name }) => CANDIDATE.test(name))
    .slice(0, MAX_CANDIDATES);
  const found: FoundImage[] = [];
  for (const { uri, name } of candidates) {
    if (token?.isCancellationRequested) break;
    const image = await readCandidate(uri).then(classifyImage, () => undefined);
    if (image?.kind === 'elf') found.push({ path: pathInFolder(uri, name), name, image });
  }
  return found;
}

/** @throws when the file is missing, is a folder or is too large to be worth a look. */
async function readCandidate(uri: vscode.Uri): Promise<Uint8Array> {
  const { size } = await fileStat(uri);
  if (size > MAX_IMAGE_BYTES) throw new Error(`${uri.path} is larger than ${MAX_IMAGE_BYTES} bytes`);
  return vscode.workspace.fs.readFile(uri);
}

/** @throws vscode.FileSystemError when the file is missing or is a folder. */
export async function fileStat(uri: vscode.Uri): Promise<vscode.FileStat> {
  const stat = await vscode.workspace.fs.stat(uri);
  if ((stat.type & vscode.FileType.Directory) !== 0) throw vscode.FileSystemError.FileIsADirectory(uri);
  return stat;
}

/** Several folders make ${workspaceFolder} ambiguous when the configuration is shown outside its folder. */
function pathInFolder(uri: vscode.Uri, name: string): string {
  const single = (vscode.workspace.workspaceFolders?.length ?? 0) === 1;
  if (single) return inWorkspaceFolder(name);
  return uri.scheme === 'file' ? uri.fsPath : uri.toString();
}
