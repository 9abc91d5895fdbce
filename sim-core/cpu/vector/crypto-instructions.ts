/** AES, SHA and carry-less multiplication (SDM Vol. 2; FIPS 197 and FIPS 180-4 for the functions). */

import { OFFSET } from '../../state/layout.ts';
import type { SlowInstruction } from '../cpu.ts';
import type { NamedInstructions } from '../table.ts';
import {
  type Bytes, immediateOf, readSources, readVector, registerBytes, vectorInstruction, viewOf, writeResult,
} from './operands.ts'; // biome-ignore format: a list reads better in rows

/** dst = f(first, second) in each half of 16 bytes. */
const binary =
  (compute: (a: Bytes, b: Bytes, control: number) => Bytes, hasImmediate = false): SlowInstruction =>
  (cpu, instruction) => {
    const sources = readSources(cpu, instruction);
    if ('kind' in sources) return sources;
    const [a, b] = sources;
    const control = hasImmediate ? immediateOf(instruction, instruction.operands.length - 1) : 0;
    const result = new Uint8Array(a.length);
    for (let at = 0; at < a.length; at += 16) {
      result.set(compute(a.subarray(at, at + 16), b.subarray(at, at + 16), control), at);
    }
    return writeResult(cpu.state, instruction, result);
  };

/** dst = f(source), 16 bytes. */
const unary =
  (compute: (a: Bytes, control: number) => Bytes, hasImmediate = false): SlowInstruction =>
  (cpu, instruction) => {
    const source = readVector(cpu, instruction, 1, 16);
    if ('kind' in source) return source;
    const control = hasImmediate ? immediateOf(instruction, 2) : 0;
    return writeResult(cpu.state, instruction, compute(source, control));
  };

// ---- AES

/** Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
function product(a: number, b: number): number {
  let result = 0;
  for (let factor = a, rest = b; rest !== 0; rest >>= 1) {
    if ((rest & 1) !== 0) result ^= factor;
    factor = (factor << 1) ^ ((factor & 0x80) !== 0 ? 0x11b : 0);
  }
  return result;
}

/** The S-box: the multiplicative inverse, then an affine transformation. */
const S_BOX = Uint8Array.from({ length: 256 }, (_, value) => {
  let inverse = 0;
  for (let i = 1; i < 256 && inverse === 0; i++) if (product(value, i) === 1) inverse = i;
  const rotated = (count: number): number => ((inverse << count) | (inverse >> (8 - count))) & 0xff;
  return inverse ^ rotated(1) ^ rotated(2) ^ rotated(3) ^ rotated(4) ^ 0x63;
});
const INVERSE_S_BOX = new Uint8Array(256);
S_BOX.forEach((output, input) => {
  INVERSE_S_BOX[output] = input;
});

/** Row r of the state (bytes r, r + 4, …) rotated by r columns, each byte substituted. */
const shiftedAndSubstituted = (state: Bytes, box: Uint8Array, direction: 1 | -1): Bytes =>
  Uint8Array.from({ length: 16 }, (_, i) => box[state[(i + direction * 4 * (i % 4) + 16) % 16] as number] as number);

/** Each column multiplied by the polynomial whose coefficients are given from the lowest. */
const mixed = (state: Bytes, coefficients: readonly number[]): Bytes =>
  Uint8Array.from({ length: 16 }, (_, i) =>
    coefficients.reduce(
      (sum, coefficient, k) => sum ^ product(state[(i & ~3) + ((i + k) % 4)] as number, coefficient),
      0,
    ),
  );
const MIX = [2, 3, 1, 1];
const INVERSE_MIX = [14, 11, 13, 9];

const combined = (a: Bytes, b: Bytes): Bytes => a.map((byte, i) => byte ^ (b[i] as number));
const encrypted = (state: Bytes): Bytes => shiftedAndSubstituted(state, S_BOX, 1);
const decrypted = (state: Bytes): Bytes => shiftedAndSubstituted(state, INVERSE_S_BOX, -1);

/** AESKEYGENASSIST: doublewords 1 and 3 substituted, and the same rotated and combined with the round constant. */
function keyAssistance(source: Bytes, constant: number): Bytes {
  const view = viewOf(source.map((byte) => S_BOX[byte] as number));
  const result = new Uint8Array(16);
  [4, 12].forEach((from, i) => {
    const word = view.getUint32(from, true);
    viewOf(result).setUint32(8 * i, word, true);
    viewOf(result).setUint32(8 * i + 4, ((word >>> 8) | (word << 24)) ^ constant, true);
  });
  return result;
}

// ---- carry-less multiplication

/** Bits 0 and 4 of the immediate choose the quadwords. */
function carrylessProduct(a: Bytes, b: Bytes, control: number): Bytes {
  let factor = viewOf(a).getBigUint64((control & 1) * 8, true);
  let rest = viewOf(b).getBigUint64(((control >> 4) & 1) * 8, true);
  let sum = 0n;
  for (; rest !== 0n; rest >>= 1n, factor <<= 1n) if ((rest & 1n) !== 0n) sum ^= factor;
  const result = new Uint8Array(16);
  viewOf(result).setBigUint64(0, BigInt.asUintN(64, sum), true);
  viewOf(result).setBigUint64(8, sum >> 64n, true);
  return result;
}

// ---- SHA

const words = (bytes: Bytes): number[] => [0, 4, 8, 12].map((at) => viewOf(bytes).getUint32(at, true));

function fromWords(values: readonly number[]): Bytes {
  const bytes = new Uint8Array(16);
  values.forEach((value, i) => {
    viewOf(bytes).setUint32(4 * i, value, true);
  });
  return bytes;
}

type Four = [number, number, number, number];
const four = (bytes: Bytes): Four => words(bytes) as Four;
const rotateLeft = (value: number, count: number): number => (value << count) | (value >>> (32 - count));
const rotateRight = (value: number, count: number): number => rotateLeft(value, 32 - count);

const choose = (x: number, y: number, z: number): number => (x & y) ^ (~x & z);
const parity = (x: number, y: number, z: number): number => x ^ y ^ z;
const majority = (x: number, y: number, z: number): number => (x & y) ^ (x & z) ^ (y & z);
/** SHA-1's functions and constants by the rounds that they serve. */
const SHA1_ROUNDS = [
  [choose, 0x5a827999], [parity, 0x6ed9eba1], [majority, 0x8f1bbcdc], [parity, 0xca62c1d6],
] as const; // biome-ignore format: a table reads better in rows

/** A, B, C, D are the first operand from its top; the second holds W0 + E, W1, W2, W3 from its top. */
function sha1Rounds(state: Bytes, message: Bytes, control: number): Bytes {
  const [f, constant] = SHA1_ROUNDS[control & 3] as (typeof SHA1_ROUNDS)[number];
  let [d, c, b, a] = four(state);
  let e = 0;
  for (const word of words(message).reverse()) {
    const next = (f(b, c, d) + rotateLeft(a, 5) + word + e + constant) | 0;
    [e, d, c, b, a] = [d, c, rotateLeft(b, 30), a, next];
  }
  return fromWords([d, c, b, a]);
}

function sha1NextE(a: Bytes, b: Bytes): Bytes {
  const [, , , top] = four(a);
  const [b0, b1, b2, b3] = four(b);
  return fromWords([b0, b1, b2, b3 + rotateLeft(top, 30)]);
}

function sha1Message1(a: Bytes, b: Bytes): Bytes {
  const [w3, w2, w1, w0] = four(a);
  const [, , w5, w4] = four(b);
  return fromWords([w5 ^ w3, w4 ^ w2, w3 ^ w1, w2 ^ w0]);
}

function sha1Message2(a: Bytes, b: Bytes): Bytes {
  const [a0, a1, a2, a3] = four(a);
  const [w15, w14, w13] = four(b);
  const w16 = rotateLeft(a3 ^ w13, 1);
  return fromWords([rotateLeft(a0 ^ w16, 1), rotateLeft(a1 ^ w15, 1), rotateLeft(a2 ^ w14, 1), w16]);
}

/**
 * SHA256RNDS2: C, D, G, H in the first operand from its top, A, B, E, F in the second; message and constants in XMM0.
 */
const sha256Rounds: SlowInstruction = (cpu, instruction) => {
  const source = readVector(cpu, instruction, 1, 16);
  if ('kind' in source) return source;
  let [h, g, d, c] = four(registerBytes(cpu.state, instruction, 0));
  let [f, e, b, a] = four(source);
  const [first, second] = four(cpu.state.bytes.slice(OFFSET.ymm, OFFSET.ymm + 16));
  for (const word of [first, second]) {
    const upper = rotateRight(e, 6) ^ rotateRight(e, 11) ^ rotateRight(e, 25);
    const lower = rotateRight(a, 2) ^ rotateRight(a, 13) ^ rotateRight(a, 22);
    const sum = (h + upper + choose(e, f, g) + word) | 0;
    const next = (sum + lower + majority(a, b, c)) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + sum) | 0, c, b, a, next];
  }
  return writeResult(cpu.state, instruction, fromWords([f, e, b, a]));
};

const sigma0 = (value: number): number => rotateRight(value, 7) ^ rotateRight(value, 18) ^ (value >>> 3);
const sigma1 = (value: number): number => rotateRight(value, 17) ^ rotateRight(value, 19) ^ (value >>> 10);

function sha256Message1(a: Bytes, b: Bytes): Bytes {
  const [w0, w1, w2, w3] = four(a);
  const [w4] = four(b);
  return fromWords([w0 + sigma0(w1), w1 + sigma0(w2), w2 + sigma0(w3), w3 + sigma0(w4)]);
}

function sha256Message2(a: Bytes, b: Bytes): Bytes {
  const [a0, a1, a2, a3] = four(a);
  const [, , w14, w15] = four(b);
  const w16 = (a0 + sigma1(w14)) | 0;
  const w17 = (a1 + sigma1(w15)) | 0;
  return fromWords([w16, w17, a2 + sigma1(w16), a3 + sigma1(w17)]);
}

// ---- rows

/** Instructions with a legacy encoding and a VEX encoding. */
const BOTH: NamedInstructions = {
  Aesenc: binary((state, key) => combined(mixed(encrypted(state), MIX), key)),
  Aesenclast: binary((state, key) => combined(encrypted(state), key)),
  Aesdec: binary((state, key) => combined(mixed(decrypted(state), INVERSE_MIX), key)),
  Aesdeclast: binary((state, key) => combined(decrypted(state), key)),
  Aesimc: unary((state) => mixed(state, INVERSE_MIX)),
  Aeskeygenassist: unary(keyAssistance, true),
  Pclmulqdq: binary(carrylessProduct, true),
};

const LEGACY: NamedInstructions = {
  Sha1rnds4: binary(sha1Rounds, true),
  Sha1nexte: binary(sha1NextE),
  Sha1msg1: binary(sha1Message1),
  Sha1msg2: binary(sha1Message2),
  Sha256rnds2: sha256Rounds,
  Sha256msg1: binary(sha256Message1),
  Sha256msg2: binary(sha256Message2),
};

export const CRYPTO_INSTRUCTIONS: NamedInstructions = Object.fromEntries(
  [
    ...Object.entries({ ...BOTH, ...LEGACY }),
    ...Object.entries(BOTH).map(([name, execute]) => [`V${name.toLowerCase()}`, execute] as const),
  ].map(([name, execute]) => [name, vectorInstruction(execute)]),
);
