import assert from 'node:assert/strict';
import type { Discrepancy } from '../sim-core/machine/verify.ts';
import { parseRun, UsageError } from './options.ts';
import { describeDiscrepancy, verify } from './verify.ts';

describe('vmxray run --verify', () => {
  const discrepancy: Discrepancy = {
    kind: 'discrepancy',
    instructions: 1234,
    isExact: true,
    address: 0x10_0008n,
    bytes: Uint8Array.of(0x48, 0x0f, 0xc8),
    bitness: 64,
    differences: [{ name: 'rbx', values: [1n, 0x2an] }],
  };

  it('names the instruction over which the machines part, and what differs', () => {
    assert.equal(
      describeDiscrepancy(discrepancy),
      'compiled code and the interpreter disagree after 1234 instructions, over the next one at 0x100008: ' +
        'bswap rax (48 0f c8)\n  rbx: 0x1 compiled, 0x2a interpreted\n',
    );
  });

  it('wants no disk that the runs would write one after the other', async () => {
    const options = parseRun(['kernel.elf', '--verify', '--device', 'virtio-blk,file=disk.img,write=on']);
    await assert.rejects(verify(options), UsageError);
  });

  it('says when only the block is known', () => {
    const text = describeDiscrepancy({ ...discrepancy, isExact: false });
    assert.match(text, /over the compiled block that ends with the next one at 0x100008: bswap rax/);
  });
});
