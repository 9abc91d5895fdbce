/** What a tree shows, free of VS Code's API, so that the trees can be tested without an editor. */

import type { Hex, TranslateArguments } from '../../debug-adapter/protocol.ts';

export interface ViewNode {
  /** Unique in its tree and the same after every refresh, so that expanded nodes stay expanded. */
  readonly id: string;
  readonly label: string;
  /** Dimmed text after the label. */
  readonly description?: string;
  /** Markdown. */
  readonly tooltip?: string;
  /** A codicon. */
  readonly icon?: string;
  /** A theme colour for the icon. */
  readonly iconColor?: string;
  /** What a screen reader says; label and description when absent. */
  readonly accessibleLabel?: string;
  /** Shows a checkbox. */
  readonly checked?: boolean;
  /** A command that the node runs when it is chosen. */
  readonly command?: string;
  readonly expanded?: boolean;
  /** Asked when the node is expanded; absent for a leaf. */
  readonly children?: () => readonly ViewNode[] | Promise<readonly ViewNode[]>;

  /** What the commands of the node's menu work on. */
  readonly vmcsField?: { readonly name: string; readonly value: Hex; readonly width: number };
  readonly exitReason?: number;
  readonly address?: {
    readonly address: Hex;
    readonly space: TranslateArguments['space'];
    readonly requester?: number;
  };
  /** A place in time, for `vmxray/travel`. */
  readonly place?: string;
  /** An expression whose last change can be looked for. */
  readonly changes?: string;
  /** For Copy Value. */
  readonly value?: string;
}

/** The words that menus' when-clauses look for in `viewItem`. */
export function contextValue(node: ViewNode): string {
  const words: string[] = [];
  if (node.vmcsField) words.push('editable');
  if (node.address) words.push('address');
  if (node.value !== undefined) words.push('value');
  if (node.place !== undefined) words.push('place');
  if (node.changes !== undefined) words.push('changes');
  return words.join(' ');
}

/** A node that only says something. */
export const note = (id: string, label: string, icon = 'info'): ViewNode => ({ id, label, icon });
