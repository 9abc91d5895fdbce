/*
 * Stops of every kind that the debugger has, in a kernel that gives each an occasion in each of its two rounds
 * (kinds.asm). Expected are its labels, in the order of its source: every kind stops there and nowhere else, forwards
 * and backwards, and its condition, hit count and log message count the same places.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KIND_NAMES } from '../../debug-adapter/stops/instruction-kinds.ts';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { EventBody, Message, PlainClient } from './plain-client.ts';
import { ROOT } from './sample.ts';

const INCLUDE = `${join(ROOT, 'test/system/include')}/`;
const ROUNDS = 2;

/** Assembles the kernel into a folder. @returns addresses by label */
function assembleKernel(folder: string): ReadonlyMap<string, number> {
  const source = readFileSync(join(import.meta.dirname, 'kinds.asm'), 'utf8');
  writeFileSync(join(folder, 'kinds.asm'), `[map symbols kinds.map]\n${source}`);
  execFileSync('nasm', ['-f', 'bin', '-I', INCLUDE, '-o', 'kinds.elf', 'kinds.asm'], { cwd: folder });
  const lines = readFileSync(join(folder, 'kinds.map'), 'utf8').split('\n');
  return new Map(
    lines.flatMap((line) => {
      const [, address = '', label = ''] = /^ *([0-9A-F]+) +[0-9A-F]+ +(\w+)$/.exec(line) ?? [];
      return label === '' ? [] : [[label.replace(/^at_/, ''), Number.parseInt(address, 16)] as const];
    }),
  );
}

/** By the name of a kind: where it stops in each round. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  '@ring3': ['ring3_by_sysret', 'ring3_by_sysexit', 'ring3_by_iret'],
  '@address-space': ['space_other', 'space_own'],
  '@write cr0': ['cr0_write', 'clts'],
  '@write cr3': ['cr3_other', 'cr3_own', 'guest_cr3_write'],
  '@write cr4': ['cr4_write'],
  '@read cr3': ['cr3_read', 'guest_cr3_read'],
  '@in': ['in', 'insb', 'insw', 'insd'],
  '@insb': ['insb'],
  '@insw': ['insw'],
  '@insd': ['insd'],
  '@out': ['out', 'outsb', 'outsw', 'outsd'],
  '@outsb': ['outsb'],
  '@outsw': ['outsw'],
  '@outsd': ['outsd'],
  '@iret': ['iret_in_kernel', 'iret_to_user'],
  '@sysret': ['sysret'],
  '@sysexit': ['sysexit'],
  '@cpuid': ['cpuid', 'guest_cpuid'],
  '@cpuid 0': ['cpuid', 'guest_cpuid'],
  '@hlt': ['guest_hlt'],
  '@int': ['int', 'int_by_user'],
  '@int 0x82': ['int_by_user'],
  '@invd': ['invd'],
  '@invept': ['invept'],
  '@invept 2': ['invept'],
  '@invlpg': ['invlpg'],
  '@invpcid': ['invpcid'],
  '@invvpid': ['invvpid'],
  '@rdmsr': ['rdmsr'],
  '@rdmsr IA32_EFER': ['rdmsr'],
  '@rdtsc': ['rdtsc'],
  '@rdtscp': ['rdtscp'],
  '@swapgs': ['swapgs'],
  '@syscall': ['syscall'],
  '@sysenter': ['sysenter'],
  '@vmcall': ['vmcall'],
  '@vmclear': ['vmclear'],
  '@vmfunc': ['vmfunc'],
  '@vmlaunch': ['vmlaunch'],
  '@vmptrld': ['vmptrld'],
  '@vmptrst': ['vmptrst'],
  '@vmread': ['vmread'],
  '@vmread GUEST_RSP': ['vmread'],
  '@vmresume': ['vmresume', 'vmresume', 'vmresume'],
  '@vmwrite': ['vmwrite'],
  '@vmxoff': ['vmxoff'],
  '@vmxon': ['vmxon'],
  '@wrmsr': ['wrmsr'],
  '@xsetbv': ['xsetbv'],
};
/** Other names of the same instructions. */
const SYNONYMS: readonly string[] = ['@sysretq', '@sysexitq'];

/** By filter: the labels behind whose instructions the VM exits come, or that they are at. */
const EXITS: Readonly<Record<string, readonly string[]>> = {
  'exit:CPUID': ['guest_cpuid'],
  'exit:HLT': ['guest_hlt'],
  'exit:EXCEPTION_OR_NMI': ['vmfunc'],
  'exit:VMCALL': ['vmcall'],
  'exits:instructions': ['guest_cpuid', 'guest_hlt'],
  'exits:': ['guest_cpuid', 'guest_hlt', 'vmfunc', 'vmcall'],
};

const TABLE_WRITES = ['pte_write', 'pte_write_elsewhere', 'pte_walk', 'pte_write_by_guest', 'pte_restore'];
const EPT_WRITES = ['epte_write', 'epte_write_elsewhere', 'epte_write_by_guest'];
/** By data id and access: whose accesses stop. OR reads and writes; a page walk writes, and reads nothing. */
const DATA: Readonly<Record<string, readonly string[]>> = {
  'pte:vmm:0x40000000 write': TABLE_WRITES,
  'pte:vmm:0x40000000 change': TABLE_WRITES,
  'pte:vmm:0x40000000 read': ['pte_write', 'pte_write_elsewhere', 'pte_read', 'pte_write_by_guest'],
  // The guest has the same tables.
  'pte:guest:0x40000000 write': TABLE_WRITES,
  'epte:0xc00000 write': EPT_WRITES,
  'epte:0xc00000 change': EPT_WRITES,
  'epte:0xc00000 read': EPT_WRITES,
};

interface Answer {
  readonly verified: boolean;
  readonly message?: string;
}
type Stopped = Message<EventBody<'stopped'>>;
interface Options {
  readonly condition?: string;
  readonly hitCondition?: string;
  readonly logMessage?: string;
}

describe('every kind of stop', function () {
  this.timeout(60_000);
  const file = useFolder();
  let labels: ReadonlyMap<string, number>;
  const adapter = useAdapter();
  let client: PlainClient;

  before(async () => {
    labels = assembleKernel(file());
    const machine = { memory: '64M', cpuModel: 'max' };
    const program = file('kinds.elf');
    client = await adapter.launch({ program, machine, stopOn: 'entry' });
    await client.run('configurationDone', {});
    await client.request('setInstructionBreakpoints', {
      breakpoints: [{ instructionReference: `0x${addressOf('done').toString(16)}` }],
    });
  });
  beforeEach(async () => {
    await client.request('setFunctionBreakpoints', { breakpoints: [] });
    await client.request('setExceptionBreakpoints', { filters: [] });
    await client.request('setDataBreakpoints', { breakpoints: [] });
    await toStart();
  });

  function addressOf(label: string): number {
    const address = labels.get(label);
    assert.ok(address !== undefined, `there is no label ${label}`);
    return address;
  }
  /** In the part of the kernel that the rounds are. */
  const inRounds = (): string => `rip >= ${addressOf('kinds_begin')} && rip < ${addressOf('kinds_end')}`;
  /** The labels that stand for an address: several may be at one. */
  const labelsAt = (address: number): string[] =>
    [...labels].filter(([, each]) => each === address).map(([label]) => label);

  const evaluate = async (expression: string): Promise<number> => Number(await client.value(expression));
  async function set(command: string, args: object): Promise<Answer> {
    const { breakpoints } = (await client.body(command, args)) as { breakpoints: readonly Answer[] };
    assert.ok(breakpoints[0]?.verified, breakpoints[0]?.message);
    return breakpoints[0];
  }
  /** @returns instruction counts and addresses of all stops up to the kernel's end */
  async function toEnd(place: () => Promise<number>): Promise<Place[]> {
    const places: Place[] = [];
    for (;;) {
      await client.run('continue');
      if ((await evaluate('rip')) === addressOf('done')) return places;
      places.push({ instructions: await evaluate('instructions'), address: await place() });
    }
  }
  async function backwards(count: number, place: () => Promise<number>): Promise<Place[]> {
    const places: Place[] = [];
    for (let i = 0; i < count; i++) {
      await client.run('reverseContinue');
      places.unshift({ instructions: await evaluate('instructions'), address: await place() });
    }
    return places;
  }
  const toStart = (): Promise<Stopped> => client.run('vmxray/travel', { threadId: 1, to: 'start' });
  const logged = (from: number): number[] =>
    client.received.slice(from).flatMap(({ event, body }) => {
      const output = event === 'output' && body && 'output' in body ? String(body.output) : '';
      return output.startsWith('log ') ? [Number(output.slice(4))] : [];
    });

  interface Place {
    readonly instructions: number;
    readonly address: number;
  }

  /**
   * Stops at the expected labels in each round; backwards at the same places; at the second one by hit count and by
   * condition; and a log message tells of all of them once.
   */
  async function check(
    setWith: (options: Options) => Promise<unknown>,
    perRound: readonly string[],
    place: () => Promise<number>,
  ): Promise<void> {
    const expected = Array.from({ length: ROUNDS }, () => perRound).flat();
    await setWith({ condition: inRounds() });
    const places = await toEnd(place);
    const found = places.map(({ address }, i) => labelsAt(address).find((label) => label === expected[i]) ?? address);
    assert.deepEqual(found, expected);
    assert.deepEqual(await backwards(places.length, place), places, 'backwards');
    const second = places[1] as Place;
    await toStart();
    await setWith({ condition: inRounds(), hitCondition: '2' });
    assert.deepEqual(await toEnd(place), [second], 'hit count');
    assert.deepEqual(await backwards(1, place), [second], 'hit count backwards');
    await toStart();
    await setWith({ condition: `instructions == ${second.instructions}` });
    assert.deepEqual(await toEnd(place), [second], 'condition');
    await toStart();
    const told = client.received.length;
    await setWith({ condition: inRounds(), logMessage: 'log {instructions}' });
    assert.deepEqual(await toEnd(place), [], 'log point');
    await toStart();
    assert.deepEqual(
      logged(told),
      places.map(({ instructions }) => instructions),
      'log message',
    );
  }
  /** What the last stop said. */
  const lastText = (): string => {
    const last = client.received.findLast(({ event }) => event === 'stopped') as Stopped | undefined;
    return last?.body.text ?? '';
  };
  const rip = (): Promise<number> => evaluate('rip');

  it('has an occasion here', () => {
    const known = [...Object.keys(KINDS), ...SYNONYMS];
    assert.deepEqual(
      KIND_NAMES.filter((name) => !known.includes(name)),
      [],
    );
  });

  for (const [name, perRound] of Object.entries(KINDS)) {
    it(name, () =>
      check((options) => set('setFunctionBreakpoints', { breakpoints: [{ name, ...options }] }), perRound, rip),
    );
  }

  for (const [filterId, perRound] of Object.entries(EXITS)) {
    it(filterId, () =>
      check(
        ({ condition, hitCondition, logMessage }) => {
          // Filters have no hit counts of their own, and their log messages are in their conditions.
          const counted = hitCondition === undefined ? condition : `hits == ${hitCondition}`;
          const whole = logMessage === undefined ? counted : `log: ${logMessage}`;
          const wanted = whole === inRounds() ? '1' : whole;
          return set('setExceptionBreakpoints', { filters: [], filterOptions: [{ filterId, condition: wanted }] });
        },
        perRound,
        () => evaluate('vmcs.GUEST_RIP'),
      ),
    );
  }

  for (const [what, perRound] of Object.entries(DATA)) {
    it(what, () => {
      const [dataId, accessType] = what.split(' ');
      return check(
        async (options) => {
          const breakpoints = [{ dataId, accessType, ...options }];
          const answer = await set('setDataBreakpoints', { breakpoints });
          assert.match(answer.message ?? '', / now: it waits for /);
        },
        perRound,
        async () => Number(/, (?:by|by the processor, during) (0x[0-9a-f]+) /.exec(lastText())?.[1]),
      );
    });
  }
});
