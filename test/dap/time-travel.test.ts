/** Time travel over the protocol: backwards as forwards, changes in the past, recordings. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { CHANGES_THE_PAST, type CustomEvents, type LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { Message, PlainClient } from './plain-client.ts';
import { firstVmm, lineWith } from './sample.ts';

const THREAD = { threadId: 1 } as const;
/** Host-physical and linear: nothing lies there. */
const STUB = 0x9_0000;
/** Basic exit reason: I/O instruction. */
const IO = 30;

describe('time travel', function () {
  this.timeout(30_000);
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;

  async function start(more: Partial<LaunchArguments> = {}): Promise<Message<{ description?: string }>> {
    client = await adapter.launch(firstVmm(more));
    return client.run('configurationDone', {}) as Promise<Message<{ description?: string }>>;
  }

  /** Function, line and address of the innermost frame, and the instruction count. */
  async function place(): Promise<string> {
    const { body } = await client.request('stackTrace', { ...THREAD, levels: 1 });
    const [frame] = body.stackFrames;
    return `${frame?.name}:${frame?.line} ${frame?.instructionPointerReference} ${await client.value('instructions')}`;
  }
  const instructions = async (): Promise<number> => Number(await client.value('instructions'));
  const serialOutput = (): string =>
    client.received
      .filter(({ event }) => event === 'vmxray/serialOutput')
      .map(({ body }) => (body as CustomEvents['vmxray/serialOutput']).data)
      .join('');

  /** Stops in the guest, in front of what makes it exit often. */
  async function toGuestMain(): Promise<void> {
    await start({ stopOn: 'vmlaunch' });
    await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'guest_main' }] });
    await client.run('continue');
    await client.request('setFunctionBreakpoints', { breakpoints: [] });
  }

  for (const [where, count] of [
    ['guest', 5],
    ['VMM', 5],
  ] as const) {
    it(`steps back over the lines that steps over lines went, in the ${where}`, async () => {
      await (where === 'guest' ? toGuestMain() : start({ stopOn: 'firstExit' }));
      const places = [await place()];
      for (let i = 0; i < count; i++) {
        await client.run('next');
        places.push(await place());
      }
      for (const expected of places.slice(0, -1).reverse()) {
        const { body } = await client.run('stepBack');
        assert.match(body.description ?? '', /^Step \(in the past\)$/);
        assert.equal(await place(), expected);
      }
    });
  }

  it('steps back over a hypervisor that runs long, whether or not a filter stops for its VM exit', async () => {
    await toGuestMain();
    const handler = Number(await client.value('vmcs.HOST_RIP'));
    // push rcx; mov ecx, 100000; again: dec ecx; jnz again; pop rcx; jmp to the handler of VM exits
    const code = [0x51, 0xb9, 0xa0, 0x86, 0x01, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0x59, 0xe9];
    const jump = Buffer.alloc(4);
    jump.writeInt32LE(handler - (STUB + code.length + jump.length));
    const data = Buffer.concat([Uint8Array.from(code), jump]).toString('base64');
    await client.body('writeMemory', { memoryReference: `hpa:${STUB}`, data });
    await client.body('setExpression', { expression: 'vmcs.HOST_RIP', value: `${STUB}` });
    // To an OUT, and over it.
    await client.body('vmxray/setVmExitStops', { reasons: [IO] });
    await client.run('continue');
    await client.run('stepBack', { ...THREAD, granularity: 'instruction' });
    const before = await place();
    await client.body('vmxray/setVmExitStops', { reasons: [] });
    await client.run('next', { ...THREAD, granularity: 'instruction' });
    const after = await place();
    const count = (text: string): number => Number(text.split(' ').at(-1));
    assert.ok(count(after) - count(before) >= 200_000, `${before} to ${after}`);
    for (const reasons of [[], [IO]]) {
      await client.body('vmxray/setVmExitStops', { reasons });
      const { body } = await client.run('stepBack', { ...THREAD, granularity: 'instruction' });
      assert.match(body.description ?? '', /^Step \(in the past\)$/);
      assert.equal(await place(), before);
      await client.run('vmxray/travel', { ...THREAD, to: `${count(after)}` });
      assert.equal(await place(), after);
    }
  });

  it('steps back over every instruction that steps by instruction went', async () => {
    await toGuestMain();
    const places = [await place()];
    for (let i = 0; i < 10; i++) {
      await client.run('next', { ...THREAD, granularity: 'instruction' });
      places.push(await place());
    }
    for (const expected of places.slice(0, -1).reverse()) {
      await client.run('stepBack', { ...THREAD, granularity: 'instruction' });
      assert.equal(await place(), expected);
    }
  });

  it('runs back to breakpoints with their conditions and hit counts, and to the start', async () => {
    await start();
    const { path, line } = lineWith('exits.c', 'exit_total++;');
    await client.request('setBreakpoints', { source: { path }, breakpoints: [{ line, hitCondition: '% 2' }] });
    const places: string[] = [];
    for (let i = 0; i < 4; i++) {
      await client.run('continue');
      places.push(await place());
    }
    for (const expected of places.slice(0, -1).reverse()) {
      const { body } = await client.run('reverseContinue');
      assert.equal(body.reason, 'breakpoint');
      assert.equal(await place(), expected);
    }
    const { body } = await client.run('reverseContinue');
    assert.match(body.description ?? '', /^Start of the history/);
    assert.equal(await instructions(), 0);
    await client.run('continue');
    assert.equal(await place(), places[0]);
  });

  it('stops at breakpoints and filters on the way of a step back, as a step over does', async () => {
    await start({ stopOn: 'vmlaunch' });
    // What this calls executes CPUID, which exits.
    const call = lineWith('guest/guest.c', '\tlook_at_processor();');
    const atCall = { source: { path: call.path }, breakpoints: [{ line: call.line }] };
    await client.request('setBreakpoints', atCall);
    await client.run('continue');
    const { path, line } = lineWith('exits.c', 'exit_total++;');
    const inHandler = { source: { path }, breakpoints: [{ line }] };
    const before = await place();
    await client.run('next');
    const behind = await place();
    await client.request('setBreakpoints', inHandler);
    const stop = await client.run('stepBack');
    assert.equal(stop.body.reason, 'breakpoint');
    assert.match(await place(), new RegExp(`^\\w+:${line} vmm:`));
    await client.request('setBreakpoints', { source: { path }, breakpoints: [] });
    await client.run('vmxray/travel', { ...THREAD, to: `${Number(behind.split(' ').at(-1))}` });
    assert.equal((await client.run('stepBack')).body.reason, 'step');
    assert.equal(await place(), before);
  });

  it('counts hits away from where a breakpoint was set, or from where the machine has run on before that', async () => {
    await start();
    const { path, line } = lineWith('exits.c', 'exit_total++;');
    const set = (...breakpoints: object[]) => client.request('setBreakpoints', { source: { path }, breakpoints });
    await set({ line });
    const places: string[] = [];
    for (let i = 0; i < 8; i++) {
      await client.run('continue');
      places.push(await place());
    }
    const goTo = async (place: string | undefined): Promise<void> => {
      await client.run('vmxray/travel', { ...THREAD, to: `${Number(place?.split(' ').at(-1))}` });
    };
    const runs = async (command: string): Promise<number> => {
      await client.run(command);
      return places.indexOf(await place());
    };
    await goTo(places[3]);
    await set({ line, hitCondition: '2' });
    assert.equal(await runs('reverseContinue'), 1);
    assert.equal(await runs('reverseContinue'), -1);
    assert.equal(await instructions(), 0);
    // From the start it is the second hit that counts, now and whenever it is met again.
    assert.equal(await runs('continue'), 1);
    await goTo(places[6]);
    assert.equal(await runs('reverseContinue'), 1);

    // Nor does it matter what is met first: the place where it was set, or the hits around it.
    await goTo(places[3]);
    await set({ line, hitCondition: '>= 2' });
    assert.equal(await runs('continue'), 5);
    // Another breakpoint of the file changes nothing of this one.
    await set({ line, hitCondition: '>= 2' }, { line: line + 100 });
    assert.equal(await runs('continue'), 6);
    for (const expected of [5, 1, 0]) assert.equal(await runs('reverseContinue'), expected);

    await goTo(places[7]);
    await set({ line, condition: 'hits % 3 == 0', hitCondition: '2' });
    assert.equal(await runs('reverseContinue'), 1);
  });

  it('stops at data breakpoints backwards, with the values that they had', async () => {
    await start();
    const breakpoints = [{ dataId: `vmm:${await client.value('&exit_total')}/4`, accessType: 'write' }];
    await client.request('setDataBreakpoints', { breakpoints });
    const texts: (string | undefined)[] = [];
    for (let i = 0; i < 4; i++) texts.push((await client.run('continue')).body.text);
    assert.match(texts[3] ?? '', / written: 3 → 4, /);
    for (const expected of texts.slice(0, -1).reverse()) {
      assert.equal((await client.run('reverseContinue')).body.text, expected);
    }
  });

  it('goes back over VM exits and entries, stops on filters backwards, and travels to the present', async () => {
    await start({ stopOn: 'none', breakOnVmExit: ['CPUID'] });
    const [first, second] = [await place(), await client.run('continue').then(place)];
    const back = await client.run('vmxray/runBackTo', { ...THREAD, event: 'vmEntry' });
    assert.match(back.body.description ?? '', /^Stopped after VM entry \(in the past/);
    assert.equal((await client.run('vmxray/runBackTo', { ...THREAD, event: 'vmExit' })).body.reason, 'exception');
    const { body } = await client.run('reverseContinue');
    assert.match(body.description ?? '', /^VM exit: CPUID/);
    assert.equal(await place(), first);
    await client.run('vmxray/travel', { ...THREAD, to: 'present' });
    assert.equal(await place(), second);
    const { body: timeline } = await client.request('vmxray/timeline', {});
    assert.equal(timeline.hereExit, timeline.total);
    const reasons = timeline.exits.map(({ name }) => name);
    assert.equal(reasons.filter((name) => name === 'CPUID').length, 2);
    const [exit] = timeline.exits;
    await client.run('vmxray/travel', { ...THREAD, to: exit?.to });
    assert.equal(Number(await client.value('exits')), 1);
    assert.equal(Number(await client.value('reason')), exit?.reason);
  });

  it('goes back to the last change of a field, and of memory', async () => {
    await start({ stopOn: 'firstExit' });
    await client.run('vmxray/runTo', { ...THREAD, event: 'vmExit' });
    const now = await client.value('vmcs.GUEST_RIP');
    const toField = await client.run('vmxray/lastChange', { ...THREAD, expression: 'vmcs.GUEST_RIP' });
    assert.equal(toField.body.description, 'Last change of vmcs.GUEST_RIP (in the past)');
    assert.match(toField.body.text ?? '', new RegExp(`^vmcs.GUEST_RIP is about to change from .* to ${now}$`));
    assert.notEqual(await client.value('vmcs.GUEST_RIP'), now);
    await client.run('stepIn', { ...THREAD, granularity: 'instruction' });
    assert.equal(await client.value('vmcs.GUEST_RIP'), now);
    await client.run('vmxray/travel', { ...THREAD, to: 'present' });
    for (let i = 0; i < 2; i++) await client.run('next');
    // PUSH instructions have been stepped over: the last one stored at RSP.
    const [pushed, rsp] = [await client.value('[rsp]'), await client.value('rsp')];
    const memory = await client.run('vmxray/lastChange', { ...THREAD, expression: '[rsp]' });
    assert.match(memory.body.text ?? '', new RegExp(`^.rsp. is about to change from .* to ${pushed}$`));
    await client.run('stepIn', { ...THREAD, granularity: 'instruction' });
    assert.equal(await client.value(`u64(${rsp})`), pushed);
  });

  it('goes back to the last change of a register, and of an EPT entry', async () => {
    await start({ stopOn: 'firstExit' });
    const now = await client.value('cr3');
    const { body } = await client.run('vmxray/lastChange', { ...THREAD, expression: 'cr3' });
    assert.match(body.text ?? '', new RegExp(`^cr3 is about to change from 0x\\w+ to ${now}$`));
    assert.notEqual(await client.value('cr3'), now);
    await client.run('stepIn', { ...THREAD, granularity: 'instruction' });
    assert.equal(await client.value('cr3'), now);
    await client.run('vmxray/travel', { ...THREAD, to: 'present' });
    const address = await client.value('guest.rip');
    const walk = await client.request('vmxray/translate', { address, space: 'guestLinear', access: 'execute' });
    const entry = walk.body.steps.filter(({ level }) => level === 'ept').at(-1);
    assert.ok(entry);
    const expression = `u64(hpa:${entry.address})`;
    await client.run('vmxray/lastChange', { ...THREAD, expression });
    assert.notEqual(await client.value(expression), entry.value, 'the write is still to come');
    await client.run('stepIn', { ...THREAD, granularity: 'instruction' });
    assert.equal(await client.value(expression), entry.value);
  });

  it('asks before a change in the past, which then makes another future', async () => {
    await start({ stopOn: 'vmlaunch' });
    await client.run('next');
    await client.run('next');
    await client.run('stepBack');
    const change = { expression: 'rbx', value: '0x1234' };
    const refused = await client.request('setExpression', change);
    assert.equal(refused.success, false);
    assert.equal(refused.body.error?.id, CHANGES_THE_PAST);
    assert.equal((await client.request('setExpression', change)).success, true);
    assert.equal(await client.value('rbx'), '0x1234');
    const here = await instructions();
    await client.run('next');
    await client.run('stepBack');
    assert.equal(await client.value('rbx'), '0x1234');
    await client.run('stepBack');
    assert.notEqual(await client.value('rbx'), '0x1234');
    await client.run('vmxray/travel', { ...THREAD, to: String(here) });
    assert.equal(await client.value('rbx'), '0x1234');
  });

  it('says where it is, and sends no serial output twice', async () => {
    await start({ stopOn: 'none', breakOnVmExit: ['CPUID'] });
    await client.run('continue');
    const output = serialOutput();
    const there = await instructions();
    await client.run('vmxray/travel', { ...THREAD, to: 'start' });
    const events = client.received.filter(({ event }) => event === 'vmxray/timeTravel');
    const past = events.at(-1)?.body as CustomEvents['vmxray/timeTravel'];
    assert.deepEqual(past, {
      inPast: true,
      instructions: 0,
      present: there,
      serialBytes: 0,
      consoleBytes: { COM2: 0 },
    });
    await client.run('continue');
    await client.run('continue');
    assert.equal(await instructions(), there);
    assert.equal(serialOutput(), output);
    await client.run('continue');
    assert.ok(serialOutput().startsWith(output) && serialOutput().length > output.length);
  });

  it('restarts a frame at the beginning of its function', async () => {
    await start();
    const { path, line } = lineWith('exits.c', 'exit_total++;');
    await client.request('setBreakpoints', { source: { path }, breakpoints: [{ line }] });
    await client.run('continue');
    const { body } = await client.request('stackTrace', { ...THREAD, levels: 1 });
    const [frame] = body.stackFrames;
    await client.run('restartFrame', { frameId: frame?.id });
    assert.equal(await client.value('rip'), await client.value(frame?.name ?? ''));
  });

  it('records the session, and replays the recording to the same state', async () => {
    await start({ stopOn: 'vmlaunch' });
    await client.request('setExpression', { expression: 'r15', value: '99' });
    await client.run('vmxray/runTo', { ...THREAD, event: 'vmExit' });
    const [there, guest] = [await place(), await client.value('guest.r15')];
    const replay = file('session.vmxtrace');
    writeFileSync(replay, (await client.request('vmxray/recording', {})).body.text);
    client.close();
    await start({ replay });
    const { body } = await client.run('continue');
    assert.match(body.description ?? '', /^The recording ends here; the machine's state is the recorded one/);
    assert.deepEqual([await place(), await client.value('guest.r15')], [there, guest]);
    await client.run('stepBack');
    client.close();
    const { program } = firstVmm();
    await assert.rejects(
      adapter.launch({ program, modules: [program], replay }),
      /cannot be replayed: the module guest.elf is not the recorded one/,
    );
  });

  it('is off when the launch configuration says so', async () => {
    await start({ history: { enabled: false } });
    const { success, message } = await client.request('stepBack', THREAD);
    assert.equal(success, false);
    assert.match(message ?? '', /history.*turned off/);
  });
});
