import type { Fault } from '../../sim-core/mmu/fault.ts';
import type { Access, Translation, TranslationStep } from '../../sim-core/mmu/translation.ts';
import { type BitField, bits, describeBits, flag } from '../../sim-core/vmx/bits.ts';
import { describeQualification, EXIT } from '../../sim-core/vmx/exit-reasons.ts';
import { EXCEPTIONS, PAGE_FAULT_ERROR } from '../../sim-core/vmx/layouts.ts';
import { errors } from '../errors.ts';
import type { EptTableBody, TranslateBody } from '../protocol.ts';
import type { Target } from '../running/target.ts';
import { hex, wrap64 } from '../worlds/memory-reference.ts';
import { guestEptp } from '../worlds/world-view.ts';

const MEMORY_TYPES: Readonly<Record<number, string>> = { 0: 'UC', 1: 'WC', 4: 'WT', 5: 'WP', 6: 'WB' };
const PAGING_ENTRY: readonly BitField[] = [
  flag('P', 0),
  flag('W', 1),
  flag('U', 2),
  flag('PWT', 3),
  flag('PCD', 4),
  flag('A', 5),
  flag('D', 6),
  flag('PS', 7),
  flag('G', 8),
  flag('XD', 63),
];
/** An EPT entry that leads to another table. */
const EPT_TABLE: readonly BitField[] = [flag('R', 0), flag('W', 1), flag('X', 2), flag('A', 8)];
const EPT_PAGE: readonly BitField[] = [
  flag('R', 0),
  flag('W', 1),
  flag('X', 2),
  bits('memory type', 5, 3, MEMORY_TYPES),
  flag('ignore PAT', 6),
  flag('A', 8),
  flag('D', 9),
];

const ACCESSES: readonly Access[] = ['read', 'write', 'execute'];
const FRAME = 0xf_ffff_ffff_f000n;
const ENTRIES = 512;
const RIGHTS = 7n;
const LARGE = 1n << 7n;
/** EPT tables by level: 4 is the PML4 table, 5 the PML5 table. Entries above level 3 map no pages. */
const LEVELS = [1, 2, 3, 4, 5];
const HIGHEST_LEAF = 3;
const rootLevel = (eptp: bigint): number => (eptp === 0n ? 4 : Number((eptp >> 3n) & 7n) + 1);

function parseHex(command: string, name: string, text: string): bigint {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text)) throw errors.badArguments(command, `'${name}' is no number`);
  return wrap64(BigInt(text));
}

/** A fault in words. */
export function describeFault(fault: Fault): string {
  if (fault.kind === 'eptViolation') {
    return `EPT violation: ${describeQualification(EXIT.EPT_VIOLATION, fault.qualification)}`;
  }
  if (fault.kind === 'eptMisconfiguration') return 'EPT misconfiguration';
  if (fault.kind !== 'exception') return fault.kind;
  const code = fault.errorCode === undefined ? '' : ` (error code ${hex(fault.errorCode)}`;
  const words = fault.vector === 14 ? describeBits(PAGE_FAULT_ERROR, BigInt(fault.errorCode ?? 0)) : '';
  return `${EXCEPTIONS[fault.vector]}${code}${words === '' ? '' : `: ${words}`}${code === '' ? '' : ')'}`;
}

/** A table entry's bits in words. */
export function decodeStep({ table, level, value }: TranslationStep): string {
  if (table === 'TLB') return '';
  if (level === 'linear') return describeBits(PAGING_ENTRY, value);
  if ((value & RIGHTS) === 0n) return 'not present';
  const maps = table === 'EPT PTE' || (!table.startsWith('EPT PML') && (value & LARGE) !== 0n);
  return describeBits(maps ? EPT_PAGE : EPT_TABLE, value);
}

function translationBody(result: Translation): TranslateBody {
  const steps = result.steps.map((step) => ({
    table: step.table,
    level: step.level,
    address: hex(step.entryAddress),
    value: hex(step.value),
    decoded: decodeStep(step),
    ...(step.problem === undefined ? {} : { problem: step.problem }),
  }));
  const { guestPhysical, physical, pageSize, fault } = result;
  return {
    steps,
    ...(guestPhysical === undefined ? {} : { guestPhysical: hex(guestPhysical) }),
    ...(physical === undefined ? {} : { physical: hex(physical) }),
    ...(pageSize === undefined ? {} : { pageSize }),
    ...(fault === undefined ? {} : { fault: describeFault(fault) }),
  };
}

const currentEptp = (target: Target): bigint => {
  const { machine } = target;
  return machine.world === 'guest' ? machine.state.get64('eptp') : guestEptp(machine);
};

/** The way of an address through the tables. */
export function translation(
  target: Target,
  args: {
    readonly address: string;
    readonly space: string;
    readonly access?: string | undefined;
    readonly requester?: number | undefined;
  },
  command: string,
): TranslateBody {
  const address = parseHex(command, 'address', args.address);
  const access = ACCESSES.find((candidate) => candidate === (args.access ?? 'read'));
  if (!access) throw errors.badArguments(command, "'access' is not read, write or execute");
  const { mmu } = target.machine;
  if (args.space === 'linear') return translationBody(mmu.explain(address, access));
  if (args.space === 'guestLinear') {
    const guest = target.view('guest');
    if (!guest.exists) throw errors.noGuest();
    return translationBody(
      guest.current ? mmu.explain(address, access) : mmu.explain(address, access, guest.context()),
    );
  }
  if (args.space === 'iova') return deviceTranslation(target, address, args.requester ?? 0, access === 'write');
  if (args.space !== 'guestPhysical') {
    throw errors.badArguments(command, "'space' is not linear, guestLinear, guestPhysical or iova");
  }
  const eptp = currentEptp(target);
  if (eptp === 0n) return { steps: [], guestPhysical: hex(address), physical: hex(address) };
  return translationBody(mmu.explainEpt(Number(address), access, eptp));
}

/** The way of a device's address through the IOMMU's tables, as they are in memory. */
function deviceTranslation(target: Target, address: bigint, requester: number, write: boolean): TranslateBody {
  const { iommu } = target.machine;
  if (!iommu) return { steps: [], physical: hex(address) };
  const { steps, physical, pageSize, fault } = iommu.explain(requester, address, write);
  return {
    steps: steps.map(({ table, entryAddress, values, words }) => ({
      table,
      level: 'ept',
      address: hex(entryAddress),
      value: values.map(hex).join(' '),
      decoded: words,
    })),
    ...(physical === undefined ? {} : { physical: hex(physical) }),
    ...(pageSize === undefined ? {} : { pageSize: Number(pageSize) }),
    ...(fault === undefined ? {} : { fault: fault.text }),
  };
}

/** One EPT table's entries that are not zero. Levels count from 5 (PML5) or 4 (PML4) down to 1. */
export function eptTable(
  target: Target,
  args: {
    readonly table?: string | undefined;
    readonly level?: number | undefined;
    readonly base?: string | undefined;
  },
  command: string,
): EptTableBody {
  const eptp = currentEptp(target);
  const level = args.level ?? rootLevel(eptp);
  if (!LEVELS.includes(level)) throw errors.badArguments(command, "'level' is not 1, 2, 3, 4 or 5");
  if (args.table === undefined && eptp === 0n) return { level, entries: [] };
  const table = args.table === undefined ? eptp & FRAME : parseHex(command, 'table', args.table);
  const base = args.base === undefined ? 0n : parseHex(command, 'base', args.base);
  const bytes = target.machine.physical.peek(Number(table), 8 * ENTRIES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = 1n << BigInt(12 + 9 * (level - 1));
  const entries = Array.from({ length: ENTRIES }, (_, index) => view.getBigUint64(8 * index, true)).flatMap(
    (value, index) => (value === 0n ? [] : [describeEntry(index, value, level, base + BigInt(index) * size, size)]),
  );
  return { table: hex(table), level, entries };
}

function describeEntry(
  index: number,
  value: bigint,
  level: number,
  base: bigint,
  size: bigint,
): EptTableBody['entries'][number] {
  const leaf = level === 1 || (level <= HIGHEST_LEAF && (value & LARGE) !== 0n);
  const rights = [value & 1n && 'R', value & 2n && 'W', value & 4n && 'X'].filter(Boolean).join('');
  const memoryType = MEMORY_TYPES[Number((value >> 3n) & RIGHTS)];
  return {
    index,
    value: hex(value),
    base: hex(base),
    size: hex(size),
    leaf,
    rights: rights === '' ? 'none' : rights,
    ...(leaf && memoryType !== undefined ? { memoryType } : {}),
    target: hex(leaf ? value & FRAME & ~(size - 1n) : value & FRAME),
  };
}
