import assert from 'node:assert/strict';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useAdapter } from './adapter.ts';
import type { EventBody, Message, PlainClient } from './plain-client.ts';
import { directAssignment, firstVmm } from './sample.ts';

/*
 * Every kind of place, with every access: a data breakpoint stops, and its condition, hit count and log message count
 * the same accesses, and going back leads to the same ones. Which accesses are the right ones is held against steps in
 * sim-core/machine/watching/watch.test.ts and watch-truth.test.ts.
 */

const ACCESSES = ['read', 'write', 'change'] as const;
type Access = (typeof ACCESSES)[number];

interface Row {
  readonly place: string;
  /** The accesses that happen in the sample, known from its source. */
  readonly happen: readonly Access[];
  readonly sample?: typeof firstVmm;
}

const ALL = ACCESSES;
const ROWS: readonly Row[] = [
  // exit_total++ in exits.c, and what the VMM prints of it.
  { place: 'linear:0x11c008/4', happen: ALL },
  { place: 'vmm:0x11c008/4', happen: ALL },
  { place: 'hpa:0x11c008/4', happen: ALL },
  // The guest's counter of #GPs, in guest.c; guest-physical memory from 0 on is the guest's.
  { place: 'guest:0x40008110/4', happen: ALL },
  { place: 'gpa:0x0/0x200000', happen: ALL },
  { place: 'vmcs:GUEST_RIP', happen: ALL },
  { place: 'vmcs:EXIT_REASON', happen: ['read', 'change', 'write'] },
  { place: 'msr:IA32_EFER', happen: ALL },
  { place: 'port:0x3f8', happen: ['write', 'change'] },
  { place: 'register:rsp', happen: ALL },
  { place: 'register:vmm.rbx', happen: ALL },
  { place: 'register:cr3', happen: ALL },
  { place: 'register:guest.cr0', happen: ALL },
  { place: 'iova:00:01.0:0x0/0x100000000', happen: ALL, sample: directAssignment },
];

type Stopped = Message<EventBody<'stopped'>>;

describe('data breakpoints of every kind', () => {
  const adapter = useAdapter();
  let client: PlainClient;

  async function launch(launchArguments: LaunchArguments): Promise<void> {
    client = await adapter.launch(launchArguments);
    await client.run('configurationDone', {});
  }
  const set = async (...breakpoints: object[]): Promise<void> => {
    const { body } = await client.request('setDataBreakpoints', { breakpoints });
    for (const { verified, message } of (body as { breakpoints: { verified: boolean; message?: string }[] })
      .breakpoints) {
      assert.ok(verified, message);
    }
  };
  /** Where the machine is, and what it says of it. */
  const place = async ({ body }: Stopped): Promise<string> => `${await client.value('instructions')} ${body.text}`;
  const next = async (): Promise<string | undefined> => {
    const stopped = await client.run('continue');
    return stopped.event === 'terminated' ? undefined : place(stopped);
  };
  async function toStart(): Promise<void> {
    await set();
    assert.notEqual((await client.run('reverseContinue')).event, 'terminated');
  }

  it('on page-table entries wait for paging, and on registers that nothing names are refused', async () => {
    await launch(firstVmm({ stopOn: 'entry' }));
    const breakpoints = ['pte:vmm:0x100000', 'epte:0x1000', 'pte:gpa:0x1000', 'register:rip'].map((dataId) => ({
      dataId,
    }));
    const { body } = await client.request('setDataBreakpoints', { breakpoints });
    assert.deepEqual(
      (body as { breakpoints: { verified: boolean; message?: string }[] }).breakpoints.map(({ message }) => message),
      [
        'No page-table entry leads to 0x100000 of the VMM now: it waits for one.',
        'No EPT translates guest-physical addresses now: it waits for that.',
        'A page-table entry is named by the linear address that it maps.',
        'rip cannot be watched: it changes without instructions that name it.',
      ],
    );
  });

  for (const { place: dataId, happen, sample = firstVmm } of ROWS) {
    for (const accessType of ACCESSES) {
      it(`${dataId}: ${accessType}`, async function () {
        this.timeout(60_000);
        await launch(sample({ stopOn: 'entry' }));
        await set({ dataId, accessType });
        const first = await next();
        assert.equal(first !== undefined, happen.includes(accessType), first);
        if (first === undefined) return;
        const second = await next();
        if (second === undefined) return;
        assert.equal(await place(await client.run('reverseContinue')), first, 'backwards');
        await toStart();
        await set({ dataId, accessType, condition: 'hits == 2' });
        assert.equal(await next(), second, 'condition');
        await toStart();
        const told = client.received.length;
        await set(
          { dataId, accessType, condition: 'log: it is {instructions}' },
          { dataId, accessType, hitCondition: '2' },
        );
        assert.equal(await next(), second, 'hit count');
        const logged = client.received.slice(told).flatMap(({ event, body }) => {
          const output = body && 'output' in body ? String(body.output) : '';
          return event === 'output' && output.startsWith('it is ') ? [output.slice(6).trim()] : [];
        });
        const at = (text: string): string => text.split(' ')[0] ?? '';
        assert.deepEqual([...new Set(logged)], [...new Set([at(first), at(second)])], 'log message');
      });
    }
  }
});
