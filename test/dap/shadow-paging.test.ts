// The sample's VMM, asked for its own counts of VM exits. Expected: what it prints under Bochs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT } from '../../sim-core/vmx/exit-reasons.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { ROOT } from './sample.ts';

const FOLDER = join(ROOT, 'examples/shadow-paging');
const PRINTED = readFileSync(join(FOLDER, 'expected-output.txt'), 'utf8');
const REASONS = {
  '#PF': EXIT.EXCEPTION_OR_NMI,
  CR3: EXIT.CR_ACCESS,
  INVLPG: EXIT.INVLPG,
  'I/O': EXIT.IO_INSTRUCTION,
  HLT: EXIT.HLT,
} as const;

/** The counts of a run as the line 'VM exits by …: 99 #PF, …' has them. */
function printed(by: string): Record<string, number> {
  const [, line = ''] = new RegExp(`^VM exits by ${by}: (.*)$`, 'm').exec(PRINTED) ?? [];
  return Object.fromEntries([...line.matchAll(/(\d+) ([^,]+)/g)].map(([, count, name = '']) => [name, Number(count)]));
}

describe('sample shadow-paging', () => {
  const adapter = useAdapter();
  let client: PlainClient;
  before(async () => {
    const guest = join(FOLDER, 'guest.elf');
    client = await adapter.launch({
      program: join(FOLDER, 'shadow-paging.elf'),
      modules: [guest],
      guests: [{ name: 'guest', program: guest }],
      stopOn: 'none',
    });
    const breakpoints = [{ name: 'dirty_pages' }, { name: 'print_counts' }];
    await client.request('setFunctionBreakpoints', { breakpoints });
  });

  const frames = async () => (await client.request('stackTrace', { threadId: 1 })).body.stackFrames;

  it('stops in the guest in both runs, by shadow page tables and by EPT', async () => {
    for (const [command, eptp] of [
      ['configurationDone', /^0(?:x0)?$/],
      ['continue', /^0x\w*[1-9a-f]\w*$/],
    ] as const) {
      assert.equal((await client.run(command)).body.reason, 'breakpoint');
      const stackFrames = await frames();
      assert.deepEqual(
        stackFrames.slice(0, 3).map(({ name }) => name),
        ['dirty_pages', 'guest_main', 'guest_start'],
      );
      assert.match(await client.value('eptp'), eptp);
      assert.equal(Number(await client.value('page_faults', stackFrames[0]?.id)), 8);
    }
  });

  it('has both counts at its end', async () => {
    assert.equal((await client.run('continue')).body.reason, 'breakpoint');
    const frame = (await frames())[0]?.id;
    for (const [run, by] of ['shadow page tables', 'EPT'].entries()) {
      const counts: Record<string, number> = {};
      for (const [name, reason] of Object.entries(REASONS)) {
        counts[name] = Number(await client.value(`exit_counts[${run}][${reason}]`, frame));
      }
      assert.deepEqual(counts, printed(by), by);
    }
    assert.match(
      PRINTED,
      new RegExp(`^Of the #PF, ${await client.value('reflected', frame)} were the guest's own$`, 'm'),
    );
  });
});
