/** `vmxray gdb`: a machine that GDB drives over its remote serial protocol. */

import { createServer, type Server, type Socket } from 'node:net';
import type { Machine } from '../sim-core/machine/api.ts';
import { type ConsolePort, SerialConsole } from './console.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { GdbConnection } from './gdb/connection.ts';
import { Debuggee } from './gdb/debuggee.ts';
import { HostFiles } from './gdb/host-files.ts';
import { LOOPBACK, listen } from './listening.ts';
import { startMachine } from './machines.ts';
import type { GdbOptions } from './options.ts';

/**
 * Output of what the machine does again after going back is not shown again, and input goes through the history.
 * @param debuggee asked when a byte comes or goes
 */
function consoleOf(machine: Machine, debuggee: () => Debuggee): SerialConsole {
  const serial: ConsolePort = {
    onOutput: undefined,
    input: (bytes) => debuggee().input(bytes),
  };
  machine.serial.onOutput = (byte) => {
    if (!debuggee().repeats) serial.onOutput?.(byte);
  };
  return new SerialConsole({ serial });
}

/** Serves one gdb after another; who comes early waits. @returns when one of them kills the machine */
function serve(server: Server, debuggee: Debuggee): Promise<void> {
  const waiting: Socket[] = [];
  let connected = false;
  return new Promise((resolve) => {
    const next = (): void => {
      const socket = connected ? undefined : waiting.shift();
      if (!socket) return;
      connected = true;
      new GdbConnection(socket, debuggee, (ending) => {
        connected = false;
        if (ending === 'killed') resolve();
        else next();
      });
    };
    server.on('connection', (socket) => {
      socket.setNoDelay(true);
      waiting.push(socket);
      socket.on('error', () => socket.destroy());
      next();
    });
  });
}

/** @returns when the user ends the run from the terminal; never, when there is none */
async function untilInterrupted(serial: SerialConsole): Promise<void> {
  for (;;) {
    const outcome = await serial.waitForInput(Number.POSITIVE_INFINITY);
    if (outcome === 'interrupted') return;
    if (outcome === 'end') return new Promise(() => {});
  }
}

/** Runs an image for gdb until that kills it. @returns the exit status. @throws ImageError, UsageError */
export async function gdb({ run, port }: GdbOptions): Promise<number> {
  const { machine, image, recorded } = await startMachine(run);
  const files = new HostFiles(new Map(image ? [[image.path, image.bytes]] : []), image?.path ?? '');
  const serial = consoleOf(machine, () => debuggee);
  const debuggee: Debuggee = new Debuggee(machine, () => serial.flush(), files);
  // Asked now: files may change later.
  const boot = recorded();
  debuggee.recorded = () => boot;
  const server = createServer();
  const killed = serve(server, debuggee).then(() => 0);
  const actual = await listen(server, port);
  // On standard error: standard output is the guest's serial port.
  process.stderr.write(`GDB server listening on ${LOOPBACK}:${actual}\n`);
  serial.open();
  const status = await Promise.race([killed, untilInterrupted(serial).then(() => EXIT_STATUS.interrupted.status)]);
  server.close();
  serial.close();
  return status;
}
