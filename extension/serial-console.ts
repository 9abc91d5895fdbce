import * as vscode from 'vscode';
import type { CustomEvents } from '../debug-adapter/protocol.ts';
import { encodeSerial, SerialDecoder, withoutQuestions } from './serial-text.ts';
import type { Sessions, VmxraySession } from './sessions.ts';

/** What is kept for a terminal that is not open: the newest characters. */
const MAX_KEPT = 1 << 20;
const CLEAR = '\x1b[H\x1b[2J\x1b[3J';
const DIM = '\x1b[2m';
const UNDIM = '\x1b[0m';

/** Name of the console that is COM1, which the protocol does not name. */
const COM1 = undefined;

/** The guests' serial ports and consoles as terminals, one for each port of a session. */
export class SerialConsoles implements vscode.Disposable {
  /** By session. */
  private readonly consoles = new Map<string, Map<string | undefined, SerialConsole>>();
  private readonly subscriptions: vscode.Disposable;
  private readonly sessions: Sessions;

  constructor(sessions: Sessions) {
    this.sessions = sessions;
    this.subscriptions = vscode.Disposable.from(
      vscode.debug.onDidReceiveDebugSessionCustomEvent(({ session, event, body }) => {
        if (event === 'vmxray/serialOutput') this.onOutput(session, body);
        else if (event === 'vmxray/timeTravel') for (const one of this.of(session.id)) one.travelled(body);
      }),
      sessions.onDidEnd(({ session }) => {
        for (const one of this.of(session.id)) one.end();
        this.consoles.delete(session.id);
      }),
    );
  }

  /** Shows the console of the current session. */
  open(): void {
    const session = this.sessions.current;
    if (session) this.consoleOf(session, COM1).show(false);
  }

  dispose(): void {
    for (const session of this.consoles.keys()) for (const one of this.of(session)) one.dispose();
    this.subscriptions.dispose();
  }

  private of(sessionId: string): Iterable<SerialConsole> {
    return this.consoles.get(sessionId)?.values() ?? [];
  }

  private onOutput(of: vscode.DebugSession, { data, console }: CustomEvents['vmxray/serialOutput']): void {
    const session = this.sessions.get(of);
    if (!session) return;
    const first = !this.consoles.get(of.id)?.has(console);
    const serial = this.consoleOf(session, console);
    serial.write(data);
    const reveal = vscode.workspace.getConfiguration('vmxray.serialConsole').get('reveal') !== 'never';
    if (first && reveal) serial.show(true);
  }

  private consoleOf(session: VmxraySession, name: string | undefined): SerialConsole {
    const { id } = session.session;
    const consoles = this.consoles.get(id) ?? new Map<string | undefined, SerialConsole>();
    this.consoles.set(id, consoles);
    const made = consoles.get(name) ?? new SerialConsole(session, name);
    consoles.set(name, made);
    return made;
  }
}

class SerialConsole implements vscode.Pseudoterminal {
  private readonly session: VmxraySession;
  /** As the protocol names it. */
  private readonly name: string | undefined;
  private readonly written = new vscode.EventEmitter<string>();
  private decoder = new SerialDecoder();
  /** The newest bytes, and how many came before them. */
  private bytes = '';
  private dropped = 0;
  private terminal: vscode.Terminal | undefined;
  private isOpen = false;
  private ended = false;
  private text = '';

  readonly onDidWrite = this.written.event;

  constructor(session: VmxraySession, name: string | undefined) {
    this.session = session;
    this.name = name;
  }

  write(latin1: string): void {
    this.keep(latin1);
    this.put(this.decoder.decode(latin1));
  }

  private keep(latin1: string): void {
    const all = this.bytes + latin1;
    this.bytes = all.slice(-MAX_KEPT);
    this.dropped += all.length - this.bytes.length;
  }

  /** Shows anew what the guest has sent at this place in time, and dimmed what it sent later. */
  travelled({ inPast, serialBytes, consoleBytes }: CustomEvents['vmxray/timeTravel']): void {
    const total = this.name === COM1 ? serialBytes : (consoleBytes[this.name] ?? 0);
    const sent = Math.max(0, total - this.dropped);
    // Without a future, later output is of a way that the machine did not go.
    if (!inPast) this.bytes = this.bytes.slice(0, sent);
    this.decoder = new SerialDecoder();
    const now = this.decoder.decode(this.bytes.slice(0, sent));
    const later = inPast ? this.bytes.slice(sent) : '';
    this.text = '';
    this.put(withoutQuestions(CLEAR + now + (later === '' ? '' : DIM + this.decoder.decode(later) + UNDIM)));
  }

  private get title(): string {
    const { name } = this.session.session;
    return this.name === COM1 ? vscode.l10n.t('Serial: {0}', name) : `${this.name}: ${name}`;
  }

  show(preserveFocus: boolean): void {
    this.terminal ??= vscode.window.createTerminal({
      name: this.title,
      iconPath: new vscode.ThemeIcon('vm'),
      pty: this,
    });
    this.terminal.show(preserveFocus);
  }

  /** The terminal stays, so that what the guest said can be read. */
  end(): void {
    this.ended = true;
    this.put(`\r\n\x1b[2m${vscode.l10n.t('[session ended]')}\x1b[0m\r\n`);
  }

  dispose(): void {
    this.terminal?.dispose();
    this.written.dispose();
  }

  /** A terminal that is opened, or opened again, shows what was said before. */
  open(): void {
    this.isOpen = true;
    this.written.fire(withoutQuestions(this.text));
  }

  close(): void {
    this.isOpen = false;
    this.terminal = undefined;
  }

  handleInput(text: string): void {
    if (this.ended) return;
    const to = this.name === COM1 ? {} : { console: this.name };
    this.session.request('vmxray/serialInput', { data: encodeSerial(text), ...to }).catch((error: unknown) => {
      this.put(`\r\n${error instanceof Error ? error.message : String(error)}\r\n`);
    });
  }

  private put(text: string): void {
    this.text = (this.text + text).slice(-MAX_KEPT);
    if (this.isOpen) this.written.fire(text);
  }
}
