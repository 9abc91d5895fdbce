/** The pair of 8259A interrupt controllers of a PC (Intel 8259A data sheet), with the edge/level registers of EISA. */

import type { Line, PortDevice, Snapshotted } from './device.ts';

/** What a chip keeps. Masks have a bit per input, IR0 in bit 0. */
export interface PicState {
  /** Levels of the inputs. */
  inputs: number;
  /** Edges seen and not yet acknowledged (edge-triggered inputs). */
  edges: number;
  inService: number;
  mask: number;
  /** Inputs that are level-triggered, by ELCR: with that register there, ICW1.LTIM has no effect. */
  levelTriggered: number;
  /** ICW2: the vector of IR0. */
  vectorBase: number;
  /** The initialisation word that the next write to the odd port is; 0 when initialised. */
  nextWord: 0 | 2 | 3 | 4;
  needsWord4: boolean;
  single: boolean;
  autoEndOfInterrupt: boolean;
  specialFullyNested: boolean;
  rotateInAutoEoi: boolean;
  specialMask: boolean;
  /** The input of lowest priority: 7 after initialisation. */
  lowest: number;
  /** OCW3: the register that the even port reads. */
  readInService: boolean;
  poll: boolean;
}

/** As PC firmware leaves it, but all masked: without firmware nothing may interrupt before software initialises it. */
const powerOn = (vectorBase: number): PicState => ({
  inputs: 0,
  edges: 0,
  inService: 0,
  mask: 0xff,
  levelTriggered: 0,
  vectorBase,
  nextWord: 0,
  needsWord4: false,
  single: false,
  autoEndOfInterrupt: false,
  specialFullyNested: false,
  rotateInAutoEoi: false,
  specialMask: false,
  lowest: 7,
  readInService: false,
  poll: false,
});

const ICW1 = 0x10;
const OCW3 = 0x08;
const SPURIOUS_INPUT = 7;

/** One 8259A. */
class Chip {
  state: PicState;
  /** The master's inputs that slaves are on (ICW3); 0 for the slave. */
  private readonly cascade: number;
  /** Called when something that decides about INT may have changed; tells whether a request was acknowledged. */
  private readonly changed: (acknowledged: boolean) => void;

  constructor(initialBase: number, cascade: number, changed: (acknowledged: boolean) => void) {
    this.cascade = cascade;
    this.changed = changed;
    this.state = powerOn(initialBase);
  }

  setInput(input: number, asserted: boolean): void {
    const { state } = this;
    const bit = 1 << input;
    if (asserted) state.edges |= bit & ~state.inputs;
    // A request that goes away before it is acknowledged is forgotten; the processor then meets a spurious IR7.
    else state.edges &= ~bit;
    state.inputs = asserted ? state.inputs | bit : state.inputs & ~bit;
  }

  /** IRR. */
  get requests(): number {
    const { edges, inputs, levelTriggered } = this.state;
    return (edges & ~levelTriggered) | (inputs & levelTriggered);
  }

  /** The input to be served, or undefined: the INT output is whether there is one. */
  candidate(): number | undefined {
    const { state } = this;
    const requests = this.requests & ~state.mask;
    if (requests === 0) return undefined;
    const blocking = state.specialMask ? state.inService & ~state.mask : state.inService;
    for (let i = 1; i <= 8; i++) {
      const input = (state.lowest + i) & 7;
      const bit = 1 << input;
      // In special fully nested mode a slave in service does not lock out its own higher requests.
      const nested = state.specialFullyNested && (this.cascade & bit) !== 0 && (requests & bit) !== 0;
      if (blocking & bit && !nested) return undefined;
      if (requests & bit) return input;
    }
    return undefined;
  }

  /** An INTA sequence. @returns the input, 7 when the request has gone (spurious: nothing is in service then). */
  acknowledge(): { input: number; spurious: boolean } {
    const { state } = this;
    const input = this.candidate();
    if (input === undefined) return { input: SPURIOUS_INPUT, spurious: true };
    const bit = 1 << input;
    state.edges &= ~bit;
    if (!state.autoEndOfInterrupt) state.inService |= bit;
    else if (state.rotateInAutoEoi) state.lowest = input;
    return { input, spurious: false };
  }

  read(odd: boolean): number {
    const { state } = this;
    if (state.poll) {
      state.poll = false;
      const { input, spurious } = this.acknowledge();
      this.changed(true);
      return spurious ? 0 : 0x80 | input;
    }
    if (odd) return state.mask;
    return state.readInService ? state.inService : this.requests;
  }

  write(odd: boolean, value: number): void {
    if (odd) this.writeOdd(value);
    else if (value & ICW1) this.initialise(value);
    else if (value & OCW3) this.control(value);
    else this.endOfInterrupt(value);
    this.changed(false);
  }

  private initialise(word1: number): void {
    const { inputs, vectorBase, levelTriggered } = this.state;
    this.state = { ...powerOn(vectorBase), mask: 0, inputs, levelTriggered };
    this.state.nextWord = 2;
    this.state.needsWord4 = (word1 & 1) !== 0;
    this.state.single = (word1 & 2) !== 0;
  }

  private writeOdd(value: number): void {
    const { state } = this;
    const word = state.nextWord;
    const word4 = state.needsWord4 ? 4 : 0;
    if (word === 0) {
      state.mask = value;
    } else if (word === 2) {
      state.vectorBase = value & 0xf8;
      state.nextWord = state.single ? word4 : 3;
    } else if (word === 3) {
      // ICW3 tells how the chips are wired, which a PC's board has settled.
      state.nextWord = word4;
    } else {
      state.autoEndOfInterrupt = (value & 2) !== 0;
      state.specialFullyNested = (value & 0x10) !== 0;
      state.nextWord = 0;
    }
  }

  /** OCW3: special mask mode, poll, which register the even port reads. */
  private control(value: number): void {
    const { state } = this;
    if (value & 0x40) state.specialMask = (value & 0x20) !== 0;
    if (value & 0x04) state.poll = true;
    else if (value & 0x02) state.readInService = (value & 1) !== 0;
  }

  /** OCW2: bits 7:5 are rotate, specific, EOI; bits 2:0 the level of specific commands. */
  private endOfInterrupt(value: number): void {
    const { state } = this;
    const [rotate, specific, end] = [(value & 0x80) !== 0, (value & 0x40) !== 0, (value & 0x20) !== 0];
    const level = value & 7;
    if (!end) {
      if (specific && rotate) state.lowest = level;
      else if (!specific) state.rotateInAutoEoi = rotate;
      return;
    }
    const input = specific ? level : this.highestInService();
    if (input === undefined) return;
    state.inService &= ~(1 << input);
    if (rotate) state.lowest = input;
  }

  private highestInService(): number | undefined {
    const { state } = this;
    const eligible = state.specialMask ? state.inService & ~state.mask : state.inService;
    for (let i = 1; i <= 8; i++) {
      const input = (state.lowest + i) & 7;
      if (eligible & (1 << input)) return input;
    }
    return undefined;
  }
}

const CASCADE_INPUT = 2;
const PORT = { master: 0x20, slave: 0xa0, elcr: 0x4d0 } as const;
/** Inputs that a PC's board fixes to edges: IRQ0, 1, 2 of the master; 8 and 13 of the slave. */
const ALWAYS_EDGE = { master: 0x07, slave: 0x21 } as const;

export interface PicPairState {
  readonly master: PicState;
  readonly slave: PicState;
}

/** Master at ports 20h and 21h, slave at A0h and A1h on the master's IR2; edge/level control at 4D0h and 4D1h. */
export class Pic implements PortDevice, Snapshotted<PicPairState> {
  readonly name = '8259A pair';
  /** The master's INT output. */
  private readonly output: Line;
  private readonly master = new Chip(0x08, 1 << CASCADE_INPUT, () => this.update());
  private readonly slave = new Chip(0x70, 0, (acknowledged) => this.update(acknowledged));

  constructor(output: Line) {
    this.output = output;
  }

  static readonly ports = [
    [PORT.master, 2],
    [PORT.slave, 2],
    [PORT.elcr, 2],
  ] as const;

  /** Drives IRQ 0…15 (2 is the cascade). */
  setLine(irq: number, asserted: boolean): void {
    (irq < 8 ? this.master : this.slave).setInput(irq & 7, asserted);
    this.update();
  }

  /** Sets an input's bit in ELCR, as firmware does for PCI's interrupts. */
  setLevelTriggered(irq: number): void {
    const port = PORT.elcr + (irq >> 3);
    this.write(port, 1, this.read(port) | (1 << (irq & 7)));
  }

  /** The input's mask bit: a masked input cannot interrupt. */
  isMasked(irq: number): boolean {
    const { mask, nextWord } = (irq < 8 ? this.master : this.slave).state;
    return nextWord !== 0 || (mask & (1 << (irq & 7))) !== 0;
  }

  get asserted(): boolean {
    return this.master.state.nextWord === 0 && this.master.candidate() !== undefined;
  }

  /** An interrupt-acknowledge cycle. @returns the vector; IR7's or IR15's when the request has gone (spurious). */
  acknowledge(): number {
    const { input, spurious } = this.master.acknowledge();
    if (input !== CASCADE_INPUT || spurious) {
      this.update();
      return this.master.state.vectorBase + input;
    }
    const vector = this.slave.state.vectorBase + this.slave.acknowledge().input;
    this.update(true);
    return vector;
  }

  read(port: number): number {
    if ((port & ~1) === PORT.elcr) return this.chip(port).state.levelTriggered;
    return this.chip(port).read((port & 1) !== 0);
  }

  write(port: number, _size: number, value: number): void {
    if ((port & ~1) === PORT.elcr) {
      const fixed = port & 1 ? ALWAYS_EDGE.slave : ALWAYS_EDGE.master;
      this.chip(port).state.levelTriggered = value & ~fixed;
      this.update();
      return;
    }
    this.chip(port).write((port & 1) !== 0, value);
  }

  private chip(port: number): Chip {
    const slave = (port & ~1) === PORT.elcr ? (port & 1) !== 0 : (port & ~1) === PORT.slave;
    return slave ? this.slave : this.master;
  }

  /**
   * Carries the slave's INT to the master's IR2, and the master's to the processor's side. INT falls when a request is
   * acknowledged, so that another request of the slave is a new edge for the master.
   */
  private update(slaveAcknowledged = false): void {
    if (slaveAcknowledged) this.master.setInput(CASCADE_INPUT, false);
    const slaveAsserted = this.slave.state.nextWord === 0 && this.slave.candidate() !== undefined;
    this.master.setInput(CASCADE_INPUT, slaveAsserted);
    this.output(this.asserted);
  }

  snapshot(): PicPairState {
    return structuredClone({ master: this.master.state, slave: this.slave.state });
  }

  restore(saved: PicPairState): void {
    const copy = structuredClone(saved);
    this.master.state = copy.master;
    this.slave.state = copy.slave;
    this.update();
  }
}
