/**
 * The ACPI tables of a machine (ACPI specification 5.0; MCFG: PCI Firmware specification; SPCR: Microsoft; DMAR: VT-d
 * specification; HPET: IA-PC HPET specification).
 */

import { ACPI_PORT, SCI_IRQ } from '../acpi-registers.ts';
import { HPET_BLOCK_ID } from '../hpet.ts';
import { PHYSICAL } from '../memory-map.ts';
import { IO_APIC_REQUESTER } from '../pci/layout.ts';
import { dsdtTerms, type Range } from './dsdt.ts';
import { setChecksum, TABLE_HEADER_SIZE, TABLE_OFFSET, TableWriter, withHeader } from './table.ts';

/** What the tables tell of the machine. */
export interface AcpiConfiguration {
  readonly processors: number;
  /** Whether there is a DMA-remapping unit. */
  readonly iommu: boolean;
  readonly physicalAddressBits: number;
  /** Where PCI configuration space and the memory of PCI devices are. */
  readonly ecam: Range;
  readonly pciMemory: Range;
}

/** The timer's interrupt arrives at the I/O APIC's third input. */
export const TIMER_GSI = 2;

/** An address field in the tables: where it is, how large, and what of the tables it points to. */
export interface AcpiPointer {
  readonly at: number;
  readonly size: 4 | 8;
  readonly target: number;
}

/** All tables in one piece, in which addresses are offsets; `linkTables` makes it ready for a place in memory. */
export interface AcpiTables {
  readonly bytes: Uint8Array;
  readonly pointers: readonly AcpiPointer[];
  /** Tables with a checksum: start and length. */
  readonly tables: readonly { readonly start: number; readonly length: number }[];
  readonly rsdt: number;
  readonly xsdt: number;
}

const FACS_SIZE = 64;

const facs = (): Uint8Array => {
  const body = new TableWriter().text(4, 'FACS').number(4, FACS_SIZE);
  return Uint8Array.from({ length: FACS_SIZE }, (_, i) => body.bytes[i] ?? 0);
};

const FADT_FLAG = { wbinvd: 1, processorC1: 4, noPowerButton: 0x10, noSleepButton: 0x20, timer32: 0x100, reset: 0x400 };
/** Ports and keyboard controller of a PC are there. */
const BOOT_ARCHITECTURE = 3;
const RESET = { port: 0xcf9, value: 6 } as const;
const CENTURY_CELL = 0x32;
const NO_C_STATE = { c2: 101, c3: 1001 } as const;

/** Revision 3 (ACPI 2.0): 244 bytes. SMI_CMD is 0, for there is no legacy mode to leave. */
function fadt(): Uint8Array {
  const { pm1Event, pm1Control, pmTimer } = ACPI_PORT;
  const flags = Object.values(FADT_FLAG).reduce((all, flag) => all | flag, 0);
  const absent = (writer: TableWriter, count: number): TableWriter => {
    for (let i = 0; i < count; i++) writer.number(12, 0);
    return writer;
  };
  const body = new TableWriter()
    .number(8, 0) // FIRMWARE_CTRL and DSDT, linked below
    .number(2, 0)
    .number(2, SCI_IRQ)
    .number(8, 0) // SMI_CMD, ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT
    .number(4, pm1Event.start)
    .number(4, 0)
    .number(4, pm1Control.start)
    .number(8, 0)
    .number(4, pmTimer.start)
    .number(8, 0)
    .raw([pm1Event.size, pm1Control.size, 0, pmTimer.size, 0, 0, 0, 0])
    .number(2, NO_C_STATE.c2)
    .number(2, NO_C_STATE.c3)
    .number(8, 0)
    .raw([CENTURY_CELL])
    .number(2, BOOT_ARCHITECTURE)
    .number(1, 0)
    .number(4, flags)
    .address(1, 8, 1, RESET.port)
    .number(1, RESET.value)
    .number(3, 0)
    .number(16, 0) // X_FIRMWARE_CTRL and X_DSDT, linked below
    .address(1, 8 * pm1Event.size, 2, pm1Event.start);
  absent(body, 1).address(1, 8 * pm1Control.size, 2, pm1Control.start);
  absent(body, 2).address(1, 8 * pmTimer.size, 3, pmTimer.start);
  return withHeader('FACP', 3, absent(body, 2));
}
/** Fields of the FADT that are addresses of other tables. */
const FADT_POINTER = { facs: 36, dsdt: 40, extendedFacs: 132, extendedDsdt: 140 } as const;

const MADT = { localApic: 0, ioApic: 1, override: 2, localNmi: 4 } as const;
/** Level-triggered, active-high. */
const LEVEL_HIGH = 0x0d;
const ALL_PROCESSORS = 0xff;

function madt({ processors }: AcpiConfiguration): Uint8Array {
  const pcatCompatible = 1;
  const body = new TableWriter().number(4, PHYSICAL.localApic.start).number(4, pcatCompatible);
  for (let id = 0; id < processors; id++) body.raw([MADT.localApic, 8, id, id]).number(4, 1);
  body
    .raw([MADT.ioApic, 12, ioApicId(processors), 0])
    .number(4, PHYSICAL.ioApic.start)
    .number(4, 0);
  body.raw([MADT.override, 10, 0, 0]).number(4, TIMER_GSI).number(2, 0);
  body.raw([MADT.override, 10, 0, SCI_IRQ]).number(4, SCI_IRQ).number(2, LEVEL_HIGH);
  body.raw([MADT.localNmi, 6, ALL_PROCESSORS, 0, 0, 1]);
  return withHeader('APIC', 3, body);
}

const ioApicId = (processors: number): number => processors;

const mcfg = ({ ecam }: AcpiConfiguration): Uint8Array =>
  withHeader('MCFG', 1, new TableWriter().number(8, 0).number(8, ecam.start).number(2, 0).raw([0, 255]).number(4, 0));

const HPET_MINIMUM_TICK = 100;
const hpet = (): Uint8Array =>
  withHeader(
    'HPET',
    1,
    new TableWriter()
      .number(4, HPET_BLOCK_ID)
      .address(0, 64, 0, PHYSICAL.hpet.start)
      .number(1, 0)
      .number(2, HPET_MINIMUM_TICK)
      .number(1, 0),
  );

/** COM1 as console, revision 2: 16550, 115200 baud, no parity, one stop bit, terminal ANSI. */
const spcr = (): Uint8Array =>
  withHeader(
    'SPCR',
    2,
    new TableWriter()
      .number(4, 0)
      .address(1, 8, 1, 0x3f8)
      .raw([3, 4])
      .number(4, 4)
      .raw([7, 0, 1, 0, 3, 0])
      .number(4, 0xffff_ffff)
      .raw([0, 0, 0])
      .number(4, 0)
      .number(1, 0)
      .number(4, 0),
  );

const DMAR = { interruptRemapping: 1, unit: 0, allFunctions: 1, scopeIoApic: 3 } as const;

/** One remapping unit for all of PCI and the I/O APIC. */
function dmar({ physicalAddressBits, processors }: AcpiConfiguration): Uint8Array {
  const scope = [DMAR.scopeIoApic, 8, 0, 0, ioApicId(processors), IO_APIC_REQUESTER >> 8, 0, 0];
  const body = new TableWriter()
    .raw([physicalAddressBits - 1, DMAR.interruptRemapping])
    .number(10, 0)
    .number(2, DMAR.unit)
    .number(2, 16 + scope.length)
    .raw([DMAR.allFunctions, 0])
    .number(2, 0)
    .number(8, PHYSICAL.dmar.start)
    .raw(scope);
  return withHeader('DMAR', 1, body);
}

/** Tables that the root tables list, beside the FADT. */
const LISTED: readonly ((configuration: AcpiConfiguration) => Uint8Array | undefined)[] = [
  madt,
  mcfg,
  hpet,
  spcr,
  (configuration) => (configuration.iommu ? dmar(configuration) : undefined),
];

export function makeTables(configuration: AcpiConfiguration): AcpiTables {
  const pieces: { start: number; bytes: Uint8Array }[] = [];
  const pointers: AcpiPointer[] = [];
  let end = 0;
  const put = (bytes: Uint8Array, alignment = 16): number => {
    const start = Math.ceil(end / alignment) * alignment;
    pieces.push({ start, bytes });
    end = start + bytes.length;
    return start;
  };
  const facsAt = put(facs(), FACS_SIZE);
  const dsdt = put(withHeader('DSDT', 2, new TableWriter().raw(dsdtTerms(configuration))));
  const fadtAt = put(fadt());
  pointers.push({ at: fadtAt + FADT_POINTER.facs, size: 4, target: facsAt });
  pointers.push({ at: fadtAt + FADT_POINTER.dsdt, size: 4, target: dsdt });
  pointers.push({ at: fadtAt + FADT_POINTER.extendedDsdt, size: 8, target: dsdt });
  const listed = [fadtAt, ...LISTED.flatMap((make) => make(configuration) ?? []).map((table) => put(table))];
  const list = (signature: string, size: 4 | 8): number => {
    const start = put(withHeader(signature, 1, new TableWriter().number(size * listed.length, 0)));
    listed.forEach((target, i) => {
      pointers.push({ at: start + TABLE_HEADER_SIZE + size * i, size, target });
    });
    return start;
  };
  const [rsdt, xsdt] = [list('RSDT', 4), list('XSDT', 8)];
  const bytes = new Uint8Array(end);
  for (const piece of pieces) bytes.set(piece.bytes, piece.start);
  const tables = pieces
    .filter(({ start }) => start !== facsAt)
    .map(({ start, bytes: { length } }) => ({ start, length }));
  return { bytes, pointers, tables, rsdt, xsdt };
}

export const RSDP = { size: 36, rsdt: 16, xsdt: 24, checksum: 8, extendedChecksum: 32, oldSize: 20 } as const;

/** The root pointer, revision 2; checksums as for these addresses. */
export function rootPointer(rsdt: number, xsdt: number): Uint8Array {
  const body = new TableWriter()
    .text(8, 'RSD PTR ')
    .number(1, 0)
    .text(6, 'VMXRAY')
    .number(1, 2)
    .number(4, rsdt)
    .number(4, RSDP.size)
    .number(8, xsdt)
    .number(4, 0);
  const bytes = Uint8Array.from(body.bytes);
  setChecksum(bytes, 0, RSDP.oldSize, RSDP.checksum);
  setChecksum(bytes, 0, RSDP.size, RSDP.extendedChecksum);
  return bytes;
}

/** The root pointer and behind it, 64-aligned, all tables with their addresses. @param base where that will be */
export function linkTables({ bytes, pointers, tables, rsdt, xsdt }: AcpiTables, base: number): Uint8Array {
  const offset = 64;
  const start = base + offset;
  const linked = new Uint8Array(offset + bytes.length);
  linked.set(rootPointer(start + rsdt, start + xsdt));
  linked.set(bytes, offset);
  const view = new DataView(linked.buffer);
  // Addresses are below 4 GiB: upper halves stay zero.
  for (const { at, target } of pointers) view.setUint32(offset + at, start + target, true);
  for (const table of tables) {
    setChecksum(linked, offset + table.start, table.length, offset + table.start + TABLE_OFFSET.checksum);
  }
  return linked;
}
