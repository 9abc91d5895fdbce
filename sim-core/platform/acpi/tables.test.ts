// Expected values: ACPI specification, "Root System Description Pointer", "FADT", "MADT"; decoded once with ACPICA's iasl.
import assert from 'node:assert/strict';
import { eisaId, integer, named, packageOf, resources } from './aml.ts';
import { tableFiles } from './linker.ts';
import { linkTables, makeTables } from './tables.ts';

const BASE = 0xf_0000;
const PLACES = { ecam: { start: 0xe000_0000, size: 2 ** 28 }, pciMemory: { start: 0xc000_0000, size: 2 ** 29 } };
const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const ascii = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

/** Follows the pointers as an operating system does. */
function readTables(processors = 1, iommu = false) {
  const memory = linkTables(makeTables({ processors, iommu, physicalAddressBits: 40, ...PLACES }), BASE);
  const view = new DataView(memory.buffer);
  const at = (address: number): number => address - BASE;
  const table = (address: number): Uint8Array => {
    const length = view.getUint32(at(address) + 4, true);
    return memory.subarray(at(address), at(address) + length);
  };
  const signature = (address: number): string => ascii(memory.subarray(at(address), at(address) + 4));
  const pointers = (root: Uint8Array, size: 4 | 8): number[] => {
    const fields = new DataView(root.buffer, root.byteOffset, root.length);
    const count = (root.length - 36) / size;
    return Array.from({ length: count }, (_, i) => fields.getUint32(36 + size * i, true));
  };
  const rsdt = table(view.getUint32(16, true));
  const xsdt = table(view.getUint32(24, true));
  const listed = new Map(pointers(xsdt, 8).map((address) => [signature(address), table(address)]));
  return { memory, view, at, table, signature, rsdt, xsdt, listed, pointers };
}

describe('AML', () => {
  it('encodes names, integers and packages as the specification lays them out', () => {
    assert.deepEqual(
      named('_S5', packageOf(integer(0), integer(5))),
      [0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 5, 2, 0, 0x0a, 5],
    );
    assert.deepEqual([integer(1), integer(0x1234)], [[1], [0x0b, 0x34, 0x12]]);
    assert.deepEqual(integer(0xfed0_0000), [0x0c, 0, 0, 0xd0, 0xfe]);
    // ACPI specification, "EISAID": PNP0A03 is 41D00A03h.
    assert.deepEqual(eisaId('PNP0A03'), [0x0c, 0x41, 0xd0, 0x0a, 0x03]);
  });

  it('counts the bytes of a length in itself, in one byte to 63 and two above', () => {
    const short = packageOf(integer(0));
    assert.deepEqual(short.slice(0, 3), [0x12, 3, 1]);
    const long = packageOf(...Array.from({ length: 100 }, () => integer(0)));
    // 103 bytes follow the operator, two of length included: low nibble 7, the rest 6.
    assert.deepEqual(long.slice(0, 4), [0x12, 0x47, 6, 100]);
    assert.equal(long.length, 1 + 0x67);
    assert.deepEqual(resources().slice(0, 4), [0x11, 5, 0x0a, 2]);
  });
});

describe('ACPI tables', () => {
  it('begin with a root pointer of revision 2 whose two checksums are right', () => {
    const { memory } = readTables();
    assert.deepEqual([ascii(memory.subarray(0, 8)), memory[15]], ['RSD PTR ', 2]);
    assert.deepEqual([sum(memory.subarray(0, 20)), sum(memory.subarray(0, 36))], [0, 0]);
  });

  it('have right lengths and checksums, and the same list in RSDT and XSDT', () => {
    const { rsdt, xsdt, listed, pointers } = readTables(1, true);
    assert.deepEqual(pointers(rsdt, 4), pointers(xsdt, 8));
    assert.deepEqual([...listed.keys()], ['FACP', 'APIC', 'MCFG', 'HPET', 'SPCR', 'DMAR']);
    for (const table of [rsdt, xsdt, ...listed.values()]) assert.equal(sum(table), 0, ascii(table.subarray(0, 4)));
    assert.ok(!readTables().listed.has('DMAR'));
  });

  it('say by the FADT where DSDT, FACS and the fixed registers are', () => {
    const { listed, signature, table } = readTables();
    const fadt = listed.get('FACP') ?? new Uint8Array();
    const view = new DataView(fadt.buffer, fadt.byteOffset);
    assert.equal(fadt.length, 244);
    const [facs, dsdt] = [view.getUint32(36, true), view.getUint32(40, true)];
    assert.deepEqual([signature(facs), signature(dsdt), facs % 64], ['FACS', 'DSDT', 0]);
    assert.deepEqual([view.getUint32(140, true), sum(table(dsdt))], [dsdt, 0]);
    // PM1a event and control block, PM timer; SCI; SMI command; reset register and value.
    assert.deepEqual(
      [56, 64, 76].map((at) => view.getUint32(at, true)),
      [0x600, 0x604, 0x608],
    );
    assert.deepEqual([view.getUint16(46, true), view.getUint32(48, true)], [9, 0]);
    assert.deepEqual([view.getBigUint64(120, true), fadt[128]], [0xcf9n, 6]);
  });

  it('give all ports but those of PCI configuration to the root bridge, legacy ports of devices, too', () => {
    const { listed, table } = readTables();
    const fadt = listed.get('FACP') ?? new Uint8Array();
    const dsdt = table(new DataView(fadt.buffer, fadt.byteOffset).getUint32(40, true));
    const view = new DataView(dsdt.buffer, dsdt.byteOffset);
    // ACPI specification, "Word Address Space Descriptor": tag, length, resource type 1 (I/O); minimum and maximum.
    const starts = [...dsdt.keys()].filter((at) => dsdt[at] === 0x88 && dsdt[at + 1] === 13 && dsdt[at + 3] === 1);
    assert.deepEqual(
      starts.map((at) => [view.getUint16(at + 8, true), view.getUint16(at + 10, true)]),
      [
        [0, 0xcf7],
        [0xd00, 0xffff],
      ],
    );
  });

  it('list as many processors as there are, then the I/O APIC with the timer at input 2', () => {
    const madt = readTables(3).listed.get('APIC') ?? new Uint8Array();
    const entries: number[][] = [];
    for (let at = 44; at < madt.length; at += madt[at + 1] ?? 1) {
      entries.push([...madt.subarray(at, at + (madt[at + 1] ?? 1))]);
    }
    assert.deepEqual(entries.slice(0, 4), [
      [0, 8, 0, 0, 1, 0, 0, 0],
      [0, 8, 1, 1, 1, 0, 0, 0],
      [0, 8, 2, 2, 1, 0, 0, 0],
      [1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
    ]);
    assert.deepEqual(entries[4], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
  });

  it('come as files with a script that firmware can follow to the same tables', () => {
    const configuration = { processors: 2, iommu: true, physicalAddressBits: 40, ...PLACES };
    const files = new Map(Object.entries(tableFiles(makeTables(configuration))));
    const place = new Map([['etc/acpi/tables', BASE + 64], ['etc/acpi/rsdp', BASE]]); // biome-ignore format: pairs
    const script = files.get('etc/table-loader') ?? new Uint8Array();
    for (let at = 0; at < script.length; at += 128) run(script.subarray(at, at + 128));
    assert.deepEqual(files.get('etc/acpi/rsdp'), readTables(2, true).memory.subarray(0, 36));
    assert.deepEqual(files.get('etc/acpi/tables'), readTables(2, true).memory.subarray(64));

    /** QEMU's bios-linker-loader commands: 1 allocate, 2 add pointer, 3 add checksum. */
    function run(step: Uint8Array): void {
      const view = new DataView(step.buffer, step.byteOffset);
      const text = (start: number): string => ascii(step.subarray(start, start + 56)).replace(/\0.*/s, '');
      const file = files.get(text(4)) ?? new Uint8Array();
      const word = (offset: number): number => view.getUint32(offset, true);
      if (word(0) === 2) {
        const field = new DataView(file.buffer, file.byteOffset);
        field.setUint32(word(116), field.getUint32(word(116), true) + (place.get(text(60)) ?? 0), true);
      } else if (word(0) === 3) {
        file[word(60)] = -sum(file.subarray(word(64), word(64) + word(68))) & 0xff;
      }
    }
  });
});
