import { OFFSET, PROCESSOR_START, parkingOf, STATE_END, type StateField } from './layout.ts';
import type { State } from './state.ts';

/** What devices read and write of a processor's state. */
export type StateFields = Pick<State, 'get32' | 'set32' | 'get64' | 'set64' | 'getFloat' | 'setFloat'>;

/**
 * The state of one of several processors, wherever it is: all code has the addresses of the one that runs built in, so
 * the others' states are parked behind RAM and copied in when it is their turn.
 */
export class ProcessorState implements StateFields {
  readonly index: number;
  private readonly state: State;
  private readonly parking: number;

  constructor(state: State, index: number) {
    this.state = state;
    this.index = index;
    this.parking = parkingOf(state.ramSize, index);
  }

  /** Whether this processor's state is where `State` and the engine look. */
  get isLoaded(): boolean {
    return this.state.u32[OFFSET.loadedProcessor >>> 2] === this.index;
  }

  /** Copies the state out, to make room for another processor's, which is loaded next. */
  park(): void {
    this.state.bytes.copyWithin(this.parking, PROCESSOR_START, STATE_END);
  }

  load(): void {
    this.state.bytes.copyWithin(PROCESSOR_START, this.parking, this.parking + STATE_END - PROCESSOR_START);
    this.state.set32('loadedProcessor', this.index);
  }

  /** Something has come for this processor. Whoever runs looks up: the turn may be over. */
  signal(): void {
    this.set32('attention', 1);
    if (this.isLoaded) return;
    this.state.set32('attention', 1);
    this.state.set32('othersMayRun', 1);
  }

  private at(field: StateField): number {
    return this.isLoaded ? OFFSET[field] : this.parking + OFFSET[field] - PROCESSOR_START;
  }

  get32(field: StateField, index = 0): number {
    return this.state.u32[(this.at(field) >>> 2) + index] as number;
  }
  set32(field: StateField, value: number, index = 0): void {
    this.state.u32[(this.at(field) >>> 2) + index] = value;
  }
  get64(field: StateField, index = 0): bigint {
    return this.state.u64[(this.at(field) >>> 3) + index] as bigint;
  }
  set64(field: StateField, value: bigint, index = 0): void {
    this.state.u64[(this.at(field) >>> 3) + index] = value;
  }
  getFloat(field: StateField, index = 0): number {
    return this.state.f64[(this.at(field) >>> 3) + index] as number;
  }
  setFloat(field: StateField, value: number, index = 0): void {
    this.state.f64[(this.at(field) >>> 3) + index] = value;
  }
}
