// Expected values: the source of Linux 6.1 (who calls whom), the code of kvm-guest.c, the manual's exit qualification.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { debianFiles } from './debian.ts';
import { DebugSession } from './debug-session.ts';
import { ADD, COMMAND_LINE, HLT, KvmFiles, LOAD_MODULES, OUT, PROMPT, SUM } from './kvm-files.ts';

/** Debian's package linux-image-…-dbg puts debug information here. */
const DEBUG_FILES = process.env.VMXRAY_LINUX_DEBUG_FILES ?? '/usr/lib/debug';

/** The call chain of KVM_RUN, the innermost first, without functions that compilers inline at will. */
const KVM_RUN = ['vmx_vcpu_run', 'kvm_arch_vcpu_ioctl_run', 'kvm_vcpu_ioctl', '__x64_sys_ioctl', 'do_syscall_64'];

describe("Debian's KVM debugged", function () {
  this.timeout(400_000);
  let files: KvmFiles;
  let session: DebugSession | undefined;

  before(function () {
    const found = debianFiles();
    if (typeof found === 'string') {
      console.log(`      skipped: ${found}`);
      return this.skip();
    }
    files = new KvmFiles(found);
  });
  afterEach(async () => {
    await session?.close();
    session = undefined;
  });
  after(() => files?.remove());

  const linux = (more: Partial<LaunchArguments>): LaunchArguments => ({
    program: files.path('vmlinuz'),
    modules: [files.path('initramfs')],
    args: 'console=ttyS0',
    stopOn: 'none',
    ...more,
  });

  it('stops at the guest’s VM exits with both worlds, by the symbols that the kernel tells of itself', async () => {
    const modules = files.askKernel();
    session = await DebugSession.launch(
      linux({
        args: COMMAND_LINE,
        symbols: [files.path('System.map'), ...modules],
        breakOnVmExit: ['IO_INSTRUCTION'],
      }),
    );
    await session.waitFor(PROMPT);
    await session.type(LOAD_MODULES);
    await session.waitFor(PROMPT);
    const stop = await session.typeUntilStop('kvm-guest');
    assert.equal(stop.description, 'VM exit: I/O instruction');
    assert.match(stop.text ?? '', /^OUT to port 0x80 \(immediate\), 1 byte/);

    const names = await session.names();
    assert.equal(names[0], '__vmx_vcpu_run');
    const label = names.indexOf('VM exit: I/O instruction');
    assert.deepEqual(names.slice(label - 1), ['entry_SYSCALL_64_after_hwframe', names[label], '0x1009']);
    assert.deepEqual(
      names.filter((name) => KVM_RUN.includes(name)),
      KVM_RUN,
    );

    const { threads } = (await session.client.request('threads')).body;
    assert.deepEqual(
      threads.map(({ id, name }) => [id, name]),
      [
        [1, 'Processor 0'],
        [1001, 'vCPU 1 (VPID 1), suspended at 0x1009'],
      ],
    );
    const [guest] = await session.frames(1001);
    assert.equal(await session.number('ax', guest?.id), SUM);
    assert.equal(await session.number('cx', guest?.id), 0);

    const { launchState, groups } = (await session.client.request('vmxray/vmcs', {})).body;
    const field = (name: string): bigint =>
      BigInt(groups.flatMap(({ fields }) => fields).find((each) => each.name === name)?.value ?? '-1');
    assert.equal(launchState, 'launched');
    assert.equal(field('GUEST_RIP'), BigInt(OUT));
    assert.equal(field('VM_EXIT_INSTRUCTION_LENGTH'), 2n);
    // One byte, OUT, not a string, immediate (bit 6), port 80h (SDM Vol. 3C, "Exit Qualification for I/O Instructions").
    assert.equal(field('EXIT_QUALIFICATION'), 0x80_0040n);
    assert.equal(field('HOST_RIP'), BigInt(await session.text('vmx_vmexit').then((text) => text.split(' ')[0] ?? '')));

    // Through KVM, to the user of /dev/kvm and back, to behind OUT.
    await session.run('vmxray/runTo', { event: 'vmEntry' });
    await session.waitFor('guest sent 55\r\n');
    assert.deepEqual((await session.names()).slice(0, 3), ['0x100b', 'VMM, entered by VM exits', '__vmx_vcpu_run']);
    // And all of it backwards: to the VM exit, before it, into the guest's loop.
    const back = await session.run('vmxray/runBackTo', { event: 'vmExit' });
    assert.equal(back.description, 'VM exit: I/O instruction (in the past)');
    assert.deepEqual(await session.names(), names);
    await session.run('stepBack', { granularity: 'instruction' });
    assert.equal(await session.number('rip'), OUT);
    const breakpoints = [{ instructionReference: `guest:0x${ADD.toString(16)}` }];
    await session.client.request('setInstructionBreakpoints', { breakpoints });
    for (const count of [1, 2, 3]) {
      await session.run('reverseContinue');
      assert.equal(await session.number('rip'), ADD);
      assert.equal(await session.number('cx'), count);
      assert.equal(await session.number('ax'), SUM - (count * (count + 1)) / 2);
    }
    await session.run('next', { granularity: 'instruction' });
    assert.equal(await session.number('ax'), SUM - 3);
    await session.client.request('setInstructionBreakpoints', { breakpoints: [] });
    assert.equal((await session.run('continue')).description?.replace(/ \(.*/, ''), 'VM exit: I/O instruction');
    assert.deepEqual(await session.names(), names);

    // A step into HLT enters KVM's handling of its VM exit.
    await session.run('vmxray/runTo', { event: 'vmEntry' });
    assert.equal(await session.number('rip'), HLT);
    await session.run('stepIn', { granularity: 'instruction' });
    assert.deepEqual((await session.names()).slice(-2), ['VM exit: HLT', '0x100b']);
    await session.client.request('vmxray/setVmExitStops', { reasons: [] });
    await session.client.request('continue', { threadId: 1 });
    await session.waitFor('guest halted\r\n');
    await session.waitFor(PROMPT);

    // Another guest, stopped at an address of its own: it adds 10, 9, 8 and so on.
    await session.client.request('setInstructionBreakpoints', { breakpoints });
    assert.equal((await session.typeUntilStop('kvm-guest')).reason, 'breakpoint');
    for (const [count, sum] of [
      [10, 0],
      [9, 10],
      [8, 19],
    ]) {
      assert.equal(await session.number('rip'), ADD);
      assert.equal(await session.number('cx'), count);
      assert.equal(await session.number('ax'), sum);
      await session.run('continue');
    }
    await session.run('next', { granularity: 'instruction' });
    assert.equal(await session.number('ax'), 27 + 7);
    await session.client.request('setInstructionBreakpoints', { breakpoints: [] });
    await session.client.request('continue', { threadId: 1 });
    await session.waitFor('guest sent 55\r\nguest halted\r\n');
  });

  it('finds a kernel that has moved itself by its System.map alone', async () => {
    const symbols = [{ path: files.path('System.map'), loadAddress: 'auto' }];
    session = await DebugSession.launch(linux({ symbols }));
    await session.waitFor('Linux version');
    await session.pause();
    const [kernel] = (await session.client.request('modules', {})).body.modules;
    const linked = readFileSync(files.path('System.map'), 'latin1').match(/^([0-9a-f]+) T _text$/m)?.[1];
    assert.equal(linked, 'ffffffff81000000');
    assert.notEqual(kernel?.addressRange, `0x${linked}`);
    // start_kernel ends in rest_init, which makes the thread of kernel_init (init/main.c).
    await session.client.request('setFunctionBreakpoints', {
      breakpoints: [{ name: 'rest_init' }, { name: 'kernel_init' }],
    });
    await session.run('continue');
    const [innermost, ...callers] = await session.names();
    assert.equal(innermost, 'rest_init');
    assert.ok(callers.includes('start_kernel'), callers.join(', '));
    await session.run('continue');
    assert.deepEqual(await session.names(), ['kernel_init', 'ret_from_fork']);
  });

  it('shows sources and structures of the kernel and of KVM, where debug information is installed', async function () {
    const { release } = files.debian;
    const vmlinux = join(DEBUG_FILES, `boot/vmlinux-${release}`);
    if (!existsSync(vmlinux)) {
      console.log(`      skipped: there is no ${vmlinux} (package linux-image-${release}-dbg)`);
      return this.skip();
    }
    const kvm = ['kvm', 'kvm-intel'].map((name) =>
      join(DEBUG_FILES, `lib/modules/${release}/kernel/arch/x86/kvm/${name}.ko`),
    );
    session = await DebugSession.launch(
      linux({ symbols: [{ path: vmlinux, loadAddress: 'auto' }, ...kvm], breakOnVmExit: ['IO_INSTRUCTION'] }),
    );
    await session.waitFor(PROMPT);
    await session.type(LOAD_MODULES);
    await session.waitFor(PROMPT);
    await session.typeUntilStop('kvm-guest');
    const frames = await session.frames();
    const frame = (name: string) => frames.find((each) => each.name === name);
    const run = frame('vmx_vcpu_run');
    assert.ok(run?.source?.path?.endsWith('/arch/x86/kvm/vmx/vmx.c'), run?.source?.path);
    assert.ok(frame('vcpu_enter_guest')?.source?.path?.endsWith('/arch/x86/kvm/x86.c'));
    assert.ok(frame('__x64_sys_ioctl')?.source?.path?.endsWith('/fs/ioctl.c'));
    assert.equal(await session.number('vcpu->vcpu_id', run?.id), 0);
    assert.equal(await session.number('vcpu->kvm->created_vcpus', run?.id), 1);
    assert.equal(await session.text('current_task->comm', run?.id), '"kvm-guest"');
  });
});
