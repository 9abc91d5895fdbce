import assert from 'node:assert/strict';
import { connect } from 'node:net';
import path from 'node:path';
import { type GdbServer, HAS_GDB, runGdb, startServer } from '../test/support/gdb.ts';

const SAMPLE = path.join(import.meta.dirname, '../examples/first-vmm');
const VMM = path.join(SAMPLE, 'first-vmm.elf');

describe('vmxray gdb', function () {
  this.timeout(120_000);
  let server: GdbServer;
  beforeEach(async () => {
    server = await startServer(VMM, '--module', path.join(SAMPLE, 'guest.elf'));
  });
  afterEach(() => {
    server.process.kill();
  });

  const gdb = (...commands: readonly string[]): Promise<string> => runGdb(server, VMM, commands);

  it('lets gdb stop at a function, look around, and step there and back', async function () {
    if (!HAS_GDB) this.skip();
    const text = await gdb(
      'break handle_cpuid',
      'continue',
      'backtrace',
      'info registers rip cr4 efer vmcs_exit_reason',
      'x/2i $pc',
      'stepi',
      'print/x $rip',
      'reverse-stepi',
      'print/x $rip',
      'next',
      'info threads',
    );
    assert.match(text, /Breakpoint 1, handle_cpuid/);
    assert.match(text, /#1 .* in handle_vm_exit .*exits\.c:\d+\n#2 .* in vm_exit_entry/);
    assert.match(text, /cr4 +0x2020 +\[ PAE VMXE \]/);
    assert.match(text, /efer +0x500 +\[ LME LMA \]/);
    // CPUID is exit reason 10.
    assert.match(text, /vmcs_exit_reason +0xa /);
    assert.match(text, /<handle_cpuid>:\s+push +%rbp/);
    const [first, second] = [...text.matchAll(/^\$\d = (0x[0-9a-f]+)$/gm)].map(([, value]) => BigInt(value ?? ''));
    assert.equal(first, (second ?? 0n) + 1n, 'PUSH RBP is one byte long');
    assert.match(text, /\* 1 +Thread 1 "processor 0" \(active, not in a guest\)/);
    assert.equal(await server.ended, 0, 'gdb has ended the run');
  });

  it('stops gdb where a watched variable changes, in both directions', async function () {
    if (!HAS_GDB) this.skip();
    const text = await gdb(
      'watch exit_total',
      'continue',
      'continue',
      'continue',
      'reverse-continue',
      'reverse-continue',
    );
    const changes = [...text.matchAll(/Old value = (\d+)\nNew value = (\d+)/g)].map(([, from, to]) => `${from} ${to}`);
    assert.deepEqual(changes, ['0 1', '1 2', '2 3', '3 2', '2 1']);
  });

  it('comes to the end of the run, from which gdb may go back', async function () {
    if (!HAS_GDB) this.skip();
    const text = await gdb('continue', 'monitor exits', 'reverse-stepi', 'continue', 'continue');
    assert.match(text, /No more reverse-execution history[^$]*end_machine/);
    assert.match(text, /^ +2 +CPUID$/m);
    assert.match(text, /exited with code 01/);
  });

  it('stops at VM exits when told to, and explains them', async function () {
    if (!HAS_GDB) this.skip();
    const text = await gdb(
      'monitor stop-on-exit EPT_VIOLATION',
      'continue',
      'monitor ept 0x1000',
      'set $rax = 5',
      'print $rax',
      'set *(int *) $rsp = 0x1234',
      'print/x *(int *) $rsp',
    );
    assert.match(text, /VM exit: EPT violation \(read; .*\) at guest RIP 0x[0-9a-f]+/);
    assert.match(text, /EPT PTE at 0x[0-9a-f]+ = .*WB\nhost-physical 0x201000/);
    assert.match(text, /\$1 = 5\n/);
    assert.match(text, /\$2 = 0x1234\n/);
  });

  it('asks again for a packet whose checksum is wrong, and lets a second client wait for its turn', async () => {
    const ask = (bytes: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect(server.port, '127.0.0.1', () => socket.write(bytes));
        socket.setEncoding('latin1').once('data', (answer: string) => {
          socket.destroy();
          socket.once('close', () => resolve(answer));
        });
        socket.once('error', reject);
      });
    assert.equal(await ask('$?#00'), '-');
    assert.match(await ask('$?#3f'), /^\+/);
  });
});
