/** The sample hypervisor in VS Code, as its reader would debug it. Screenshots go to test/artifacts. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { type Place, Workbench } from './workbench.ts';

const SAMPLE = join(ROOT, 'examples/first-vmm');

/** The first line of a source file that contains a text. */
function place(file: string, text: string): Place {
  const lines = readFileSync(join(SAMPLE, file), 'utf8').split('\n');
  const line = lines.findIndex((content) => content.includes(text)) + 1;
  assert.notEqual(line, 0, `${file} has a line with "${text}"`);
  return { file: basename(file), line };
}

const GUEST_START = place('guest/entry.S', 'stack_top(%rip)');
const GUEST_CALL = place('guest/guest.c', '\tlook_at_processor();');
const GUEST_FUNCTION = place('guest/guest.c', 'static void look_at_processor(void)');
/** The inline function that both programs use. */
const CPUID = place('cpu.h', '"cpuid"');
const VM_EXIT = place('vmexit.S', '.cfi_undefined');
const HANDLER = place('exits.c', 'uint32_t leaf =');

describe('a person who debugs first-vmm', function () {
  this.timeout(120_000);
  this.bail(true);
  let vscode: Workbench;
  /** Where the guest starts, as the VMCS says before its first instruction. */
  let guestStart = 0n;

  before(async () => {
    vscode = await Workbench.open(SAMPLE);
  });
  after(() => vscode.close());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') await vscode.screenshot('failed');
  });

  async function guestRip(): Promise<{ value: bigint; changed: boolean }> {
    const row = await vscode.findRow('VMCS', 'GUEST_RIP');
    const label = (await row.getAttribute('aria-label')) ?? '';
    return { value: BigInt(/0x[0-9a-f]+/i.exec(label)?.[0] ?? ''), changed: label.includes('changed') };
  }

  it('sets a breakpoint in the VMM’s CPUID handler and one in the guest', async () => {
    await vscode.toggleBreakpoint(HANDLER.file, HANDLER.line);
    await vscode.toggleBreakpoint(GUEST_CALL.file, GUEST_CALL.line);
    await vscode.screenshot('1-breakpoints');
  });

  it('presses F5 and stops at the guest’s first instruction', async () => {
    await vscode.runTo('F5', GUEST_START);
    await vscode.command('View: Show Run and Debug');
    for (const section of ['Variables', 'Watch', 'Breakpoints', 'VM Exits']) await vscode.setSection(section, false);
    await vscode.setSection('VMCS', true);
    await vscode.dragSection('VMCS', 450);
    await vscode.expand(/^Guest register state/);
    guestStart = (await guestRip()).value;
    assert.ok(guestStart > 0n);
    await vscode.openPanel('VMXray');
    await vscode.row(/^VPID 0/).waitFor();
    assert.equal(await vscode.row(/^VPID 1/).count(), 0, 'the guest has not used the TLB yet');
    await vscode.screenshot('2-first-entry');
  });

  it('reaches the breakpoint in the guest, which has filled the TLB', async () => {
    await vscode.runTo('F5', GUEST_CALL);
    await vscode.row(/^EP4TA 0x/).click();
    await vscode.press('ArrowLeft');
    await vscode.row(/^VPID 1/).waitFor();
    await vscode.screenshot('3-guest-breakpoint');
  });

  it('steps from the guest’s CPUID into the VMM', async () => {
    await vscode.runTo('F11', { ...GUEST_FUNCTION, line: GUEST_FUNCTION.line + 1 });
    await vscode.runTo('F11', CPUID);
    const before = await guestRip();
    await vscode.runTo('F11', { file: 'vmexit.S', line: 106 });
    const after = await guestRip();
    assert.ok(after.changed);
    assert.notEqual(after.value, before.value);
    await vscode.screenshot('4-vm-exit');
  });
});
