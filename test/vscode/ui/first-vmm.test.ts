/** The sample hypervisor in VS Code, as its reader would debug it. Screenshots go to test/artifacts. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { placeIn, story } from './story.ts';
import type { Place } from './workbench.ts';

const SAMPLE = join(ROOT, 'examples/first-vmm');

const place = (file: string, text: string): Place => placeIn(SAMPLE, file, text);

const GUEST_START = place('guest/entry.S', 'stack_top(%rip)');
const GUEST_CALL = place('guest/guest.c', '\tlook_at_processor();');
/** The inline function that both programs use. */
const CPUID = place('cpu.h', '"cpuid"');
const VM_EXIT = place('vmexit.S', ' save_guest_registers\n        mov');
const VMRESUME = place('vmexit.S', ' vmresume');
const HANDLER = place('exits.c', 'uint32_t leaf =');

story('a person who debugs first-vmm', SAMPLE, (window) => {
  /** Where the guest starts, as the VMCS says before its first instruction. */
  let guestStart = 0n;

  async function guestRip(): Promise<{ value: bigint; changed: boolean }> {
    const row = await window().findRow('VMCS', 'GUEST_RIP');
    const label = (await row.getAttribute('aria-label')) ?? '';
    return { value: BigInt(/0x[0-9a-f]+/i.exec(label)?.[0] ?? ''), changed: label.includes('changed') };
  }

  it('sets a breakpoint in the VMM’s CPUID handler and one in the guest', async () => {
    await window().toggleBreakpoint(HANDLER.file, HANDLER.line);
    await window().toggleBreakpoint(GUEST_CALL.file, GUEST_CALL.line);
    await window().screenshot('1-breakpoints');
  });

  it('presses F5 and stops at the guest’s first instruction', async () => {
    await window().startDebugging();
    await window().stoppedAt(GUEST_START);
    await window().command('View: Show Run and Debug');
    for (const section of ['Variables', 'Watch', 'Breakpoints', 'VM Exits']) await window().setSection(section, false);
    await window().setSection('VMCS', true);
    await window().widenSideBar(120);
    await window().dragSection('VMCS', 400);
    await window().expand(/^Guest register state/);
    guestStart = (await guestRip()).value;
    assert.ok(guestStart > 0n);
    await window().openPanel('VMXray');
    await window()
      .row(/^VPID 0/)
      .waitFor();
    assert.equal(
      await window()
        .row(/^VPID 1/)
        .count(),
      0,
      'the guest has not used the TLB yet',
    );
    await window().screenshot('2-first-entry');
  });

  it('reaches the breakpoint in the guest, which has filled the TLB', async () => {
    await window().runTo('F5', GUEST_CALL);
    await window()
      .row(/^EP4TA 0x/)
      .click();
    await window().press('ArrowLeft');
    await window()
      .row(/^VPID 1/)
      .waitFor();
    await window().screenshot('3-guest-breakpoint');
  });

  it('steps from the guest’s CPUID into the VMM', async () => {
    await window().runTo('F11', place('guest/guest.c', 'cpuid(CPUID_HYPERVISOR, 0)'));
    const before = await guestRip();
    await window().runTo('F11', VM_EXIT);
    const after = await guestRip();
    assert.ok(after.changed);
    assert.notEqual(after.value, before.value);
    await window().screenshot('4-vm-exit');
  });

  it('reaches the handler, then steps out of it and over VMRESUME back into the guest', async () => {
    await window().runTo('F5', HANDLER);
    await window().screenshot('5-handler');
    const { value } = await guestRip();
    await window().runTo('Shift+F11', place('exits.c', '.handle(registers) == END_GUEST'));
    await window().toggleBreakpoint(VMRESUME.file, VMRESUME.line);
    await window().runTo('F5', VMRESUME);
    await window().press('F9');
    await window().runTo('F11', CPUID);
    const CPUID_LENGTH = 2n;
    assert.equal((await guestRip()).value, value + CPUID_LENGTH, 'the handler skipped the instruction');
    await window().screenshot('6-back-in-the-guest');
  });

  it('opens the EPT down to a page', async () => {
    for (const entry of [/^EPT/, /^EPT PML4E 0/, /^EPT PDPTE 0/, /^EPT PDE 0/]) await window().expand(entry);
    const label = await window()
      .row(/^EPT PTE 1,/)
      .getAttribute('aria-label');
    assert.match(label ?? '', /guest-physical 0x1000, maps to 0x[0-9a-f]+, rights R/);
    await window().screenshot('7-ept');
  });

  it('runs and steps backwards, and is told that this is the past', async () => {
    await window().toolbar('Reverse');
    await window().stoppedAt(HANDLER);
    await window().inPast().waitFor();
    await window().command('VMXray: Back to Previous VM Exit');
    await window().stoppedAt(VM_EXIT);
    await window().toolbar('Step Back');
    await window().stoppedAt(CPUID);
    await window().screenshot('10-past');
  });

  it('goes back to the last write of a field', async () => {
    await window().menu(await window().findRow('VMCS', 'GUEST_CR3'), 'Back to Last Change…');
    await window().page.getByRole('tab', { name: 'vmx.h', selected: true }).waitFor();
    await window().frame('set_up_guest_state').waitFor();
    await window().screenshot('11-last-change');
  });

  it('sees in the console what has not been printed yet, and goes to a VM exit on the timeline and to the present', async () => {
    await window().openPanel('Terminal');
    await window().page.locator('.xterm-rows .xterm-dim').first().waitFor();
    await window().screenshot('13-rewound');
    await window().openPanel('VMXray');
    await window()
      .row(/^In the past/)
      .waitFor();
    await window()
      .row(/^VM exit 1,/)
      .click();
    await window().stoppedAt(VM_EXIT);
    await window().screenshot('14-timeline');
    await window().command('VMXray: Go to the Present');
    await window().stoppedAt(CPUID);
    await window().inPast().waitFor({ state: 'hidden' });
  });

  it('edits GUEST_RIP, so that the guest starts again', async () => {
    await window().runTo('F5', HANDLER);
    await window().page.getByText('Load More Stack Frames').waitFor({ state: 'detached' });
    await window().screenshot('overview');
    // The handler adds the length of CPUID before it resumes.
    const beforeStart = `0x${(guestStart - 2n).toString(16)}`;
    await window().editRow(await window().findRow('VMCS', 'GUEST_RIP'), beforeStart);
    await window()
      .row(new RegExp(`^GUEST_RIP ${beforeStart}`))
      .waitFor();
    await window()
      .row(/^Guest register state/)
      .waitFor();
    await window().page.getByText('Load More Stack Frames').waitFor({ state: 'detached' });
    await window().screenshot('8-edited');
  });

  it('runs to the end, with the CPUIDs of the guest’s two lives counted', async () => {
    await window().command('Remove All Breakpoints');
    await window().press('F5');
    await window().page.locator('.debug-toolbar').waitFor({ state: 'hidden' });
    await window().openPanel('Terminal');
    await window().waitForTerminal(/The guest has ended\..*\n\s*4 CPUID /);
    await window().screenshot('9-end');
  });
});
