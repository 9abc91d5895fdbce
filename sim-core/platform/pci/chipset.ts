/** The functions of a Q35 chipset that software looks for: the host bridge and the LPC bridge of its ICH9. */

import { PHYSICAL } from '../memory-map.ts';
import { PciFunction, type PciFunctionState } from './function.ts';

const VENDOR_INTEL = 0x8086;
const CLASS = { hostBridge: 0x06_0000, isaBridge: 0x06_0100 } as const;
/** QEMU's subsystem ids, as on its machines. */
const SUBSYSTEM = { subsystemVendor: 0x1af4, subsystem: 0x1100 } as const;
/** Register of the MCH that says where ECAM is; bit 0 enables it, 00 in bits 2:1 is 256 MiB. */
const PCIEXBAR = 0x60;
const PCIEXBAR_ENABLE = 1;
const PCIEXBAR_WRITABLE = 0xf000_0001;
/** Programmable attribute maps of C0000h to FFFFFh: all is RAM, for reading and writing, whatever is written here. */
const PAM = { first: 0x90, count: 7, readWrite: 0x33 } as const;
/** PIRQx routing control of ICH9: bit 7 disables, bits 3:0 are the 8259A's input. */
const PIRQ_ROUTE = { first: 0x60, disabled: 0x80, inputMask: 0x0f, writable: 0x8f } as const;
/** Where PC firmware routes PIRQA…PIRQD: level-triggered inputs of the 8259A pair. */
export const FIRMWARE_ROUTES = [10, 10, 11, 11] as const;

/** The memory controller's function: it says where configuration space is in memory, and firmware can move that. */
export class HostBridge extends PciFunction {
  private readonly moveEcam: (base: number | undefined) => void;
  private ecam: number | undefined = PHYSICAL.ecam.start;

  /** @param moveEcam told when PCIEXBAR is changed; undefined: it is disabled */
  constructor(moveEcam: (base: number | undefined) => void = () => {}) {
    const identity = { vendor: VENDOR_INTEL, device: 0x29c0, revision: 0, classCode: CLASS.hostBridge, ...SUBSYSTEM };
    super({ identity, device: 0 });
    this.moveEcam = moveEcam;
    this.config.define(PCIEXBAR, 4, PHYSICAL.ecam.start + PCIEXBAR_ENABLE, PCIEXBAR_WRITABLE);
    for (let i = 0; i < PAM.count; i++) this.config.define(PAM.first + i, 1, PAM.readWrite, PAM.readWrite);
  }

  override write(offset: number, size: number, value: number): void {
    super.write(offset, size, value);
    this.update();
  }

  override reset(): void {
    super.reset();
    this.update();
  }

  override restore(saved: PciFunctionState): void {
    super.restore(saved);
    this.update();
  }

  private update(): void {
    const value = this.config.get(PCIEXBAR, 4);
    const ecam = value & PCIEXBAR_ENABLE ? value - PCIEXBAR_ENABLE : undefined;
    if (ecam === this.ecam) return;
    this.ecam = ecam;
    this.moveEcam(ecam);
  }
}

/** The bridge that routes PIRQA…PIRQD to inputs of the 8259A pair. */
export class LpcBridge extends PciFunction {
  private readonly drive: (input: number, asserted: boolean) => void;
  /** Levels of PIRQA…PIRQD. */
  private readonly levels = [false, false, false, false];
  /** Inputs of the 8259A that are driven high. */
  private driven = new Set<number>();

  constructor(drive: (input: number, asserted: boolean) => void) {
    const identity = { vendor: VENDOR_INTEL, device: 0x2918, revision: 2, classCode: CLASS.isaBridge, ...SUBSYSTEM };
    super({ identity, device: 31 });
    this.drive = drive;
    for (const [pirq, input] of FIRMWARE_ROUTES.entries()) {
      this.config.define(PIRQ_ROUTE.first + pirq, 1, input, PIRQ_ROUTE.writable);
    }
  }

  /** The 8259A's input that a PIRQ (0…3) reaches. */
  route(pirq: number): number | undefined {
    const control = this.config.get(PIRQ_ROUTE.first + pirq, 1);
    return control & PIRQ_ROUTE.disabled ? undefined : control & PIRQ_ROUTE.inputMask;
  }

  setPirq(pirq: number, asserted: boolean): void {
    this.levels[pirq] = asserted;
    this.update();
  }

  override write(offset: number, size: number, value: number): void {
    super.write(offset, size, value);
    this.update();
  }

  private update(): void {
    const driven = new Set(this.levels.flatMap((level, pirq) => (level ? (this.route(pirq) ?? []) : [])));
    const before = this.driven;
    this.driven = driven;
    for (const input of before) if (!driven.has(input)) this.drive(input, false);
    for (const input of driven) if (!before.has(input)) this.drive(input, true);
  }
}
