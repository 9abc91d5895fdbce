/** Two guests on one processor in VS Code: who waits is a thread, too; a data breakpoint from the Variables view. */
import { join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { placeIn, story } from './story.ts';

const SAMPLE = join(ROOT, 'examples/two-guests');
const GUEST_START = placeIn(SAMPLE, '../first-vmm/guest/entry.S', 'stack_top(%rip)');
const STEPS = placeIn(SAMPLE, 'collatz.c', 'number != 1;');

story('a person who debugs two-guests', SAMPLE, (window) => {
  it('stops in the second guest, while the first one waits as a thread of its own', async () => {
    await window().toggleBreakpoint(STEPS.file, STEPS.line);
    await window().startDebugging();
    await window().stoppedAt(GUEST_START);
    await window().runTo('F5', STEPS);
    for (const section of ['Watch', 'Breakpoints', 'Loaded Scripts']) await window().setSection(section, false);
    await window().widenSideBar(160);
    await window().thread('Processor 0').waitFor();
    await window()
      .thread(/vCPU 1 \(VPID 1\), suspended at is_prime/)
      .waitFor();
    await window().screenshot('guests-1-threads');
  });

  it('looks at the registers and the stack of the guest that waits', async () => {
    await window().expandThread(/vCPU 1/);
    await window().frame('count_primes').waitFor();
    await window().frame('is_prime').click();
    await window().page.getByRole('tab', { name: 'primes.c', selected: true }).waitFor();
    await window().expand(/^Scope General/);
    await window().screenshot('guests-2-suspended');
  });

  it('has a member of the VMM’s structure watched, from its menu in the Variables view', async () => {
    await window().openFile(STEPS.file);
    await window().goToLine(STEPS.line);
    await window().press('F9');
    await window().expandThread('Processor 0');
    await window().frame('take_turn').click();
    await window().expand(/^Scope Arguments/);
    await window().expand(/^vcpu/);
    await window().menu(window().row(/^launched/), 'Break on Value Change');
    await window().press('F5');
    await window().thread('Data breakpoint').waitFor();
    await window().screenshot('guests-3-data-breakpoint');
  });
});
