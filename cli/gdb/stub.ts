/** Answers to the packets of GDB's remote serial protocol. A packet that is not known gets the empty answer. */

import { memoryEvents, readMemory } from '../memory.ts';
import type { Debuggee, Resumption, Steps, WatchKind } from './debuggee.ts';
import { monitor } from './monitor.ts';
import { fromLittleEndian, hexBytes, littleEndian, PACKET_SIZE, parseHexBytes } from './packets.ts';
import { BLOCK_LENGTH, GDB_REGISTERS, type GdbRegister, setRip, targetDescription } from './registers.ts';

/** What a packet leads to. */
export type Answer =
  | { readonly kind: 'reply'; readonly data: string }
  /** Text for the user, then the reply. */
  | { readonly kind: 'console'; readonly text: string | Promise<string>; readonly data: string }
  /** The machine runs; the reply comes when it stops. */
  | { readonly kind: 'resume'; readonly action: Resumption }
  /** After the reply acknowledgements are no longer sent. */
  | { readonly kind: 'noAck' }
  /** gdb leaves: the machine stays as it is. */
  | { readonly kind: 'detach' }
  /** gdb ends the run; the reply, if any, first. */
  | { readonly kind: 'kill'; readonly data?: string };

/** Error numbers: EFAULT, EINVAL. */
const ERROR = { address: 'E0e', arguments: 'E16' } as const;
const EMPTY: Answer = { kind: 'reply', data: '' };
const OK: Answer = { kind: 'reply', data: 'OK' };
const reply = (data: string): Answer => ({ kind: 'reply', data });
const BAD = reply(ERROR.arguments);

/** @param match the packet's parts by the pattern in front */
type Handler = (stub: GdbStub, match: readonly string[]) => Answer;

const HEX = '([0-9a-fA-F]+)';
/** -1 (all) and 0 (any), or a number. */
const THREAD = '(-1|[0-9a-fA-F]+)';
const NO_END = 0n;
const WATCHPOINTS: Readonly<Record<string, WatchKind>> = { 2: 'write', 3: 'read', 4: 'readWrite' };

const rows = (table: Readonly<Record<string, Handler>>): readonly (readonly [RegExp, Handler])[] =>
  Object.entries(table).map(([pattern, handler]) => [new RegExp(`^(?:${pattern})$`, 's'), handler]);

const FEATURES =
  `PacketSize=${PACKET_SIZE.toString(16)};qXfer:features:read+;qXfer:threads:read+;qXfer:exec-file:read+;` +
  'QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+;ReverseStep+;ReverseContinue+;binary-upload+';

/** Packets by their form. The first row that fits answers; a packet of a known kind in no known form is an error. */
const PACKETS = rows({
  '\\?': (stub) => reply(stub.debuggee.status),
  'qSupported(?::.*)?': () => reply(FEATURES),
  QStartNoAckMode: () => ({ kind: 'noAck' }),
  // The machine is gdb's own: it ends with gdb.
  'qAttached(?::.*)?': () => reply('0'),
  qC: (stub) => reply(`QC${stub.debuggee.thread.toString(16)}`),
  qfThreadInfo: (stub) => reply(`m${stub.threads.map((each) => each.toString(16)).join(',')}`),
  qsThreadInfo: () => reply('l'),
  [`qThreadExtraInfo,${HEX}`]: (stub, [thread = '']) => stub.threadText(thread),
  [`T${HEX}`]: (stub, [thread = '']) => (stub.threads.includes(Number.parseInt(thread, 16)) ? OK : BAD),
  [`H([gc])${THREAD}`]: (stub, [what = '', thread = '']) => stub.selectThread(what, thread),
  [`qXfer:features:read:target\\.xml:${HEX},${HEX}`]: (_stub, match) => part(targetDescription(), match),
  [`qXfer:threads:read::${HEX},${HEX}`]: (stub, match) => part(stub.threadList(), match),
  'qXfer:features:read:.*': () => reply('E00'),
  [`qXfer:exec-file:read:[^:]*:${HEX},${HEX}`]: ({ debuggee }, match) =>
    debuggee.files.program === undefined ? reply('E00') : part(bytesAsText(debuggee.files.program), match),
  'vFile:setfs:.*': () => reply('F0'),
  [`vFile:open:${HEX},${HEX},${HEX}`]: ({ debuggee }, [path = '', flags = '']) =>
    reply(debuggee.files.openFile(textOf(path), Number.parseInt(flags, 16))),
  [`vFile:close:${HEX}`]: ({ debuggee }, [descriptor = '']) =>
    reply(debuggee.files.closeFile(Number.parseInt(descriptor, 16))),
  [`vFile:fstat:${HEX}`]: ({ debuggee }, [descriptor = '']) =>
    reply(debuggee.files.status(Number.parseInt(descriptor, 16))),
  [`vFile:pread:${HEX},${HEX},${HEX}`]: ({ debuggee }, match) => {
    const [descriptor = 0, count = 0, offset = 0] = match.map((text) => Number.parseInt(text, 16));
    // Any byte may need an escape.
    return reply(debuggee.files.read(descriptor, count, offset, PACKET_SIZE / 2));
  },
  'qRcmd,(.*)': (stub, [line = '']) => stub.monitor(line),
  'qSymbol::': () => OK,
  g: (stub) =>
    reply(
      GDB_REGISTERS.slice(0, BLOCK_LENGTH)
        .map((register) => stub.valueOf(register))
        .join(''),
    ),
  'G(.*)': (stub, [data = '']) => stub.writeAll(data),
  [`p${HEX}`]: (stub, [number = '']) => stub.readRegister(Number.parseInt(number, 16)),
  [`P${HEX}=${HEX}`]: (stub, [number = '', data = '']) => stub.writeRegister(Number.parseInt(number, 16), data),
  [`m${HEX},${HEX}`]: (stub, [address = '', length = '']) => stub.readMemory(address, length, hexBytes),
  [`x${HEX},${HEX}`]: (stub, [address = '', length = '']) =>
    stub.readMemory(address, length, (bytes) => `b${Buffer.from(bytes).toString('latin1')}`),
  [`M${HEX},${HEX}:(.*)`]: (stub, [address = '', length = '', data = '']) =>
    stub.writeMemory(address, length, parseHexBytes(data)),
  [`X${HEX},${HEX}:(.*)`]: (stub, [address = '', length = '', data = '']) =>
    stub.writeMemory(address, length, Buffer.from(data, 'latin1')),
  [`([zZ])([01]),${HEX},${HEX}`]: (stub, [what, type, address = '']) => {
    stub.debuggee.setBreakpoint(type === '0' ? 'swbreak' : 'hwbreak', BigInt(`0x${address}`), what === 'Z');
    return OK;
  },
  [`([zZ])([2-4]),${HEX},${HEX}`]: (stub, match) => stub.watch(match),
  'vCont\\?': () => reply('vCont;c;C;s;S;t;r'),
  'vCont((?:;[^;]+)+)': (stub, [actions = '']) => stub.vCont(actions.slice(1).split(';')),
  [`c(${HEX})?`]: (stub, [address]) => stub.resumeAt(address, { kind: 'continue' }),
  [`C[0-9a-fA-F]{2}(?:;${HEX})?`]: (stub, [address]) => stub.resumeAt(address, { kind: 'continue' }),
  [`s(${HEX})?`]: (stub, [address]) => stub.resumeAt(address, stub.oneStep()),
  [`S[0-9a-fA-F]{2}(?:;${HEX})?`]: (stub, [address]) => stub.resumeAt(address, stub.oneStep()),
  bs: () => ({ kind: 'resume', action: { kind: 'stepBack' } }),
  bc: () => ({ kind: 'resume', action: { kind: 'continueBack' } }),
  'D(?:;.*)?': () => ({ kind: 'detach' }),
  k: () => ({ kind: 'kill' }),
  'vKill;.*': () => ({ kind: 'kill', data: 'OK' }),
  '(?:[mxMXgpPGHTzZ].*|vCont;.*)': () => BAD,
});

const bytesAsText = (text: string): string => Buffer.from(text).toString('latin1');
const textOf = (hex: string): string => Buffer.from(hex, 'hex').toString();

/** What is left of a document from an offset on, as qXfer answers it. */
function part(document: string, [offset = '', length = '']: readonly string[]): Answer {
  const from = Number.parseInt(offset, 16);
  const to = from + Number.parseInt(length, 16);
  return reply(`${to < document.length ? 'm' : 'l'}${document.slice(from, to)}`);
}

export class GdbStub {
  readonly debuggee: Debuggee;
  /** The thread that `c` and `s` mean. */
  private stepped: number;

  constructor(debuggee: Debuggee) {
    this.debuggee = debuggee;
    this.stepped = debuggee.thread;
  }

  /** @param packet Latin-1 */
  answer(packet: string): Answer {
    for (const [pattern, handler] of PACKETS) {
      const match = pattern.exec(packet);
      if (match) return handler(this, match.slice(1));
    }
    return EMPTY;
  }

  /** The machine has stopped. */
  stopped(): void {
    this.stepped = this.debuggee.thread;
  }

  // ---- threads: one for each processor

  get threads(): number[] {
    return this.debuggee.machine.processors.map(({ number }) => number + 1);
  }

  private describeThread(thread: number): string | undefined {
    const view = this.debuggee.machine.processors[thread - 1];
    return view && `${view.activity}, ${view.world === 'guest' ? 'in the guest' : 'not in a guest'}`;
  }

  threadText(thread: string): Answer {
    const text = this.describeThread(Number.parseInt(thread, 16));
    return text === undefined ? BAD : reply(hexBytes(Buffer.from(text)));
  }

  threadList(): string {
    const rows = this.threads.map(
      (each) =>
        `<thread id="${each.toString(16)}" core="${each - 1}" name="processor ${each - 1}">` +
        `${this.describeThread(each)}</thread>`,
    );
    return `<?xml version="1.0"?>\n<threads>${rows.join('')}</threads>\n`;
  }

  selectThread(what: string, text: string): Answer {
    const thread = text === '-1' || /^0+$/.test(text) ? this.debuggee.thread : Number.parseInt(text, 16);
    if (!this.threads.includes(thread)) return BAD;
    if (what === 'g') this.debuggee.machine.select(thread - 1);
    else this.stepped = thread;
    return OK;
  }

  // ---- registers and memory

  /** Two digits a byte, `x` where there is no value. */
  valueOf(register: GdbRegister): string {
    const bytes = register.bits / 8;
    const value = register.read(this.debuggee.machine);
    return value === undefined ? 'xx'.repeat(bytes) : hexBytes(littleEndian(value, bytes));
  }

  readRegister(number: number): Answer {
    const register = GDB_REGISTERS[number];
    return register ? reply(this.valueOf(register)) : BAD;
  }

  writeRegister(number: number, data: string): Answer {
    const register = GDB_REGISTERS[number];
    const bytes = parseHexBytes(data);
    if (!register?.event || bytes?.length !== register.bits / 8) return BAD;
    if (register.read(this.debuggee.machine) === undefined) return BAD;
    this.debuggee.apply(register.event(fromLittleEndian(bytes), this.debuggee.machine));
    return OK;
  }

  /** Sets what differs: a register that cannot be set may be among the others. */
  writeAll(data: string): Answer {
    let at = 0;
    for (const register of GDB_REGISTERS.slice(0, BLOCK_LENGTH)) {
      const digits = data.slice(at, at + register.bits / 4);
      at += register.bits / 4;
      const bytes = parseHexBytes(digits);
      if (digits.length !== register.bits / 4 || !bytes) return BAD;
      if (!register.event || digits.toLowerCase() === this.valueOf(register)) continue;
      this.debuggee.apply(register.event(fromLittleEndian(bytes), this.debuggee.machine));
    }
    return at === data.length ? OK : BAD;
  }

  readMemory(address: string, length: string, write: (bytes: Uint8Array) => string): Answer {
    const wanted = Math.min(Number.parseInt(length, 16), PACKET_SIZE / 2);
    const bytes = readMemory(this.debuggee.machine, BigInt(`0x${address}`), wanted);
    return bytes.length === 0 && wanted > 0 ? reply(ERROR.address) : reply(write(bytes));
  }

  writeMemory(address: string, length: string, bytes: Uint8Array | undefined): Answer {
    if (bytes?.length !== Number.parseInt(length, 16)) return BAD;
    const events = memoryEvents(this.debuggee.machine, BigInt(`0x${address}`), bytes);
    if (!events) return reply(ERROR.address);
    for (const event of events) this.debuggee.apply(event);
    return OK;
  }

  watch([what, type = '', address = '', length = '']: readonly string[]): Answer {
    const access = WATCHPOINTS[type];
    const bytes = Number.parseInt(length, 16);
    if (!access || bytes === 0) return BAD;
    this.debuggee.setWatchpoint(access, BigInt(`0x${address}`), bytes, what === 'Z');
    return OK;
  }

  // ---- running

  oneStep(thread = this.stepped): Steps {
    return { kind: 'step', processor: thread - 1, start: NO_END, end: NO_END };
  }

  /** The older packets may set RIP first. */
  resumeAt(address: string | undefined, action: Resumption): Answer {
    if (address !== undefined) this.debuggee.apply(setRip(BigInt(`0x${address}`), this.debuggee.machine));
    return { kind: 'resume', action };
  }

  /** All processors run on one clock: one action steps, or all continue. */
  vCont(actions: readonly string[]): Answer {
    const parsed = actions.map((text) =>
      /^(c|C[\da-fA-F]{2}|s|S[\da-fA-F]{2}|t|r([\da-fA-F]+),([\da-fA-F]+))(?::(-?[\da-fA-F]+))?$/.exec(text),
    );
    if (parsed.includes(null)) return BAD;
    const step = parsed.find((match) => /^[sSr]/.test(match?.[1] ?? ''));
    if (!step) return { kind: 'resume', action: { kind: 'continue' } };
    const [, , start, end, thread] = step;
    const number = thread === undefined || thread === '-1' ? this.stepped : Number.parseInt(thread, 16);
    if (!this.threads.includes(number)) return BAD;
    const one = this.oneStep(number);
    if (start === undefined || end === undefined) return { kind: 'resume', action: one };
    return { kind: 'resume', action: { ...one, start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) } };
  }

  monitor(line: string): Answer {
    const bytes = parseHexBytes(line);
    if (!bytes) return BAD;
    return { kind: 'console', text: monitor(this.debuggee, Buffer.from(bytes).toString()), data: 'OK' };
  }
}
