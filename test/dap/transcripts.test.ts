import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { EXCEPTION_FILTERS } from '../../debug-adapter/stops/exception-filters.ts';
import { artifact } from '../project-files.ts';
import { useAdapter } from './adapter.ts';
import type { BodyOf, Message, PlainClient } from './plain-client.ts';
import { directAssignment, firstVmm, lineWith, ROOT, twoGuests } from './sample.ts';

/**
 * Whole conversations with the adapter, kept as text so that a change of what clients see shows in review. A transcript
 * is written by `UPDATE_GOLDEN=1`, and then read by a person: it records what was agreed, it proves nothing by itself
 * (that is the business of the other tests here).
 */
class Transcript {
  readonly entries: unknown[] = [];
  readonly client: PlainClient;
  private seen: number;
  private readonly ids = new Map<string, string>();

  constructor(client: PlainClient) {
    this.client = client;
    this.seen = client.received.length;
  }

  /** @param until the event that belongs to the request and comes after its response. */
  async request<Command extends string>(
    command: Command,
    args?: object,
    until?: string,
  ): Promise<Message<BodyOf<Command>>> {
    this.add({ request: command, arguments: args });
    const event = until === undefined ? undefined : this.client.event(until);
    const response = await this.client.request(command, args);
    // Only what belongs to the request: more may be in already, or not, as the socket has cut the messages.
    this.addReceived((await event) ?? response);
    return response;
  }

  async run(command: string, args: object = { threadId: 1 }): Promise<void> {
    this.add({ request: command, arguments: args });
    this.addReceived(await this.client.run(command, args));
  }

  /**
   * Messages since the last call, up to `last`. How serial output is cut into events depends on time: it stays out.
   */
  private addReceived(last: Message): void {
    const end = this.client.received.findIndex(({ seq }) => seq === last.seq) + 1;
    for (const { type, command, event, success, message, body } of this.client.received.slice(this.seen, end)) {
      const ofStandardOutput = body !== undefined && 'category' in body && body.category === 'stdout';
      if (event === 'vmxray/serialOutput' || ofStandardOutput) continue;
      this.add(type === 'event' ? { event, body } : { response: command, success, message, body });
    }
    this.seen = end;
  }

  private add(entry: object): void {
    this.entries.push(JSON.parse(JSON.stringify(entry, (key, value) => this.normalise(key, value))));
  }

  /**
   * Ids count up over a session: each gets a name of its own. Paths begin at the checkout. Of what the TLB counts the
   * names are kept: hits are what the engine's own copies did not serve, which is the engine's business.
   */
  private normalise(key: string, value: unknown): unknown {
    // The paths of modules are in the machine's memory.
    if (key === 'hash') return '<hash>';
    if (key === 'data' && typeof value === 'string' && value.length > LONGEST_DATA) return '<data>';
    if (typeof value === 'string') return value.replaceAll(ROOT, '<checkout>');
    if (key === 'exceptionBreakpointFilters') return isDeepStrictEqual(value, EXCEPTION_FILTERS) ? 'all' : value;
    if (key === 'tlb' && typeof value === 'object' && value !== null) return Object.keys(value);
    const isReference = key === 'variablesReference' && value !== 0;
    const isId = ['id', 'frameId', 'hitBreakpointIds'].includes(key) && typeof value === 'number';
    if (!isReference && !isId) return Array.isArray(value) && key === 'hitBreakpointIds' ? value.length : value;
    const name = `${isReference ? 'variables' : 'id'} ${value}`;
    const known = this.ids.get(name);
    if (known) return known;
    const fresh = `<${isReference ? 'variables' : 'id'} ${this.ids.size + 1}>`;
    this.ids.set(name, fresh);
    return fresh;
  }
}

/** Characters of binary data that a person can check. */
const LONGEST_DATA = 100;

/** One line for each message. */
const toText = (entries: readonly unknown[]): string => `[\n${entries.map((e) => JSON.stringify(e)).join(',\n')}\n]\n`;

describe('DAP transcripts', () => {
  const adapter = useAdapter();

  function transcript(name: string, conversation: (transcript: Transcript) => Promise<void>): void {
    it(name, async () => {
      const client = await adapter.connect();
      const recorded = new Transcript(client);
      await conversation(recorded);
      client.close();
      const file = join(import.meta.dirname, 'golden', `${name.replaceAll(' ', '-')}.golden.json`);
      const text = toText(recorded.entries);
      if (process.env.UPDATE_GOLDEN) writeFileSync(file, text);
      assert.ok(existsSync(file), `no ${file}: make it with UPDATE_GOLDEN=1, and read it`);
      assert.deepEqual(text.split('\n'), readFileSync(file, 'utf8').split('\n'));
    });
  }

  transcript('a session from initialize to disconnect', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray', linesStartAt1: true, columnsStartAt1: true });
    await session.request('launch', firstVmm(), 'initialized');
    const { path, line } = lineWith('exits.c', 'exit_total++;');
    await session.request('setBreakpoints', { source: { path }, breakpoints: [{ line }, { line: 1 }] });
    await session.request('setFunctionBreakpoints', { breakpoints: [{ name: 'guest_main' }, { name: 'nothing' }] });
    await session.run('configurationDone', {});
    await session.request('threads');
    await session.run('continue');
    await session.request('stackTrace', { threadId: 1 });
    await session.run('continue');
    const stack = await session.request('stackTrace', { threadId: 1, levels: 2 });
    const frameId = stack.body.stackFrames[0]?.id;
    const scopes = await session.request('scopes', { frameId });
    await session.request('variables', { variablesReference: scopes.body.scopes[0]?.variablesReference });
    await session.request('evaluate', { expression: 'vmcs.GUEST_RIP', frameId, context: 'watch' });
    await session.request('evaluate', { expression: 'rax +', frameId, context: 'watch' });
    await session.request('setBreakpoints', { source: { path }, breakpoints: [] });
    await session.run('continue');
    await session.request('continue', { threadId: 1 });
    await session.request('disconnect');
  });

  transcript('a VM exit and the way back', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    await session.request('launch', firstVmm({ stopOn: 'vmlaunch' }), 'initialized');
    await session.request('setExceptionBreakpoints', {
      filters: [],
      filterOptions: [{ filterId: 'exit:CPUID', condition: 'hits == 2' }],
    });
    await session.run('configurationDone', {});
    await session.request('stackTrace', { threadId: 1 });
    await session.run('continue');
    await session.request('exceptionInfo', { threadId: 1 });
    await session.request('stackTrace', { threadId: 1 });
    await session.request('vmxray/vmExits', {}).then((answer) => assert.equal(answer.body.last?.name, 'CPUID'));
    await session.run('stepOut', { threadId: 1 });
    await session.request('stackTrace', { threadId: 1, levels: 1 });
    await session.run('vmxray/runTo', { threadId: 1, event: 'vmExit' });
    await session.run('vmxray/runTo', { threadId: 1, event: 'vmEntry' });
    await session.request('disassemble', {
      memoryReference: 'guest:0x40005000',
      instructionOffset: -2,
      instructionCount: 5,
    });
    await session.request('readMemory', { memoryReference: 'gpa:0x1f0000', count: 4 });
    await session.request('terminate', {}, 'terminated');
    await session.request('disconnect');
  });

  transcript('back in time', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray', supportsInvalidatedEvent: true });
    await session.request('launch', firstVmm({ stopOn: 'firstExit' }), 'initialized');
    await session.request('setExceptionBreakpoints', { filters: [], filterOptions: [{ filterId: 'exit:CPUID' }] });
    await session.run('configurationDone', {});
    await session.run('continue');
    await session.run('stepBack');
    await session.run('stepBack', { threadId: 1, granularity: 'instruction' });
    await session.run('vmxray/runBackTo', { threadId: 1, event: 'vmExit' });
    await session.run('vmxray/lastChange', { threadId: 1, expression: 'vmcs.GUEST_RIP' });
    await session.request('setExpression', { expression: 'rbx', value: '7' });
    await session.run('continue');
    await session.run('reverseContinue');
    await session.run('vmxray/travel', { threadId: 1, to: 'present' });
    await session.request('vmxray/timeline', { from: 0, to: 2 });
    await session.request('disconnect');
  });

  transcript('a VM entry that fails', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray', supportsInvalidatedEvent: true });
    const program = join(ROOT, 'examples/broken-entry/broken-entry.elf');
    await session.request('launch', { ...firstVmm({ stopOn: 'none' }), program }, 'initialized');
    await session.run('configurationDone', {});
    await session.request('exceptionInfo', { threadId: 1 });
    await session.request('vmxray/checkVmEntry', {});
    await session.request('vmxray/setVmcsField', { name: 'HOST_TR_SELECTOR', value: '0x18' }, 'invalidated');
    await session.request('vmxray/checkVmEntry', {});
    await session.request('disconnect');
  });

  transcript('two guests on one processor', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    await session.request('launch', twoGuests(), 'initialized');
    await session.request('setFunctionBreakpoints', { breakpoints: [{ name: 'steps_from' }] });
    await session.run('configurationDone', {});
    await session.request('modules', {});
    await session.request('threads');
    await session.request('stackTrace', { threadId: 1 });
    const waiting = await session.request('stackTrace', { threadId: 1001 });
    const [frame] = waiting.body.stackFrames;
    await session.request('evaluate', { expression: 'rdi', frameId: frame?.id, context: 'watch' });
    await session.request('readMemory', { memoryReference: frame?.instructionPointerReference, count: 8 });
    await session.request('disassemble', {
      memoryReference: frame?.instructionPointerReference,
      instructionOffset: -2,
      instructionCount: 4,
    });
    await session.request('next', { threadId: 1001 });
    await session.request('setFunctionBreakpoints', { breakpoints: [{ name: 'vm_exit_entry' }] });
    await session.run('continue', { threadId: 1001 });
    await session.request('threads');
    await session.request('stackTrace', { threadId: 1 });
    await session.request('disconnect');
  });

  transcript('the use of a stale translation', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    const program = join(ROOT, 'examples/stale-tlb/stale-tlb.elf');
    await session.request('launch', { program, stopOn: 'none' }, 'initialized');
    await session.request('setExceptionBreakpoints', {
      filters: [],
      filterOptions: [{ filterId: 'staleTranslation', condition: 'page == 0x8000000000' }],
    });
    await session.run('configurationDone', {});
    await session.request('exceptionInfo', { threadId: 1 });
    await session.request('stackTrace', { threadId: 1, levels: 3 });
    await session.request('evaluate', { expression: 'stale', context: 'repl' });
    const { body } = await session.client.request('vmxray/tlb');
    const stale = body.entries.filter((entry) => entry.stale !== undefined);
    assert.deepEqual(
      stale.map(({ page }) => page),
      ['0x8000000000'],
    );
    assert.match(stale[0]?.stale?.story?.[0] ?? '', /by the instruction at 0x\w+ <show\+0x\w+>/);
    await session.request('continue', { threadId: 1 }, 'terminated');
    await session.request('disconnect');
  });

  transcript('data breakpoints of every kind', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    await session.request('launch', firstVmm({ stopOn: 'vmlaunch' }), 'initialized');
    await session.run('configurationDone', {});
    const names = ['u32(0x11c008)', 'vmcs:EXIT_REASON', 'msr:IA32_EFER', 'port:0x3f8', 'rip', 'vmcs:NOTHING'];
    for (const name of [...names, 'pte:guest:0x40008110', 'guest:0x40008110', 'cr2']) {
      await session.request('dataBreakpointInfo', { name });
    }
    const watch = async (dataId: string, accessType: string, condition?: string): Promise<void> => {
      await session.request('setDataBreakpoints', { breakpoints: [{ dataId, accessType, condition }] });
      await session.run('continue');
    };
    await watch('linear:0x11c008/4', 'write');
    await watch('linear:0x11c008/4', 'read', 'old >= 1');
    await watch('vmcs:EXIT_REASON', 'change', 'new == exit.CR_ACCESS');
    await watch('vmcs:GUEST_RIP', 'read');
    await watch('port:0x3f8', 'write', "new == 10 log: the guest's line {hits} ends");
    await session.request('disconnect');
  });

  transcript('filters with conditions and log messages', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    await session.request('launch', firstVmm({ stopOn: 'vmlaunch' }), 'initialized');
    await session.run('configurationDone', {});
    const filter = async (filterId: string, condition: string): Promise<void> => {
      await session.request('setExceptionBreakpoints', { filters: [], filterOptions: [{ filterId, condition }] });
    };
    await filter('exits:registers', 'qualification.control_register == 4');
    await session.run('continue');
    await session.request('exceptionInfo', { threadId: 1 });
    await filter('exit:CPUID', 'reason == exit.CPUID && hits == 2');
    await session.run('vmxray/travel', { threadId: 1, to: 'start' });
    await session.run('continue');
    await filter('exit:CPUID', 'log: CPUID leaf {guest.rax} at {guest.rip}');
    await session.request('setFunctionBreakpoints', { breakpoints: [{ name: 'handle_ept_violation' }] });
    await session.run('vmxray/travel', { threadId: 1, to: 'start' });
    await session.run('continue');
    await filter('vmEntryFailure', 'error == 7 ||');
    await session.request('setExceptionBreakpoints', { filters: ['moon'] });
    await session.request('disconnect');
  });

  transcript('kinds of instructions', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    await session.request('launch', firstVmm({ stopOn: 'entry' }), 'initialized');
    await session.run('configurationDone', {});
    const stopAt = async (name: string, condition?: string): Promise<void> => {
      await session.request('setFunctionBreakpoints', { breakpoints: [{ name, condition }] });
      await session.run('continue');
    };
    await stopAt('@address-space');
    await stopAt('@write cr4', 'rax & 0x2000');
    await stopAt('@vmwrite GUEST_RIP');
    await stopAt('@vmread EXIT_REASON', 'hits == 2');
    await stopAt('@wrmsr', 'log: WRMSR of {ecx}');
    await session.request('setFunctionBreakpoints', {
      breakpoints: [{ name: '@nonsense' }, { name: '@write nothing' }, { name: '@hlt 3' }, { name: '@in 0x71' }],
    });
    await session.request('disconnect');
  });

  transcript('variables of a program', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray', supportsVariableType: true });
    await session.request('launch', firstVmm({ stopOn: 'none' }), 'initialized');
    const { path, line } = lineWith('guest_memory.c', 'uint8_t *to = guest_memory');
    await session.request('setBreakpoints', { source: { path }, breakpoints: [{ line }] });
    await session.run('configurationDone', {});
    const stack = await session.request('stackTrace', { threadId: 1, levels: 2 });
    const frameId = stack.body.stackFrames[0]?.id;
    const { scopes } = (await session.request('scopes', { frameId })).body;
    for (const { name, variablesReference } of scopes) {
      if (/Locals|Arguments/.test(name)) await session.request('variables', { variablesReference });
    }
    for (const expression of [
      'segment',
      'segment->memory_size * 2',
      '&segment->linear',
      'segment.nothing',
      'segment ->',
    ]) {
      await session.request('evaluate', { expression, frameId, context: 'watch' });
    }
    await session.request('completions', { text: 'segment->ph', column: 12, frameId });
    await session.request('setExpression', { expression: 'segment->physical', value: '3', frameId });
    await session.request('evaluate', { expression: 'segment->physical', frameId, context: 'hover' });
    await session.request('disconnect');
  });

  transcript('a DMA fault', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    await session.request('launch', { ...directAssignment(), stopOn: 'none' }, 'initialized');
    await session.request('setExceptionBreakpoints', { filters: ['dmaFault'] });
    await session.run('configurationDone', {});
    await session.request('exceptionInfo', { threadId: 1 });
    await session.request('vmxray/iommu', {});
    await session.request('readMemory', { memoryReference: 'iova:00:01.0:0x180000', count: 8 });
    await session.run('stepBack', { threadId: 1, granularity: 'instruction' });
    await session.run('continue');
    await session.request('disconnect');
  });

  transcript('a snapshot restored', async (session) => {
    await session.request('initialize', { adapterID: 'vmxray' });
    await session.request('launch', firstVmm({ stopOn: 'vmlaunch' }), 'initialized');
    await session.run('configurationDone', {});
    const { data } = (await session.client.request('vmxray/snapshot')).body;
    const path = artifact('transcript.vmxsnap');
    writeFileSync(path, Buffer.from(data, 'base64'));
    await session.run('vmxray/runTo', { threadId: 1, event: 'vmExit' });
    await session.run('vmxray/restoreSnapshot', { threadId: 1, path });
    await session.request('stackTrace', { threadId: 1, levels: 1 });
    await session.run('stepBack');
    await session.run('vmxray/runTo', { threadId: 1, event: 'vmExit' });
    writeFileSync(path, 'no snapshot');
    await session.request('vmxray/restoreSnapshot', { threadId: 1, path });
    await session.request('disconnect');
  });
});
