/**
 * Names of function breakpoints that stand for kinds of instructions and events instead of functions:
 *
 *   @MNEMONIC [argument]     any instruction of that mnemonic, or those with that argument: @invept,
 *                            @vmwrite GUEST_RIP, @wrmsr IA32_EFER, @out 0x3f8, @cpuid 1
 *   @write REGISTER          any instruction that writes a register; @read REGISTER, one that reads it
 *   @ring3                   the first instruction at CPL 3 after another CPL
 *   @address-space           the first instruction after CR3 has changed
 */

import { Mnemonic } from 'iced-x86';
import { MSRS } from '../../sim-core/cpu/msrs.ts';
import { MACHINE_REGISTERS } from '../../sim-core/machine/registers.ts';
import { ARGUMENTS, MNEMONIC_GROUPS } from '../../sim-core/machine/watching/instruction-stops.ts';
import { isWatchable } from '../../sim-core/machine/watching/register-use.ts';
import type { InstructionStop, Watch, WatchedEvent } from '../../sim-core/machine/watching/watch.ts';
import { fieldByName, VMCS_FIELDS } from '../../sim-core/vmx/fields.ts';

export type InstructionKind =
  | { readonly kind: 'stop'; readonly stop: InstructionStop; readonly what: string }
  | { readonly kind: 'watch'; readonly watch: Watch; readonly what: string }
  | { readonly kind: 'problem'; readonly problem: string };

const EVENTS: Readonly<Record<string, { readonly event: WatchedEvent; readonly what: string }>> = {
  ring3: { event: 'ring3', what: 'Entry to ring 3' },
  'address-space': { event: 'addressSpace', what: 'New address space' },
};

const MNEMONICS = new Map(
  Object.entries(Mnemonic).flatMap(([name, value]) =>
    typeof value === 'number' && value !== Mnemonic.INVALID ? [[name.toLowerCase(), value as Mnemonic] as const] : [],
  ),
);
const MSR_NUMBERS = new Map([...MSRS].map(([index, { name }]) => [name, index]));
/** The rest of VT-x, and what hypervisors intercept, invalidate and switch rings with. */
const WITHOUT_ARGUMENT =
  /^(vm(clear|func|launch|ptrld|ptrst|resume|xoff|xon)|inv(d|lpg)|hlt|rdtscp?|swapgs|syscall|sysenter)$/;
/** Names of kinds to offer: those that take an argument, the rest of VT-x, registers and events. */
export const KIND_NAMES: readonly string[] = [
  ...Object.keys(EVENTS),
  ...['write cr0', 'write cr3', 'write cr4', 'read cr3'],
  ...Object.keys(MNEMONIC_GROUPS),
  ...[...MNEMONICS]
    .filter(([name, value]) => ARGUMENTS.has(value) || WITHOUT_ARGUMENT.test(name))
    .map(([name]) => name),
]
  .map((name) => `@${name}`)
  .filter((name, i, all) => all.indexOf(name) === i);
export const MSR_NAMES: readonly string[] = [...MSR_NUMBERS.keys()].sort();

/** Names that can follow a kind: fields, MSRs or registers. @param word without '@' */
export function argumentNames(word: string): readonly string[] {
  if (word === 'write' || word === 'read') return MACHINE_REGISTERS.map(({ name }) => name).filter(isWatchable);
  const mnemonic = MNEMONIC_GROUPS[word]?.[0] ?? MNEMONICS.get(word);
  const meaning = mnemonic === undefined ? undefined : ARGUMENTS.get(mnemonic)?.what;
  if (meaning === 'VMCS field') return VMCS_FIELDS.map(({ name }) => name);
  return meaning === 'MSR' ? MSR_NAMES : [];
}

/** The number of an MSR that is named, or given by number; undefined when there is none. */
export function msrNumber(text: string): number | undefined {
  const named = MSR_NUMBERS.get(text.toUpperCase());
  return named ?? (/^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : undefined);
}

/** How an MSR is called; its number where this machine has no name for it. */
export const msrName = (index: number): string => MSRS.get(index)?.name ?? `0x${index.toString(16)}`;

/** Whether the name of a function breakpoint is one of these. */
export const isInstructionKind = (name: string): boolean => name.trim().startsWith('@');

const problem = (text: string): InstructionKind => ({ kind: 'problem', problem: text });

/** @param name begins with '@' */
export function parseInstructionKind(name: string): InstructionKind {
  const [, word = '', argument = ''] = /^\s*@\s*([\w-]+)\s*(.*?)\s*$/.exec(name.toLowerCase()) ?? [];
  const event = EVENTS[word];
  if (event) return { kind: 'watch', what: event.what, watch: { kind: 'event', event: event.event, access: 'write' } };
  if (word === 'write' || word === 'read') return registerKind(word, argument);
  const known = MNEMONICS.get(word);
  const mnemonics = MNEMONIC_GROUPS[word] ?? (known === undefined ? undefined : [known]);
  if (!mnemonics) {
    return problem(
      `'@${word}' is no instruction; write @invept, @vmwrite GUEST_RIP, @write cr3, @ring3 or @address-space.`,
    );
  }
  const what = [word.toUpperCase(), argument.toUpperCase()].join(' ').trim();
  if (argument === '') return { kind: 'stop', what, stop: { kind: 'mnemonic', mnemonics: new Set(mnemonics) } };
  const meaning = ARGUMENTS.get(mnemonics[0] as Mnemonic)?.what;
  if (meaning === undefined) return problem(`${word.toUpperCase()} takes no argument here: use a condition.`);
  const value = argumentValue(meaning, argument);
  if (value === undefined) return problem(`'${argument}' is no ${meaning}.`);
  return { kind: 'stop', what, stop: { kind: 'mnemonic', mnemonics: new Set(mnemonics), argument: value } };
}

function registerKind(way: 'read' | 'write', name: string): InstructionKind {
  if (!isWatchable(name)) return problem(`'${name}' is no register whose instructions can be told.`);
  const what = `${way === 'write' ? 'Write to' : 'Read of'} ${name.toUpperCase()}`;
  return { kind: 'stop', what, stop: { kind: 'register', name, write: way === 'write' } };
}

function argumentValue(meaning: string, text: string): bigint | undefined {
  const field = meaning === 'VMCS field' ? fieldByName(text) : undefined;
  if (field) return BigInt(field.encoding);
  const msr = meaning === 'MSR' ? msrNumber(text) : undefined;
  if (msr !== undefined) return BigInt(msr);
  return /^(0x[0-9a-f]+|\d+)$/i.test(text) ? BigInt(text) : undefined;
}
