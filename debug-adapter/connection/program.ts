/**
 * Run as a program: a debug adapter for one client, on standard input and output; or, where tcp.ts has started it, on
 * the socket that it is sent.
 */

import type { Socket } from 'node:net';
import { serveStdio, serveStream } from './stream.ts';

const socketOfParent = (): Promise<Socket> =>
  new Promise((resolve) => process.once('message', (_, socket) => resolve(socket as Socket)));

async function serveSocket(): Promise<void> {
  // The server has ended.
  process.once('disconnect', () => process.exit(0));
  const socket = await socketOfParent();
  socket.setNoDelay(true);
  await serveStream(socket, socket);
}

(process.send ? serveSocket() : serveStdio()).then(() => process.exit(0));
