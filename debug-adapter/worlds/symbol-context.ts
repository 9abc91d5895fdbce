import type { World } from '../../sim-core/machine/api.ts';
import { errors } from '../errors.ts';
import type { When as WrittenWhen } from '../protocol.ts';
import { hex, wrap64 } from './memory-reference.ts';

/** Whose addresses are meant: a world, and for guests which one and which address space in it. */
export interface SymbolContext {
  readonly world: World;
  /** 0 in the VMM. */
  readonly vpid: number;
  /** 0 in the VMM. */
  readonly eptp: bigint;
  readonly cr3: bigint;
}

/** Where a program's symbols hold: everything that is given must be so. */
export interface When {
  readonly mode?: World;
  readonly vpid?: number;
  readonly eptp?: bigint;
  readonly cr3?: bigint;
  /** Linear addresses [from, to). */
  readonly from?: bigint;
  readonly to?: bigint;
}

/** Of EPTP and CR3 the address of the first table counts: other bits are memory types, PCIDs and so on. */
const TABLE = 0x000f_ffff_ffff_f000n;
const sameTable = (a: bigint, b: bigint): boolean => (a & TABLE) === (b & TABLE);

export function applies(when: When, context: SymbolContext): boolean {
  const { mode, vpid, eptp, cr3 } = when;
  return (
    (mode === undefined || mode === context.world) &&
    (vpid === undefined || vpid === context.vpid) &&
    (eptp === undefined || sameTable(eptp, context.eptp)) &&
    (cr3 === undefined || sameTable(cr3, context.cr3))
  );
}

export const appliesAt = ({ from = 0n, to }: When, address: bigint): boolean =>
  address >= from && (to === undefined || address < to);

/** How particular it is: the more it demands, the sooner it is asked. */
export const demands = (when: When): number => Object.values(when).filter((part) => part !== undefined).length;

const WORLD_NAMES: Readonly<Record<World, string>> = { vmm: 'VMM', guest: 'guest' };

/** As a person reads it: 'guest, VPID 1', 'VMM', 'everywhere'. */
export function describeWhen({ mode, vpid, eptp, cr3, from, to }: When): string {
  const parts = [
    mode && WORLD_NAMES[mode],
    vpid === undefined ? undefined : `VPID ${vpid}`,
    eptp === undefined ? undefined : `EPTP ${hex(eptp)}`,
    cr3 === undefined ? undefined : `CR3 ${hex(cr3)}`,
    from === undefined && to === undefined ? undefined : `${hex(from ?? 0n)}–${to === undefined ? '' : hex(to)}`,
  ].filter((part) => part !== undefined);
  return parts.length > 0 ? parts.join(', ') : 'everywhere';
}

/**
 * Reads `when` of the launch configuration.
 * @param name the attribute, for errors @param mode where the program runs when nothing is said
 * @throws badLaunchValue
 */
export function parseWhen(name: string, when: WrittenWhen | undefined, mode: World | undefined): When {
  const { mode: written, vpid, eptp, cr3, from, to } = when ?? {};
  if (written !== undefined && written !== 'vmm' && written !== 'guest') {
    throw errors.badLaunchValue(`${name}.mode`, `'${String(written)}' is neither 'vmm' nor 'guest'`);
  }
  if (vpid !== undefined && !(Number.isInteger(vpid) && vpid >= 0 && vpid <= 0xffff)) {
    throw errors.badLaunchValue(`${name}.vpid`, `${vpid} is no VPID: those are 1 to 65535, or 0 for none`);
  }
  const isGuest = vpid !== undefined || eptp !== undefined;
  const world = written ?? (isGuest ? 'guest' : mode);
  return {
    ...(world === undefined ? {} : { mode: world }),
    ...(vpid === undefined ? {} : { vpid }),
    ...(eptp === undefined ? {} : { eptp: parseAddress(`${name}.eptp`, eptp) }),
    ...(cr3 === undefined ? {} : { cr3: parseAddress(`${name}.cr3`, cr3) }),
    ...(from === undefined ? {} : { from: parseAddress(`${name}.from`, from) }),
    ...(to === undefined ? {} : { to: parseAddress(`${name}.to`, to) }),
  };
}

/** @throws badLaunchValue */
export function parseAddress(name: string, text: string): bigint {
  if (!/^\s*(0x[0-9a-f]+|\d+)\s*$/i.test(text)) {
    throw errors.badLaunchValue(name, `'${text}' is no address such as 0x100000`);
  }
  return wrap64(BigInt(text.trim()));
}
