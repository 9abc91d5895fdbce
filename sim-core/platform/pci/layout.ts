/** Where PCI is in the address spaces, and which interrupt inputs it uses: for the bus, and for the ACPI tables. */

import { PHYSICAL } from '../memory-map.ts';

/** What the host bridge forwards to the devices: memory below and above 4 GiB, and I/O ports. */
export const PCI_WINDOW = {
  memory32: PHYSICAL.pciMemory,
  memory64: { start: 0x8_0000_0000, size: 0x8_0000_0000 },
  io: { start: 0xc000, size: 0x4000 },
} as const;
/** Ports of configuration mechanism #1. */
export const CONFIG_PORT = { address: 0xcf8, data: 0xcfc } as const;
/** Requester id of the I/O APIC, for interrupt remapping: bus FFh, device 0, function 0, as the DMAR table says. */
export const IO_APIC_REQUESTER = 0xff00;
/** First of the four I/O APIC inputs (global system interrupts) that PIRQA…PIRQD reach. */
export const FIRST_PCI_GSI = 16;

/** A function's requester id: bus 15:8, device 7:3, function 2:0. */
export const requesterId = (bus: number, device: number, functionNumber = 0): number =>
  (bus << 8) | (device << 3) | functionNumber;

/** 'bus:device.function' as lspci writes it. */
export function formatRequester(requester: number): string {
  const digits = (value: number): string => value.toString(16).padStart(2, '0');
  return `${digits(requester >> 8)}:${digits((requester >> 3) & 31)}.${requester & 7}`;
}

/** Which of PIRQA…PIRQD (0…3) a device of bus 0 drives with INTA…INTD (`pin` 1…4): swizzled as behind a bridge. */
export const pirqOf = (device: number, pin: number): number => (device + pin - 1) & 3;
/** The I/O APIC input of a device's INTA…INTD (`pin` 1…4). */
export const gsiOf = (device: number, pin: number): number => FIRST_PCI_GSI + pirqOf(device, pin);
