import * as vscode from 'vscode';
import type { Sessions, VmxraySession } from '../sessions.ts';
import { memoryText } from './memory-text.ts';
import type { ViewNode } from './node.ts';

const SCHEME = 'vmxray-memory';
/** Bytes that a document shows. */
const COUNT = 1024;

/** What is known of the memory that a document shows. */
interface Shown {
  bytes: Uint8Array;
  /** What was there before the last change. */
  before: Uint8Array | undefined;
}

/** Read-only documents of memory in any address space, read again at every stop. */
export class MemoryDocuments implements vscode.TextDocumentContentProvider, vscode.Disposable {
  private readonly sessions: Sessions;
  private readonly shown = new Map<string, Shown>();
  private readonly changed = new vscode.EventEmitter<vscode.Uri>();
  private readonly subscriptions: vscode.Disposable;

  readonly onDidChange = this.changed.event;

  constructor(sessions: Sessions) {
    this.sessions = sessions;
    this.subscriptions = vscode.Disposable.from(
      this.changed,
      vscode.workspace.registerTextDocumentContentProvider(SCHEME, this),
      sessions.onDidChange((session) => {
        if (session?.state === 'stopped') this.readAgain();
      }),
    );
  }

  /** @param reference as `readMemory` takes it */
  async show(reference: string): Promise<void> {
    const document = await vscode.workspace.openTextDocument(vscode.Uri.from({ scheme: SCHEME, path: reference }));
    await vscode.window.showTextDocument(document, { viewColumn: vscode.ViewColumn.Beside, preview: false });
  }

  async provideTextDocumentContent({ path }: vscode.Uri): Promise<string> {
    const session = this.sessions.current;
    if (!session) return vscode.l10n.t('The debug session has ended.');
    const bytes = await read(session, path);
    const known = this.shown.get(path);
    const isNew = known !== undefined && !same(known.bytes, bytes);
    const before = isNew ? known.bytes : known?.before;
    this.shown.set(path, { bytes, before });
    return memoryText(path, bytes, COUNT, before);
  }

  dispose(): void {
    this.subscriptions.dispose();
  }

  private readAgain(): void {
    for (const { uri } of vscode.workspace.textDocuments) if (uri.scheme === SCHEME) this.changed.fire(uri);
  }
}

async function read({ session }: VmxraySession, memoryReference: string): Promise<Uint8Array> {
  const { data = '' } = (await session.customRequest('readMemory', { memoryReference, count: COUNT })) ?? {};
  return Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
}

const same = (one: Uint8Array, other: Uint8Array): boolean =>
  one.length === other.length && one.every((byte, i) => byte === other[i]);

/** Address spaces of tree nodes, as memory references name them. */
const SPACES = { linear: 'linear', guestLinear: 'guest', guestPhysical: 'gpa', iova: 'iova' } as const;

/** The memory reference of a tree's address. */
export function referenceOf({ address, space, requester = 0 }: NonNullable<ViewNode['address']>): string {
  if (space !== 'iova') return `${SPACES[space]}:${address}`;
  const part = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  return `iova:${part(requester >> 8, 2)}:${part((requester >> 3) & 0x1f, 2)}.${requester & 7}:${address}`;
}
