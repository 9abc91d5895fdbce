import assert from 'node:assert/strict';
import { checkFile, formatRecording, parseRecording, type Recording } from './recording.ts';

const RECORDING: Recording = {
  image: { name: 'vmm', path: '/vmm.elf', hash: '0123456789abcdef' },
  commandLine: 'quiet',
  format: 'auto',
  modules: [{ name: 'guest', commandLine: 'guest.elf 1', path: '/guest.elf', hash: 'fedcba9876543210' }],
  disks: [],
  machine: { memory: 1 << 20, cpuModel: 'max', cpus: 2, vmx: true, iommu: false, devices: ['edu'] },
  events: [
    { at: { instructions: 7, events: 0 }, event: { kind: 'input', bytes: Uint8Array.of(0, 255) } },
    { at: { instructions: 9, events: 1 }, event: { kind: 'register', name: 'rax', value: 2n ** 64n - 1n } },
  ],
  end: { instructions: 10, events: 0 },
  hash: '0011223344556677',
};

describe('recordings', () => {
  it('come back from their file as they were', () => {
    assert.deepEqual(parseRecording(formatRecording(RECORDING)), RECORDING);
  });

  it('are refused with the reason when they are none', () => {
    const cases = [
      ['\x7fELF', /no JSON/],
      ['null', /no recording/],
      ['{"format":"other"}', /no recording/],
      ['{"format":"vmxtrace","version":99}', /version is 99/],
      ['{"format":"vmxtrace","version":1,"recording":{"image":{}}}', /parts of it are missing/],
    ] as const;
    for (const [text, message] of cases) assert.throws(() => parseRecording(text), message);
  });

  it('know the files that they began with', () => {
    const file = { path: 'a', hash: '0123456789abcdef' };
    assert.throws(
      () => checkFile(file, Uint8Array.of(1), 'image'),
      /the image is not the recorded one: a had the hash 0123/,
    );
  });
});
