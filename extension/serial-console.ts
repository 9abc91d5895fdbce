import * as vscode from 'vscode';
import type { CustomEvents } from '../debug-adapter/protocol.ts';
import { encodeSerial, SerialDecoder, withoutQuestions } from './serial-text.ts';
import type { Sessions, VmxraySession } from './sessions.ts';

/** What is kept for a terminal that is not open: the newest characters. */
const MAX_KEPT = 1 << 20;
const CLEAR = '\x1b[H\x1b[2J\x1b[3J';
const DIM = '\x1b[2m';
const UNDIM = '\x1b[0m';

/** The guests' serial ports as terminals, one for each session. */
export class SerialConsoles implements vscode.Disposable {
  private readonly consoles = new Map<string, SerialConsole>();
  private readonly subscriptions: vscode.Disposable;
  private readonly sessions: Sessions;

  constructor(sessions: Sessions) {
    this.sessions = sessions;
    this.subscriptions = vscode.Disposable.from(
      vscode.debug.onDidReceiveDebugSessionCustomEvent(({ session, event, body }) => {
        if (event === 'vmxray/serialOutput') this.onOutput(session, body);
        else if (event === 'vmxray/timeTravel') this.consoles.get(session.id)?.travelled(body);
      }),
      sessions.onDidEnd(({ session }) => {
        this.consoles.get(session.id)?.end();
        this.consoles.delete(session.id);
      }),
    );
  }

  /** Shows the console of the current session. */
  open(): void {
    const session = this.sessions.current;
    if (session) this.consoleOf(session).show(false);
  }

  dispose(): void {
    for (const one of this.consoles.values()) one.dispose();
    this.subscriptions.dispose();
  }

  private onOutput(of: vscode.DebugSession, { data }: CustomEvents['vmxray/serialOutput']): void {
    const session = this.sessions.get(of);
    if (!session) return;
    const first = !this.consoles.has(of.id);
    const serial = this.consoleOf(session);
    serial.write(data);
    const reveal = vscode.workspace.getConfiguration('vmxray.serialConsole').get('reveal') !== 'never';
    if (first && reveal) serial.show(true);
  }

  private consoleOf(session: VmxraySession): SerialConsole {
    const known = this.consoles.get(session.session.id);
    if (known) return known;
    const made = new SerialConsole(session);
    this.consoles.set(session.session.id, made);
    return made;
  }
}

class SerialConsole implements vscode.Pseudoterminal {
  private readonly session: VmxraySession;
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

  constructor(session: VmxraySession) {
    this.session = session;
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
  travelled({ inPast, serialBytes }: CustomEvents['vmxray/timeTravel']): void {
    const sent = Math.max(0, serialBytes - this.dropped);
    // Without a future, later output is of a way that the machine did not go.
    if (!inPast) this.bytes = this.bytes.slice(0, sent);
    this.decoder = new SerialDecoder();
    const now = this.decoder.decode(this.bytes.slice(0, sent));
    const later = inPast ? this.bytes.slice(sent) : '';
    this.text = '';
    this.put(withoutQuestions(CLEAR + now + (later === '' ? '' : DIM + this.decoder.decode(later) + UNDIM)));
  }

  show(preserveFocus: boolean): void {
    this.terminal ??= vscode.window.createTerminal({
      name: vscode.l10n.t('Serial: {0}', this.session.session.name),
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
    this.session.request('vmxray/serialInput', { data: encodeSerial(text) }).catch((error: unknown) => {
      this.put(`\r\n${error instanceof Error ? error.message : String(error)}\r\n`);
    });
  }

  private put(text: string): void {
    this.text = (this.text + text).slice(-MAX_KEPT);
    if (this.isOpen) this.written.fire(text);
  }
}
