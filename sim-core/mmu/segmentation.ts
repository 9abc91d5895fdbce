import { RIGHTS } from '../state/control-bits.ts';
import { SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type ExceptionFault, exception, VECTOR } from './fault.ts';

/**
 * Limit and rights check of an access outside 64-bit mode (SDM Vol. 3A, "Limit Checking", "Type Checking").
 * @param segment SEGMENT number @param offset unsigned 32-bit offset @param size bytes
 */
export function checkSegmentAccess(
  state: State,
  segment: number,
  offset: number,
  size: number,
  write: boolean,
): ExceptionFault | undefined {
  const rights = state.get32('segmentRights', segment);
  const limit = state.get32('segmentLimit', segment);
  const code = (rights & RIGHTS.code) !== 0;
  const allowed =
    (rights & RIGHTS.unusable) === 0 &&
    (write ? !code && (rights & RIGHTS.writable) !== 0 : !code || (rights & RIGHTS.writable) !== 0);
  const last = offset + size - 1;
  const expandDown = !code && (rights & RIGHTS.expandDown) !== 0;
  const within = expandDown
    ? offset > limit && last <= ((rights & RIGHTS.big) !== 0 ? 0xffff_ffff : 0xffff)
    : last <= limit;
  if (allowed && within) return undefined;
  return exception(segment === SEGMENT.ss ? VECTOR.ss : VECTOR.gp, 0);
}
