/** Random operands with a liking for the edges, from a printed seed. */

const EDGES: readonly bigint[] = [
  0n, 1n, 2n, 0xfn, 0x10n, 0x1fn, 0x20n, 0x3fn, 0x40n, 0x7fn, 0x80n, 0xffn, 0x100n, 0x7fffn, 0x8000n, 0xffffn,
  0x1_0000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, 0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_fffen, 0xffff_ffff_8000_0000n, 0xffff_ffff_7fff_ffffn,
  0xffff_ffff_ffff_ff80n, 0x0101_0101_0101_0101n, 0x8080_8080_8080_8080n, 0x5555_5555_5555_5555n,
  0x8000_8000_8000_8000n,
]; // biome-ignore format: a list reads better in rows

/** Bit patterns of single-precision numbers: zeros, denormals, ones, limits, infinities, NaNs, 2^31 and around. */
const SINGLES: readonly bigint[] = [
  0n, 0x8000_0000n, 1n, 0x807f_ffffn, 0x0080_0000n, 0x3f80_0000n, 0xbf80_0000n, 0x7f7f_ffffn, 0xff7f_ffffn,
  0x7f80_0000n, 0xff80_0000n, 0x7fc0_0000n, 0xffc1_2345n, 0x7f80_0001n, 0xffa5_5555n, 0x3f00_0000n, 0x3fc0_0000n,
  0x4020_0000n, 0xbf00_0000n, 0xc020_0000n, 0x4f00_0000n, 0x4eff_ffffn, 0xcf00_0000n, 0xcf00_0001n, 0x5f00_0000n,
  0x5eff_ffffn, 0xdf00_0000n, 0xdf00_0001n, 0x4b00_0001n, 0x4770_0000n,
]; // biome-ignore format: a list reads better in rows

/** The same for double precision, with the neighbours of 2^31 and 2^63 and numbers at the edges of single precision. */
const DOUBLES: readonly bigint[] = [
  0n, 0x8000_0000_0000_0000n, 1n, 0x800f_ffff_ffff_ffffn, 0x0010_0000_0000_0000n, 0x3ff0_0000_0000_0000n,
  0xbff0_0000_0000_0000n, 0x7fef_ffff_ffff_ffffn, 0xffef_ffff_ffff_ffffn, 0x7ff0_0000_0000_0000n,
  0xfff0_0000_0000_0000n, 0x7ff8_0000_0000_0000n, 0xfff8_1234_5678_9abcn, 0x7ff0_0000_0000_0001n,
  0xfff5_5555_5555_5555n, 0x3fe0_0000_0000_0000n, 0x3ff8_0000_0000_0000n, 0x4004_0000_0000_0000n,
  0xbfe0_0000_0000_0000n, 0xc004_0000_0000_0000n, 0x41e0_0000_0000_0000n, 0x41df_ffff_ffc0_0000n,
  0x41df_ffff_ffe0_0000n, 0xc1e0_0000_0000_0000n, 0xc1e0_0000_0010_0000n, 0xc1e0_0000_0020_0000n,
  0x43e0_0000_0000_0000n, 0x43df_ffff_ffff_ffffn, 0xc3e0_0000_0000_0000n, 0xc3e0_0000_0000_0001n,
  0x47ef_ffff_e000_0000n, 0x47ef_ffff_f000_0000n, 0x36a0_0000_0000_0000n, 0x3690_0000_0000_0000n,
  0x3ff0_0000_1000_0000n, 0x3ff0_0000_3000_0000n,
]; // biome-ignore format: a list reads better in rows

export class Random {
  private state: number;

  /** @param seed 32 bits. */
  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** 32 bits (the mulberry32 generator). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** 0 … limit - 1. */
  below(limit: number): number {
    return this.next() % limit;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  bits64(): bigint {
    return (BigInt(this.next()) << 32n) | BigInt(this.next());
  }

  /** An integer operand: an edge, a small number of either sign, or anything. */
  integer(): bigint {
    const kind = this.below(3);
    if (kind === 0) return this.pick(EDGES);
    if (kind === 1) return BigInt.asUintN(64, BigInt(this.below(300) - 150));
    return this.bits64();
  }

  /** Sixteen bytes: floating-point edges, ordinary numbers, integer edges, or anything. */
  vector(): readonly [bigint, bigint] {
    const lane = this.pick([
      () => this.singles(() => this.pick(SINGLES)),
      () => this.singles(() => this.ordinary(8n, 23n, 127n)),
      () => this.pick(DOUBLES),
      () => this.ordinary(11n, 52n, 1023n),
      () => this.integer(),
      () => this.bits64(),
    ]);
    return [lane(), lane()];
  }

  private singles(one: () => bigint): bigint {
    return (one() << 32n) | one();
  }

  /** A finite number of moderate size with a random fraction: exponent of ±2^40. */
  private ordinary(exponentBits: bigint, fractionBits: bigint, bias: bigint): bigint {
    const sign = BigInt(this.below(2)) << (exponentBits + fractionBits);
    const exponent = (bias + BigInt(this.below(80) - 40)) << fractionBits;
    return sign | exponent | BigInt.asUintN(Number(fractionBits), this.bits64());
  }
}
