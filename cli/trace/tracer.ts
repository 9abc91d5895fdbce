/** Hears of what is to be traced, by the machine's own hooks, and passes it on. */

import { LONGEST_INSTRUCTION } from '../../sim-core/engine/form.ts';
import { BITNESS } from '../../sim-core/isa/decoder.ts';
import { instructionText } from '../../sim-core/isa/text.ts';
import type { Machine } from '../../sim-core/machine/api.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';
import type { Watch, WatchHit } from '../../sim-core/machine/watching/watch.ts';
import { formatRequester } from '../../sim-core/platform/pci/layout.ts';
import { ACTIVITY, type CodeMode } from '../../sim-core/state/layout.ts';
import { readMemory } from '../memory.ts';
import type { EventOf, TraceEvent, TraceFormat } from './events.ts';

export interface TraceKinds {
  readonly instructions: boolean;
  readonly exits: boolean;
  readonly memory: boolean;
  readonly devices: boolean;
}

const ALL_PORTS = 0x1_0000;
/** Physical addresses have at most 52 bits. */
const PHYSICAL_END = 2 ** 52;
const CANONICAL_HALF = 2 ** 63;
const MOST_KNOWN = 100_000;

interface Decoded {
  readonly mode: CodeMode;
  readonly bytes: Uint8Array;
  readonly text: string;
}

type NewEvent = {
  [Kind in TraceEvent['kind']]: Omit<EventOf<Kind>, 'processor' | 'world' | 'instructions' | 'cycles'>;
};

export class Tracer {
  private readonly machine: Machine;
  private readonly kinds: TraceKinds;
  private readonly format: TraceFormat;
  /** The instructions seen last, by address. */
  private readonly known = new Map<bigint, Decoded>();
  /** What happened during the instruction that is traced: told after it. */
  private held: TraceEvent[] | undefined;

  constructor(machine: Machine, kinds: TraceKinds, format: TraceFormat) {
    this.machine = machine;
    this.kinds = kinds;
    this.format = format;
  }

  /** From now on things are told. */
  begin(): void {
    const { machine, kinds } = this;
    if (kinds.exits) {
      machine.onVmExit = (exit) => this.tell<'exit'>({ kind: 'exit', exit });
      machine.onVmEntry = () => this.tell<'entry'>({ kind: 'entry', ...this.enteredGuest() });
      machine.onVmEntryFailure = ({ checks }) =>
        this.tell<'entryFailure'>({ kind: 'entryFailure', explanation: checks[0]?.explanation ?? '' });
    }
    if (kinds.memory) machine.watchWalks((reference) => this.tell<'walk'>({ kind: 'walk', ...reference }));
    const watches = [...(kinds.memory ? this.memoryWatches() : []), ...(kinds.devices ? this.deviceWatches() : [])];
    if (watches.length === 0) return;
    machine.setWatches(watches);
    machine.onWatch = (hits) => {
      for (const hit of hits) this.watched(hit);
      return false;
    };
  }

  /** Runs at most so many instructions. */
  run(instructions: number): StopReason {
    if (!this.kinds.instructions) return this.machine.run(instructions);
    const end = this.machine.instructions + instructions;
    for (;;) {
      const reason = this.step();
      if (reason.kind !== 'limit' || this.machine.instructions >= end) return reason;
    }
  }

  private step(): StopReason {
    const { machine } = this;
    if (machine.state.get32('activity') !== ACTIVITY.active) return machine.run(1);
    const before = this.instructionHere();
    this.held = [];
    const reason = machine.run(1);
    const completed = machine.instructions > before.instructions;
    this.format.add({ ...before, completed });
    for (const event of this.held) this.format.add(event);
    this.held = undefined;
    return reason;
  }

  private now(): Pick<TraceEvent, 'processor' | 'world' | 'instructions' | 'cycles'> {
    const { selected, world, instructions, cycles } = this.machine;
    return { processor: selected, world, instructions, cycles };
  }

  private instructionHere(): EventOf<'instruction'> {
    const { machine } = this;
    const address = machine.processors[machine.selected]?.rip ?? 0n;
    const { bytes, text } = this.decoded(address, readMemory(machine, address, LONGEST_INSTRUCTION));
    return { kind: 'instruction', ...this.now(), address, bytes, text, completed: true };
  }

  /** @param code what is there, which may be more than one instruction */
  private decoded(address: bigint, code: Uint8Array): Decoded {
    const { machine } = this;
    const mode = machine.state.get32('codeMode') as CodeMode;
    const known = this.known.get(address);
    if (known?.mode === mode && known.bytes.every((byte, i) => byte === code[i])) return known;
    if (this.known.size >= MOST_KNOWN) this.known.clear();
    const bytes = machine.decodeAt(address)?.bytes ?? code.subarray(0, 1);
    const decoded = { mode, bytes, text: instructionText(bytes, BITNESS[mode], address) ?? '(invalid)' };
    this.known.set(address, decoded);
    return decoded;
  }

  private enteredGuest(): { vpid: number; guestRip: bigint } {
    const { state } = this.machine;
    return { vpid: state.get32('vpid'), guestRip: state.get64('rip') };
  }

  /** @returns false: nothing that is traced stops the machine */
  private tell<Kind extends TraceEvent['kind']>(event: NewEvent[Kind]): false {
    const whole = { ...event, ...this.now() } as unknown as TraceEvent;
    if (this.held) this.held.push(whole);
    else this.format.add(whole);
    return false;
  }

  // ---- memory and devices

  private memoryWatches(): Watch[] {
    const halves = [0n, BigInt(CANONICAL_HALF)];
    const linear = halves.map(
      (address): Watch => ({ kind: 'memory', space: 'linear', access: 'readWrite', address, length: CANONICAL_HALF }),
    );
    const devices = this.machine.pci.map(
      ({ requester }): Watch => ({ kind: 'dma', access: 'readWrite', requester, address: 0n, length: PHYSICAL_END }),
    );
    return [...linear, ...devices];
  }

  private deviceWatches(): Watch[] {
    const { ramSize } = this.machine.state;
    const address = BigInt(ramSize);
    return [
      { kind: 'port', access: 'readWrite', port: 0, ports: ALL_PORTS },
      { kind: 'memory', space: 'hpa', access: 'readWrite', address, length: PHYSICAL_END - ramSize },
    ];
  }

  private watched(hit: WatchHit): void {
    const { watch, access, address = 0n, length = 0, after: value } = hit;
    if (watch.kind === 'port') {
      this.tell<'device'>({ kind: 'device', space: 'port', device: '', access, address, length, value });
    } else if (watch.kind === 'memory' && watch.space === 'hpa') {
      const device = this.machine.physical.device(Number(address))?.device.name ?? '';
      this.tell<'device'>({ kind: 'device', space: 'memory', device, access, address, length, value });
    } else {
      const by = watch.kind === 'dma' ? `device ${formatRequester(watch.requester)}` : hit.by;
      this.tell<'memory'>({ kind: 'memory', access, address, length, value, by });
    }
  }
}
