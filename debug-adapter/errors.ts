/** Every error that a user or client sees, once: an id, what happened, and what to do. */

import type { DebugProtocol } from '@vscode/debugprotocol';
import { CHANGES_THE_PAST } from './protocol.ts';

/** An error that answers a request; anything else that is thrown is a defect of the adapter. */
export class RequestError extends Error {
  readonly id: number;
  /** Whether the editor should show it to the user by itself. */
  readonly showUser: boolean;
  /** Where in an expression it is, from 0. */
  readonly position: number | undefined;

  constructor(id: number, message: string, showUser: boolean, position?: number) {
    super(position === undefined ? message : `${message.replace(/\.$/, '')} (at column ${position + 1})`);
    this.id = id;
    this.showUser = showUser;
    this.position = position;
  }

  /** The same with its place in an expression, unless it has one, or is about something else. */
  at(position: number): RequestError {
    const isOfExpression = this.id === NOT_WRITABLE || (this.id > EXPRESSIONS && this.id < EXPRESSIONS + 100);
    if (!isOfExpression || this.position !== undefined) return this;
    return new RequestError(this.id, this.message, this.showUser, position);
  }

  toMessage(): DebugProtocol.Message {
    return { id: this.id, format: this.message.replaceAll('{', '(').replaceAll('}', ')'), showUser: this.showUser };
  }
}

/** Errors of expressions have the numbers behind this. */
const EXPRESSIONS = 1300;
const NOT_WRITABLE = 1105;

const shown = (id: number, message: string): RequestError => new RequestError(id, message, true);
const silent = (id: number, message: string): RequestError => new RequestError(id, message, false);
const list = (names: readonly string[]): string => names.join(', ');

export const errors = {
  unknownRequest: (command: string) => silent(1001, `The request '${command}' is not known to VMXray.`),
  badArguments: (command: string, problem: string) =>
    silent(1002, `The request '${command}' is malformed: ${problem}.`),
  notLaunched: (command: string) =>
    silent(1003, `'${command}' needs a running session. Send 'launch' first and wait for its answer.`),
  launchedTwice: () => silent(1004, "The session is launched already. Use 'restart', or a new session."),
  running: (command: string) => silent(1005, `'${command}' needs a stopped machine. Send 'pause' first.`),
  ended: (command: string) => silent(1006, `'${command}' is not possible: the machine has ended. Use 'restart'.`),
  atEnd: (command: string, why: string) =>
    shown(
      1008,
      `'${command}' is not possible: the machine has ended (${why}). Step back, restart, or end the session.`,
    ),
  internal: (command: string, problem: string) =>
    shown(1007, `VMXray failed at '${command}': ${problem}. Please report this; the session goes on.`),

  unknownThread: (id: number) => silent(1101, `There is no processor ${id}. Ask 'threads' for those there are.`),
  unknownVcpu: (number: number) =>
    silent(1108, `There is no virtual processor ${number} that does not run. Ask 'threads' for those there are.`),
  suspended: (command: string, name: string) =>
    shown(
      1109,
      `'${command}' is not possible: ${name}. It runs when its hypervisor enters it: ` +
        'step the processor, or set a breakpoint in the guest and continue.',
    ),
  unknownFrame: (id: number) =>
    silent(1102, `Frame ${id} is of an earlier stop, or never was. Ask 'stackTrace' again.`),
  unknownReference: (id: number) =>
    silent(1103, `Variables reference ${id} is of an earlier stop, or never was. Ask 'scopes' again.`),
  unknownVariable: (name: string) => silent(1104, `There is no variable '${name}' here.`),
  notWritable: (name: string, why: string) => shown(NOT_WRITABLE, `'${name}' cannot be changed: ${why}.`),
  unknownFilter: (id: string) =>
    silent(1106, `There is no exception filter '${id}'. 'initialize' lists those there are.`),
  noConsole: (name: string, known: string) => silent(1108, `There is no console '${name}'. There is ${known}.`),
  noExitsKnown: () => silent(1107, 'The machine did not stop for a VM exit, a failed VM entry or a fault.'),

  noProgram: () =>
    shown(1201, "The launch configuration has no 'program'. Name the hypervisor or kernel image to boot there."),
  badLaunchValue: (name: string, problem: string) =>
    shown(1202, `The launch attribute '${name}' is not right: ${problem}.`),
  unreadableFile: (what: string, path: string, problem: string) =>
    shown(1203, `${what} '${path}' cannot be read: ${problem}. Check the path in the launch configuration.`),
  badImage: (path: string, problem: string) => shown(1204, `'${path}' cannot be booted: ${problem}`),
  badSymbols: (path: string, problem: string) =>
    shown(1205, `'${path}' cannot be used for symbols: ${problem}. Give an x86 ELF file.`),
  unknownExitReason: (name: string, similar: readonly string[]) =>
    shown(
      1206,
      `'${name}' in breakOnVmExit is no VM-exit reason.` +
        (similar.length > 0 ? ` Did you mean ${list(similar)}?` : " Use names such as CPUID, EPT_VIOLATION, or '*'."),
    ),

  badExpression: (problem: string, position?: number) => new RequestError(1301, problem, false, position),
  unreadable: (space: string, address: bigint, why: string) =>
    silent(1302, `Nothing can be read at ${space} address 0x${address.toString(16)}: ${why}.`),
  badReference: (reference: string) =>
    silent(
      1303,
      `'${reference}' is not a memory reference. Use 0x… (linear), linear:, vmm:, guest:, gpa: or hpa: with a number, vcpu1:0x… or iova:00:01.0:0x….`,
    ),
  noVmcs: () => silent(1304, 'There is no current VMCS: the hypervisor has not executed VMPTRLD yet.'),
  unknownField: (name: string) => silent(1305, `'${name}' is no VMCS field. Use the manual's name, e.g. GUEST_RIP.`),
  noGuest: () => silent(1306, 'There is no guest to look into: no VMCS with a launched guest is current.'),
  noCaller: () =>
    shown(1307, 'The function that called this one cannot be found: no frame pointer and no call-frame data.'),
  noHistory: (command: string) =>
    shown(1401, `'${command}' needs the machine's history, which the launch attribute 'history' has turned off.`),
  changesThePast: (instructions: number) =>
    silent(
      CHANGES_THE_PAST,
      `This is the past: a change here makes another future, and what was recorded of the ${instructions} instructions ` +
        'after it is forgotten. Do it again to go on.',
    ),
  notInHistory: (instructions: number, first: number, last: number) =>
    shown(1403, `Instruction ${instructions} is not in the history, which goes from ${first} to ${last}.`),
  badTrace: (path: string, problem: string) => shown(1404, `'${path}' cannot be replayed: ${problem}.`),
  badSnapshot: (path: string, problem: string) => shown(1405, `The snapshot '${path}' cannot be restored: ${problem}.`),
  diskWritten: (command: string, device: string) =>
    shown(1406, `'${command}' is not possible: the image of '${device}' is another one by now. Leave out write=on.`),
  unknownSource: () => silent(1308, 'The adapter has no text for this source: open it by its path.'),
} as const;
