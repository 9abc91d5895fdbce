/**
 * A trace as JSON trace events, which Perfetto and chrome://tracing show: for each processor a track of slices, in the
 * guest and in the VMM (named by the VM exit that it handles), with the other events in them.
 */

import { describeQualification, exitReason } from '../../sim-core/vmx/exit-reasons.ts';
import { type EventOf, hex, type TraceEvent, type TraceFormat } from './events.ts';

/** A cycle is a nanosecond; trace events count microseconds. */
const CYCLES_PER_MICROSECOND = 1000;
/** Perfetto's name for one machine. */
const PROCESS = 1;

interface Slice {
  readonly name: string;
  readonly category: string;
  readonly begun: number;
  readonly args: object;
}

const microseconds = (cycles: number): number => cycles / CYCLES_PER_MICROSECOND;

export class PerfettoTrace implements TraceFormat {
  private readonly write: (text: string) => void;
  private isFirst = true;
  /** By processor: what it is in now. */
  private readonly open = new Map<number, Slice>();

  constructor(write: (text: string) => void) {
    this.write = write;
    write('{"displayTimeUnit":"ns","traceEvents":[\n');
    this.put({ ph: 'M', name: 'process_name', pid: PROCESS, args: { name: 'VMXray' } });
  }

  add(event: TraceEvent): void {
    if (!this.open.has(event.processor)) this.beginTrack(event);
    const handle = this[event.kind] as (event: TraceEvent) => void;
    handle.call(this, event);
  }

  end(reason: string, cycles: number): void {
    for (const processor of this.open.keys()) this.close(processor, cycles);
    const ts = microseconds(cycles);
    this.put({ ph: 'i', s: 'g', name: `end: ${reason}`, cat: 'run', pid: PROCESS, tid: 0, ts });
    this.write('\n]}\n');
  }

  // ---- by kind of event

  private exit({ exit, processor, cycles }: EventOf<'exit'>): void {
    const { reason, qualification, guestRip, cause } = exit;
    const name = exitReason(reason)?.name ?? `REASON_${reason}`;
    const meaning = describeQualification(reason, qualification, exit.interruptionInformation);
    const args = { reason, qualification: hex(qualification), meaning, guestRip: hex(guestRip), cause };
    this.close(processor, cycles);
    this.open.set(processor, { name: `VMM: ${name}`, category: 'vmm', begun: cycles, args });
  }

  private entry({ vpid, guestRip, processor, cycles }: EventOf<'entry'>): void {
    this.close(processor, cycles);
    const args = { guestRip: hex(guestRip) };
    this.open.set(processor, { name: `guest, VPID ${vpid}`, category: 'guest', begun: cycles, args });
  }

  private entryFailure(event: EventOf<'entryFailure'>): void {
    this.instant(event, 'VM entry failed', { explanation: event.explanation });
  }

  private instruction({ text, address, processor, cycles, instructions, completed }: EventOf<'instruction'>): void {
    const args = { address: hex(address), instructions, completed };
    const ts = microseconds(cycles);
    this.put({ ph: 'X', name: text, cat: 'instruction', pid: PROCESS, tid: processor, ts, dur: microseconds(1), args });
  }

  private memory(event: EventOf<'memory'>): void {
    const { access, address, length, value, by } = event;
    const args = { address: hex(address), length, by, ...(value === undefined ? {} : { value: hex(value) }) };
    this.instant(event, `memory ${access}`, args);
  }

  private walk(event: EventOf<'walk'>): void {
    const { access, table, address, length, value } = event;
    this.instant(event, `walk ${access} ${table}`, { address: hex(address), length, value: hex(value) });
  }

  private device(event: EventOf<'device'>): void {
    const { access, space, address, length, value, device } = event;
    const args = { address: hex(address), length, device, ...(value === undefined ? {} : { value: hex(value) }) };
    this.instant(event, `${space} ${access} ${hex(address)}`, args);
  }

  // ---- writing

  private beginTrack({ processor, world, cycles }: TraceEvent): void {
    const name = `processor ${processor}`;
    this.put({ ph: 'M', name: 'thread_name', pid: PROCESS, tid: processor, args: { name } });
    const [what, category] = world === 'guest' ? ['guest', 'guest'] : ['VMM', 'vmm'];
    this.open.set(processor, { name: what, category, begun: cycles, args: {} });
  }

  private instant({ kind, processor, cycles }: TraceEvent, name: string, args: object): void {
    this.put({ ph: 'i', s: 't', name, cat: kind, pid: PROCESS, tid: processor, ts: microseconds(cycles), args });
  }

  private close(processor: number, cycles: number): void {
    const slice = this.open.get(processor);
    if (!slice) return;
    const { name, category, begun, args } = slice;
    const dur = microseconds(cycles - begun);
    this.put({ ph: 'X', name, cat: category, pid: PROCESS, tid: processor, ts: microseconds(begun), dur, args });
  }

  private put(record: object): void {
    this.write(`${this.isFirst ? '' : ',\n'}${JSON.stringify(record)}`);
    this.isFirst = false;
  }
}
