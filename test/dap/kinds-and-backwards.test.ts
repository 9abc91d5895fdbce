// Stops in front of kinds of instructions, and stops that a run backwards finds again. Expected: the addresses that
// objdump gives for the mnemonics, and the place at which the run forwards has stopped.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { listen, type TcpAdapter } from '../../debug-adapter/connection/tcp.ts';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { PlainClient } from './plain-client.ts';
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
  let adapter: TcpAdapter;
  let client: PlainClient;

  before(async () => {
    adapter = await listen(0);
  });
  after(() => adapter.close());
  afterEach(() => client.close());

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
      client = await PlainClient.launch(adapter.port, firstVmm({ stopOn: 'entry' }));
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

  const FILTERS: readonly { readonly filter: string; readonly args: LaunchArguments }[] = [
    {
      filter: 'vmEntryFailure',
      args: { program: example('broken-entry'), modules: [join(ROOT, 'examples/first-vmm/guest.elf')], stopOn: 'none' },
    },
    { filter: 'staleTranslation', args: { program: example('stale-tlb'), stopOn: 'none' } },
    {
      filter: 'dmaFault',
      args: directAssignment({ stopOn: 'none' }),
    },
  ];
  for (const { filter, args } of FILTERS) {
    it(`${filter}: a run backwards finds it where the run forwards has`, async () => {
      client = await PlainClient.launch(adapter.port, args);
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
  }
});
