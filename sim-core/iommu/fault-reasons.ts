/** Fault reasons (Intel VT-d specification 4.1, "Non-Recoverable Faults" and "Interrupt Translation Faults"). */

const ROWS = [
  // Legacy mode
  ['rootNotPresent', 0x01, 'the root entry is not present'],
  ['contextNotPresent', 0x02, 'the context entry is not present'],
  ['contextInvalid', 0x03, 'the context entry asks for an address width or translation type that is not supported'],
  ['addressTooLarge', 0x04, 'the address is beyond the width that the context entry gives the domain'],
  ['writeDenied', 0x05, 'a second-stage paging entry does not permit writes'],
  ['readDenied', 0x06, 'a second-stage paging entry does not permit reads'],
  ['pagingEntryAccess', 0x07, 'a second-stage table is at an address without memory'],
  ['rootAccess', 0x08, 'the root table is at an address without memory'],
  ['contextAccess', 0x09, 'the context table is at an address without memory'],
  ['rootReserved', 0x0a, 'reserved bits are set in the root entry'],
  ['contextReserved', 0x0b, 'reserved bits are set in the context entry'],
  ['pagingEntryReserved', 0x0c, 'reserved bits are set in a second-stage paging entry'],
  ['interruptAddress', 0x0e, 'the address, or what it translates to, is in the interrupt address range'],
  // Interrupt remapping
  ['requestReserved', 0x20, 'reserved bits are set in the interrupt request'],
  ['indexTooLarge', 0x21, 'the interrupt index is beyond the interrupt remapping table'],
  ['irteNotPresent', 0x22, 'the interrupt remapping table entry is not present'],
  ['irteAccess', 0x23, 'the interrupt remapping table is at an address without memory'],
  ['irteReserved', 0x24, 'reserved bits are set in the interrupt remapping table entry'],
  ['compatibilityBlocked', 0x25, 'an interrupt request of the compatibility format, which is blocked'],
  ['sourceInvalid', 0x26, 'the interrupt remapping table entry is not for this requester'],
  ['postedAccess', 0x27, 'the posted-interrupt descriptor is at an address without memory'],
  ['postedReserved', 0x28, 'reserved bits are set in the posted-interrupt descriptor'],
  // Scalable mode
  ['scalableRootInvalid', 0x30, 'the root-table address register is not valid'],
  ['scalableRootAccess', 0x38, 'the scalable-mode root table is at an address without memory'],
  ['scalableRootNotPresent', 0x39, 'the half of the scalable-mode root entry for the device is not present'],
  ['scalableRootReserved', 0x3a, 'reserved bits are set in the scalable-mode root entry'],
  ['scalableContextAccess', 0x40, 'the scalable-mode context table is at an address without memory'],
  ['scalableContextNotPresent', 0x41, 'the scalable-mode context entry is not present'],
  ['scalableContextReserved', 0x42, 'reserved bits are set in the scalable-mode context entry'],
  ['ridPasidInvalid', 0x48, 'RID_PASID is beyond the PASID directory'],
  ['directoryAccess', 0x50, 'the PASID directory is at an address without memory'],
  ['directoryNotPresent', 0x51, 'the PASID directory entry is not present'],
  ['directoryReserved', 0x52, 'reserved bits are set in the PASID directory entry'],
  ['pasidAccess', 0x58, 'the PASID table is at an address without memory'],
  ['pasidNotPresent', 0x59, 'the PASID table entry is not present'],
  ['pasidReserved', 0x5a, 'reserved bits are set in the PASID table entry'],
  ['pasidInvalid', 0x5b, 'the PASID table entry asks for a translation type or width that is not supported'],
  ['scalablePagingEntryAccess', 0x78, 'a second-stage table is at an address without memory'],
  ['scalablePagingEntryReserved', 0x7a, 'reserved bits are set in a second-stage paging entry'],
  ['scalableAddressTooLarge', 0x84, 'the address is beyond the width that the PASID table entry gives the domain'],
  ['scalableWriteDenied', 0x85, 'a second-stage paging entry does not permit writes'],
  ['scalableReadDenied', 0x86, 'a second-stage paging entry does not permit reads'],
  ['scalableInterruptAddress', 0x87, 'the address, or what it translates to, is in the interrupt address range'],
] as const;

type Row = (typeof ROWS)[number];
export type FaultName = Row[0];

export const FAULT_REASON = Object.fromEntries(ROWS.map(([name, code]) => [name, code])) as Readonly<
  Record<FaultName, number>
>;

const WORDS: ReadonlyMap<number, string> = new Map(ROWS.map(([, code, words]) => [code, words]));

export const describeFaultReason = (reason: number): string => WORDS.get(reason) ?? `reason 0x${reason.toString(16)}`;
export const FAULT_ROWS: readonly Row[] = ROWS;

/** Reasons by what went wrong, in legacy and in scalable mode. */
export const STAGE_FAULTS = {
  legacy: {
    rootAccess: FAULT_REASON.rootAccess,
    rootNotPresent: FAULT_REASON.rootNotPresent,
    rootReserved: FAULT_REASON.rootReserved,
    contextAccess: FAULT_REASON.contextAccess,
    contextNotPresent: FAULT_REASON.contextNotPresent,
    contextReserved: FAULT_REASON.contextReserved,
    addressTooLarge: FAULT_REASON.addressTooLarge,
    pagingEntryAccess: FAULT_REASON.pagingEntryAccess,
    pagingEntryReserved: FAULT_REASON.pagingEntryReserved,
    writeDenied: FAULT_REASON.writeDenied,
    readDenied: FAULT_REASON.readDenied,
    interruptAddress: FAULT_REASON.interruptAddress,
  },
  scalable: {
    rootAccess: FAULT_REASON.scalableRootAccess,
    rootNotPresent: FAULT_REASON.scalableRootNotPresent,
    rootReserved: FAULT_REASON.scalableRootReserved,
    contextAccess: FAULT_REASON.scalableContextAccess,
    contextNotPresent: FAULT_REASON.scalableContextNotPresent,
    contextReserved: FAULT_REASON.scalableContextReserved,
    addressTooLarge: FAULT_REASON.scalableAddressTooLarge,
    pagingEntryAccess: FAULT_REASON.scalablePagingEntryAccess,
    pagingEntryReserved: FAULT_REASON.scalablePagingEntryReserved,
    writeDenied: FAULT_REASON.scalableWriteDenied,
    readDenied: FAULT_REASON.scalableReadDenied,
    interruptAddress: FAULT_REASON.scalableInterruptAddress,
  },
} as const;
export type TranslationMode = keyof typeof STAGE_FAULTS;
