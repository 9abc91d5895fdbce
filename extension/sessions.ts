import type { DebugProtocol } from '@vscode/debugprotocol';
import * as vscode from 'vscode';
import type { CustomRequests } from '../debug-adapter/protocol.ts';

export type RunState = 'starting' | 'running' | 'stopped';

/** Requests after whose success the machine runs until a `stopped` event. */
const RESUMING: ReadonlySet<string> = new Set([
  'continue',
  'next',
  'stepIn',
  'stepOut',
  'stepBack',
  'reverseContinue',
  'restart',
  'vmxray/runTo',
]);

/** One VMXray debug session as the views see it. */
export class VmxraySession {
  readonly session: vscode.DebugSession;
  state: RunState = 'starting';
  /** The thread of the last stop. */
  threadId = 1;

  constructor(session: vscode.DebugSession) {
    this.session = session;
  }

  /** @throws what the adapter answers with, as an Error with its message. */
  async request<Name extends keyof CustomRequests>(
    name: Name,
    ...[args]: CustomRequests[Name][0] extends Record<string, never> ? [] : [CustomRequests[Name][0]]
  ): Promise<CustomRequests[Name][1]> {
    return this.session.customRequest(name, args ?? {});
  }
}

/**
 * Follows the life of all VMXray sessions by the messages that their adapters send. `onDidChange` fires when the session
 * that the views show, its run state or its contents change.
 */
export class Sessions implements vscode.Disposable {
  private readonly sessions = new Map<string, VmxraySession>();
  private readonly changed = new vscode.EventEmitter<VmxraySession | undefined>();
  private readonly ended = new vscode.EventEmitter<VmxraySession>();
  private readonly subscriptions: vscode.Disposable;
  private last: VmxraySession | undefined;

  readonly onDidChange = this.changed.event;
  readonly onDidEnd = this.ended.event;

  constructor() {
    this.subscriptions = vscode.Disposable.from(
      this.changed,
      this.ended,
      vscode.debug.registerDebugAdapterTrackerFactory('vmxray', {
        createDebugAdapterTracker: (session) => this.track(session),
      }),
      vscode.debug.onDidChangeActiveDebugSession(() => this.changed.fire(this.current)),
    );
  }

  /** The active session, or the latest one while another debugger's session is active. */
  get current(): VmxraySession | undefined {
    const active = vscode.debug.activeDebugSession;
    return (active && this.sessions.get(active.id)) ?? this.last;
  }

  get(session: vscode.DebugSession): VmxraySession | undefined {
    return this.sessions.get(session.id);
  }

  /** Makes the views ask again, as after an edit. */
  refresh(): void {
    this.changed.fire(this.current);
  }

  dispose(): void {
    this.subscriptions.dispose();
  }

  private track(session: vscode.DebugSession): vscode.DebugAdapterTracker {
    const tracked = new VmxraySession(session);
    this.sessions.set(session.id, tracked);
    this.last = tracked;
    return {
      onWillReceiveMessage: (message: DebugProtocol.ProtocolMessage) => {
        if (message.type === 'request') this.onRequest(tracked, message as DebugProtocol.Request);
      },
      onDidSendMessage: (message: DebugProtocol.ProtocolMessage) => {
        if (message.type === 'event') this.onEvent(tracked, message as DebugProtocol.Event);
        else if (message.type === 'response') this.onResponse(tracked, message as DebugProtocol.Response);
      },
      onWillStopSession: () => this.end(tracked),
      onExit: () => this.end(tracked),
    };
  }

  /** An adapter need not send `continued` after a request that implies it: the request itself tells. */
  private onRequest(session: VmxraySession, { command }: DebugProtocol.Request): void {
    if (RESUMING.has(command)) this.setState(session, 'running');
  }

  private onResponse(session: VmxraySession, { command, success }: DebugProtocol.Response): void {
    if (RESUMING.has(command) && !success) this.setState(session, 'stopped');
  }

  private setState(session: VmxraySession, state: RunState): void {
    session.state = state;
    if (session === this.current) this.changed.fire(session);
  }

  private onEvent(session: VmxraySession, { event, body }: DebugProtocol.Event): void {
    if (event === 'stopped') {
      session.threadId = body?.threadId ?? session.threadId;
      this.setState(session, 'stopped');
    } else if (event === 'continued') this.setState(session, 'running');
    else if (event === 'invalidated' || event === 'memory') this.setState(session, session.state);
  }

  private end(session: VmxraySession): void {
    if (!this.sessions.delete(session.session.id)) return;
    if (this.last === session) this.last = [...this.sessions.values()].at(-1);
    this.ended.fire(session);
    this.changed.fire(this.current);
  }
}
