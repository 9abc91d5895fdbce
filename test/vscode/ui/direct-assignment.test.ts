/** A device behind VT-d in VS Code: its tables, the DMA that is refused, memory as it sees it, a stale IOTLB entry. */
import { join } from 'node:path';
import { ROOT } from '../../project-files.ts';
import { story } from './story.ts';

/** From the entry of a table that translates 0 to the one that translates 8 MiB, of 2 MiB each. */
const FOUR_ENTRIES = 4 * 8;

story('a person who debugs direct-assignment', join(ROOT, 'examples/direct-assignment'), (window) => {
  /** Physical address of the SS-PDE of the guest's first 2 MiB. */
  let firstEntry = 0;

  it('presses F5 and follows the device’s tables in the IOMMU view', async () => {
    await window().startDebugging();
    await window().page.getByRole('tab', { name: 'entry.S', selected: true }).waitFor();
    await window().openPanel('VMXray');
    for (const section of ['Address Translation', 'TLB', 'Timeline']) await window().setSection(section, false);
    await window().setSection('IOMMU', true);
    await window()
      .row(/^DMA remapping on/)
      .waitFor();
    await window().expand(/^00:01\.0/);
    await window()
      .row(/^root entry at 0x[0-9a-f]+ = .*CTP/)
      .waitFor();
    await window()
      .row(/^context entry at 0x[0-9a-f]+ = .*second stage.*DID 0x1/)
      .waitFor();
    await window()
      .row(/^0x0 → 0x200000 RW 4 MiB/)
      .waitFor();
    await window()
      .row(/^IOTLB none/)
      .waitFor();
    await window().screenshot('iommu-1-tables');
  });

  it('ticks “DMA fault” and reads who was refused what, and by which entry', async () => {
    await window().tickStop('DMA fault');
    await window().press('F5');
    const box = await window().stopExplanation('transfer');
    for (const words of ['00:01.0', 'DMA write at 0x800000', 'does not permit writes', 'SS-PDE at 0x']) {
      await box.getByText(words).first().waitFor();
    }
    const [, refused] = /SS-PDE at (0x[0-9a-f]+)/.exec(await box.innerText()) ?? [];
    firstEntry = Number(refused) - FOUR_ENTRIES;
    await window().collapse(/^Devices/);
    await window()
      .row(/^00:01\.0: .* write 0x800000/)
      .waitFor();
    await window()
      .row(/^0x0 → 0x200000 RW 2 MiB domain 1/)
      .waitFor();
    await window().screenshot('iommu-2-fault');
  });

  it('looks at memory as the device sees it, and finds what it has copied', async () => {
    await window().showMemory('iova:00:01.0:0x180000');
    await window().page.getByText('00180000  7a da 57 6e 7a da 57 6e').waitFor();
    await window().screenshot('iommu-3-memory');
  });

  it('takes the page away from the device, and sees the IOTLB entry become stale', async () => {
    await window().enter(`u64(hpa:${firstEntry}) = 0`);
    await window().openPanel('VMXray');
    await window()
      .row(/^0x0 stale → 0x200000/)
      .waitFor();
    await window().screenshot('iommu-4-stale');
  });
});
