import assert from 'node:assert/strict';
import { makeElf } from '../sim-core/loaders/test-images.ts';
import { createMachine } from '../sim-core/machine/machine.ts';
import { loadTarget } from './target.ts';

const IMAGE = '/images/kernel';
const MAP = '/images/System.map';

/** Launches an image without symbols, with a list of them beside it. */
function launch(list: string) {
  const files = new Map([
    [IMAGE, makeElf({ entry: 0x10_0000, segments: [{ physical: 0x10_0000, bytes: Uint8Array.of(0x90, 0xf4) }] })],
    [MAP, new TextEncoder().encode(list)],
  ]);
  const readFile = async (path: string): Promise<Uint8Array> => {
    const bytes = files.get(path);
    if (!bytes) throw new Error('there is no such file');
    return bytes;
  };
  return loadTarget({ readFile }, createMachine, { program: IMAGE, symbols: [MAP], machine: { memory: '16M' } });
}

describe('launch with symbols[]', () => {
  it('names functions of an image that has no symbols itself', async () => {
    const target = await launch('00100000 T _text\n00100000 T start_kernel\n00100001 t idle\n00101000 B _end\n');
    assert.equal(target.functionAt('vmm', 0x10_0000n)?.name, 'start_kernel');
    assert.equal(target.symbolName('vmm', 0x10_0001n), 'idle');
  });

  it('says which file is wrong, and where', async () => {
    await assert.rejects(launch('00100000 T _text\nnonsense\n'), /System\.map.*line 2/);
  });
});
