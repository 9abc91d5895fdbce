/** The local APICs of all processors: where interrupt messages and interprocessor interrupts arrive. */

import type { Clock, InterruptController } from '../cpu/cpu.ts';
import type { MmioDevice, PhysicalMemory } from '../mmu/physical-memory.ts';
import { START_UP } from '../state/layout.ts';
import type { ProcessorState } from '../state/processor-state.ts';
import type { Snapshotted } from './device.ts';
import { DELIVERY_MODE, type InterruptMessage } from './interrupt-message.ts';
import { InterruptRouter } from './interrupts.ts';
import { APIC_PAGE_SIZE, LocalApic, type LocalApicState, SHORTHAND, type Shorthand } from './local-apic.ts';
import type { Pic } from './pic.ts';

export interface LocalApicsConfig {
  readonly processors: readonly ProcessorState[];
  readonly physical: PhysicalMemory;
  readonly clock: Clock;
  readonly physicalAddressBits: number;
  readonly pic: Pic;
  /** Something that decides about the next deadline may have changed. */
  changed(): void;
  /** A level-triggered interrupt has ended. */
  levelEnded(vector: number): void;
  /** A processor has sent an interrupt to another one. */
  sent(): void;
  /** Local APICs moved in physical address space. */
  moved(): void;
}

/** A processor with its local APIC. */
interface Node {
  readonly state: ProcessorState;
  readonly apic: LocalApic;
  readonly router: InterruptRouter;
  /** Where its registers are; undefined when nowhere. */
  base: number | undefined;
}

export class LocalApics implements Snapshotted<readonly LocalApicState[]> {
  private readonly config: LocalApicsConfig;
  private readonly nodes: readonly Node[];
  /** What is mapped, by address: each processor finds its own local APIC there. */
  private readonly pages = new Map<number, MmioDevice>();

  constructor(config: LocalApicsConfig) {
    this.config = config;
    this.nodes = config.processors.map((state) => this.makeNode(state));
  }

  private makeNode(state: ProcessorState): Node {
    const { clock, physicalAddressBits, pic } = this.config;
    const apic: LocalApic = new LocalApic({
      state,
      clock,
      physicalAddressBits,
      number: state.index,
      changed: () => {
        router.update();
        this.config.changed();
      },
      moved: (base) => this.move(node, base),
      nonMaskableInterrupt: () => raise(state, 'nmiRequest'),
      init: () => signalInit(state),
      levelEnded: (vector) => this.config.levelEnded(vector),
      send: (message, shorthand) => {
        const targets = this.named(node, message, shorthand);
        for (const target of targets) accept(target, message);
        if (targets.some((target) => target !== node)) this.config.sent();
      },
    });
    const router = new InterruptRouter(state, pic, apic);
    const node: Node = { state, apic, router, base: undefined };
    return node;
  }

  get all(): readonly LocalApic[] {
    return this.nodes.map(({ apic }) => apic);
  }

  /** In front of each processor. */
  get controllers(): readonly InterruptController[] {
    return this.nodes.map(({ router }) => router);
  }

  /** The 8259A pair's output, which goes to LINT0 of every processor. */
  setExternal(asserted: boolean): void {
    for (const { apic } of this.nodes) apic.setPin(0, asserted);
    this.update();
  }

  /** Whether the 8259A pair's output goes nowhere at all. */
  get blocksExternal(): boolean {
    return this.nodes.every(({ apic }) => apic.blocksExternal);
  }

  /** Makes the INTR lines true to the controllers' states. */
  update(): void {
    for (const { router } of this.nodes) router.update();
  }

  // ---- messages

  /** Takes a message to the processors that it names. @returns whether one accepted it */
  deliver(message: InterruptMessage): boolean {
    let accepted = false;
    for (const node of this.named(undefined, message, SHORTHAND.none)) accepted = accept(node, message) || accepted;
    return accepted;
  }

  private named(sender: Node | undefined, message: InterruptMessage, shorthand: Shorthand): readonly Node[] {
    const { destination, logical, deliveryMode } = message;
    const named = this.nodes.filter((node) => {
      if (shorthand === SHORTHAND.none) return node.apic.isDestination(destination, logical);
      return node.apic.enabled && (shorthand === SHORTHAND.all || (node === sender) === (shorthand === SHORTHAND.self));
    });
    return deliveryMode === DELIVERY_MODE.lowestPriority ? lowest(named) : named;
  }

  // ---- registers in memory

  private move(node: Node, base: number | undefined): void {
    const before = node.base;
    if (base === before) return;
    node.base = base;
    const left = before !== undefined && this.unmapUnused(before);
    const entered = base !== undefined && this.mapOnce(base);
    if (left || entered) this.config.moved();
  }

  private unmapUnused(base: number): boolean {
    const page = this.pages.get(base);
    if (!page || this.nodes.some((node) => node.base === base)) return false;
    this.config.physical.unmap(page);
    return this.pages.delete(base);
  }

  private mapOnce(base: number): boolean {
    if (this.pages.has(base)) return false;
    const own = (): LocalApic | undefined => this.nodes.find((node) => node.state.isLoaded && node.base === base)?.apic;
    const page: MmioDevice = {
      name: 'local APIC',
      // Where only other processors have theirs, nothing answers.
      read: (offset, size) => own()?.read(offset, size) ?? 0xffff_ffff,
      write: (offset, size, value) => own()?.write(offset, size, value),
    };
    this.pages.set(base, page);
    this.config.physical.mapOver(base, APIC_PAGE_SIZE, page);
    return true;
  }

  // ---- state

  reset(): void {
    for (const { apic } of this.nodes) apic.reset();
  }

  snapshot(): readonly LocalApicState[] {
    return this.nodes.map(({ apic }) => apic.snapshot());
  }

  /** The processors' states have been restored before. */
  restore(saved: readonly LocalApicState[]): void {
    for (const [i, { apic }] of this.nodes.entries()) apic.restore(saved[i] as LocalApicState);
    this.update();
  }
}

/** Of the processors that take interrupts, one that does the least important work: the first of those. */
function lowest(nodes: readonly Node[]): readonly Node[] {
  const able = nodes.filter(({ apic }) => apic.accepts);
  const least = Math.min(...able.map(({ apic }) => apic.processorPriority >> 4));
  return able.filter(({ apic }) => apic.processorPriority >> 4 === least).slice(0, 1);
}

function raise(state: ProcessorState, request: 'nmiRequest' | 'initRequest'): void {
  state.set32(request, 1);
  state.signal();
}

/** A start-up IPI that came before is one to the processor as it was. */
function signalInit(state: ProcessorState): void {
  state.set32('startUpRequest', 0);
  raise(state, 'initRequest');
}

function accept({ apic, state }: Node, { deliveryMode, vector, level }: InterruptMessage): boolean {
  switch (deliveryMode) {
    case DELIVERY_MODE.fixed:
    case DELIVERY_MODE.lowestPriority:
      if (!apic.accepts) return false;
      apic.request(vector, level);
      return true;
    case DELIVERY_MODE.nmi:
      raise(state, 'nmiRequest');
      return true;
    case DELIVERY_MODE.init:
      signalInit(state);
      return true;
    case DELIVERY_MODE.startUp:
      state.set32('startUpRequest', START_UP.latched | vector);
      state.signal();
      return true;
    default:
      // There is no SMM, and the 8259A pair has a line of its own.
      return false;
  }
}
