/** PC firmware such as SeaBIOS: it gets the whole machine as after reset, and boots what it finds. */

import type { MmioDevice } from '../mmu/physical-memory.ts';
import type { LoadedImage } from './boot-request.ts';
import { enterRealMode } from './entry-state.ts';
import { ImageError } from './image-error.ts';
import type { Loading } from './loading.ts';

const KIB = 1024;
const GIB4 = 2 ** 32;
const LARGEST = 16 * KIB * KIB;
/** The copy of the firmware's end below 1 MiB, where real-address mode reaches it. */
const SHADOW = { end: 0x10_0000, largest: 256 * KIB } as const;
/** The reset vector, as the copy has it. */
const RESET = { segment: 0xf000, offset: 0xfff0 } as const;

/** What is at the top of the first 4 GiB. Writes vanish. */
class Rom implements MmioDevice {
  readonly name = 'firmware';
  private readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--)
      value = value * 256 + (offset + i < this.view.byteLength ? this.view.getUint8(offset + i) : 0xff);
    return value;
  }

  write(): void {}
}

/** @throws ImageError */
export function loadFirmware({ cpu, request }: Loading): LoadedImage {
  const { name, image } = request;
  const { physical } = cpu.mmu;
  if (image.length % (64 * KIB) !== 0 || image.length > LARGEST) {
    const what = `firmware of ${image.length} bytes: it must be a multiple of 64 KiB, at most 16 MiB`;
    throw new ImageError('wrong-format', name, '', what);
  }
  const size = Math.min(image.length, SHADOW.largest);
  const segment = { physical: SHADOW.end - size, fileOffset: image.length - size, fileSize: size, memorySize: size };
  physical.poke(segment.physical, image.subarray(segment.fileOffset));
  physical.map(GIB4 - image.length, image.length, new Rom(image));
  enterRealMode(cpu, RESET.segment, RESET.offset);
  return { format: 'firmware', entry: 16 * RESET.segment + RESET.offset, segments: [segment] };
}
