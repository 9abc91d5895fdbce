import type { Approximation } from './approximations.ts';

/** Where a case's code and data lie, on silicon and in the simulator alike, and its form on the harness's pipes. */

export const ADDRESS = {
  CODE: 0x10_0000,
  CODE_SIZE: 0x2000,
  DATA: 0x20_0000,
  DATA_SIZE: 0x2000,
  /** The compared part of the data, around a page boundary. */
  WINDOW: 0x20_0f00,
  WINDOW_SIZE: 512,
  GS_BASE: 0x1_0000,
  /** 16-bit data segment: its limit lies among the addresses that cases choose, so that some of them fault. */
  DATA16_BASE: 0x1f_8000,
  DATA16_LIMIT: 0x9030,
} as const;

export const PAGE_BOUNDARY = ADDRESS.WINDOW + 256;
export const YMM_BYTES = 512;
const CODE_BYTES = 32;
/** Bytes of an FXSAVE64 area up to the end of the x87 registers. */
export const X87_BYTES = 160;

/** The processor's state that instructions under test see, apart from the code. */
export interface MachineState {
  /** RAX, RCX, … R15. */
  readonly gpr: readonly bigint[];
  readonly rflags: bigint;
  readonly rip: bigint;
  readonly mxcsr: number;
  /** YMM0…YMM15, 32 bytes each. */
  readonly ymm: Uint8Array;
  /** The x87 state as FXSAVE64 stores it; the bytes of MXCSR and its mask do not count. */
  readonly x87: Uint8Array;
  /** Bytes of the window. */
  readonly memory: Uint8Array;
}

/** Segments that Linux has for 64-bit and 32-bit code; those for 16-bit code are in the LDT. */
export const MODES = {
  code64: { bitness: 64, code: 0x33, data: 0x2b, codeBase: 0, dataBase: 0 },
  code32: { bitness: 32, code: 0x23, data: 0x2b, codeBase: 0, dataBase: 0 },
  code16: { bitness: 16, code: 0x7, data: 0xf, codeBase: ADDRESS.CODE, dataBase: ADDRESS.DATA16_BASE },
} as const;
export type TestMode = keyof typeof MODES;

export interface Case {
  readonly mode: TestMode;
  readonly text: string;
  readonly code: Uint8Array;
  /** RFLAGS bits, and whether also results, that the manual leaves undefined. */
  readonly undefinedFlags: number;
  readonly undefinedResult: boolean;
  /** x87 status-word bits that are not compared. */
  readonly undefinedStatus: number;
  /** A transcendental instruction's name: its result may differ by one unit in the last place. */
  readonly approximate?: string;
  /** RCPxx and RSQRTxx: results within a bound are alike. */
  readonly approximation?: Approximation;
  readonly before: MachineState;
}

export interface Outcome {
  readonly after: MachineState;
  /** Exception vector; `NO_EXCEPTION` when the instruction completed. */
  readonly vector: number;
}

/** The vector of the INT3 behind the instruction: it was reached. */
export const NO_EXCEPTION = 3;

const HEAD = 16 * 8 + 8 + 8 + 4 + 4;
const INPUT_HEAD = HEAD + 8 + 8;
const INPUT_SIZE = INPUT_HEAD + CODE_BYTES + YMM_BYTES + X87_BYTES + ADDRESS.WINDOW_SIZE;
const OUTPUT_SIZE = HEAD + YMM_BYTES + X87_BYTES + ADDRESS.WINDOW_SIZE;

/** Cases as the harness's `struct input`. */
export function encodeCases(cases: readonly Case[]): Uint8Array {
  const bytes = new Uint8Array(cases.length * INPUT_SIZE);
  const view = new DataView(bytes.buffer);
  cases.forEach(({ mode, code, before }, i) => {
    const at = i * INPUT_SIZE;
    before.gpr.forEach((value, register) => {
      view.setBigUint64(at + 8 * register, value, true);
    });
    view.setBigUint64(at + 128, before.rflags, true);
    view.setBigUint64(at + 136, before.rip, true);
    view.setUint32(at + 144, before.mxcsr, true);
    view.setUint32(at + 148, code.length, true);
    view.setUint32(at + 152, MODES[mode].code, true);
    view.setUint32(at + 156, MODES[mode].data, true);
    view.setBigUint64(at + 160, BigInt(MODES[mode].codeBase), true);
    bytes.set(code, at + INPUT_HEAD);
    bytes.set(before.ymm, at + INPUT_HEAD + CODE_BYTES);
    bytes.set(before.x87, at + INPUT_HEAD + CODE_BYTES + YMM_BYTES);
    bytes.set(before.memory, at + INPUT_HEAD + CODE_BYTES + YMM_BYTES + X87_BYTES);
  });
  return bytes;
}

/** The harness's `struct output`s. */
export function decodeOutcomes(bytes: Uint8Array): Outcome[] {
  if (bytes.length % OUTPUT_SIZE !== 0) throw new Error(`the harness answered ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return Array.from({ length: bytes.length / OUTPUT_SIZE }, (_, i) => {
    const at = i * OUTPUT_SIZE;
    return {
      after: {
        gpr: Array.from({ length: 16 }, (_, register) => view.getBigUint64(at + 8 * register, true)),
        rflags: view.getBigUint64(at + 128, true),
        rip: view.getBigUint64(at + 136, true),
        mxcsr: view.getUint32(at + 144, true),
        ymm: bytes.slice(at + HEAD, at + HEAD + YMM_BYTES),
        x87: bytes.slice(at + HEAD + YMM_BYTES, at + HEAD + YMM_BYTES + X87_BYTES),
        memory: bytes.slice(at + HEAD + YMM_BYTES + X87_BYTES, at + OUTPUT_SIZE),
      },
      vector: view.getUint32(at + 148, true),
    };
  });
}
