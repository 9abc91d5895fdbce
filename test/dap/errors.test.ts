import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeBzImage } from '../../sim-core/loaders/test-images.ts';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { elf64, FIRST_VMM, firstVmm } from './sample.ts';

const EM_ARM = 40;

describe('what clients and launch configurations can do wrong', () => {
  const adapter = useAdapter();
  let client: PlainClient;
  const pathOf = useFolder();

  async function connect(): Promise<void> {
    client = await adapter.connect();
    await client.request('initialize', { adapterID: 'vmxray' });
  }

  /** The request fails with this message. */
  async function fails(command: string, args: unknown, message: RegExp): Promise<void> {
    const response = await client.request(command, args as object);
    assert.equal(response.success, false, `${command} succeeded`);
    assert.match(response.message ?? '', message);
    assert.equal(typeof response.body?.error?.id, 'number');
  }

  /** The adapter that was sent all this still launches the sample. */
  async function livesOn(): Promise<void> {
    const response = await client.request('launch', firstVmm());
    assert.equal(response.success, true, response.message);
  }

  const file = (name: string, bytes: Uint8Array): string => {
    const path = pathOf(name);
    writeFileSync(path, bytes);
    return path;
  };

  describe('launch', () => {
    before(connect);

    const check = (name: string, launch: () => unknown, message: RegExp): void => {
      it(`${name}: ${message.source}`, async () => {
        await fails('launch', launch(), message);
      });
    };
    check('no program', () => ({}), /no 'program'/);
    check('a program that is a number', () => ({ program: 5 }), /'arguments.program' is not a string/);
    check('a program that is not there', () => ({ program: '/none.elf' }), /'\/none.elf' cannot be read: there is no/);
    check('a folder', () => ({ program: pathOf() }), /cannot be read: it is a folder/);
    check('an empty file', () => ({ program: file('empty.elf', new Uint8Array()) }), /cannot be booted:.*empty/s);
    check(
      'a truncated ELF',
      () => {
        const whole = readFileSync(join(FIRST_VMM, 'first-vmm.elf'));
        return { program: file('cut.elf', whole.subarray(0, 0x1100)) };
      },
      /cannot be booted:/,
    );
    const kernel = makeBzImage({ code: Uint8Array.of(0xf4), address: 0x100_0000, initSize: 0x20_0000 });
    check(
      'a truncated Linux kernel',
      () => ({ program: file('short', kernel.subarray(0, 2000)) }),
      /'short' cannot be booted: .*2000/,
    );
    check(
      'an initial RAM file system that is larger than RAM',
      () => ({
        program: file('kernel', kernel),
        modules: [file('initrd', new Uint8Array(17 << 20))],
        machine: { memory: '32M' },
      }),
      /'kernel' cannot be booted: .*initrd: 17825792 bytes do not fit between/,
    );
    check('an ELF for ARM', () => ({ program: file('arm.elf', elf64([0], EM_ARM)) }), /cannot be booted:.*ARM/s);
    check(
      'a guest without symbols',
      () => firstVmm({ guests: [{ name: 'guest', program: file('text', Buffer.from('no ELF')) }] }),
      /cannot be used for symbols: it is not an ELF file/,
    );
    check(
      'a guest without a program',
      () => ({ ...firstVmm(), guests: [{ name: 'guest' }] }),
      /'guests\[\]\.program' is missing/,
    );
    check(
      'a module that is not there',
      () => firstVmm({ modules: ['/none'] }),
      /The boot module '\/none' cannot be read/,
    );
    check('too little memory', () => firstVmm({ machine: { memory: '5' } }), /'machine.memory' is not right/);
    check('memory in words', () => firstVmm({ machine: { memory: 'lots' } }), /'lots' is no size such as 256M/);
    check('17 processors', () => firstVmm({ machine: { cpus: 17 } }), /17 processors; there may be 1 to 16/);
    check(
      'an unknown format',
      () => ({ ...firstVmm(), format: 'floppy' }),
      /'format' is not right: 'floppy' is not one of auto, multiboot1/,
    );
    check(
      'an unknown stopOn',
      () => ({ ...firstVmm(), stopOn: 'moon' }),
      /'stopOn' is not right: 'moon' is not one of/,
    );
    check(
      'an unknown VM exit',
      () => firstVmm({ breakOnVmExit: ['EPT_VIOLATON', 'EPT'] }),
      /'EPT_VIOLATON' in breakOnVmExit is no VM-exit reason/,
    );
    check(
      'part of the name of a VM exit',
      () => firstVmm({ breakOnVmExit: ['EPT'] }),
      /Did you mean EPT_VIOLATION, EPT_MISCONFIGURATION/,
    );
    check(
      'a load address in words',
      () => firstVmm({ guests: [{ name: 'g', program: join(FIRST_VMM, 'guest.elf'), loadAddress: 'high' }] }),
      /'high' is no address/,
    );

    it('works after all of these, once', async () => {
      await livesOn();
      await fails('launch', firstVmm(), /launched already/);
    });
  });

  describe('before launch', () => {
    before(connect);

    const commands = [
      'threads',
      'configurationDone',
      'restart',
      'terminate',
      'loadedSources',
      'modules',
      'vmxray/vmcs',
    ];
    for (const command of commands) {
      it(`${command} says that launch must come first`, async () => {
        await fails(command, {}, /needs a running session. Send 'launch' first/);
      });
    }
    it('so do requests with arguments', async () => {
      await fails('stackTrace', { threadId: 1 }, /needs a running session/);
      await fails('setBreakpoints', { source: { path: '/a.c' }, breakpoints: [] }, /needs a running session/);
      await fails('evaluate', { expression: '1' }, /needs a running session/);
      await fails('pause', { threadId: 1 }, /needs a running session/);
      await livesOn();
    });
  });

  describe('after launch', () => {
    before(async () => {
      await connect();
      const stop = client.event('stopped');
      await client.request('launch', firstVmm());
      await client.request('configurationDone');
      await stop;
    });

    const check = (command: string, args: unknown, message: RegExp): void => {
      it(`${command} ${JSON.stringify(args)}: ${message.source}`, async () => {
        await fails(command, args, message);
        const threads = await client.request('threads');
        assert.equal(threads.body.threads.length, 1);
      });
    };
    check('stackTrace', { threadId: 7 }, /There is no processor 7/);
    check('stackTrace', {}, /'threadId' is missing/);
    check('stackTrace', { threadId: 'one' }, /'threadId' is not a number/);
    check('continue', { threadId: 2 }, /no processor 2/);
    check('next', { threadId: -1 }, /no processor -1/);
    check('stepIn', { threadId: 99 }, /no processor 99/);
    check('pause', { threadId: 99 }, /no processor 99/);
    check('scopes', { frameId: 12345 }, /Frame 12345 is of an earlier stop, or never was/);
    check('variables', { variablesReference: 12345 }, /reference 12345 is of an earlier stop/);
    check('setVariable', { variablesReference: 1, name: 'rax' }, /'value' is missing/);
    check('setBreakpoints', {}, /'source' is missing/);
    check('setBreakpoints', { source: {}, breakpoints: [] }, /'source.path' is missing/);
    check('setBreakpoints', { source: { path: '/a.c' }, breakpoints: [{}] }, /'breakpoints\[\].line' is missing/);
    check('setBreakpoints', { source: { path: '/a.c' }, breakpoints: 'all' }, /'breakpoints' is not an array/);
    check('setExceptionBreakpoints', { filters: ['nonsense'] }, /no exception filter 'nonsense'/);
    check('readMemory', { memoryReference: 'nowhere', count: 4 }, /'nowhere' is not a memory reference/);
    check('writeMemory', { memoryReference: '0x100000', data: '%%%' }, /'data' is not base64/);
    check('writeMemory', { memoryReference: 'hpa:0xfffffffff000', data: 'AAAA' }, /Nothing can be read/);
    check('evaluate', { expression: '1 +' }, /A value is expected, but the end is there \(at column 4\)/);
    check('evaluate', { expression: 'vmcs.GUEST_RAP' }, /'GUEST_RAP' is no VMCS field/);
    check('evaluate', { expression: 'vmcs.GUEST_RIP' }, /no current VMCS/);
    check('exceptionInfo', { threadId: 1 }, /did not stop for a VM exit/);
    check('vmxray/checkVmEntry', {}, /no current VMCS/);
    check('vmxray/setVmcsField', { name: 'GUEST_RAP', value: '1' }, /is no VMCS field/);
    check('vmxray/translate', { address: 'x', space: 'linear' }, /'address' is no number/);
    check('vmxray/translate', { address: '0x0', space: 'outer' }, /'space' is not linear/);
    check('goto', { threadId: 1, targetId: 3 }, /there is no target 3/);
    check('source', { sourceReference: 5 }, /no text for this source/);
    check('setThreadName', { threadId: 1 }, /'setThreadName' is not known/);
    check('vmxray/travel', { threadId: 1, to: 'yesterday' }, /no instruction number/);
    check('vmxray/travel', { threadId: 1, to: '99' }, /Instruction 99 is not in the history/);
    check('vmxray/lastChange', { threadId: 1, expression: 'rax +' }, /at column/);
    check('fly', {}, /'fly' is not known/);
    check('constructor', {}, /'constructor' is not known/);
    check('threads', [1], /its arguments are not an object/);

    it('marks a breakpoint whose condition cannot be understood as not verified', async () => {
      const source = { path: join(FIRST_VMM, 'exits.c') };
      const answer = await client.request('setBreakpoints', { source, breakpoints: [{ line: 60, condition: '1 +' }] });
      const [breakpoint] = answer.body.breakpoints;
      assert.equal(breakpoint?.verified, false);
      assert.match(breakpoint?.message ?? '', /A value is expected/);
    });

    it('says why a breakpoint in a file of no program is not verified', async () => {
      const answer = await client.request('setBreakpoints', {
        source: { path: '/elsewhere/other.c' },
        breakpoints: [{ line: 1 }],
      });
      assert.equal(answer.body.breakpoints[0]?.verified, false);
      assert.match(answer.body.breakpoints[0]?.message ?? '', /No program here was built from other.c/);
    });

    it('knows references of an earlier stop as such', async () => {
      const stack = await client.request('stackTrace', { threadId: 1 });
      const frameId = stack.body.stackFrames[0]?.id;
      const scopes = await client.request('scopes', { frameId });
      const variablesReference = scopes.body.scopes[0]?.variablesReference;
      await client.run('stepIn', { threadId: 1, granularity: 'instruction' });
      await fails('scopes', { frameId }, /of an earlier stop/);
      await fails('variables', { variablesReference }, /of an earlier stop/);
    });
  });

  describe('bytes that are no message', () => {
    before(connect);

    it('are skipped, and the next message is answered', async () => {
      const complaint = client.event('output');
      client.raw('Content-Length: 7\r\n\r\nnot{json');
      assert.match((await complaint).body.output, /not JSON/);
      client.raw('Content-Type: nothing\r\n\r\n');
      client.send({ seq: 50, type: 'request' });
      client.send({ type: 'response' });
      client.send([1, 2, 3]);
      await livesOn();
    });
  });
});
