import type { DebugProtocol } from '@vscode/debugprotocol';
import * as vscode from 'vscode';
import type { TranslateArguments } from '../../debug-adapter/protocol.ts';
import type { VmxraySession } from '../sessions.ts';
import { parseNumber, toHex } from '../views/hex.ts';
import type { ViewNode } from '../views/node.ts';
import type { AskedAddress } from '../views/translation-nodes.ts';

/**
 * The address to translate: that of the tree's node, or what the user types, with the editor's selection to start from.
 * @returns undefined when the user gives up. @throws when the expression has no number for a value.
 */
export async function askForAddress(session: VmxraySession, node?: ViewNode): Promise<AskedAddress | undefined> {
  if (node?.address) return node.address;
  const typed = await vscode.window.showInputBox({
    title: vscode.l10n.t('Translate an address'),
    prompt: vscode.l10n.t('A number or an expression: 0x7000, rip, a symbol, vmcs.GUEST_RSP'),
    value: selectedText(),
  });
  if (!typed?.trim()) return undefined;
  const space = await chooseSpace();
  if (space === undefined) return undefined;
  const number = parseNumber(typed);
  if (number !== undefined) return { address: toHex(number), space };
  return { address: toHex(await addressOf(session, typed)), space, expression: typed.trim() };
}

/** What is selected in the editor, or the word at the cursor. */
export function selectedText(): string {
  const editor = vscode.window.activeTextEditor;
  if (!editor) return '';
  const word = editor.document.getWordRangeAtPosition(editor.selection.active);
  const range = editor.selection.isEmpty ? word : editor.selection;
  const text = range ? editor.document.getText(range) : '';
  return text.includes('\n') ? '' : text.trim();
}

async function chooseSpace(): Promise<TranslateArguments['space'] | undefined> {
  const items: (vscode.QuickPickItem & { space: TranslateArguments['space'] })[] = [
    {
      space: 'linear',
      label: vscode.l10n.t('Linear address'),
      description: vscode.l10n.t('with the paging that the processor uses now'),
    },
    {
      space: 'guestLinear',
      label: vscode.l10n.t('Guest-linear address'),
      description: vscode.l10n.t("with the paging and EPT of the current VMCS's guest"),
    },
    {
      space: 'guestPhysical',
      label: vscode.l10n.t('Guest-physical address'),
      description: vscode.l10n.t('with the EPT of the current VMCS'),
    },
  ];
  return (await vscode.window.showQuickPick(items, { placeHolder: vscode.l10n.t('What kind of address is it?') }))
    ?.space;
}

async function addressOf(session: VmxraySession, expression: string): Promise<bigint> {
  const { result } = await evaluate(session, expression);
  const value = parseNumber(/0x[0-9a-f]+|^[0-9]+/i.exec(result)?.[0] ?? '');
  if (value !== undefined) return value;
  throw new Error(vscode.l10n.t('The value of {0} is no address: {1}', expression, result));
}

/** Asks for an expression's value in the frame that is selected. */
export async function evaluate(
  { session }: VmxraySession,
  expression: string,
): Promise<DebugProtocol.EvaluateResponse['body']> {
  const item = vscode.debug.activeStackItem;
  const frameId = item instanceof vscode.DebugStackFrame && item.session === session ? item.frameId : undefined;
  return session.customRequest('evaluate', { expression, context: 'watch', frameId });
}
