import * as vscode from 'vscode';
import type { VmExitsBody } from '../../debug-adapter/protocol.ts';
import { reporting } from '../reporting.ts';
import type { Sessions } from '../sessions.ts';
import { exitNodes, stopsAfter } from './exit-nodes.ts';
import { iommuNodes } from './iommu-nodes.ts';
import { moduleNodes } from './module-nodes.ts';
import type { ViewNode } from './node.ts';
import { type AskTimeline, timelineNodes } from './timeline-nodes.ts';
import { tlbNodes } from './tlb-nodes.ts';
import { type AskedAddress, translationNodes } from './translation-nodes.ts';
import { NodeTree } from './tree.ts';
import { vmcsNodes } from './vmcs-nodes.ts';

export interface Views extends vscode.Disposable {
  /** Shows the translation of an address, now and after every stop. */
  translate(address: AskedAddress): Promise<void>;
}

export function createViews(sessions: Sessions): Views {
  let asked: AskedAddress | undefined;
  const vmcs = new NodeTree('vmxray.vmcs', sessions, async (session) =>
    vmcsNodes(await session.request('vmxray/vmcs')),
  );
  const exits = new ExitTree(sessions);
  const translation = new NodeTree('vmxray.translation', sessions, async (session) => {
    const answer = asked && (await session.request('vmxray/translate', asked));
    const walk = asked && answer && { address: asked, answer };
    return translationNodes(walk, (args) => session.request('vmxray/eptTable', args));
  });
  const tlb = new NodeTree('vmxray.tlb', sessions, async (session) => tlbNodes(await session.request('vmxray/tlb')));
  const iommu = new NodeTree('vmxray.iommu', sessions, async (session) =>
    iommuNodes(await session.request('vmxray/iommu')),
  );
  const modules = new NodeTree('vmxray.modules', sessions, async (session) => moduleNodes(await session.modules()));
  const timeline = new NodeTree('vmxray.timeline', sessions, async (session) => {
    const ask: AskTimeline = (args) => session.request('vmxray/timeline', args);
    return timelineNodes(await ask({ from: 0, to: 0 }), ask);
  });
  return {
    async translate(address) {
      asked = address;
      await vscode.commands.executeCommand('vmxray.translation.focus');
      sessions.refresh();
    },
    dispose: () => vscode.Disposable.from(vmcs, exits, translation, tlb, iommu, modules, timeline).dispose(),
  };
}

/** The VM-exit tree: its checkboxes are the set of exits that stop. */
class ExitTree implements vscode.Disposable {
  private readonly sessions: Sessions;
  private readonly tree: NodeTree;
  private readonly subscription: vscode.Disposable;
  private body: VmExitsBody | undefined;

  constructor(sessions: Sessions) {
    this.sessions = sessions;
    this.tree = new NodeTree('vmxray.exits', sessions, async (session) => {
      this.body = await session.request('vmxray/vmExits');
      return exitNodes(this.body);
    });
    this.subscription = this.tree.view.onDidChangeCheckboxState(({ items }) => this.onCheckboxes(items));
  }

  dispose(): void {
    this.subscription.dispose();
    this.tree.dispose();
  }

  private async onCheckboxes(items: readonly [ViewNode, vscode.TreeItemCheckboxState][]): Promise<void> {
    const session = this.sessions.current;
    if (!session || !this.body) return;
    const changes = new Map<number, boolean>();
    for (const [{ exitReason }, state] of items) {
      if (exitReason !== undefined) changes.set(exitReason, state === vscode.TreeItemCheckboxState.Checked);
    }
    const stops = stopsAfter(this.body, changes);
    // Known at once, so that the next click adds to this one even before the adapter has answered.
    this.body = {
      ...this.body,
      reasons: this.body.reasons.map((one) => ({ ...one, stop: stops.includes(one.reason) })),
    };
    await reporting(() => session.request('vmxray/setVmExitStops', { reasons: stops }));
    this.sessions.refresh();
  }
}
