import assert from 'node:assert/strict';
import { moduleNodes } from './module-nodes.ts';

describe('the tree of programs', () => {
  it('shows where each one’s symbols hold, and where it is', () => {
    const [node] = moduleNodes({
      modules: [
        {
          id: 'a',
          name: 'a',
          path: '/a.elf',
          version: 'guest, VPID 1',
          addressRange: '0x1000',
          symbolStatus: 'loaded',
        },
      ],
    });
    assert.equal(node?.label, 'a');
    assert.equal(node?.description, 'guest, VPID 1  0x1000');
    assert.match(node?.tooltip ?? '', /\/a\.elf\n\nloaded/);
  });

  it('says how to get one', () => {
    assert.match(moduleNodes({ modules: [] })[0]?.label ?? '', /symbols or guests/);
  });
});
