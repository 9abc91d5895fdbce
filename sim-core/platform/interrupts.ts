import type { InterruptController } from '../cpu/cpu.ts';
import type { ProcessorState } from '../state/processor-state.ts';
import type { LocalApic } from './local-apic.ts';
import type { Pic } from './pic.ts';

/** Joins the 8259A pair and the local APIC in front of a processor, and drives its INTR line in its state. */
export class InterruptRouter implements InterruptController {
  private readonly state: ProcessorState;
  private readonly pic: Pic;
  private readonly apic: LocalApic;

  constructor(state: ProcessorState, pic: Pic, apic: LocalApic) {
    this.state = state;
    this.pic = pic;
    this.apic = apic;
  }

  /** The local APIC's own interrupts go before what the 8259A sends through LINT0. */
  acknowledge(): number {
    const vector = this.apic.asserted || !this.apic.passesExternal ? this.apic.acknowledge() : this.pic.acknowledge();
    this.update();
    return vector;
  }

  /** Makes INTR true to "an interrupt is waiting that the controllers let through". */
  update(): void {
    const asserted = this.apic.asserted || (this.apic.passesExternal && this.pic.asserted);
    if (asserted && this.state.get32('interruptRequest') === 0) this.state.signal();
    this.state.set32('interruptRequest', asserted ? 1 : 0);
  }

  readMsr(index: number): bigint | undefined {
    return this.apic.readMsr(index);
  }

  writeMsr(index: number, value: bigint): boolean {
    return this.apic.writeMsr(index, value);
  }

  performanceMonitoringInterrupt(): void {
    this.apic.performanceMonitoringInterrupt();
    this.update();
  }

  getTaskPriority(): number {
    return this.apic.getTaskPriority();
  }

  initialize(): void {
    this.apic.initialize();
  }

  endOfInterrupt(): void {
    this.apic.endOfInterrupt();
    this.update();
  }

  setTaskPriority(priority: number): void {
    this.apic.setTaskPriority(priority);
  }
}
