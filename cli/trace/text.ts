/** A trace as lines: instruction count, processor, world, and what happened. */

import { describeQualification, exitReason } from '../../sim-core/vmx/exit-reasons.ts';
import { type EventOf, hex, type TraceEvent, type TraceFormat } from './events.ts';

const LONGEST_ENCODING = 3 * 8;

const DESCRIPTIONS: { readonly [Kind in TraceEvent['kind']]: (event: EventOf<Kind>) => string } = {
  instruction: ({ address, bytes, text, completed }) => {
    const encoding = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    return `${address.toString(16).padStart(16, '0')}  ${encoding.padEnd(LONGEST_ENCODING)} ${text}${completed ? '' : '  ; not completed'}`;
  },
  exit: ({ exit }) => {
    const { reason, qualification, guestRip, cause } = exit;
    const words = describeQualification(reason, qualification, exit.interruptionInformation);
    const name = exitReason(reason)?.name ?? `REASON_${reason}`;
    return `VM exit ${name}${words === '' ? '' : ` (${words})`}, qualification ${hex(qualification)}, guest RIP ${hex(guestRip)}: ${cause}`;
  },
  entry: ({ vpid, guestRip }) => `VM entry, VPID ${vpid}, guest RIP ${hex(guestRip)}`,
  entryFailure: ({ explanation }) => `VM entry failed: ${explanation}`,
  memory: ({ access, address, length, value, by }) =>
    `${access} ${hex(address)}, ${length} bytes${value === undefined ? '' : ` = ${hex(value)}`}${by === 'instruction' ? '' : ` by the ${by}`}`,
  walk: ({ access, table, address, length, value }) =>
    `walk ${access} ${hex(address)}, ${length} bytes = ${hex(value)}  ${table}`,
  device: ({ access, space, address, length, value, device }) =>
    `${space} ${access} ${hex(address)}, ${length} bytes${value === undefined ? '' : ` = ${hex(value)}`}  ${device}`,
};

export class TextTrace implements TraceFormat {
  private readonly write: (text: string) => void;

  constructor(write: (text: string) => void) {
    this.write = write;
  }

  add(event: TraceEvent): void {
    const describe = DESCRIPTIONS[event.kind] as (event: TraceEvent) => string;
    const place = `${String(event.instructions).padStart(10)} ${event.processor} ${event.world.padEnd(5)}`;
    this.write(`${place} ${describe(event)}\n`);
  }

  end(reason: string, cycles: number): void {
    this.write(`end: ${reason}, cycle ${cycles}\n`);
  }
}
