import { errors } from '../errors.ts';
import { readPlace, writePlace } from '../expressions/environment.ts';
import { type HandlerTable, handler } from '../handler.ts';
import { hex, parsePlace, SPACE_NAMES, wrap64 } from '../worlds/memory-reference.ts';
import { toBase64 } from './base64.ts';

/** More than a memory view shows at once; a client that asks for more gets it in pieces. */
const LARGEST_READ = 1 << 20;

/** @throws badArguments. */
function fromBase64(command: string, data: string): Uint8Array {
  try {
    return Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  } catch {
    throw errors.badArguments(command, "'data' is not base64");
  }
}

export const memoryRequests: HandlerTable = {
  readMemory: handler(
    { memoryReference: 'string', offset: 'number?', count: 'number' },
    (session, { memoryReference, offset = 0, count }, command) => {
      const target = session.target(command);
      const place = parsePlace(memoryReference);
      const address = wrap64(place.address + BigInt(Math.trunc(offset)));
      const wanted = Math.min(Math.max(Math.trunc(count), 0), LARGEST_READ);
      const bytes = readPlace(target, { ...place, address }, wanted);
      session.showMemory(memoryReference, offset, wanted);
      const unreadableBytes = wanted - bytes.length;
      return {
        address: hex(address),
        data: toBase64(bytes),
        ...(unreadableBytes > 0 ? { unreadableBytes } : {}),
      };
    },
  ),

  writeMemory: handler(
    { memoryReference: 'string', offset: 'number?', allowPartial: 'boolean?', data: 'string' },
    (session, { memoryReference, offset = 0, allowPartial = false, data }, command) => {
      const target = session.stoppedTarget(command);
      const bytes = fromBase64(command, data);
      const place = parsePlace(memoryReference);
      const at = { ...place, address: wrap64(place.address + BigInt(Math.trunc(offset))) };
      const writable = readPlace(target, at, bytes.length).length;
      if (writable < bytes.length && (!allowPartial || writable === 0)) {
        throw errors.unreadable(SPACE_NAMES[at.space], at.address, `only ${writable} bytes of RAM are mapped there`);
      }
      const bytesWritten = writePlace(target, at, bytes.subarray(0, writable));
      session.showMemory(memoryReference, offset, bytesWritten);
      session.afterwards(() => session.changed());
      return { offset: 0, bytesWritten };
    },
  ),
};
