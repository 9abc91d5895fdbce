/**
 * Copies between the processor's state and the cached VMCS: what VM entry loads and VM exit saves without looking at it
 * (SDM Vol. 3C, "Loading Guest State" and "Saving Guest State"), as straight-line WebAssembly made from the rows below.
 * CR0, RFLAGS, EFER and what controls decide are in entry.ts and exit.ts.
 */

import { Code } from '../engine/code.ts';
import { ModuleBuilder } from '../engine/module.ts';
import { i32, load32, load64, type Word } from '../engine/value.ts';
import { GPR, OFFSET, SEGMENT, type StateField, widthOf } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { FIELD_OFFSET, type FieldName, fieldOf } from './fields.ts';

type Row = readonly [field: FieldName, state: StateField, index?: number];

const SEGMENT_NAMES = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'LDTR', 'TR'] as const;
const segmentRows = (): Row[] =>
  SEGMENT_NAMES.flatMap((name): Row[] => {
    const index = SEGMENT[name.toLowerCase() as Lowercase<typeof name>];
    return [
      [`GUEST_${name}_SELECTOR`, 'segmentSelector', index],
      [`GUEST_${name}_BASE`, 'segmentBase', index],
      [`GUEST_${name}_LIMIT`, 'segmentLimit', index],
      [`GUEST_${name}_ACCESS_RIGHTS`, 'segmentRights', index],
    ];
  });

/** Guest state that both VM entry and VM exit copy as it is. */
const GUEST_ROWS: readonly Row[] = [
  ['GUEST_CR3', 'cr3'],
  ['GUEST_CR4', 'cr4'],
  ['GUEST_RSP', 'gpr', GPR.rsp],
  ['GUEST_RIP', 'rip'],
  ...segmentRows(),
  ['GUEST_GDTR_BASE', 'gdtrBase'],
  ['GUEST_GDTR_LIMIT', 'gdtrLimit'],
  ['GUEST_IDTR_BASE', 'idtrBase'],
  ['GUEST_IDTR_LIMIT', 'idtrLimit'],
  ['GUEST_IA32_SYSENTER_CS', 'msrSysenterCs'],
  ['GUEST_IA32_SYSENTER_ESP', 'msrSysenterEsp'],
  ['GUEST_IA32_SYSENTER_EIP', 'msrSysenterEip'],
  ['GUEST_ACTIVITY_STATE', 'activity'],
  ['GUEST_INTERRUPTIBILITY_STATE', 'interruptibility'],
  ['GUEST_PENDING_DEBUG_EXCEPTIONS', 'pendingDebug'],
];

/** PAE page-directory-pointer entries. */
const PDPTE_ROWS: readonly Row[] = [
  ['GUEST_PDPTE0', 'pdpte', 0],
  ['GUEST_PDPTE1', 'pdpte', 1],
  ['GUEST_PDPTE2', 'pdpte', 2],
  ['GUEST_PDPTE3', 'pdpte', 3],
];

/** Host state that VM exit copies as it is. */
const HOST_ROWS: readonly Row[] = [
  ['HOST_CR3', 'cr3'],
  ['HOST_RSP', 'gpr', GPR.rsp],
  ['HOST_RIP', 'rip'],
  ['HOST_FS_BASE', 'segmentBase', SEGMENT.fs],
  ['HOST_GS_BASE', 'segmentBase', SEGMENT.gs],
  ['HOST_TR_BASE', 'segmentBase', SEGMENT.tr],
  ['HOST_GDTR_BASE', 'gdtrBase'],
  ['HOST_IDTR_BASE', 'idtrBase'],
  ['HOST_IA32_SYSENTER_CS', 'msrSysenterCs'],
  ['HOST_IA32_SYSENTER_ESP', 'msrSysenterEsp'],
  ['HOST_IA32_SYSENTER_EIP', 'msrSysenterEip'],
];

const ZERO = i32(0);

/** A row's two addresses in linear memory and its width in bytes: 4 where only one side has an upper half. */
interface Copy {
  readonly field: number;
  readonly state: number;
  readonly width: 4 | 8;
}

const copies = (rows: readonly Row[]): Copy[] =>
  rows.map(([name, state, index = 0]) => ({
    field: OFFSET.vmcs + FIELD_OFFSET[name],
    state: OFFSET[state] + index * widthOf(state),
    width: fieldOf(name).bytes === 8 && widthOf(state) === 8 ? 8 : 4,
  }));

const loadAt = (width: 4 | 8, at: number): Word => (width === 8 ? load64(ZERO, at) : load32(ZERO, at));

function loadFunction(rows: readonly Row[]): Code {
  const code = new Code({ parameters: [], results: [] });
  for (const { field, state, width } of copies(rows)) code.store(width, ZERO, loadAt(width, field), state);
  return code;
}

/** Fields that change are noted as staged VMWRITEs note theirs: the next VM entry checks what depends on them. */
function saveFunction(rows: readonly Row[]): Code {
  const code = new Code({ parameters: [], results: [] });
  const count = code.variable('i32', load32(ZERO, OFFSET.vmcsWriteCount));
  for (const { field, state, width } of copies(rows)) {
    const value = code.let(loadAt(width, state));
    code.if(loadAt(width, field).ne(value), () => {
      code.store(width, ZERO, value, field);
      code.store(4, count.get().shl(2), i32(field - OFFSET.vmcs), OFFSET.vmcsWrites);
      count.set(count.get().add(1));
    });
  }
  code.store(4, ZERO, count.get(), OFFSET.vmcsWriteCount);
  return code;
}

/** The copies of one machine. Whoever saves must have taken note of the fields written before. */
export interface Transfer {
  loadGuest(): void;
  loadPdptes(): void;
  loadHost(): void;
  saveGuest(): void;
  savePdptes(): void;
}

export function buildTransfer({ memory }: State): Transfer {
  const builder = new ModuleBuilder();
  for (const rows of [GUEST_ROWS, PDPTE_ROWS, HOST_ROWS]) builder.add(loadFunction(rows));
  for (const rows of [GUEST_ROWS, PDPTE_ROWS]) builder.add(saveFunction(rows));
  const table = new WebAssembly.Table({ element: 'anyfunc', initial: 0 });
  const [loadGuest, loadPdptes, loadHost, saveGuest, savePdptes] = builder.instantiate({
    memory,
    table,
    functions: {},
  }) as (() => void)[];
  return { loadGuest, loadPdptes, loadHost, saveGuest, savePdptes } as Transfer;
}
