/** A client that sends any request at any time, to see that the adapter answers each exactly once and lives on. */

import type { Random } from '../fuzz/random.ts';
import type { Message, PlainClient } from './plain-client.ts';
import { FIRST_VMM, lineWith } from './sample.ts';

/** What is known of the session so far, to ask for. */
interface Seen {
  readonly frames: number[];
  readonly references: number[];
}

/** Arguments of a request, drawn by chance. */
type Draw = (random: Random, seen: Seen) => object;

const GRANULARITIES = ['instruction', 'line', 'statement'] as const;
const PLACES = [
  'vmm:0x100000',
  'guest:0x0',
  'gpa:0x1000',
  'hpa:0x200000',
  'vmm:0xfffffffffffff000',
  'nowhere',
] as const;
const EXPRESSIONS = [
  'rip',
  'vmcs.GUEST_RIP',
  '[rsp]',
  'leaf',
  'rax + 1',
  'reason ==',
  '*regs',
  '1 / 0',
  'guest.rip',
] as const;
const CONTEXTS = ['watch', 'hover', 'repl'] as const;
const FILTERS = ['vmEntryFailure', 'tripleFault', 'vmExit:10', 'nothing'] as const;

const thread = (random: Random): number => random.pick([1, 1, 1, 1, 2, 1001, -1]);
const frame: Draw = (random, seen) => ({ frameId: random.pick([...seen.frames, 1, 99_999]) });
const step: Draw = (random) => ({ threadId: thread(random), granularity: random.pick(GRANULARITIES) });
const ofThread: Draw = (random) => ({ threadId: thread(random) });
const nothing: Draw = () => ({});

const REQUESTS: Readonly<Record<string, Draw>> = {
  threads: nothing,
  modules: nothing,
  loadedSources: nothing,
  stackTrace: (random) => ({ threadId: thread(random), startFrame: random.below(3), levels: random.below(30) }),
  scopes: frame,
  variables: (random, seen) => ({ variablesReference: random.pick([...seen.references, 1, 0]), start: 0, count: 20 }),
  setVariable: (random, seen) => ({
    variablesReference: random.pick([...seen.references, 1]),
    name: random.pick(['rax', 'leaf', 'GUEST_RFLAGS', 'none']),
    value: random.pick(['1', 'rax', '(']),
  }),
  evaluate: (random, seen) => ({
    expression: random.pick(EXPRESSIONS),
    context: random.pick(CONTEXTS),
    ...(random.below(2) ? frame(random, seen) : {}),
  }),
  completions: (random) => ({ text: random.pick(['vmcs.', 'r', '']), column: 1 + random.below(6) }),
  readMemory: (random) => ({
    memoryReference: random.pick(PLACES),
    offset: random.below(9),
    count: random.below(9000),
  }),
  disassemble: (random) => ({
    memoryReference: random.pick(PLACES),
    instructionOffset: random.below(100) - 50,
    instructionCount: random.below(200),
  }),
  setBreakpoints: (random) => ({
    source: { path: lineWith('exits.c', 'uint32_t leaf').path },
    breakpoints: Array.from({ length: random.below(3) }, () => ({ line: 1 + random.below(90) })),
  }),
  setFunctionBreakpoints: (random) => ({
    breakpoints: random.below(2) ? [{ name: 'handle_cpuid', condition: random.pick(['rax == 1', 'rax +', '1']) }] : [],
  }),
  setInstructionBreakpoints: (random) => ({
    breakpoints: random.below(2) ? [{ instructionReference: random.pick(PLACES) }] : [],
  }),
  setDataBreakpoints: (random) => ({
    breakpoints: random.below(3) ? [] : [{ dataId: random.pick(['vmcs:GUEST_RIP', 'x']), accessType: 'write' }],
  }),
  setExceptionBreakpoints: (random) => ({ filters: random.below(2) ? [random.pick(FILTERS)] : [] }),
  exceptionInfo: ofThread,
  gotoTargets: (random) => ({ source: { path: `${FIRST_VMM}/main.c` }, line: random.below(100) }),
  goto: (random) => ({ threadId: 1, targetId: random.below(5) }),
  next: step,
  stepIn: step,
  stepOut: step,
  stepBack: step,
  continue: ofThread,
  reverseContinue: ofThread,
  restartFrame: frame,
  pause: ofThread,
  cancel: nothing,
  restart: nothing,
  terminate: nothing,
  attach: nothing,
  launch: nothing,
  'vmxray/vmcs': nothing,
  'vmxray/vmExits': nothing,
  'vmxray/tlb': nothing,
  'vmxray/eptTable': nothing,
  'vmxray/translate': (random) => ({ address: '0x1000', space: random.pick(['linear', 'guestPhysical', 'x']) }),
  'vmxray/timeline': nothing,
  'vmxray/checkVmEntry': nothing,
  'vmxray/forgetFuture': nothing,
  'vmxray/setVmExitStops': (random) => ({ reasons: random.below(2) ? [random.below(60)] : [] }),
  'vmxray/runTo': (random) => ({ threadId: 1, event: random.pick(['vmExit', 'vmEntry', 'x']) }),
  'vmxray/runBackTo': (random) => ({ threadId: 1, event: random.pick(['vmExit', 'vmEntry']) }),
  'vmxray/travel': (random) => ({ threadId: 1, to: random.pick(['start', 'present', '1000', '99999999', 'x']) }),
  'vmxray/lastChange': (random) => ({ threadId: 1, expression: random.pick(EXPRESSIONS) }),
};
const COMMANDS = Object.keys(REQUESTS);
/** These end or begin anew what the others look at: seldom. */
const SELDOM: readonly string[] = ['terminate', 'restart'];

/** Takes ids out of an answer. */
function learn(seen: Seen, { body }: Message): void {
  const { stackFrames, scopes, variables } = (body ?? {}) as Readonly<
    Record<string, readonly Readonly<Record<string, number>>[]>
  >;
  const add = (ids: number[], found: readonly (number | undefined)[]): void => {
    for (const id of found) if (id !== undefined && id > 0) ids.push(id);
    ids.splice(0, ids.length - 8);
  };
  add(
    seen.frames,
    (stackFrames ?? []).map(({ id }) => id),
  );
  add(
    seen.references,
    [...(scopes ?? []), ...(variables ?? [])].map(({ variablesReference }) => variablesReference),
  );
}

/**
 * Sends requests without waiting for their answers, and begins again when the machine has ended.
 * @returns the answers, in order of the requests
 */
export async function sendAtRandom(client: PlainClient, random: Random, requests: number): Promise<Message[]> {
  const seen: Seen = { frames: [], references: [] };
  const answers: Promise<Message>[] = [];
  for (let i = 0; i < requests; i++) {
    const drawn = random.pick(COMMANDS);
    const command = SELDOM.includes(drawn) && random.below(4) > 0 ? 'threads' : drawn;
    const answer = client.request(command, REQUESTS[command]?.(random, seen));
    answers.push(answer);
    answer.then((message) => learn(seen, message));
    // Now and then everything is awaited, so that references of the stop in hand are used, too.
    if (random.below(4) === 0) await answer;
  }
  return Promise.all(answers);
}

/** Whatever has happened: the machine stands still after it. */
export async function settle(client: PlainClient): Promise<void> {
  await client.request('restart', {});
  const stop = client.event('stopped');
  await client.request('continue', { threadId: 1 });
  await client.request('pause', { threadId: 1 });
  const ended = client.event('terminated');
  await Promise.race([stop, ended]);
}
