/** Where things are in physical address space: the devices' addresses, and the map that boot protocols hand over. */

const MIB = 0x10_0000;

export const PHYSICAL = {
  /** Conventional memory ends where PC firmware keeps its extended data area. */
  conventionalEnd: 0x9_fc00,
  /** RAM that holds what firmware leaves behind: ACPI tables, or the firmware itself. */
  firmware: { start: 0xf_0000, size: 0x1_0000 },
  /** Memory of PCI devices: base address registers are programmed into this window. */
  pciMemory: { start: 0xc000_0000, size: 0x2000_0000 },
  /** What the host bridge passes on to them, wherever firmware puts them. */
  pciDecoded: { start: 0xc000_0000, size: 0x3ec0_0000 },
  /** PCI configuration space, 1 MiB for each of 256 buses (ECAM; the MCFG table names it). */
  ecam: { start: 0xe000_0000, size: 0x1000_0000 },
  /** Where SeaBIOS moves it on machines of this kind. */
  firmwareEcam: { start: 0xb000_0000, size: 0x1000_0000 },
  ioApic: { start: 0xfec0_0000, size: 0x1000 },
  hpet: { start: 0xfed0_0000, size: 0x400 },
  /** VT-d's DMA-remapping registers; the DMAR table names them. */
  dmar: { start: 0xfed9_0000, size: 0x1000 },
  localApic: { start: 0xfee0_0000, size: 0x1000 },
} as const;

/** Types of address ranges, the same numbers in ACPI ("INT 15H, E820H"), multiboot, PVH and Linux's zero page. */
const RANGE_TYPE = { available: 1, reserved: 2 } as const;

export interface AddressRange {
  readonly start: number;
  readonly end: number;
  readonly type: number;
}

const reserved = ({ start, size }: { readonly start: number; readonly size: number }): AddressRange => ({
  start,
  end: start + size,
  type: RANGE_TYPE.reserved,
});

/** Rising and without overlaps. @param ramSize bytes of RAM, from 1 MiB */
export function memoryMap(ramSize: number): readonly AddressRange[] {
  const { conventionalEnd, firmware, ecam, localApic } = PHYSICAL;
  return [
    { start: 0, end: conventionalEnd, type: RANGE_TYPE.available },
    { start: conventionalEnd, end: 0xa_0000, type: RANGE_TYPE.reserved },
    reserved(firmware),
    { start: MIB, end: ramSize, type: RANGE_TYPE.available },
    reserved(ecam),
    reserved(localApic),
  ].filter(({ start, end }) => end > start);
}

/**
 * The map as ACPI ("INT 15H, E820H") and all boot protocols write it: start and length in 8 bytes each, type in 4.
 * @param entrySize bytes from one entry to the next; @param at where the start is in an entry. What is left is 0.
 */
export function encodeMemoryMap(map: readonly AddressRange[], entrySize: number, at = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(entrySize * map.length));
  map.forEach(({ start, end, type }, i) => {
    view.setBigUint64(entrySize * i + at, BigInt(start), true);
    view.setBigUint64(entrySize * i + at + 8, BigInt(end - start), true);
    view.setUint32(entrySize * i + at + 16, type, true);
  });
  return new Uint8Array(view.buffer);
}
