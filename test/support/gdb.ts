/** `vmxray gdb`, and Debian's gdb connected to it. */

import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { isThere } from './programs.ts';

const CLI = path.join(import.meta.dirname, '../../cli/main.ts');
export const HAS_GDB = isThere('gdb');

export interface GdbServer {
  readonly process: ChildProcess;
  readonly port: number;
  readonly ended: Promise<number | null>;
}

/** @param args an image, and options of `vmxray gdb` */
export function startServer(...args: readonly string[]): Promise<GdbServer> {
  const all = [CLI, 'gdb', ...args, '--port', '0'];
  const server = spawn(process.execPath, all, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>((resolve) => server.on('exit', resolve));
  return new Promise((resolve, reject) => {
    let text = '';
    server.stdout.resume();
    server.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const found = /listening on 127\.0\.0\.1:(\d+)/.exec(text);
      if (found) resolve({ process: server, port: Number(found[1]), ended });
    });
    void ended.then((status) => reject(new Error(`the server ended with ${status}: ${text}`)));
  });
}

/** What a person types while gdb waits: when its output has this text, it gets Ctrl-C. */
export type Interrupts = readonly { readonly after: RegExp }[];

/** What gdb prints for commands on a connected machine. @param file the program that it is given; undefined: none */
export async function runGdb(
  { port }: GdbServer,
  file: string | undefined,
  commands: readonly string[],
  interrupts: Interrupts = [],
): Promise<string> {
  const all = ['set pagination off', 'set confirm off', `target remote 127.0.0.1:${port}`, ...commands];
  const args = ['-nx', '-batch', ...all.flatMap((command) => ['-ex', command]), ...(file ? [file] : [])];
  const client = spawn('gdb', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const left = [...interrupts];
  let text = '';
  for (const stream of [client.stdout, client.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (!left[0]?.after.test(text)) return;
      left.shift();
      // So that the machine runs by then.
      setTimeout(() => client.kill('SIGINT'), 300);
    });
  }
  await new Promise((resolve) => client.on('close', resolve));
  return text;
}
