import * as vscode from 'vscode';
import type { Sessions, VmxraySession } from '../sessions.ts';
import { contextValue, note, type ViewNode } from './node.ts';

/** Gives the root nodes of a view while the machine is stopped. */
export type RootNodes = (session: VmxraySession) => Promise<readonly ViewNode[]>;

/** Stopping again so soon after a step is no reason to write "Running". */
const RUNNING_NOTICE_DELAY_MS = 300;
/** A stop often comes with `invalidated` events: they are one refresh. */
const REFRESH_DELAY_MS = 20;

/**
 * A tree over one session's answers. While the machine runs, the tree keeps what it shows and says so; at a stop it
 * asks again, for the expanded nodes only. It changes nothing by itself.
 */
export class NodeTree implements vscode.TreeDataProvider<ViewNode>, vscode.Disposable {
  readonly view: vscode.TreeView<ViewNode>;
  private readonly sessions: Sessions;
  private readonly rootNodes: RootNodes;
  private readonly changed = new vscode.EventEmitter<undefined>();
  private readonly subscriptions: vscode.Disposable;
  private shown: readonly ViewNode[] = [];
  private noticeTimer: ReturnType<typeof setTimeout> | undefined;
  private refreshTimer: ReturnType<typeof setTimeout> | undefined;

  readonly onDidChangeTreeData = this.changed.event;

  constructor(id: string, sessions: Sessions, rootNodes: RootNodes) {
    this.sessions = sessions;
    this.rootNodes = rootNodes;
    this.view = vscode.window.createTreeView(id, {
      treeDataProvider: this,
      showCollapseAll: true,
      manageCheckboxStateManually: true,
    });
    this.subscriptions = vscode.Disposable.from(
      this.view,
      this.changed,
      sessions.onDidChange((session) => this.onSession(session)),
    );
    this.onSession(sessions.current);
  }

  getTreeItem(node: ViewNode): vscode.TreeItem {
    const { None, Collapsed, Expanded } = vscode.TreeItemCollapsibleState;
    const item = new vscode.TreeItem(node.label, node.children ? (node.expanded ? Expanded : Collapsed) : None);
    item.id = node.id;
    item.contextValue = contextValue(node);
    item.accessibilityInformation = {
      label: node.accessibleLabel ?? [node.label, node.description].filter(Boolean).join(' '),
    };
    if (node.description !== undefined) item.description = node.description;
    if (node.tooltip !== undefined) item.tooltip = new vscode.MarkdownString(node.tooltip);
    if (node.icon !== undefined) {
      item.iconPath = new vscode.ThemeIcon(
        node.icon,
        node.iconColor ? new vscode.ThemeColor(node.iconColor) : undefined,
      );
    }
    if (node.command !== undefined) item.command = { command: node.command, title: node.label, arguments: [node] };
    if (node.checked !== undefined) {
      const { Checked, Unchecked } = vscode.TreeItemCheckboxState;
      item.checkboxState = node.checked ? Checked : Unchecked;
    }
    return item;
  }

  async getChildren(node?: ViewNode): Promise<ViewNode[]> {
    if (node) return this.answered(node.id, async () => (await node.children?.()) ?? []);
    const session = this.sessions.current;
    if (session?.state === 'stopped') this.shown = await this.answered('root', () => this.rootNodes(session));
    return [...this.shown];
  }

  dispose(): void {
    clearTimeout(this.noticeTimer);
    clearTimeout(this.refreshTimer);
    this.subscriptions.dispose();
  }

  /** Nodes, or one that says why there are none: a view never fails as a whole. */
  private async answered(id: string, ask: () => Promise<readonly ViewNode[]>): Promise<ViewNode[]> {
    try {
      return [...(await ask())];
    } catch (error) {
      const running = this.sessions.current?.state !== 'stopped';
      const reason = error instanceof Error ? error.message : String(error);
      return [
        running
          ? note(`${id} running`, vscode.l10n.t('Not known while the machine runs'), 'sync')
          : note(`${id} error`, reason, 'warning'),
      ];
    }
  }

  private onSession(session: VmxraySession | undefined): void {
    clearTimeout(this.noticeTimer);
    if (session === undefined) this.shown = [];
    if (session?.state === 'running') {
      this.noticeTimer = setTimeout(() => this.say(vscode.l10n.t('Running…')), RUNNING_NOTICE_DELAY_MS);
      return;
    }
    this.say(session?.state === 'starting' ? vscode.l10n.t('Starting…') : '');
    clearTimeout(this.refreshTimer);
    this.refreshTimer = setTimeout(() => this.changed.fire(undefined), REFRESH_DELAY_MS);
  }

  private say(message: string): void {
    this.view.message = message;
  }
}
