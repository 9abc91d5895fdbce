// Stops in front of kinds of instructions, and stops that a run backwards finds again. Expected: the addresses that
// objdump gives for the mnemonics, and the place at which the run forwards has stopped.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { directAssignment, firstVmm, ROOT } from './sample.ts';

const example = (name: string): string => join(ROOT, 'examples', name, `${name}.elf`);
const THREAD = { threadId: 1 };

/** Addresses of the instructions of a program with these mnemonics. */
function addressesOf(program: string, mnemonic: RegExp): Set<bigint> {
  const lines = execFileSync('objdump', ['-d', '-M', 'intel', program], { encoding: 'utf8' }).split('\n');
  const found = lines.flatMap((line) => {
    const [address = '', , text = ''] = line.split('\t');
    return mnemonic.test(text) ? [BigInt(`0x${address.trim().replace(':', '')}`)] : [];
  });
  return new Set(found);
}

describe('stops of every kind, forwards and backwards', function () {
  this.timeout(60_000);
  const adapter = useAdapter();
  let client: PlainClient;

  const numberOf = async (expression: string): Promise<bigint> => BigInt(await client.value(expression));
  const place = async () => ({ instructions: await numberOf('instructions'), rip: await numberOf('rip') });
  async function breakOn(name: string, more: { condition?: string } = {}): Promise<void> {
    const { body } = await client.request('setFunctionBreakpoints', { breakpoints: [{ name, ...more }] });
    assert.deepEqual(
      (body as DebugProtocol.SetFunctionBreakpointsResponse['body']).breakpoints.map(({ verified }) => verified),
      [true],
    );
  }

  const KINDS = [
    { name: '@invept', mnemonic: /^invept/ },
    { name: '@invvpid', mnemonic: /^invvpid/ },
    { name: '@vmwrite', mnemonic: /^vmwrite/ },
    { name: '@write cr3', mnemonic: /^mov +cr3,/ },
    { name: '@out', mnemonic: /^out/ },
  ] as const;

  for (const { name, mnemonic } of KINDS) {
    it(`${name}: in front of such an instruction, by condition, and backwards`, async () => {
      const known = addressesOf(firstVmm().program, mnemonic);
      client = await adapter.launch(firstVmm({ stopOn: 'entry' }));
      await client.run('configurationDone');
      await breakOn(name);
      assert.equal((await client.run('continue')).body.reason, 'breakpoint');
      const first = await place();
      assert.ok(known.has(first.rip), `0x${first.rip.toString(16)} is no ${name}`);
      await client.run('stepIn', { ...THREAD, granularity: 'instruction' });
      await client.run('stepIn', { ...THREAD, granularity: 'instruction' });
      assert.equal((await client.run('reverseContinue')).body.reason, 'breakpoint');
      assert.deepEqual(await place(), first);
      await breakOn(name, { condition: `instructions == ${first.instructions}` });
      await client.run('vmxray/travel', { ...THREAD, to: 'start' });
      assert.equal((await client.run('continue')).body.reason, 'breakpoint');
      assert.deepEqual(await place(), first);
    });
  }

  /** What holds at the first stop, as examples/ say: error 8 is for the host state, 00:01.0 is the device. */
  const FILTERS: readonly { readonly filter: string; readonly holds: string; readonly args: LaunchArguments }[] = [
    {
      filter: 'vmEntryFailure',
      holds: 'error == 8',
      args: { program: example('broken-entry'), modules: [join(ROOT, 'examples/first-vmm/guest.elf')], stopOn: 'none' },
    },
    {
      filter: 'staleTranslation',
      holds: 'page == 0x8000000000',
      args: { program: example('stale-tlb'), stopOn: 'none' },
    },
    {
      filter: 'dmaFault',
      holds: 'requester == 8 && fault > 0',
      args: directAssignment({ stopOn: 'none' }),
    },
  ];
  for (const { filter, holds, args } of FILTERS) {
    it(`${filter}: a run backwards finds it where the run forwards has`, async () => {
      client = await adapter.launch(args);
      await client.request('setExceptionBreakpoints', { filters: [filter] });
      assert.equal((await client.run('configurationDone')).body.reason, 'exception');
      const found = await place();
      const information = (await client.request('exceptionInfo', THREAD)).body;
      for (let i = 0; i < 5; i++) await client.run('stepIn', { ...THREAD, granularity: 'instruction' });
      assert.notDeepEqual(await place(), found);
      assert.equal((await client.run('reverseContinue')).body.reason, 'exception');
      assert.deepEqual(await place(), found);
      assert.deepEqual((await client.request('exceptionInfo', THREAD)).body, information);
    });

    it(`${filter}: by condition, and as a log message`, async () => {
      const set = async (condition: string): Promise<void> => {
        const filterOptions = [{ filterId: filter, condition }];
        const { body } = await client.request('setExceptionBreakpoints', { filters: [], filterOptions });
        const [answer] = (body as DebugProtocol.SetFunctionBreakpointsResponse['body']).breakpoints;
        assert.ok(answer?.verified, answer?.message);
      };
      client = await adapter.launch({ ...args, stopAtEnd: 'always' });
      await set(`${holds} && hits == 1`);
      assert.equal((await client.run('configurationDone')).body.reason, 'exception');
      const found = await place();
      await client.run('vmxray/travel', { ...THREAD, to: 'start' });
      await set(`!(${holds}) && hits == 1`);
      await client.run('continue');
      assert.notDeepEqual(await place(), found);
      await client.run('vmxray/travel', { ...THREAD, to: 'start' });
      const told = client.received.length;
      await set(`${holds} && hits == 1 log: filter at {instructions}`);
      await client.run('continue');
      assert.notDeepEqual(await place(), found);
      const logged = client.received.slice(told).filter(({ event, body }) => {
        const output = event === 'output' && body && 'output' in body ? String(body.output) : '';
        return output === `filter at 0x${found.instructions.toString(16)}\n`;
      });
      assert.equal(logged.length, 1);
    });
  }
});
