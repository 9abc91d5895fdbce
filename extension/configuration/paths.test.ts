import assert from 'node:assert/strict';
import { absolute, mapDevicePath, mapModulePath, modulePath } from './paths.ts';

describe('paths of launch configurations', () => {
  it('are taken below the folder unless they are absolute or URIs', () => {
    assert.equal(absolute('build/vmm.elf', '/w'), '/w/build/vmm.elf');
    assert.equal(absolute('./vmm.elf', 'C:\\w\\'), 'C:\\w/vmm.elf');
    for (const path of ['/vmm.elf', 'C:\\vmm.elf', '\\\\server\\vmm.elf', 'vscode-vfs://github/a/vmm.elf']) {
      assert.equal(absolute(path, '/w'), path);
    }
    assert.equal(absolute('vmm.elf', undefined), 'vmm.elf');
  });

  it('are found in front of a module’s arguments', () => {
    assert.equal(modulePath('guest.elf -v'), 'guest.elf');
    assert.equal(modulePath('"my guest.elf" -v'), 'my guest.elf');
    assert.equal(
      mapModulePath('"my guest.elf" -v', (path) => `/w/${path}`),
      '"/w/my guest.elf" -v',
    );
    assert.equal(modulePath(''), '');
  });

  it('are found among a device’s options', () => {
    const change = (path: string): string => `/w/${path}`;
    assert.equal(
      mapDevicePath('virtio-blk,file=disk.img,readonly=on', change),
      'virtio-blk,file=/w/disk.img,readonly=on',
    );
    assert.equal(mapDevicePath('virtio-rng,seed=1', change), 'virtio-rng,seed=1');
  });
});
