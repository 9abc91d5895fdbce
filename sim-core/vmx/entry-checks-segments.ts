/** Checks on guest segment registers (SDM Vol. 3C, "Checks on Guest Segment Registers"): a failure is VM exit 33. */

import { SECONDARY } from './controls.ts';
import { CR0_BITS, checksOf, type EntryCheck, has, isCanonical, SECONDARY_FIELDS, secondaryOf } from './entry-check.ts';
import { isLongGuest } from './entry-checks-controls.ts';

const check = checksOf('guest');
const sdm = 'guestSegmentChecks';

const SIX = ['CS', 'SS', 'DS', 'ES', 'FS', 'GS'] as const;
const DATA = ['DS', 'ES', 'FS', 'GS'] as const;
type Six = (typeof SIX)[number];
type Segment = Six | 'TR' | 'LDTR';
const selectorOf = <S extends Segment>(segment: S) => `GUEST_${segment}_SELECTOR` as const;
const baseOf = <S extends Segment>(segment: S) => `GUEST_${segment}_BASE` as const;
const limitOf = <S extends Segment>(segment: S) => `GUEST_${segment}_LIMIT` as const;
const rightsOf = <S extends Segment>(segment: S) => `GUEST_${segment}_ACCESS_RIGHTS` as const;
const id = (segment: Segment, what: string) => `guest.${segment.toLowerCase()}.${what}`;

/** Access-rights bits. */
const isUsable = (rights: number): boolean => !has(rights, 0x1_0000);
const typeOf = (rights: number): number => rights & 15;
const dplOf = (rights: number): number => (rights >>> 5) & 3;
const rplOf = (selector: number): number => selector & 3;
const isV86 = (rflags: bigint): boolean => (rflags & 0x2_0000n) !== 0n;
const V86_RIGHTS = 0xf3;
const READ_WRITE_ACCESSED = 3;

const SELECTORS: readonly EntryCheck[] = [
  check({
    id: id('TR', 'selector'),
    sdm,
    fields: ['GUEST_TR_SELECTOR'],
    holds: (v) => !has(v.GUEST_TR_SELECTOR, 4),
    must: 'TI (bit 2) of GUEST_TR_SELECTOR must be 0',
  }),
  check({
    id: id('LDTR', 'selector'),
    sdm,
    fields: ['GUEST_LDTR_SELECTOR', 'GUEST_LDTR_ACCESS_RIGHTS'],
    holds: (v) => !isUsable(v.GUEST_LDTR_ACCESS_RIGHTS) || !has(v.GUEST_LDTR_SELECTOR, 4),
    must: 'TI (bit 2) of GUEST_LDTR_SELECTOR must be 0 when LDTR is usable',
  }),
  check({
    id: id('SS', 'selector'),
    sdm,
    fields: [...SECONDARY_FIELDS, 'GUEST_RFLAGS', 'GUEST_SS_SELECTOR', 'GUEST_CS_SELECTOR'],
    holds: (v) =>
      isV86(v.GUEST_RFLAGS) ||
      has(secondaryOf(v), SECONDARY.UNRESTRICTED_GUEST) ||
      rplOf(v.GUEST_SS_SELECTOR) === rplOf(v.GUEST_CS_SELECTOR),
    must: 'RPL of GUEST_SS_SELECTOR must equal RPL of GUEST_CS_SELECTOR',
  }),
];

const BASES: readonly EntryCheck[] = [
  ...SIX.map((segment) => {
    const [base, selector] = [baseOf(segment), selectorOf(segment)];
    return check({
      id: id(segment, 'v86Base'),
      sdm,
      fields: ['GUEST_RFLAGS', selector, base],
      holds: (v) => !isV86(v.GUEST_RFLAGS) || v[base] === BigInt(v[selector]) << 4n,
      must: `In virtual-8086 mode ${base} must be ${selector} × 16`,
    });
  }),
  ...(['TR', 'FS', 'GS'] as const).map((segment) => {
    const base = baseOf(segment);
    return check({
      id: id(segment, 'base'),
      sdm,
      fields: [base],
      holds: (v, facts) => isCanonical(v[base], facts.linearAddressBits),
      must: `${base} must be a canonical address`,
    });
  }),
  check({
    id: id('LDTR', 'base'),
    sdm,
    fields: ['GUEST_LDTR_ACCESS_RIGHTS', 'GUEST_LDTR_BASE'],
    holds: (v, facts) =>
      !isUsable(v.GUEST_LDTR_ACCESS_RIGHTS) || isCanonical(v.GUEST_LDTR_BASE, facts.linearAddressBits),
    must: 'GUEST_LDTR_BASE must be a canonical address when LDTR is usable',
  }),
  check({
    id: id('CS', 'base'),
    sdm,
    fields: ['GUEST_CS_BASE'],
    holds: (v) => v.GUEST_CS_BASE >> 32n === 0n,
    must: 'GUEST_CS_BASE bits 63:32 must be 0',
  }),
  ...(['SS', 'DS', 'ES'] as const).map((segment) => {
    const [base, rights] = [baseOf(segment), rightsOf(segment)];
    return check({
      id: id(segment, 'base'),
      sdm,
      fields: [rights, base],
      holds: (v) => !isUsable(v[rights]) || v[base] >> 32n === 0n,
      must: `${base} bits 63:32 must be 0 when ${segment} is usable`,
    });
  }),
];

const V86: readonly EntryCheck[] = SIX.flatMap((segment) => {
  const [limit, rights] = [limitOf(segment), rightsOf(segment)];
  return [
    check({
      id: id(segment, 'v86Limit'),
      sdm,
      fields: ['GUEST_RFLAGS', limit],
      holds: (v) => !isV86(v.GUEST_RFLAGS) || v[limit] === 0xffff,
      must: `In virtual-8086 mode ${limit} must be 0xFFFF`,
    }),
    check({
      id: id(segment, 'v86Rights'),
      sdm,
      fields: ['GUEST_RFLAGS', rights],
      holds: (v) => !isV86(v.GUEST_RFLAGS) || v[rights] === V86_RIGHTS,
      must: `In virtual-8086 mode ${rights} must be 0xF3`,
    }),
  ];
});

/** A check of access rights that applies outside virtual-8086 mode, to CS always and to the others when usable. */
const rightsCheck = (segment: Six, what: string, must: string, holds: (rights: number) => boolean): EntryCheck => {
  const rights = rightsOf(segment);
  return check({
    id: id(segment, what),
    sdm,
    fields: ['GUEST_RFLAGS', rights],
    holds: (v) => isV86(v.GUEST_RFLAGS) || (segment !== 'CS' && !isUsable(v[rights])) || holds(v[rights]),
    must: `${rights}: ${must}`,
  });
};

const TYPES: readonly EntryCheck[] = [
  check({
    id: id('CS', 'type'),
    sdm,
    fields: [...SECONDARY_FIELDS, 'GUEST_RFLAGS', 'GUEST_CS_ACCESS_RIGHTS'],
    holds: (v) => {
      const type = typeOf(v.GUEST_CS_ACCESS_RIGHTS);
      const unrestricted = has(secondaryOf(v), SECONDARY.UNRESTRICTED_GUEST);
      return isV86(v.GUEST_RFLAGS) || (type & 9) === 9 || (unrestricted && type === READ_WRITE_ACCESSED);
    },
    must: 'Type of GUEST_CS_ACCESS_RIGHTS must be 9, 11, 13 or 15 (accessed code), or 3 in an unrestricted guest',
  }),
  rightsCheck('SS', 'type', 'Type must be 3 or 7 (accessed, writable data)', (rights) => (rights & 11) === 3),
  ...DATA.flatMap((segment) => [
    rightsCheck(segment, 'accessed', 'bit 0 of Type (accessed) must be 1', (rights) => has(rights, 1)),
    rightsCheck(
      segment,
      'readable',
      'a code segment must be readable (bit 1 of Type)',
      (rights) => !has(rights, 8) || has(rights, 2),
    ),
  ]),
  ...SIX.map((segment) => rightsCheck(segment, 's', 'S must be 1 (code or data)', (rights) => has(rights, 0x10))),
];

const PRIVILEGES: readonly EntryCheck[] = [
  check({
    id: id('CS', 'dpl'),
    sdm,
    fields: ['GUEST_RFLAGS', 'GUEST_CS_ACCESS_RIGHTS', 'GUEST_SS_ACCESS_RIGHTS'],
    holds: (v) => {
      const type = typeOf(v.GUEST_CS_ACCESS_RIGHTS);
      const dpl = dplOf(v.GUEST_CS_ACCESS_RIGHTS);
      const stackDpl = dplOf(v.GUEST_SS_ACCESS_RIGHTS);
      if (isV86(v.GUEST_RFLAGS)) return true;
      if (type === READ_WRITE_ACCESSED) return dpl === 0;
      if ((type & 13) === 9) return dpl === stackDpl;
      return (type & 13) !== 13 || dpl <= stackDpl;
    },
    must:
      'DPL of CS must be 0 for Type 3, equal to DPL of SS for Type 9 and 11, ' +
      'and not above DPL of SS for Type 13 and 15',
  }),
  check({
    id: id('SS', 'dpl'),
    sdm,
    fields: [...SECONDARY_FIELDS, 'GUEST_RFLAGS', 'GUEST_SS_SELECTOR', 'GUEST_SS_ACCESS_RIGHTS'],
    holds: (v) =>
      isV86(v.GUEST_RFLAGS) ||
      has(secondaryOf(v), SECONDARY.UNRESTRICTED_GUEST) ||
      dplOf(v.GUEST_SS_ACCESS_RIGHTS) === rplOf(v.GUEST_SS_SELECTOR),
    must: 'DPL of SS must equal RPL of GUEST_SS_SELECTOR',
  }),
  check({
    id: id('SS', 'dplReal'),
    sdm,
    fields: ['GUEST_RFLAGS', 'GUEST_CR0', 'GUEST_CS_ACCESS_RIGHTS', 'GUEST_SS_ACCESS_RIGHTS'],
    holds: (v) => {
      const real = typeOf(v.GUEST_CS_ACCESS_RIGHTS) === READ_WRITE_ACCESSED || (v.GUEST_CR0 & CR0_BITS.pe) === 0n;
      return isV86(v.GUEST_RFLAGS) || !real || dplOf(v.GUEST_SS_ACCESS_RIGHTS) === 0;
    },
    must: 'DPL of SS must be 0 when GUEST_CR0.PE is 0 or CS has Type 3',
  }),
  ...DATA.map((segment) => {
    const [selector, rights] = [selectorOf(segment), rightsOf(segment)];
    return check({
      id: id(segment, 'dpl'),
      sdm,
      fields: [...SECONDARY_FIELDS, 'GUEST_RFLAGS', selector, rights],
      holds: (v) =>
        isV86(v.GUEST_RFLAGS) ||
        !isUsable(v[rights]) ||
        has(secondaryOf(v), SECONDARY.UNRESTRICTED_GUEST) ||
        typeOf(v[rights]) > 11 ||
        dplOf(v[rights]) >= rplOf(v[selector]),
      must: `DPL of ${segment} must not be below RPL of ${selector} for data and non-conforming code`,
    });
  }),
];

/** G must be 0 when limit bits 11:0 are not all ones, and 1 when limit bits 31:20 are not all zero. */
const isGranular = (rights: number, limit: number): boolean =>
  has(rights, 0x8000) ? (limit & 0xfff) === 0xfff : limit >>> 20 === 0;

const OTHER_RIGHTS: readonly EntryCheck[] = SIX.flatMap((segment) => {
  const [limit, rights] = [limitOf(segment), rightsOf(segment)];
  return [
    rightsCheck(segment, 'present', 'P must be 1', (value) => has(value, 0x80)),
    rightsCheck(
      segment,
      'reserved',
      'bits 31:17 and 11:8 must be 0',
      (value) => (value & 0x0f00) === 0 && value >>> 17 === 0,
    ),
    check({
      id: id(segment, 'granularity'),
      sdm,
      fields: ['GUEST_RFLAGS', limit, rights],
      holds: (v) =>
        isV86(v.GUEST_RFLAGS) || (segment !== 'CS' && !isUsable(v[rights])) || isGranular(v[rights], v[limit]),
      must: `G of ${rights} must be 0 unless ${limit} ends in 0xFFF, and 1 if it exceeds 0xFFFFF`,
    }),
  ];
});

const CODE_SIZE = check({
  id: id('CS', 'size'),
  sdm,
  fields: ['GUEST_RFLAGS', 'VM_ENTRY_CONTROLS', 'GUEST_CS_ACCESS_RIGHTS'],
  holds: (v) =>
    isV86(v.GUEST_RFLAGS) || !isLongGuest(v.VM_ENTRY_CONTROLS) || (v.GUEST_CS_ACCESS_RIGHTS & 0x6000) !== 0x6000,
  must: 'D/B of CS must be 0 when L is 1 in an IA-32e mode guest',
});

/** TR must always be usable; LDTR may be unusable, and then nothing else is checked. */
const SYSTEM_TYPES: readonly EntryCheck[] = [
  check({
    id: id('TR', 'type'),
    sdm,
    fields: ['VM_ENTRY_CONTROLS', 'GUEST_TR_ACCESS_RIGHTS'],
    holds: (v) => {
      const type = typeOf(v.GUEST_TR_ACCESS_RIGHTS);
      return type === 11 || (type === 3 && !isLongGuest(v.VM_ENTRY_CONTROLS));
    },
    must: 'Type of GUEST_TR_ACCESS_RIGHTS must be 11 (busy TSS), or 3 (busy 16-bit TSS) outside IA-32e mode',
  }),
  check({
    id: id('TR', 'usable'),
    sdm,
    fields: ['GUEST_TR_ACCESS_RIGHTS'],
    holds: (v) => isUsable(v.GUEST_TR_ACCESS_RIGHTS),
    must: 'GUEST_TR_ACCESS_RIGHTS must not be marked unusable',
  }),
  check({
    id: id('LDTR', 'type'),
    sdm,
    fields: ['GUEST_LDTR_ACCESS_RIGHTS'],
    holds: (v) => !isUsable(v.GUEST_LDTR_ACCESS_RIGHTS) || typeOf(v.GUEST_LDTR_ACCESS_RIGHTS) === 2,
    must: 'Type of GUEST_LDTR_ACCESS_RIGHTS must be 2 (LDT) when LDTR is usable',
  }),
];

const SYSTEM_RIGHTS: readonly EntryCheck[] = (['TR', 'LDTR'] as const).flatMap((segment) => {
  const [limit, rights] = [limitOf(segment), rightsOf(segment)];
  const skip = (value: number): boolean => segment === 'LDTR' && !isUsable(value);
  const row = (what: string, must: string, holds: (value: number) => boolean): EntryCheck =>
    check({
      id: id(segment, what),
      sdm,
      fields: [rights],
      holds: (v) => skip(v[rights]) || holds(v[rights]),
      must: `${rights}: ${must}`,
    });
  return [
    row('s', 'S must be 0 (system segment)', (value) => !has(value, 0x10)),
    row('present', 'P must be 1', (value) => has(value, 0x80)),
    row('reserved', 'bits 31:17 and 11:8 must be 0', (value) => (value & 0x0f00) === 0 && value >>> 17 === 0),
    check({
      id: id(segment, 'granularity'),
      sdm,
      fields: [limit, rights],
      holds: (v) => skip(v[rights]) || isGranular(v[rights], v[limit]),
      must: `G of ${rights} must be 0 unless ${limit} ends in 0xFFF, and 1 if it exceeds 0xFFFFF`,
    }),
  ];
});

export const ENTRY_CHECKS_SEGMENTS: readonly EntryCheck[] = [
  ...SELECTORS,
  ...BASES,
  ...V86,
  ...TYPES,
  ...PRIVILEGES,
  ...OTHER_RIGHTS,
  CODE_SIZE,
  ...SYSTEM_TYPES,
  ...SYSTEM_RIGHTS,
];
