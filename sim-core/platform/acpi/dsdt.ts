/** The machine in ACPI machine language: PCI with its interrupts, the devices of the board, soft-off. */

import { SLEEP_TYPE_OFF } from '../acpi-registers.ts';
import { PHYSICAL } from '../memory-map.ts';
import { CONFIG_PORT, gsiOf, PCI_WINDOW } from '../pci/layout.ts';
import {
  type Aml,
  bridged,
  device,
  eisaId,
  integer,
  irq,
  memory,
  named,
  packageOf,
  ports,
  resources,
  scope,
} from './aml.ts';

export interface Range {
  readonly start: number;
  readonly size: number;
}

export interface Places {
  readonly ecam: Range;
  readonly pciMemory: Range;
}

const BEHIND_CONFIG_PORTS = CONFIG_PORT.address + 8;
const PCI_DEVICES = 32;
const PINS = [1, 2, 3, 4] as const;
/** In an address of _PRT: all functions of a device. */
const ALL_FUNCTIONS = 0xffff;

/** One row for each device and pin: the I/O APIC input, which cannot be changed. */
function routingTable(): Aml {
  const row = (number: number, pin: number): Aml =>
    packageOf(integer(number * 2 ** 16 + ALL_FUNCTIONS), integer(pin - 1), integer(0), integer(gsiOf(number, pin)));
  const rows = Array.from({ length: PCI_DEVICES }, (_, number) => PINS.map((pin) => row(number, pin))).flat();
  return named('_PRT', packageOf(...rows));
}

function rootBridge({ pciMemory }: Places): Aml {
  const { memory64 } = PCI_WINDOW;
  const windows = resources(
    bridged('bus', 2, 0, 256),
    // Configuration mechanism #1 is the bridge's own.
    [0x47, 1, 0xf8, 0x0c, 0xf8, 0x0c, 1, 8],
    // All other ports, as the devices' legacy ports are among them (an IDE controller's).
    bridged('io', 2, 0, CONFIG_PORT.address),
    bridged('io', 2, BEHIND_CONFIG_PORTS, 2 ** 16 - BEHIND_CONFIG_PORTS),
    bridged('memory', 4, pciMemory.start, pciMemory.size),
    bridged('memory', 8, memory64.start, memory64.size),
  );
  return device(
    'PCI0',
    named('_HID', eisaId('PNP0A08')),
    named('_CID', eisaId('PNP0A03')),
    named('_ADR', integer(0)),
    named('_UID', integer(0)),
    named('_BBN', integer(0)),
    named('_CRS', windows),
    routingTable(),
    lpcBridge(),
  );
}

const board = (name: string, id: string, uid: number, ...uses: readonly (readonly number[])[]): Aml =>
  device(name, named('_HID', eisaId(id)), named('_UID', integer(uid)), named('_CRS', resources(...uses)));

/** What is on the LPC bus behind function 00:1f.0. */
const lpcBridge = (): Aml =>
  device(
    'ISA',
    named('_ADR', integer(0x1f_0000)),
    board('COM1', 'PNP0501', 1, ports(0x3f8, 8), irq(4)),
    board('COM2', 'PNP0501', 2, ports(0x2f8, 8), irq(3)),
    board('KBD', 'PNP0303', 0, ports(0x60, 1), ports(0x64, 1), irq(1)),
    board('RTC', 'PNP0B00', 0, ports(0x70, 2), irq(8)),
  );

/** The definition block's terms. */
export function dsdtTerms(places: Places): Aml {
  const { hpet } = PHYSICAL;
  const { ecam } = places;
  const off = integer(SLEEP_TYPE_OFF);
  return [
    ...scope(
      '\\_SB',
      rootBridge(places),
      board('HPET', 'PNP0103', 0, memory(hpet.start, hpet.size)),
      // Motherboard resources: where PCI configuration space is.
      board('MBRD', 'PNP0C02', 0, memory(ecam.start, ecam.size)),
    ),
    ...named('\\_S5', packageOf(off, off, integer(0), integer(0))),
  ];
}
