/** VMCS fields, control bits and exit reasons in Markdown, from sim-core's tables. */

import { citeInFull } from '../../sim-core/sdm.ts';
import { controlField } from '../../sim-core/vmx/controls.ts';
import { type ExitReason, exitReasonByName } from '../../sim-core/vmx/exit-reasons.ts';
import { fieldByEncoding, fieldByName, type VmcsField } from '../../sim-core/vmx/fields.ts';
import { hex4, looksLikeEncoding, numberOf } from './numbers.ts';

const FIELD_PREFIX = /^\$?(?:VMCS|VMX|VM)_(?:FIELD_)?/i;
const REASON_PREFIX = /^\$?(?:VMX_)?(?:VM_?)?(?:EXIT_REASON|EXITREASON|REASON)_/i;
const AREA_TEXT: Readonly<Record<VmcsField['area'], string>> = {
  control: 'control field',
  readOnly: 'read-only field',
  guest: 'guest state',
  host: 'host state',
};

/** What a word of a source says about the VMCS: a field by its name or encoding, or an exit reason by its name. */
export function vmcsHover(word: string): string | undefined {
  const field = fieldByWord(word);
  if (field) return fieldMarkdown(field);
  const reason = REASON_PREFIX.test(word) ? exitReasonByName(word.replace(REASON_PREFIX, '')) : undefined;
  if (reason) return reasonMarkdown(reason);
  return encodingHover(word);
}

/** Encodings only. */
export function encodingHover(word: string): string | undefined {
  const number = looksLikeEncoding(word) ? numberOf(word) : undefined;
  const found = number === undefined || number > 0xffff ? undefined : fieldByEncoding(number);
  return found && fieldMarkdown(found.field, found.high);
}

export const fieldByWord = (word: string): VmcsField | undefined =>
  fieldByName(word.replace(/^\$/, '')) ?? fieldByName(word.replace(FIELD_PREFIX, ''));

export function fieldMarkdown(field: VmcsField, high = false): string {
  const width = field.width === 'natural' ? 'natural width' : `${field.width} bits`;
  const lines = [
    `**${field.name}** · VMCS field \`${hex4(field.encoding)}\` · ${width} · ${AREA_TEXT[field.area]}`,
    ...(high ? [`\`${hex4(field.encoding + 1)}\` is its high half.`] : []),
    field.documentation,
    ...bitLines(field),
    `*${citeInFull(field.sdm)}*`,
  ];
  return lines.join('\n\n');
}

function bitLines(field: VmcsField): string[] {
  const control = controlField(field.name);
  if (control)
    return [control.bits.map(({ bit, title, documentation }) => `- ${bit}: ${title}. ${documentation}`).join('\n')];
  const rows = field.layout.map(
    ({ name, low, width = 1 }) => `- ${width > 1 ? `${low + width - 1}:` : ''}${low}: ${name}`,
  );
  return rows.length > 0 ? [rows.join('\n')] : [];
}

function reasonMarkdown({ title, number, documentation, qualification }: ExitReason): string {
  return [
    `**${title}** · basic exit reason ${number} (\`0x${number.toString(16)}\`)`,
    documentation,
    ...(qualification ? [`Exit qualification: ${qualification.map(({ name }) => name).join(', ')}.`] : []),
  ].join('\n\n');
}
