import assert from 'node:assert/strict';
import { useAdapter } from './adapter.ts';
import type { EventBody, Message, PlainClient } from './plain-client.ts';
import { firstVmm } from './sample.ts';

interface Answer {
  readonly verified: boolean;
  readonly message?: string;
}
type Stopped = Message<EventBody<'stopped'>>;

describe('data breakpoints and kinds of instructions over DAP', () => {
  const adapter = useAdapter();
  let client: PlainClient;
  beforeEach(async () => {
    client = await adapter.launch(firstVmm({ stopOn: 'entry' }));
    await client.run('configurationDone', {});
  });

  async function info(args: object): Promise<{ dataId: string | null; description: string }> {
    const { body } = await client.request('dataBreakpointInfo', args);
    return body as { dataId: string | null; description: string };
  }
  async function set(...breakpoints: object[]): Promise<readonly Answer[]> {
    const { body } = await client.request('setDataBreakpoints', { breakpoints });
    return (body as { breakpoints: Answer[] }).breakpoints;
  }
  async function setKinds(...breakpoints: object[]): Promise<readonly Answer[]> {
    const { body } = await client.request('setFunctionBreakpoints', { breakpoints });
    return (body as { breakpoints: Answer[] }).breakpoints;
  }
  const go = (): Promise<Stopped> => client.run('continue');

  it('stop behind the write of a variable, with its values', async () => {
    const { dataId } = await info({ name: 'exit_total' });
    assert.match(dataId ?? '', /^(?:linear|vmm):0x11c008\/4$/);
    assert.deepEqual(
      (await set({ dataId, accessType: 'change', condition: 'new == 2' })).map((b) => b.verified),
      [true],
    );
    const { body } = await go();
    assert.equal(body.reason, 'data breakpoint');
    assert.match(
      body.text ?? '',
      /^(?:linear|vmm):0x11c008 written: 1 → 2, by 0x[0-9a-f]+ <\w+\+0x[0-9a-f]+> of the VMM$/,
    );
    assert.equal(body.hitBreakpointIds?.length, 1);
    assert.equal(await client.value('u32(exit_total)'), '2');
  });

  it('are on fields, MSRs, ports, registers and page-table entries', async () => {
    await setKinds({ name: 'vmm_main' });
    await go();
    const names = [
      'vmcs:GUEST_RIP',
      'vmcs.GUEST_CR3',
      'msr:IA32_LSTAR',
      'port:0x3f8',
      'guest.cr3',
      'pte:0x100000',
      'u16(gpa:0x1000)',
    ];
    const found = await Promise.all(names.map((name) => info({ name })));
    assert.deepEqual(
      found.map(({ dataId }) => dataId),
      [
        'vmcs:GUEST_RIP',
        'vmcs:GUEST_CR3',
        'msr:IA32_LSTAR',
        'port:0x3f8',
        'register:guest.cr3',
        'pte:0x100000',
        'gpa:0x1000/2',
      ],
    );
    const answers = await set(...found.map(({ dataId }) => ({ dataId, accessType: 'readWrite', hitCondition: '1' })));
    assert.deepEqual([...new Set(answers.map(({ verified }) => verified))], [true]);
    // Each stops once, if at all: neither VMM nor guest touch LSTAR, the entry and the page again; VMWRITE of GUEST_CR3
    // gives the guest that waits its CR3.
    const texts: string[] = [];
    for (let stopped = await go(); stopped.event !== 'terminated'; stopped = await go()) {
      texts.push(...(stopped.body.text ?? '').split('\n').map((text) => text.replace(/ (read|written).*/, '')));
    }
    assert.deepEqual([...new Set(texts)].sort(), ['GUEST_CR3', 'GUEST_RIP', 'guest.cr3', 'port 0x3f8']);
  });

  it('stop for an address with bytes', async () => {
    const { dataId } = await info({ name: '0x11c020', bytes: 0x118, asAddress: true });
    assert.equal(dataId, 'linear:0x11c020/280');
    await set({ dataId, accessType: 'write' });
    const { body } = await go();
    assert.match(body.text ?? '', /^linear:0x11c020 written: 0 → 1, by 0x[0-9a-f]+/);
  });

  it('say why something cannot be watched', async () => {
    assert.deepEqual(await info({ name: 'rip' }), {
      dataId: null,
      description: 'rip cannot be watched: it changes without instructions that name it.',
    });
    assert.match((await info({ name: 'vmcs:GUEST_RIX' })).description, /'GUEST_RIX' is no VMCS field/);
    assert.match((await info({ name: '1 +' })).description, /A value is expected/);
    const [wrong, type] = await set({ dataId: 'msr:NOTHING' }, { dataId: 'port:0x80', accessType: 'sometimes' });
    assert.deepEqual([wrong?.verified, type?.verified], [false, false]);
    assert.match(type?.message ?? '', /'sometimes' is none of/);
  });

  it('stop in front of kinds of instructions, by argument and condition', async () => {
    const [good, bad] = await setKinds({ name: '@vmwrite GUEST_RIP', condition: 'hits == 2' }, { name: '@vmwrote' });
    assert.deepEqual([good?.verified, good?.message, bad?.verified], [true, 'VMWRITE GUEST_RIP', false]);
    const { body } = await go();
    assert.equal(body.reason, 'breakpoint');
    // One operand of VMWRITE is the encoding of GUEST_RIP (SDM Vol. 3D, appendix B).
    const [line] = (
      await client.request('disassemble', { memoryReference: await client.value('rip'), instructionCount: 1 })
    ).body.instructions;
    assert.match(line?.instruction ?? '', /^vmwrite/);
    assert.notEqual((await go()).event, undefined);
  });

  it('stop at the first instruction of another address space, and log instead of stopping', async () => {
    await setKinds({ name: '@address-space', condition: 'log: CR3 {old} to {new}' }, { name: '@write cr4' });
    const { body } = await go();
    assert.equal(body.reason, 'breakpoint');
    await setKinds({ name: '@address-space', condition: 'log: CR3 {old} to {new}' });
    while ((await go()).event !== 'terminated');
    const logged = client.received.flatMap(({ event, body }) => {
      const output = body && 'output' in body ? String(body.output) : '';
      return event === 'output' && output.startsWith('CR3 ') ? [output] : [];
    });
    assert.match(logged[0] ?? '', /^CR3 0 to 0x[0-9a-f]+\n$/);
  });

  it('know the parts of the exit qualification in conditions', async () => {
    // The sample's guest writes CR4 once where the VMM intercepts it (guest.c, use_control_registers).
    const condition = 'qualification.control_register == 4 && qualification.port == 0 && vpid == 0';
    const { body } = await client.request('setExceptionBreakpoints', {
      filters: [],
      filterOptions: [{ filterId: 'exits:', condition }],
    });
    assert.deepEqual(
      (body as { breakpoints: Answer[] }).breakpoints.map(({ verified }) => verified),
      [true],
    );
    const stopped = await go();
    assert.equal(stopped.body.description, 'VM exit: CR access');
    assert.equal(await client.value('qualification.control_register'), '4');
    assert.equal(await client.value('qualification.data_write'), '0');
  });

  it('are told with the VM exit that a filter stops for, in both directions', async () => {
    await set({ dataId: 'vmcs:EXIT_REASON', accessType: 'change' }, { dataId: 'vmcs:GUEST_RIP', accessType: 'change' });
    await client.request('setExceptionBreakpoints', { filters: ['exit:EPT_VIOLATION'] });
    let stopped = await go();
    while (stopped.body.reason !== 'exception') stopped = await go();
    assert.equal(stopped.body.description, 'VM exit: EPT violation');
    assert.equal(stopped.body.hitBreakpointIds?.length, 2);
    // 30h is the basic exit reason of EPT violations (SDM Vol. 3D, appendix C).
    assert.match(stopped.body.text ?? '', /\nEXIT_REASON written: 0x\w+ → 0x30, by the VM exit to /);
    const { text } = stopped.body;
    await client.run('stepIn', { threadId: 1, granularity: 'instruction' });
    const back = await client.run('reverseContinue');
    assert.deepEqual([back.body.reason, back.body.text], ['exception', text]);
  });

  it('stop backwards, too, where they stopped forwards', async () => {
    await setKinds({ name: '@address-space' }, { name: '@vmwrite GUEST_RIP' });
    await set(
      { dataId: 'linear:0x11c008/4', accessType: 'change' },
      { dataId: 'vmcs:EXIT_REASON', accessType: 'change' },
    );
    const forwards: string[] = [];
    const place = async ({ body }: Stopped): Promise<string> =>
      `${await client.value('instructions')} ${body.reason} ${body.text}`;
    for (let i = 0; i < 8; i++) forwards.push(await place(await go()));
    const backwards: string[] = [];
    for (let i = 0; i < 7; i++) backwards.push(await place(await client.run('reverseContinue')));
    assert.deepEqual(backwards.reverse(), forwards.slice(0, -1));
  });

  it('are on what the Variables view shows: variables of the program, registers, VMCS fields', async () => {
    await setKinds({ name: 'handle_cpuid' });
    await go();
    const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
    const { scopes } = (await client.request('scopes', { frameId: stackFrames[0]?.id })).body;
    const ids = new Map<string, string | null>();
    for (const { name: scope, variablesReference } of scopes) {
      const { variables } = (await client.request('variables', { variablesReference })).body;
      for (const { name } of variables.slice(0, 40)) {
        ids.set(`${scope} ${name}`, (await info({ variablesReference, name })).dataId);
      }
    }
    const globals = 'Globals of the source file';
    // Addresses and sizes as nm gives them of first-vmm.elf; the local variable is in registers.
    assert.equal(ids.get(`${globals} exit_counts`), 'vmm:0x11c020/280');
    assert.equal(ids.get(`${globals} exit_total`), 'vmm:0x11c008/4');
    assert.equal(ids.get('Locals leaf'), null);
    assert.equal(ids.get('General rax'), 'register:rax');
    await setKinds();
    await set({ dataId: ids.get(`${globals} exit_total`), accessType: 'write' });
    assert.match((await go()).body.text ?? '', /^vmm:0x11c008 written: \d+ → \d+, by 0x10180e /);
  });
});
