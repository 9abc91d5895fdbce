import type { Fault } from '../mmu/fault.ts';

/** One step on the way to a triple fault. */
export interface FaultStep {
  readonly fault: Fault;
  readonly rip: bigint;
  readonly description: string;
  /** The error code in words; empty when there is none or it says nothing. */
  readonly errorCode: string;
  /** What the delivery read before it failed. */
  readonly reads: readonly DeliveryRead[];
}

/** Something that event delivery looks at. */
export interface DeliveryRead {
  /** 'IDT entry 8', 'RSP0 of the TSS', … */
  readonly what: string;
  /** Linear address. */
  readonly address: bigint;
  /** The 8 (real mode: 4) bytes there; undefined when they were not or could not be read. */
  readonly value?: bigint;
  /** What the value means, or why it was not read. */
  readonly note: string;
}

/** A step in lines: what happened, the error code, what was read. */
export function stepLines({ rip, description, errorCode, reads }: FaultStep): string[] {
  const hex = (value: bigint): string => `0x${value.toString(16)}`;
  return [
    `at ${hex(rip)}: ${description}`,
    ...(errorCode === '' ? [] : [`    error code: ${errorCode}`]),
    ...reads.map(({ what, address, value, note }) => {
      const found = value === undefined ? '' : ` = ${hex(value)}`;
      return `    ${what} at ${hex(address)}${found}${note === '' ? '' : `: ${note}`}`;
    }),
  ];
}
