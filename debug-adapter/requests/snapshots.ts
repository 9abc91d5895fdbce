/** Snapshots in the debugger: launches that go on from one, and saving and restoring in a session. */

import { hashOf } from '../../sim-core/machine/history/hash.ts';
import type { RecordedFile } from '../../sim-core/machine/history/recording.ts';
import { checkBoot, type Snapshot, SnapshotError, takeSnapshot } from '../../sim-core/machine/history/snapshot.ts';
import { formatSnapshot, parseSnapshot } from '../../sim-core/machine/history/snapshot-file.ts';
import { errors } from '../errors.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { FileReader } from '../protocol.ts';
import type { DiskSource } from '../running/disks.ts';
import { toBase64 } from './base64.ts';
import { recordedBoot } from './replay.ts';

/** A snapshot that was read, and where from. */
export interface SnapshotFile {
  readonly snapshot: Snapshot;
  readonly file: RecordedFile;
}

/** @throws unreadableFile, badSnapshot */
export async function readSnapshot(files: FileReader, path: string): Promise<SnapshotFile> {
  let bytes: Uint8Array;
  try {
    bytes = await files.readFile(path);
  } catch (error) {
    throw errors.unreadableFile('The snapshot', path, error instanceof Error ? error.message : String(error));
  }
  return inWords(path, async () => ({ snapshot: await parseSnapshot(bytes), file: { path, hash: hashOf(bytes) } }));
}

export const snapshotSource = ({ snapshot, file: { path } }: SnapshotFile): DiskSource => ({
  ...{ path, disks: snapshot.boot.disks },
  problem: (text) => errors.badSnapshot(path, text),
});

/** @throws badSnapshot for what is wrong with the snapshot */
async function inWords<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof SnapshotError ? errors.badSnapshot(path, error.message) : error;
  }
}

export const snapshotRequests: HandlerTable = {
  'vmxray/snapshot': handler({}, async (session, _args, command) => {
    const { machine, booted } = session.stoppedTarget(command);
    if (!booted) throw errors.notLaunched(command);
    const { snapshot: _first, ...boot } = recordedBoot(command, booted);
    const snapshot = takeSnapshot(machine, boot);
    const { instructions, hash } = snapshot;
    return { data: toBase64(await formatSnapshot(snapshot)), instructions, hash };
  }),

  'vmxray/restoreSnapshot': handler({ threadId: 'number', path: 'string' }, async (session, args, command) => {
    const { threadId, path } = args;
    session.checkThread(threadId);
    const target = session.stoppedTarget(command);
    const { booted } = target;
    if (!booted) throw errors.notLaunched(command);
    const read = await readSnapshot(session.host, path);
    await inWords(path, () => checkBoot(read.snapshot.boot, booted));
    booted.disks.checkAll(snapshotSource(read));
    session.restore(command, read);
    session.event('continued', { threadId, allThreadsContinued: true });
    return {};
  }),
};
