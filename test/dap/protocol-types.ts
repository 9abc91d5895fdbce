/**
 * Holds messages of the adapter to the types of the protocol: each is written as a literal of the type that its kind
 * and name ask for, and the TypeScript compiler judges. So required and unknown properties and values of the wrong
 * type are found, and no type is written here a second time.
 */

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { artifact, ROOT } from '../project-files.ts';
import type { Message } from './plain-client.ts';

const COMPILER = [
  'node_modules/typescript/bin/tsc',
  ...['--ignoreConfig', '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', '--pretty', 'false'],
  ...['--target', 'esnext', '--module', 'nodenext', '--moduleResolution', 'nodenext', '--allowImportingTsExtensions'],
  ...['--types', ''],
];
const OWN = 'vmxray/';
/** Lines of the generated file before the first message. */
const HEAD = [
  "import type { DebugProtocol as P } from '@vscode/debugprotocol';",
  "import type { CustomEvents, CustomRequests } from '../../debug-adapter/protocol.ts';",
  'type Own<Name extends keyof CustomRequests, Body = CustomRequests[Name][1]> =',
  // As in the standard's responses that have nothing to say.
  '  P.Response & (Record<string, never> extends Body ? { body?: Body } : { body: Body });',
];

/** 'setBreakpoints' → 'SetBreakpoints'. */
const typeName = (name: string): string => `${name.charAt(0).toUpperCase()}${name.slice(1)}`;

/** The TypeScript type that a message must have. */
function typeOf({ type, command = '', event = '', success }: Message): string {
  if (type === 'event') {
    return event.startsWith(OWN)
      ? `P.Event & { event: '${event}'; body: CustomEvents['${event}'] }`
      : `P.${typeName(event)}Event`;
  }
  if (success === false) return 'P.ErrorResponse';
  return command.startsWith(OWN) ? `Own<'${command}'>` : `P.${typeName(command)}Response`;
}

/** Where a number is that is no integer: the protocol has no others. */
function fractions(value: unknown, path: string): string[] {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? [] : [`${path} is ${value}`];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, part]) => fractions(part, `${path}.${key}`));
}

/** What is wrong with messages, a line each. */
export function protocolErrors(messages: readonly Message[]): string[] {
  // The same message again, but for its numbers, says nothing new.
  const kinds = new Map(messages.map((message) => [JSON.stringify({ ...message, seq: 0, request_seq: 0 }), message]));
  const unique = [...kinds.values()];
  const lines = unique.map((message, i) => `export const m${i}: ${typeOf(message)} = ${JSON.stringify(message)};`);
  const file = artifact('dap-messages.ts');
  writeFileSync(file, `${[...HEAD, ...lines].join('\n')}\n`);
  const { stdout, stderr, status } = spawnSync(process.execPath, [...COMPILER, file], { cwd: ROOT, encoding: 'utf8' });
  const errors = stdout.split('\n').flatMap((line) => {
    const [, number, problem] = /\((\d+),\d+\): error (TS\d+: .*)$/.exec(line) ?? [];
    const message = number === undefined ? undefined : unique[Number(number) - 1 - HEAD.length];
    return number === undefined ? [] : [`${problem}\n  in ${JSON.stringify(message).slice(0, 400)}`];
  });
  if (errors.length === 0 && status !== 0) errors.push(`the compiler ended with ${status}: ${stdout}${stderr}`);
  const standard = unique.filter(({ event = '', command = '' }) => !`${event}${command}`.includes(OWN));
  return [...errors, ...standard.flatMap((message) => fractions(message, message.event ?? message.command ?? ''))];
}
