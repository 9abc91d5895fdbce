/** The virtio entropy device (virtio 1.2, section 5.4): a generator's numbers, the same ones in the same run. */

import type { VirtioDevice, VirtioModel } from './transport.ts';

const DEFAULT_SEED = 0x9e37_79b9_7f4a_7c15n;
/** More is left for the driver's next request. */
const LARGEST_ANSWER = 1 << 16;

export class VirtioRng implements VirtioModel {
  readonly name = 'virtio-rng';
  readonly id = 4;
  readonly classCode = 0x00_ff00;
  readonly features = 0n;
  readonly queueSizes = [8];
  readonly configuration = new Uint8Array(0);
  private readonly seed: bigint;
  private state: bigint;

  /** @param seed any number but 0 */
  constructor(seed = DEFAULT_SEED) {
    this.seed = BigInt.asUintN(64, seed) || DEFAULT_SEED;
    this.state = this.seed;
  }

  serve(index: number, device: VirtioDevice): void {
    const queue = device.queues[index];
    for (let chain = queue?.take(); queue && chain; chain = queue.take()) {
      const bytes = Uint8Array.from({ length: Math.min(queue.room(chain), LARGEST_ANSWER) }, () => this.next());
      queue.scatter(chain, bytes);
      device.complete(index, chain, bytes.length);
    }
  }

  /** xorshift64* (Vigna), its topmost byte. */
  private next(): number {
    let x = this.state;
    x ^= x >> 12n;
    x = BigInt.asUintN(64, x ^ (x << 25n));
    x ^= x >> 27n;
    this.state = x;
    return Number(BigInt.asUintN(64, x * 0x2545_f491_4f6c_dd1dn) >> 56n);
  }

  reset(): void {
    this.state = this.seed;
  }

  snapshot(): unknown {
    return this.state;
  }

  restore(saved: unknown): void {
    if (typeof saved === 'bigint') this.state = saved;
  }
}
