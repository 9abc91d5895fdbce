/** Files that are broken, or break while the machine runs. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { makeBzImage } from '../sim-core/loaders/test-images.ts';
import { makeDeviceConfigs } from './devices.ts';

const CLI = path.join(import.meta.dirname, 'main.ts');
const MIB = 2 ** 20;
const HALT = Uint8Array.of(0xf4);

describe('files that fail', function () {
  this.timeout(60_000);
  let folder = '';
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'vmxray-faults-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const file = (name: string, bytes: Uint8Array): string => {
    const where = path.join(folder, name);
    writeFileSync(where, bytes);
    return where;
  };
  /** The run does not begin: exit status 2, and what is wrong. */
  function refused(args: readonly string[], message: RegExp): void {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'run', ...args], { encoding: 'utf8' });
    assert.deepEqual([status, stdout], [2, ''], stderr);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /^ +at /m);
  }
  const kernel = makeBzImage({ code: HALT, address: 0x100_0000, initSize: 0x20_0000 });

  it('a kernel that is cut short: how long it is, and how long it should be', () => {
    refused([file('short', kernel.subarray(0, 2000))], /2000/);
  });

  it('an initrd that is larger than RAM: both sizes', () => {
    const initrd = file('initrd', new Uint8Array(65 * MIB));
    const args = [file('kernel', kernel), '--initrd', initrd, '--memory', '64M'];
    refused(args, /initrd: 68157440 bytes do not fit between/);
  });

  it('a file that cannot be read, as an image, an initrd and a disk: which file and why', () => {
    // Reading the memory of one's own process at address 0 fails, for the superuser, too.
    const unreadable = '/proc/self/mem';
    const whole = file('kernel', kernel);
    refused([unreadable], /cannot read the image \/proc\/self\/mem: reading it fails/);
    refused([whole, '--initrd', unreadable], /cannot read the module \/proc\/self\/mem: reading it fails/);
    refused([whole, '--device', `virtio-blk,file=${folder}/absent`], /--device virtio-blk,file=.*absent.*no such file/);
    refused([whole, '--device', `virtio-blk,file=${folder}`], /--device virtio-blk.*: that is a folder/);
  });

  describe('a disk image', () => {
    const complaints: string[] = [];
    function disk(name: string) {
      const where = file(name, new Uint8Array(MIB).fill(7));
      const [config] = makeDeviceConfigs([`virtio-blk,file=${where}`], (text) => complaints.push(text));
      assert.ok(config?.kind === 'virtio-blk');
      return { where, image: config.disk };
    }
    beforeEach(() => {
      complaints.length = 0;
    });

    it('that is removed while the machine runs stays readable', () => {
      const { where, image } = disk('removed');
      unlinkSync(where);
      assert.deepEqual(image.read(4096, 2), Uint8Array.of(7, 7));
      assert.deepEqual(complaints, []);
    });

    it('that becomes shorter fails where it ends, and says so once', () => {
      const { where, image } = disk('shrinking');
      truncateSync(where, 8192);
      assert.deepEqual(image.read(4096, 2), Uint8Array.of(7, 7));
      for (const offset of [8190, 16_384]) assert.throws(() => image.read(offset, 4), /shrinking has become shorter/);
      assert.equal(complaints.length, 1);
      assert.match(complaints[0] ?? '', /shrinking has become shorter; the guest sees I\/O errors/);
    });
  });
});
