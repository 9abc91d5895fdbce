/** One gdb on a socket: acknowledgements, packets one after another, and its interrupt while the machine runs. */

import type { Socket } from 'node:net';
import type { Debuggee } from './debuggee.ts';
import { encodePacket, hexBytes, type Incoming, PacketReader } from './packets.ts';
import { type Answer, GdbStub } from './stub.ts';

const SIGN_OF_LIFE_MILLISECONDS = 500;
/** Text of an `O` packet at once. */
const CONSOLE_PIECE = 1024;

export type Ending = 'detached' | 'killed' | 'disconnected';

export class GdbConnection {
  private readonly socket: Socket;
  private readonly debuggee: Debuggee;
  private readonly stub: GdbStub;
  private readonly reader = new PacketReader();
  /** Packets that came while another one was answered. */
  private readonly waiting: string[] = [];
  private isBusy = false;
  private acknowledges = true;
  /** Packets that gdb has not acknowledged: the first has been sent, the others follow one by one. */
  private unacknowledged: Buffer[] = [];
  private readonly onEnd: (ending: Ending) => void;

  /** @param onEnd called once, when nothing more will come */
  constructor(socket: Socket, debuggee: Debuggee, onEnd: (ending: Ending) => void) {
    this.socket = socket;
    this.debuggee = debuggee;
    this.stub = new GdbStub(debuggee);
    debuggee.clear();
    let ended = false;
    this.onEnd = (ending) => {
      if (!ended) onEnd(ending);
      ended = true;
    };
    socket.on('data', (chunk: Uint8Array) => {
      for (const incoming of this.reader.take(chunk)) this.take(incoming);
    });
    socket.on('close', () => {
      debuggee.interrupted = true;
      this.waiting.length = 0;
      // The next gdb has to wait until the machine stands still.
      if (!this.isBusy) this.onEnd('disconnected');
    });
    // Gone while it waited for its turn.
    if (socket.destroyed) this.onEnd('disconnected');
  }

  private take(incoming: Incoming): void {
    switch (incoming.kind) {
      case 'ack':
        this.unacknowledged.shift();
        this.sendFirst();
        return;
      case 'nak':
        this.sendFirst();
        return;
      case 'interrupt':
        this.debuggee.interrupted = true;
        return;
      case 'corrupted':
        if (this.acknowledges) this.socket.write('-');
        return;
      case 'packet':
        // gdb goes on only when it has what it waited for.
        this.sendRest();
        if (this.acknowledges) this.socket.write('+');
        this.waiting.push(incoming.data);
        if (!this.isBusy) void this.work();
        return;
    }
  }

  private async work(): Promise<void> {
    this.isBusy = true;
    for (let packet = this.waiting.shift(); packet !== undefined; packet = this.waiting.shift()) {
      await this.follow(this.stub.answer(packet));
    }
    this.isBusy = false;
    if (this.socket.destroyed) this.onEnd('disconnected');
  }

  private async follow(answer: Answer): Promise<void> {
    switch (answer.kind) {
      case 'reply':
        return this.send(answer.data);
      case 'console':
        this.print(await this.whileAwake(answer.text));
        return this.send(answer.data);
      case 'resume': {
        const stop = await this.debuggee.resume(answer.action);
        this.stub.stopped();
        if (stop.text !== undefined) this.print(stop.text);
        return this.send(stop.packet);
      }
      case 'noAck':
        this.send('OK');
        this.acknowledges = false;
        return;
      case 'detach':
        this.send('OK');
        return this.close('detached');
      case 'kill':
        if (answer.data !== undefined) this.send(answer.data);
        return this.close('killed');
    }
  }

  /** gdb gives up on a command of which it hears nothing for `remotetimeout` (2 s). */
  private async whileAwake<T>(work: T | Promise<T>): Promise<T> {
    if (!(work instanceof Promise)) return work;
    const timer = setInterval(() => this.send('O'), SIGN_OF_LIFE_MILLISECONDS);
    try {
      return await work;
    } finally {
      clearInterval(timer);
    }
  }

  private close(ending: Ending): void {
    this.sendRest();
    this.onEnd(ending);
    this.socket.end();
  }

  private print(text: string): void {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += CONSOLE_PIECE) {
      this.send(`O${hexBytes(bytes.subarray(at, at + CONSOLE_PIECE))}`);
    }
  }

  private send(data: string): void {
    const packet = encodePacket(data);
    if (!this.acknowledges) {
      this.socket.write(packet);
      return;
    }
    this.unacknowledged.push(packet);
    if (this.unacknowledged.length === 1) this.sendFirst();
  }

  private sendFirst(): void {
    const [first] = this.unacknowledged;
    if (first) this.socket.write(first);
  }

  private sendRest(): void {
    for (const packet of this.unacknowledged.slice(1)) this.socket.write(packet);
    this.unacknowledged = [];
  }
}
