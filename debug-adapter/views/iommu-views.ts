import { FORMAT, fieldOf } from '../../sim-core/iommu/entries.ts';
import type { Iommu, RecordedFault } from '../../sim-core/iommu/iommu.ts';
import { REGISTERS, type RegisterName } from '../../sim-core/iommu/registers.ts';
import { type Domain, rootTableMode, stepLine } from '../../sim-core/iommu/walk.ts';
import { PHYSICAL } from '../../sim-core/platform/memory-map.ts';
import type { PciFunction } from '../../sim-core/platform/pci/function.ts';
import { formatRequester } from '../../sim-core/platform/pci/layout.ts';
import { describeBits } from '../../sim-core/vmx/bits.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { IommuBody } from '../protocol.ts';
import type { Target } from '../running/target.ts';
import { hex } from '../worlds/memory-reference.ts';

/** Runs of pages shown of a domain. */
const MOST_PAGES = 256;
/** Reasons from 20h to 2Fh are of interrupt remapping. */
const isInterruptFault = ({ reason }: RecordedFault): boolean => reason >> 4 === 2;

const NOTHING: IommuBody = {
  present: false,
  state: [],
  registers: [],
  devices: [],
  iotlb: [],
  interrupts: [],
  faults: [],
};

/** The IOMMU as a tree shows it. */
function iommuBody({ machine }: Target): IommuBody {
  const { iommu } = machine;
  if (!iommu) return NOTHING;
  return {
    present: true,
    state: stateRows(iommu),
    registers: Object.keys(REGISTERS).map((name) => registerRow(iommu, name as RegisterName)),
    devices: machine.pci.map((one) => deviceRow(iommu, one)),
    iotlb: iommu.caches.all.map((entry) => ({
      domain: entry.domain,
      page: hex(entry.page),
      size: hex(entry.size),
      target: hex(entry.target),
      rights: rightsOf(entry),
      ...marked(iommu.staleness(entry)),
    })),
    interrupts: iommu.caches.allInterruptEntries.map(([index, values]) => ({ index, text: interruptText(values) })),
    faults: iommu.recordedFaults().map(faultRow),
  };
}

const marked = (stale: string | undefined): { stale?: string } => (stale === undefined ? {} : { stale });
const rightsOf = ({ read, write }: { readonly read: boolean; readonly write: boolean }): string =>
  `${read ? 'R' : ''}${write ? 'W' : ''}`;

function stateRows(iommu: Iommu): IommuBody['state'] {
  const { root, interrupt } = iommu.tables;
  const mode = rootTableMode(root) ?? 'invalid';
  return [
    { name: 'DMA remapping', value: iommu.translates ? `on, ${mode} mode` : 'off: addresses of devices are physical' },
    { name: 'Root table', value: hex(root & ~0xfffn) },
    { name: 'Interrupt remapping', value: iommu.remapsInterrupts ? 'on' : 'off' },
    { name: 'Interrupt remapping table', value: hex(interrupt & ~0xfffn) },
  ];
}

function registerRow(iommu: Iommu, name: RegisterName): IommuBody['registers'][number] {
  const { offset, fields } = REGISTERS[name];
  const value = iommu.registers.get(name);
  return {
    name: `${name}_REG`,
    address: hex(PHYSICAL.dmar.start + offset),
    value: hex(value),
    text: describeBits(fields, value),
  };
}

const domainText = ({ id, table }: Domain): string => `domain ${id}${table === undefined ? ', pass-through' : ''}`;

function deviceRow(iommu: Iommu, { requester, config }: PciFunction): IommuBody['devices'][number] {
  const id = (offset: number): string => config.get(offset, 2).toString(16).padStart(4, '0');
  const row = { name: formatRequester(requester), requester, ids: `${id(0)}:${id(2)}` };
  if (!iommu.translates) return { ...row, summary: 'not translated', steps: [], pages: [] };
  const { domain, steps, fault } = iommu.domainNow(requester);
  const known = iommu.caches.context(requester);
  const now = domain ? domainText(domain) : (fault ?? '');
  const stale = known && !same(known, domain) ? `remembered: ${domainText(known)}; the tables now: ${now}` : undefined;
  const pages = domain ? iommu.mappings(domain, MOST_PAGES) : [];
  return {
    ...row,
    summary: now,
    steps: steps.map(stepLine),
    pages: pages.map((page) => ({
      address: hex(page.address),
      target: hex(page.target),
      size: hex(page.size),
      rights: rightsOf(page),
    })),
    ...marked(stale),
  };
}

const same = (a: Domain, b: Domain | undefined): boolean =>
  b !== undefined && a.id === b.id && a.table === b.table && a.levels === b.levels && a.mode === b.mode;

/** An interrupt remapping table entry that was used. */
function interruptText(values: readonly bigint[]): string {
  const posted = fieldOf(FORMAT.irte, 'IM', values) !== 0;
  const format = posted ? FORMAT.postedIrte : FORMAT.irte;
  const vector = `vector ${hex(fieldOf(format, 'V', values))}`;
  return posted ? `posted, ${vector}` : `${vector} to ${hex(fieldOf(format, 'DST', values))}`;
}

function faultRow(fault: RecordedFault): IommuBody['faults'][number] {
  const interrupt = isInterruptFault(fault);
  return {
    name: `${formatRequester(fault.requester)}: ${fault.text}`,
    kind: interrupt ? 'interrupt' : fault.read ? 'read' : 'write',
    address: hex(interrupt ? fault.information >> 48n : fault.information),
    text: `Fault reason ${hex(fault.reason)}, fault recording register ${fault.index}`,
  };
}

export const iommuRequests: HandlerTable = {
  'vmxray/iommu': handler({}, (session, _args, command) => iommuBody(session.stoppedTarget(command))),
};
