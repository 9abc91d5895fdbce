import * as vscode from 'vscode';
import type { VmxraySession } from '../sessions.ts';
import { referenceOf } from '../views/memory-documents.ts';
import type { ViewNode } from '../views/node.ts';
import { evaluate, selectedText } from './translate.ts';

/** Addresses of devices and of waiting virtual processors are no values of expressions. */
const REFERENCE = /^\s*(iova|vcpu\d+):/i;

/**
 * The memory to show: at the tree node's address, or where the user says, with the editor's selection to start from.
 * @returns a memory reference; undefined when the user gives up. @throws when the expression has no number for a value.
 */
export async function askForMemory(session: VmxraySession, node?: ViewNode): Promise<string | undefined> {
  if (node?.address) return referenceOf(node.address);
  const typed = await vscode.window.showInputBox({
    title: vscode.l10n.t('Show memory'),
    prompt: vscode.l10n.t(
      'An address or an expression: rsp, 0x7000, guest:0x7000, gpa:0x1000, hpa:0x1000, iova:00:01.0:0x0',
    ),
    value: selectedText(),
  });
  if (!typed?.trim()) return undefined;
  if (REFERENCE.test(typed)) return typed.trim();
  const { result, memoryReference } = await evaluate(session, typed.trim());
  if (memoryReference !== undefined) return memoryReference;
  throw new Error(vscode.l10n.t('The value of {0} is no address: {1}', typed.trim(), result));
}
