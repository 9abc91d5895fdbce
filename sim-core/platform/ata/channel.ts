/** A parallel ATA channel with up to two drives: who of them answers, and the interrupt (ATA8-APT). */

import { DEVICE, type Drive, REGISTER, STATUS } from './drive.ts';

/** Device control register: no interrupts, reset, and reading what was written to registers before the last bytes. */
const CONTROL = { noInterrupt: 0x02, reset: 0x04, previous: 0x80 } as const;
const EXECUTE_DEVICE_DIAGNOSTIC = 0x90;

interface ChannelState {
  control: number;
  /** 0 or 1. */
  selected: number;
}

export interface SavedChannel {
  readonly state: ChannelState;
  readonly drives: readonly unknown[];
}

export class Channel {
  readonly drives: readonly (Drive | undefined)[];
  private readonly line: (asserted: boolean) => void;
  private state: ChannelState = { control: 0, selected: 0 };

  /** @param drives device 0 and device 1 @param line INTRQ */
  constructor(drives: readonly (Drive | undefined)[], line: (asserted: boolean) => void) {
    this.drives = drives;
    this.line = line;
    for (const drive of drives) if (drive) drive.onInterrupt = () => this.update();
  }

  get selected(): Drive | undefined {
    return this.drives[this.state.selected];
  }

  private get isReset(): boolean {
    return (this.state.control & CONTROL.reset) !== 0;
  }

  private update(): void {
    this.line(this.selected?.state.interrupt === true && (this.state.control & CONTROL.noInterrupt) === 0);
  }

  /** The command block. A drive that is not there reads as zeros, which the one that is there answers for it. */
  read(register: number, size: number): number {
    const drive = this.selected;
    if (!drive) return 0;
    if (register === REGISTER.data) return drive.readData(Math.max(2, size));
    if (register === REGISTER.status) drive.acknowledge();
    return register === REGISTER.status ? this.status(drive) : drive.read(register, this.readsPrevious);
  }

  private get readsPrevious(): boolean {
    return (this.state.control & CONTROL.previous) !== 0;
  }

  private status(drive: Drive): number {
    return this.isReset ? STATUS.busy : drive.read(REGISTER.status, false);
  }

  /** The alternate status register: the interrupt stays. */
  get alternateStatus(): number {
    const drive = this.selected;
    return drive ? this.status(drive) : 0;
  }

  write(register: number, size: number, value: number): void {
    if (this.isReset) return;
    if (register === REGISTER.data) this.selected?.writeData(Math.max(2, size), value);
    else if (register === REGISTER.command) this.command(value & 0xff);
    else this.writeAll(register, value & 0xff);
  }

  private writeAll(register: number, value: number): void {
    // Whatever is written, bytes that were written before are read no more.
    this.state.control &= ~CONTROL.previous;
    for (const drive of this.drives) drive?.write(register, value);
    if (register === REGISTER.device) this.state.selected = value & DEVICE.second ? 1 : 0;
    this.update();
  }

  private command(code: number): void {
    if (code !== EXECUTE_DEVICE_DIAGNOSTIC) {
      this.selected?.command(code);
      return;
    }
    this.state.selected = 0;
    for (const drive of this.drives) drive?.diagnose();
  }

  /** The device control register. */
  control(value: number): void {
    const { isReset } = this;
    this.state.control = value & (CONTROL.noInterrupt | CONTROL.reset | CONTROL.previous);
    if (isReset && !this.isReset) this.reset();
    this.update();
  }

  private reset(): void {
    this.state.selected = 0;
    for (const drive of this.drives) drive?.reset();
  }

  /** Power-on. */
  powerOn(): void {
    this.state.control = 0;
    this.reset();
    this.update();
  }

  snapshot(): SavedChannel {
    return { state: { ...this.state }, drives: this.drives.map((drive) => drive?.snapshot()) };
  }

  restore(saved: SavedChannel): void {
    this.state = { ...saved.state };
    for (const [at, drive] of this.drives.entries()) drive?.restore(saved.drives[at]);
    this.update();
  }
}
