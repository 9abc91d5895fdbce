import assert from 'node:assert/strict';
import { diskFileOf, parseDevice, withDiskFile, writesImage } from './device-text.ts';
import { memoryImage } from './virtio/disk.ts';

const resources = { disk: (file: string) => memoryImage(new Uint8Array(file.length)) };

describe('devices as text', () => {
  it('are kinds with options', () => {
    assert.deepEqual(parseDevice('edu', resources), { kind: 'edu' });
    assert.deepEqual(parseDevice('edu,dma_mask=0xffffffff', resources), { kind: 'edu', dmaMask: 0xffff_ffffn });
    assert.deepEqual(parseDevice('virtio-rng,seed=7', resources), {
      ...{ kind: 'virtio-rng', seed: 7n, packed: true },
    });
    const block = parseDevice('virtio-blk,file=a=b.img,write=on', resources);
    assert.equal(block.kind === 'virtio-blk' && block.writeThrough, true);
    assert.equal(block.kind === 'virtio-blk' && block.disk.size, 'a=b.img'.length);
    assert.equal(diskFileOf('virtio-blk,file=a.img'), 'a.img');
    assert.equal(diskFileOf('ide-cd,file=a.iso'), 'a.iso');
    assert.equal(parseDevice('ide-hd,file=disk.img', resources).kind, 'ide-hd');
    assert.deepEqual(parseDevice('virtio-net,packed=off', resources), { kind: 'virtio-net', packed: false });
    assert.equal(diskFileOf('virtio-net'), undefined);
  });

  it('name a disk image, which may be elsewhere, and say whether the guest writes it', () => {
    assert.equal(withDiskFile('virtio-blk,file=a.img,packed=off', '/b/$&.img'), 'virtio-blk,file=/b/$&.img,packed=off');
    assert.deepEqual(['ide-hd,file=write=on', 'ide-hd,file=a,write=off', 'ide-hd,file=a,write=on'].map(writesImage), [
      false,
      false,
      true,
    ]);
  });

  it('are refused with what would be right', () => {
    assert.throws(() => parseDevice('e1000', resources), /choose from edu, virtio-blk, .*ide-cd, ide-hd/);
    assert.throws(() => parseDevice('edu,mask=1', resources), /it takes dma_mask/);
    assert.throws(() => parseDevice('edu,dma_mask=all', resources), /is no number/);
    assert.throws(() => parseDevice('virtio-blk', resources), /needs a disk image/);
    assert.throws(() => parseDevice('virtio-blk,file=x,write=yes', resources), /give on or off/);
  });
});
