/**
 * Straight-line copies between the processor's state and the cached VMCS, from lists that derive once from the rows
 * below: what VM entry loads and VM exit saves without looking at it (SDM Vol. 3C, "Loading Guest State" and "Saving
 * Guest State"). CR0, RFLAGS, EFER and what controls decide are in entry.ts and exit.ts.
 */

import { GPR, OFFSET, SEGMENT, type StateField, widthOf } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { FIELD_OFFSET, type FieldName, fieldOf } from './fields.ts';
import { type CurrentVmcs, positionOf, wordOf } from './vmcs.ts';

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

/** Indices in `State.u32`: VMCS word, state word, in turn. Upper halves that only one side has are left out. */
function wordPairs(rows: readonly Row[]): Int32Array {
  const pairs: number[] = [];
  for (const [name, state, index = 0] of rows) {
    const stateWord = (OFFSET[state] + index * widthOf(state)) >>> 2;
    const words = fieldOf(name).bytes === 8 && widthOf(state) === 8 ? 2 : 1;
    for (let half = 0; half < words; half++) pairs.push(wordOf(FIELD_OFFSET[name]) + half, stateWord + half);
  }
  return Int32Array.from(pairs);
}

/** For each pair of `wordPairs`, the field's position in VMCS_FIELDS. */
function pairPositions(pairs: Int32Array): Int32Array {
  return Int32Array.from({ length: pairs.length / 2 }, (_, i) =>
    positionOf(((pairs[2 * i] as number) * 4 - OFFSET.vmcs) & ~7),
  );
}

const GUEST_PAIRS = wordPairs(GUEST_ROWS);
const GUEST_POSITIONS = pairPositions(GUEST_PAIRS);
const PDPTE_PAIRS = wordPairs(PDPTE_ROWS);
const PDPTE_POSITIONS = pairPositions(PDPTE_PAIRS);
const HOST_PAIRS = wordPairs(HOST_ROWS);

function load(state: State, pairs: Int32Array): void {
  const { u32 } = state;
  for (let i = 0; i < pairs.length; i += 2) u32[pairs[i + 1] as number] = u32[pairs[i] as number] as number;
}

function save(state: State, vmcs: CurrentVmcs, pairs: Int32Array, positions: Int32Array): void {
  const { u32 } = state;
  for (let i = 0; i < pairs.length; i += 2) {
    const value = u32[pairs[i + 1] as number] as number;
    const word = pairs[i] as number;
    if (u32[word] === value) continue;
    u32[word] = value;
    vmcs.checks.fieldWritten(positions[i >>> 1] as number);
  }
}

export function loadGuestRows(state: State): void {
  load(state, GUEST_PAIRS);
  state.u32[(OFFSET.msrSysenterCs >>> 2) + 1] = 0;
}
export const loadPdpteRows = (state: State): void => load(state, PDPTE_PAIRS);
export function loadHostRows(state: State): void {
  load(state, HOST_PAIRS);
  state.u32[(OFFSET.msrSysenterCs >>> 2) + 1] = 0;
}
export const saveGuestRows = (state: State, vmcs: CurrentVmcs): void => save(state, vmcs, GUEST_PAIRS, GUEST_POSITIONS);
export const savePdpteRows = (state: State, vmcs: CurrentVmcs): void => save(state, vmcs, PDPTE_PAIRS, PDPTE_POSITIONS);
