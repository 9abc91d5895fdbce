/** A forgotten INVLPG in VS Code: the stop at its consequence, and the TLB entry with the write that made it stale. */
import { join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { story } from './story.ts';

story('a person who debugs stale-tlb', join(ROOT, 'examples/stale-tlb'), (window) => {
  it('is stopped behind the read that used the old translation, and reads which write made it old', async () => {
    await window().startDebugging();
    await window().page.locator('.debug-call-stack .stack-frame').first().waitFor();
    await window().tickStop('Use of a stale translation');
    await window().press('F5');
    const box = await window().stopExplanation('print_string');
    for (const words of ['the read of 0x8000000000', 'Made stale by the write', '<show+', 'INVLPG 0x8000000000']) {
      await box.getByText(words).first().waitFor();
    }
    await window().screenshot('stale-1-stop');
  });

  it('finds the entry in the TLB view, with the same words', async () => {
    await window().openPanel('VMXray');
    for (const section of ['Address Translation', 'Timeline']) await window().setSection(section, false);
    await window()
      .row(/^VPID 0.* stale/)
      .waitFor();
    await window().expand(/^linear mapping of page 0x8000000000 .* stale/);
    await window()
      .row(/^Made stale by the write of the table entry/)
      .waitFor();
    await window()
      .row(/^Would remove it.*INVLPG/)
      .waitFor();
    await window().screenshot('stale-2-tlb');
  });
});
