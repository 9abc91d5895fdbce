/**
 * Debian's kernel in VS Code: its own KVM runs a guest of 16-bit code, and a person at the guest's console debugs both.
 * Expected values: who calls whom in Linux 6.1, the code of kvm-guest.c, the manual's exit qualification.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { debianFiles } from '../../linux/debian.ts';
import { COMMAND_LINE, HLT, KvmFiles, LOAD_MODULES, OUT, SUM } from '../../linux/kvm-files.ts';
import { story } from './story.ts';

/** From F5 to the shell's prompt, in milliseconds. */
const BOOT = 120_000;
/** Asking the kernel for its symbols, which takes a boot. */
const PREPARATION = 120_000;

/** The call chain of KVM_RUN, without functions that compilers inline at will. */
const KVM_RUN = ['__vmx_vcpu_run', 'vmx_vcpu_run', 'kvm_arch_vcpu_ioctl_run', 'kvm_vcpu_ioctl', 'do_syscall_64'];

const hex = (value: number): string => `0x${value.toString(16)}`;

/** As docs/kvm-in-linux.md tells it, for a kernel without debug information. */
function makeWorkspace(files: KvmFiles): string {
  const configuration = {
    name: 'KVM in Linux',
    type: 'vmxray',
    request: 'launch',
    program: files.path('vmlinuz'),
    args: COMMAND_LINE,
    modules: [files.path('initramfs')],
    symbols: [files.path('System.map'), ...files.askKernel()],
    stopOn: 'none',
    breakOnVmExit: ['IO_INSTRUCTION'],
  };
  mkdirSync(join(files.folder, '.vscode'));
  const launch = { version: '0.2.0', configurations: [configuration] };
  writeFileSync(join(files.folder, '.vscode/launch.json'), JSON.stringify(launch));
  writeFileSync(join(files.folder, 'README.md'), '# KVM in Linux\n');
  return files.folder;
}

describe('KVM in Linux', function () {
  this.timeout(PREPARATION);
  let files: KvmFiles | undefined;
  let folder = '';

  before(function () {
    const found = debianFiles();
    if (typeof found === 'string') {
      console.log(`      skipped: ${found}`);
      return this.skip();
    }
    files = new KvmFiles(found);
    folder = makeWorkspace(files);
  });
  after(() => files?.remove());

  story(
    'a person who debugs Debian’s KVM and its guest',
    () => folder,
    (window) => {
      it('presses F5 and waits for the shell at the guest’s console', async () => {
        await window().startDebugging();
        await window().waitForTerminal(/^guest#/m, BOOT);
        await window().screenshot('kvm-1-shell');
      });

      it('types what loads KVM and runs a guest, and stops at its first VM exit', async () => {
        for (const section of ['Variables', 'Watch', 'Loaded Scripts', 'Breakpoints']) {
          await window().setSection(section, false);
        }
        await window().typeInTerminal(LOAD_MODULES);
        await window().waitForTerminal(/; done\s+guest#\s*$/);
        await window().typeInTerminal('kvm-guest');
        await window().thread('VM exit: I/O instruction').waitFor();
        await window().frame('__vmx_vcpu_run').waitFor();
        await window().page.getByRole('tab', { name: 'Disassembly', selected: true }).waitFor();
        await window().screenshot('kvm-2-vm-exit');
      });

      it('sees who called whom in the kernel, the guest below, and its virtual processor', async () => {
        const frames = window().page.locator('.debug-call-stack .stack-frame');
        const names = await frames.locator('.label').allInnerTexts();
        const chain = [...KVM_RUN, 'entry_SYSCALL_64_after_hwframe', 'VM exit: I/O instruction', hex(OUT)];
        assert.deepEqual(
          names.map((name) => name.trim()).filter((name) => chain.includes(name)),
          chain,
        );
        await window()
          .thread(`vCPU 1 (VPID 1), suspended at ${hex(OUT)}`)
          .waitFor();
      });

      it('reads KVM’s VMCS, in its view and among the variables', async () => {
        await window().setSection('VMCS', true);
        await window().widenSideBar(120);
        await window().dragSection('VMCS', 400);
        await window().expand(/^Guest register state/);
        const field = async (name: string) => (await window().findRow('VMCS', name)).getAttribute('aria-label');
        assert.match((await field('GUEST_RIP')) ?? '', new RegExp(`^GUEST_RIP ${hex(OUT)}`));
        await window().collapse(/^Guest register state/);
        await window().expand(/^VM-exit information/);
        // One byte, OUT, not a string, immediate, port 80h.
        assert.match((await field('EXIT_QUALIFICATION')) ?? '', /^EXIT_QUALIFICATION 0x800040/);
        await window().collapse(/^VM-exit information/);
        await window().setSection('Call Stack', false);
        await window().setSection('Variables', true);
        await window().collapse(/^Scope General/);
        await window().expand(/^Scope VMCS/);
        await window().screenshot('kvm-3-vmcs');
        await window().setSection('Variables', false);
        await window().setSection('VMCS', false);
        await window().setSection('Call Stack', true);
      });

      it('follows KVM and its user to the next VM entry, which sends the sum, and steps into HLT', async () => {
        await window().command('VMXray: Run to Next VM Entry');
        await window().frame(hex(HLT)).waitFor();
        await window().waitForTerminal(new RegExp(`guest sent ${SUM}`));
        await window().press('F11');
        await window().frame('VM exit: HLT').waitFor();
        await window().screenshot('kvm-4-halt');
      });

      it('goes back through KVM into the guest', async () => {
        await window().command('VMXray: Back to Previous VM Exit');
        await window().frame('VM exit: I/O instruction').waitFor();
        await window().toolbar('Step Back');
        await window().frame(hex(OUT)).waitFor();
        await window().screenshot('kvm-5-past');
      });

      it('lets the guest end', async () => {
        await window().command('VMXray: Go to the Present');
        await window().frame('VM exit: HLT').waitFor();
        await window().toolbar('Continue');
        await window().waitForTerminal(/guest halted\s+guest#\s*$/);
        await window().screenshot('kvm-6-end');
      });
    },
  );
});
