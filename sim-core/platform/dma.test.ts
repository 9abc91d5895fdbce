// Expected values: SDM, "Message Address Register Format" (destination 19:12, RH 3, DM 2) and "Message Data Register".
import assert from 'node:assert/strict';
import { compatibilityMessage } from './dma.ts';

const fixed = { deliveryMode: 0, vector: 0x26, level: false };

describe('interrupt messages', () => {
  it('name a processor, or a logical destination as Linux writes it: without redirection hint', () => {
    assert.deepEqual(compatibilityMessage(0xfee0_1000n, 0x26), { destination: 1, logical: false, ...fixed });
    assert.deepEqual(compatibilityMessage(0xfee0_1004n, 0x26), { destination: 1, logical: true, ...fixed });
    assert.deepEqual(compatibilityMessage(0xfee0_300cn, 0x26), { destination: 3, logical: true, ...fixed });
  });
});
