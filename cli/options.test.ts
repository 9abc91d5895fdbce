import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseDap, parseGdb, parseMemory, parseRun, UsageError } from './options.ts';

describe('command line', () => {
  it('has defaults for everything but the image', () => {
    assert.deepEqual(parseRun(['kernel.elf']), {
      image: 'kernel.elf',
      commandLine: '',
      modules: [],
      format: 'auto',
      memory: 512 * 2 ** 20,
      maxInstructions: Number.POSITIVE_INFINITY,
      timeout: Number.POSITIVE_INFINITY,
      cpu: 'westmere',
      cpus: 1,
      quantum: 20_000,
      devices: [],
      iommu: false,
      debugConsole: false,
      startTime: undefined,
      interpret: false,
      verify: false,
      record: undefined,
      snapshot: undefined,
      stopOnStale: false,
      json: false,
    });
  });

  it('takes every option', () => {
    const text =
      '--cmdline quiet --module a.img --module=b --memory 1G --cpus 4 --quantum 500 --cpu max ' +
      '--max-instructions 5000 --timeout 0.5';
    const options = parseRun([
      ...text.split(' '),
      '--format',
      'flat',
      '--json',
      '--device',
      'edu',
      '--device',
      'virtio-rng,seed=1',
      '--disk',
      'a.img',
      '--iommu',
      '--interpret',
      '--verify',
      '--stop-on-stale',
      'code.bin',
    ]);
    assert.deepEqual(options, {
      image: 'code.bin',
      commandLine: 'quiet',
      modules: ['a.img', 'b'],
      format: 'flat',
      memory: 2 ** 30,
      maxInstructions: 5000,
      timeout: 0.5,
      json: true,
      cpu: 'max',
      cpus: 4,
      quantum: 500,
      devices: ['edu', 'virtio-rng,seed=1', 'virtio-blk,file=a.img'],
      iommu: true,
      debugConsole: false,
      startTime: undefined,
      interpret: true,
      verify: true,
      record: undefined,
      snapshot: undefined,
      stopOnStale: true,
    });
  });

  it('takes an initrd for the first module', () => {
    assert.deepEqual(parseRun(['--module', 'b', '--initrd', 'a', 'bzImage']).modules, ['a', 'b']);
  });

  it('starts firmware in place of an image', () => {
    const options = parseRun(['--bios', 'bios.bin', '--cdrom', 'a.iso', '--debug-console']);
    assert.deepEqual([options.image, options.format, options.devices], ['bios.bin', 'firmware', ['ide-cd,file=a.iso']]);
    assert.equal(options.debugConsole, true);
    assert.throws(() => parseRun(['--bios', 'bios.bin', 'kernel']), /give that to --disk/);
  });

  it('reads the time of the real-time clock', () => {
    assert.equal(parseRun(['--start-time', '2025-12-24T18:30:00Z', 'a']).startTime, 1_766_601_000);
    assert.throws(() => parseRun(['--start-time', 'yesterday', 'a']), /--start-time yesterday/);
  });

  it('reads sizes with units', () => {
    const sizes = ['1M', '64m', '1024K', '3G', '16MB', '1048576'].map(parseMemory);
    assert.deepEqual(sizes, [2 ** 20, 2 ** 26, 2 ** 20, 3 * 2 ** 30, 2 ** 24, 2 ** 20]);
  });

  const wrong: readonly (readonly [string[], RegExp])[] = [
    [[], /run needs an image/],
    [['a', 'b'], /also 'b'.*--cmdline/],
    [['a', '--memory', '5T'], /--memory 5T: give a size/],
    [['a', '--memory', '1000'], /steps of 64K/],
    [['a', '--memory', '4G'], /from 1M to 3G/],
    [['a', '--cpus', '17'], /16 at most/],
    [['a', '--cpu', 'z80'], /--cpu z80: choose from westmere/],
    [['a', '--cpus', 'x'], /--cpus x: give a positive whole number/],
    [['a', '--max-instructions', '1.5'], /whole number/],
    [['a', '--timeout', '0'], /--timeout 0: give a positive number of seconds/],
    [['a', '--format', 'pe'], /choose from auto, multiboot1/],
    [['a', '--speed'], /--speed/],
  ];
  for (const [args, message] of wrong) {
    it(`says what is wrong with run ${args.join(' ')}`, () => {
      assert.throws(
        () => parseRun(args),
        (error) => error instanceof UsageError && message.test(error.message),
      );
    });
  }

  it('takes a TCP port for dap', () => {
    assert.deepEqual([parseDap([]).port, parseDap(['--port', '4711']).port], [undefined, 4711]);
    for (const port of ['', '-1', '65536', 'x']) assert.throws(() => parseDap([`--port=${port}`]), UsageError);
  });

  it('takes the options of run for gdb, but for those that gdb takes over', () => {
    assert.deepEqual(parseGdb(['a.elf', '--memory', '1G']), { run: parseRun(['a.elf', '--memory', '1G']), port: 1234 });
    assert.equal(parseGdb(['a.elf', '--port', '0']).port, 0);
    assert.throws(() => parseGdb(['a.elf', '--port', '99999']), UsageError);
    assert.throws(() => parseGdb(['a.elf', '--verify']), /--verify has no meaning/);
    assert.throws(() => parseGdb([]), /gdb needs an image/);
  });

  it('takes an ISO image for a disc in a CD-ROM drive, unless a format says otherwise', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmxray-iso-'));
    try {
      const file = join(folder, 'a.iso');
      const bytes = Buffer.alloc(0x9000);
      bytes.write('CD001', 0x8001);
      writeFileSync(file, bytes);
      const { format, devices } = parseRun([file, '--cdrom', 'b.iso']);
      assert.deepEqual([format, devices], ['firmware', ['ide-cd,file=b.iso', `ide-cd,file=${file}`]]);
      assert.equal(parseRun([file, '--format', 'flat']).image, file);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('boots a disk without an image by the SeaBIOS that is installed, or says what to install', () => {
    const installed = ['/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/bios-256k.bin'].find((file) =>
      existsSync(file),
    );
    if (installed === undefined)
      assert.throws(() => parseRun(['--cdrom', 'grub.iso']), /install Debian's package seabios/);
    else {
      const { image, format } = parseRun(['--cdrom', 'grub.iso']);
      assert.deepEqual([image, format], [installed, 'firmware']);
    }
  });
});
