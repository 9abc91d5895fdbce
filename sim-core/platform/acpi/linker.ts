/** The tables as files of fw_cfg, with the script by which firmware places and links them (QEMU, "bios-linker-loader"). */

import { TABLE_OFFSET, TableWriter } from './table.ts';
import { type AcpiTables, RSDP, rootPointer } from './tables.ts';

const FILE = { tables: 'etc/acpi/tables', rsdp: 'etc/acpi/rsdp', script: 'etc/table-loader' } as const;
const COMMAND = { allocate: 1, addPointer: 2, addChecksum: 3 } as const;
const ZONE = { high: 1, firmwareSegment: 2 } as const;
const ENTRY_SIZE = 128;
const NAME_SIZE = 56;
const ALIGNMENT = 64;

type Step = (writer: TableWriter) => TableWriter;

const allocate =
  (file: string, alignment: number, zone: number): Step =>
  (writer) =>
    writer.number(4, COMMAND.allocate).text(NAME_SIZE, file).number(4, alignment).number(1, zone);

/** Adds the address of `tables` to the field, which holds an offset in them. */
const addPointer =
  (file: string, at: number, size: number): Step =>
  (writer) =>
    writer
      .number(4, COMMAND.addPointer)
      .text(NAME_SIZE, file)
      .text(NAME_SIZE, FILE.tables)
      .number(4, at)
      .number(1, size);

const addChecksum =
  (file: string, at: number, start: number, length: number): Step =>
  (writer) =>
    writer.number(4, COMMAND.addChecksum).text(NAME_SIZE, file).number(4, at).number(4, start).number(4, length);

function encode(steps: readonly Step[]): Uint8Array {
  const script = new TableWriter();
  for (const step of steps) {
    const entry = step(new TableWriter()).bytes;
    script.raw(entry).raw(new Array<number>(ENTRY_SIZE - entry.length).fill(0));
  }
  return Uint8Array.from(script.bytes);
}

/** Files by name. The checksum fields in them are zero: firmware adds them last. */
export function tableFiles(acpi: AcpiTables): Readonly<Record<string, Uint8Array>> {
  const tables = Uint8Array.from(acpi.bytes);
  const view = new DataView(tables.buffer);
  for (const { at, target } of acpi.pointers) view.setUint32(at, target, true);
  const rsdp = rootPointer(acpi.rsdt, acpi.xsdt);
  for (const at of [RSDP.checksum, RSDP.extendedChecksum]) rsdp[at] = 0;
  const script = encode([
    allocate(FILE.tables, ALIGNMENT, ZONE.high),
    allocate(FILE.rsdp, 16, ZONE.firmwareSegment),
    ...acpi.pointers.map(({ at, size }) => addPointer(FILE.tables, at, size)),
    ...acpi.tables.map(({ start, length }) => addChecksum(FILE.tables, start + TABLE_OFFSET.checksum, start, length)),
    addPointer(FILE.rsdp, RSDP.rsdt, 4),
    addPointer(FILE.rsdp, RSDP.xsdt, 8),
    addChecksum(FILE.rsdp, RSDP.checksum, 0, RSDP.oldSize),
    addChecksum(FILE.rsdp, RSDP.extendedChecksum, 0, RSDP.size),
  ]);
  return { [FILE.tables]: tables, [FILE.rsdp]: rsdp, [FILE.script]: script };
}
