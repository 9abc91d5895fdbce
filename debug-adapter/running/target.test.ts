import assert from 'node:assert/strict';
import { makeElf } from '../../sim-core/loaders/test-images.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { LaunchArguments } from '../protocol.ts';
import { loadTarget, type Target } from './target.ts';

const IMAGE = '/images/kernel';
const MAP = '/images/System.map';

/** Launches an image without symbols, with a list of them beside it. */
function launch(list: string, symbols: LaunchArguments['symbols'] = [MAP]) {
  const files = new Map([
    [IMAGE, makeElf({ entry: 0x10_0000, segments: [{ physical: 0x10_0000, bytes: Uint8Array.of(0x90, 0xf4) }] })],
    [MAP, new TextEncoder().encode(list)],
  ]);
  const readFile = async (path: string): Promise<Uint8Array> => {
    const bytes = files.get(path);
    if (!bytes) throw new Error('there is no such file');
    return bytes;
  };
  return loadTarget({ readFile }, createMachine, { program: IMAGE, symbols, machine: { memory: '16M' } });
}

describe('launch with symbols[]', () => {
  it('names functions of an image that has no symbols itself', async () => {
    const target = await launch('00100000 T _text\n00100000 T start_kernel\n00100001 t idle\n00101000 B _end\n');
    assert.equal(target.functionAt('vmm', 0x10_0000n)?.name, 'start_kernel');
    assert.equal(target.symbolName('vmm', 0x10_0001n), 'idle');
  });

  it('takes them where they hold only', async () => {
    const list = '00100000 T _text\n00100000 T start_kernel\n00100001 t idle\n00101000 B _end\n';
    const target = await launch(list, [{ path: MAP, name: 'kernel', when: { cr3: '0x7000' } }]);
    const view = target.view();
    assert.equal(target.functionAt(view, 0x10_0000n)?.name, undefined);
    const elsewhere = { world: 'vmm', vpid: 0, eptp: 0n, cr3: 0x7000n } as const;
    assert.equal(target.functionAt(elsewhere, 0x10_0000n)?.name, 'start_kernel');
  });

  it('says which file is wrong, and where', async () => {
    await assert.rejects(launch('00100000 T _text\nnonsense\n'), /System\.map.*line 2/);
  });
});

describe('a program whose load address is to be found', () => {
  const LINKED = 0xffff_ffff_8100_0000n;
  const MOVED = 0x1460_0000n;
  const HANDLERS = ['divide_error', 'debug', 'int3', 'page_fault'];
  /** Handlers 0x50 bytes apart, so that no two have the same offset in a page. */
  const address = (index: number): bigint => LINKED + 0x1000n + BigInt(0x50 * index);
  const LIST = [
    `${LINKED.toString(16)} T _text`,
    ...HANDLERS.map((name, index) => `${address(index).toString(16)} T ${name}`),
    `${(LINKED + 0x10_0000n).toString(16)} B _end\n`,
  ].join('\n');
  const IDT = 0x20_0000;

  /** Writes 64-bit interrupt gates (SDM Vol. 3A, "64-Bit IDT Gate Descriptors") and loads IDTR. */
  function loadIdt({ machine }: Target, entries: readonly bigint[]): void {
    entries.forEach((entry, index) => {
      const low = (entry & 0xffffn) | (0x8e00n << 32n) | (((entry >> 16n) & 0xffffn) << 48n);
      machine.physical.write64(IDT + 16 * index, low);
      machine.physical.write64(IDT + 16 * index + 8, entry >> 32n);
    });
    machine.state.set64('idtrBase', BigInt(IDT));
    machine.state.set32('idtrLimit', 16 * entries.length - 1);
  }

  it('is found by the handlers in the interrupt-descriptor table', async () => {
    const target = await launch(LIST, [{ path: MAP, loadAddress: 'auto' }]);
    assert.deepEqual(target.locatePrograms(), [], 'there is no IDT yet');
    assert.equal(target.symbolName('vmm', address(1)), undefined, 'nobody knows where it is');
    loadIdt(
      target,
      HANDLERS.map((_, index) => BigInt.asUintN(64, address(index) + MOVED)),
    );
    assert.equal(target.locatePrograms().length, 1);
    assert.equal(target.symbolName('vmm', BigInt.asUintN(64, address(1) + MOVED + 2n)), 'debug+0x2');
    assert.deepEqual(target.locatePrograms(), [], 'it is still there');
  });

  it('is not guessed from handlers that do not agree', async () => {
    const target = await launch(LIST, [{ path: MAP, loadAddress: 'auto' }]);
    loadIdt(
      target,
      HANDLERS.map((_, index) => BigInt.asUintN(64, address(index) + MOVED + BigInt(0x1000 * index))),
    );
    assert.deepEqual(target.locatePrograms(), []);
  });
});
