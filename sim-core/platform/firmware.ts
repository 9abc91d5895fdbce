/** What firmware would tell software of the machine: ACPI tables in memory, and files for real firmware. */

import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import { tableFiles } from './acpi/linker.ts';
import { type AcpiConfiguration, type AcpiTables, linkTables, makeTables } from './acpi/tables.ts';
import { FwCfg } from './fw-cfg.ts';
import { encodeMemoryMap, memoryMap, PHYSICAL } from './memory-map.ts';

const MAP_ENTRY_SIZE = 20;
/** COM1, where SeaBIOS shows what programs print by INT 10h: there is no display. */
const SERIAL_CONSOLE = Uint8Array.of(0xf8, 0x03);

export class Firmware {
  readonly fwCfg: FwCfg;
  private readonly physical: PhysicalMemory;
  private readonly tables: AcpiTables;

  constructor(physical: PhysicalMemory, configuration: Omit<AcpiConfiguration, 'ecam' | 'pciMemory'>) {
    const { ramSize } = physical.state;
    this.physical = physical;
    const { ecam, pciMemory, firmwareEcam, pciDecoded } = PHYSICAL;
    this.tables = makeTables({ ...configuration, ecam, pciMemory });
    // Firmware of this kind of machine places PCI anew.
    const forFirmware = makeTables({ ...configuration, ecam: firmwareEcam, pciMemory: pciDecoded });
    this.fwCfg = new FwCfg(physical, {
      ramSize,
      processors: configuration.processors,
      files: {
        'etc/e820': encodeMemoryMap(memoryMap(ramSize), MAP_ENTRY_SIZE),
        'etc/sercon-port': SERIAL_CONSOLE,
        ...tableFiles(forFirmware),
      },
    });
  }

  /** Puts the ACPI tables where firmware leaves them. @returns the physical address of their root pointer */
  install(): number {
    const { start } = PHYSICAL.firmware;
    this.physical.poke(start, linkTables(this.tables, start));
    return start;
  }
}
