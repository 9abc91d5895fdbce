import * as vscode from 'vscode';

/** The samples below examples/, the first one recommended. */
const SAMPLES = [
  ...['first-vmm', 'broken-entry', 'stale-tlb', 'direct-assignment', 'shadow-paging', 'two-guests', 'migration'],
];
/** What a build leaves beside the sources that is not worth copying. */
const LEFT_OUT = new Set(['build', '.gitignore']);

/** Copies a sample hypervisor to a folder that the user chooses, and offers to open it. */
export async function newSample(context: vscode.ExtensionContext): Promise<void> {
  const sample = await chooseSample(context);
  if (sample === undefined) return;
  const parent = await vscode.window.showOpenDialog({
    canSelectFiles: false,
    canSelectFolders: true,
    openLabel: vscode.l10n.t('Create here'),
    title: vscode.l10n.t('Folder in which "{0}" is created', sample),
    ...(vscode.workspace.workspaceFolders?.[0] ? { defaultUri: vscode.workspace.workspaceFolders[0].uri } : {}),
  });
  if (!parent?.[0]) return;
  const target = vscode.Uri.joinPath(parent[0], sample);
  if (await exists(target)) {
    throw new Error(vscode.l10n.t('{0} exists already. Choose another folder, or move it away.', target.fsPath));
  }
  await copyFolder(vscode.Uri.joinPath(context.extensionUri, 'examples', sample), target);
  await offerToOpen(target, sample);
}

async function chooseSample(context: vscode.ExtensionContext): Promise<string | undefined> {
  const present: string[] = [];
  for (const name of SAMPLES) {
    if (await exists(vscode.Uri.joinPath(context.extensionUri, 'examples', name))) present.push(name);
  }
  if (present.length === 0) throw new Error(vscode.l10n.t('This build of VMXray carries no samples.'));
  if (present.length === 1) return present[0];
  return vscode.window.showQuickPick(present, { placeHolder: vscode.l10n.t('Which sample?') });
}

async function offerToOpen(target: vscode.Uri, name: string): Promise<void> {
  const open = vscode.l10n.t('Open');
  const openNew = vscode.l10n.t('Open in New Window');
  const choice = await vscode.window.showInformationMessage(
    vscode.l10n.t('"{0}" is ready. Open it and press F5.', name),
    open,
    openNew,
  );
  if (choice === undefined) return;
  await vscode.commands.executeCommand('vscode.openFolder', target, { forceNewWindow: choice === openNew });
}

async function exists(uri: vscode.Uri): Promise<boolean> {
  return vscode.workspace.fs.stat(uri).then(
    () => true,
    () => false,
  );
}

/** File by file: the file systems of a browser cannot copy between schemes. */
async function copyFolder(from: vscode.Uri, to: vscode.Uri): Promise<void> {
  await vscode.workspace.fs.createDirectory(to);
  for (const [name, type] of await vscode.workspace.fs.readDirectory(from)) {
    if (LEFT_OUT.has(name)) continue;
    const [source, target] = [vscode.Uri.joinPath(from, name), vscode.Uri.joinPath(to, name)];
    if (type === vscode.FileType.Directory) await copyFolder(source, target);
    else await vscode.workspace.fs.writeFile(target, await vscode.workspace.fs.readFile(source));
  }
}
