import * as vscode from 'vscode';
import type { VmxraySession } from '../sessions.ts';
import { parseNumber, toHex } from '../views/hex.ts';
import type { ViewNode } from '../views/node.ts';

type Field = NonNullable<ViewNode['vmcsField']>;

/** Asks for a new value of a field, of the tree's node or chosen from all, and writes it. @returns whether it did. */
export async function editVmcsField(session: VmxraySession, node?: ViewNode): Promise<boolean> {
  const field = node?.vmcsField ?? (await chooseField(session));
  if (field === undefined) return false;
  const typed = await vscode.window.showInputBox({
    title: vscode.l10n.t('New value of {0}', field.name),
    value: field.value,
    validateInput: (text) => problemOf(text, field),
  });
  const value = typed === undefined ? undefined : parseNumber(typed);
  if (value === undefined) return false;
  await session.request('vmxray/setVmcsField', { name: field.name, value: toHex(value) });
  return true;
}

function problemOf(text: string, { name, width }: Field): string | undefined {
  const value = parseNumber(text);
  if (value === undefined) return vscode.l10n.t('A number, please: 0x1000 or 4096');
  if (value >> BigInt(width) !== 0n) return vscode.l10n.t('{0} has {1} bits; this number needs more', name, width);
  return undefined;
}

async function chooseField(session: VmxraySession): Promise<Field | undefined> {
  const { groups } = await session.request('vmxray/vmcs');
  const items = groups.flatMap((group) =>
    group.fields
      .filter((field) => !field.readOnly)
      .map((field) => ({ label: field.name, description: field.value, detail: group.name, field })),
  );
  const placeHolder = vscode.l10n.t('Which field of the current VMCS?');
  return (await vscode.window.showQuickPick(items, { placeHolder, matchOnDescription: true }))?.field;
}
