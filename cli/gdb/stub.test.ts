import assert from 'node:assert/strict';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { Debuggee } from './debuggee.ts';
import { GDB_REGISTERS } from './registers.ts';
import { GdbStub } from './stub.ts';

/** 32-bit code at 1 MiB: mov eax, 5; inc eax; mov [200000h], eax; jmp to itself. */
const CODE = [0xb8, 5, 0, 0, 0, 0x40, 0xa3, 0, 0, 0x20, 0, 0xeb, 0xfe];
const START = 0x10_0000;

describe('GDB stub', () => {
  let debuggee: Debuggee;
  let stub: GdbStub;
  beforeEach(() => {
    const machine = createMachine({ memory: 4 * 2 ** 20 });
    const image = Uint8Array.from(CODE);
    machine.boot({ name: 'code', image, commandLine: '', modules: [], format: 'flat' });
    debuggee = new Debuggee(machine, () => {});
    stub = new GdbStub(debuggee);
  });

  function answer(packet: string): string {
    const result = stub.answer(packet);
    assert.equal(result.kind, 'reply', packet);
    return result.kind === 'reply' ? result.data : '';
  }
  async function resume(packet: string): Promise<string> {
    const result = stub.answer(packet);
    assert.equal(result.kind, 'resume', packet);
    return result.kind === 'resume' ? (await debuggee.resume(result.action)).packet : '';
  }
  /** Interrupts so many times what runs. */
  async function interrupted(running: Promise<string>, times: number, after = 0): Promise<string> {
    for (let time = 0; time < times; time++) {
      await new Promise((resolve) => setTimeout(resolve, after));
      debuggee.interrupted = true;
    }
    return running;
  }
  const number = (name: string): string => GDB_REGISTERS.findIndex((each) => each.name === name).toString(16);
  const register = (name: string): string => answer(`p${number(name)}`);

  it('answers packets that it does not know with nothing', () => {
    for (const packet of ['vMustReplyEmpty', 'qNothing', 'vFile:open:', '!', 'Z9,1,1', '']) {
      assert.match(answer(packet), packet === 'Z9,1,1' ? /^E[0-9a-f]{2}$/ : /^$/, packet);
    }
  });

  it('answers packets that it cannot make sense of with an error', () => {
    const wrong = [
      'mzz,4',
      'm',
      'M0,4:0102',
      'X0,4:12',
      'pq',
      'pffff',
      'P0',
      'P0=12',
      'G00',
      'Hg99',
      'T99',
      'vCont;x',
      'Z0',
    ];
    for (const packet of wrong) assert.match(answer(packet), /^E[0-9a-f]{2}$/, packet);
  });

  it('numbers registers as the description lists them, with the core in the order of gdb', () => {
    assert.deepEqual(
      [0, 7, 16, 17, 18, 23, 24, 32, 39, 40, 56].map((each) => GDB_REGISTERS[each]?.name),
      ['rax', 'rsp', 'rip', 'eflags', 'cs', 'gs', 'st0', 'fctrl', 'fop', 'xmm0', 'mxcsr'],
    );
    const names = GDB_REGISTERS.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const name of ['cr0', 'cr4', 'efer', 'fs_base', 'gdtr_base', 'vmcs_guest_rip'])
      assert.ok(names.includes(name), name);
  });

  it('gives the description in parts', () => {
    const whole = answer('qXfer:features:read:target.xml:0,fffff');
    const first = answer('qXfer:features:read:target.xml:0,10');
    assert.equal(first, `m${whole.slice(1, 17)}`);
    assert.equal(answer(`qXfer:features:read:target.xml:${(whole.length - 1).toString(16)},10`), 'l');
    assert.equal(answer('qXfer:features:read:other.xml:0,10'), 'E00');
  });

  it('reads and writes registers and memory', () => {
    assert.equal(register('rip'), '0000100000000000');
    assert.equal(answer(`P${number('rbx')}=efcdab8967452301`), 'OK');
    assert.equal(register('rbx'), 'efcdab8967452301');
    assert.equal(register('vmcs_guest_rip'), 'xx'.repeat(8));
    assert.match(answer(`P${number('vmcs_guest_rip')}=0000000000000000`), /^E/);
    assert.match(answer(`P${number('cs')}=08000000`), /^E/);
    assert.equal(answer(`m${START.toString(16)},5`), 'b805000000');
    assert.equal(answer('M200000,2:a55a'), 'OK');
    assert.equal(answer('X200002,2:\x01\x02'), 'OK');
    assert.equal(answer('m200000,4'), 'a55a0102');
    // RAM ends at 4 MiB: what there is, then nothing.
    assert.equal(answer('m3ffffe,4'), '0000');
    assert.match(answer('m400000,4'), /^E/);
    assert.match(answer('M3ffffe,4:01020304'), /^E/);
  });

  it('takes all registers at once', () => {
    const all = answer('g');
    assert.equal(answer(`G0100000000000000${all.slice(16)}`), 'OK');
    assert.equal(register('rax'), '0100000000000000');
    // What can be changed at all takes any bits that its width has; then all is as before.
    const set = {
      st3: '0123456789abcdef3f40',
      fctrl: '7f020000',
      fop: 'cd050000',
      ymm7h: '00112233445566778899aabbccddeeff',
    };
    for (const [name, value] of Object.entries(set)) {
      const before = register(name);
      assert.notEqual(value, before);
      assert.equal(answer(`P${number(name)}=${value}`), 'OK', name);
      assert.equal(register(name), value, name);
      const changed = answer('g');
      assert.equal(answer(`P${number(name)}=${before}`), 'OK', name);
      assert.equal(answer(`G${changed}`), 'OK');
      assert.equal(register(name), value, name);
    }
  });

  it('steps, over a range too, and back to the beginning', async () => {
    assert.equal(await resume('vCont;s:1'), 'T05thread:1;');
    assert.equal(register('rip'), '0500100000000000');
    assert.equal(await resume('vCont;r100005,10000b:1'), 'T05thread:1;');
    assert.equal(register('rip'), '0b00100000000000');
    assert.equal(answer('m200000,4'), '06000000');
    assert.equal(await resume('bs'), 'T05thread:1;');
    assert.equal(register('rip'), '0600100000000000');
    assert.equal(answer('m200000,4'), '00000000');
    assert.equal(await resume('bc'), 'T05replaylog:begin;thread:1;');
    assert.equal(register('rip'), '0000100000000000');
    assert.equal(await resume('bs'), 'T05replaylog:begin;thread:1;');
  });

  it('stops at breakpoints forwards and backwards', async () => {
    assert.equal(answer('Z0,100006,1'), 'OK');
    assert.equal(await resume('vCont;c'), 'T05swbreak:;thread:1;');
    assert.equal(await resume('s'), 'T05thread:1;');
    assert.equal(await resume('bc'), 'T05swbreak:;thread:1;');
    assert.equal(register('rip'), '0600100000000000');
    assert.equal(answer('z0,100006,1'), 'OK');
    assert.equal(await resume('bc'), 'T05replaylog:begin;thread:1;');
  });

  it('stops behind a watched write, and backwards in front of it', async () => {
    assert.equal(answer('Z2,200000,4'), 'OK');
    assert.equal(await resume('c'), 'T05watch:200000;thread:1;');
    assert.equal(register('rip'), '0b00100000000000');
    assert.equal(await resume('bc'), 'T05watch:200000;thread:1;');
    assert.equal(register('rip'), '0600100000000000');
    assert.equal(answer('z2,200000,4'), 'OK');
  });

  it('is interrupted while the machine runs', async () => {
    assert.equal(await interrupted(resume('vCont;c'), 1, 20), 'T02thread:1;');
    assert.equal(register('rip'), '0b00100000000000');
  });

  it('is where it was when it is interrupted on the way back, and on the way when it is interrupted again', async () => {
    await interrupted(resume('vCont;c'), 1, 50);
    const { position } = debuggee.history;
    assert.equal(await interrupted(resume('bc'), 1), 'T02thread:1;');
    assert.deepEqual(debuggee.history.position, position);
    assert.equal(await interrupted(resume('bc'), 2), 'T02thread:1;');
    assert.ok(debuggee.history.isInPast);
    debuggee.history.goTo(position);
    assert.equal(await resume('bc'), 'T05replaylog:begin;thread:1;');
  });

  it('answers monitor commands, and says what is wrong with them', () => {
    const monitor = (line: string): string => {
      const result = stub.answer(`qRcmd,${Buffer.from(line).toString('hex')}`);
      return result.kind === 'console' && typeof result.text === 'string' ? result.text : '';
    };
    assert.match(monitor('help'), /^vmcs .*\n/);
    assert.match(monitor('position'), /^instruction 0, cycle 0\n/);
    // CR0.PE and ET are set in protected mode without paging.
    assert.match(monitor('registers cr0'), /^cr0 = 0x11 {2}PE, ET\n/);
    assert.match(monitor('registers nothing'), /no register/);
    assert.match(monitor('translate 0x100000'), /host-physical 0x100000/);
    assert.match(monitor('vmcs'), /no current VMCS/);
    assert.match(monitor('translate x'), /no number/);
    assert.match(monitor('stop-on-exit NOTHING'), /no VM exit 'NOTHING'/);
    assert.match(monitor('fly'), /monitor help/);
  });
});
