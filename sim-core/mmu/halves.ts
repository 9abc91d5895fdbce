/** Linear addresses as the engine has them: two unsigned 32-bit halves, which need no BigInt in hot paths. */

export const toLinear = (low: number, high: number): bigint => (BigInt(high) << 32n) | BigInt(low);
export const lowHalf = (linear: bigint): number => Number(linear & 0xffff_ffffn);
export const highHalf = (linear: bigint): number => Number((linear >> 32n) & 0xffff_ffffn);
