import type { DebugProtocol } from '@vscode/debugprotocol';
import * as vscode from 'vscode';
import { CHANGES_THE_PAST, type CustomEvents, type CustomRequests } from '../debug-adapter/protocol.ts';

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
  'restartFrame',
  'vmxray/runTo',
  'vmxray/runBackTo',
  'vmxray/travel',
  'vmxray/lastChange',
  'vmxray/restoreSnapshot',
]);

/** One VMXray debug session as the views see it. */
export class VmxraySession {
  readonly session: vscode.DebugSession;
  state: RunState = 'starting';
  /** The thread of the last stop. */
  threadId = 1;
  /** Set while the session is in the past. */
  past: CustomEvents['vmxray/timeTravel'] | undefined;

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

  /** The programs with symbols. */
  async modules(): Promise<DebugProtocol.ModulesResponse['body']> {
    return this.session.customRequest('modules', {});
  }
}

/** A request that the adapter has not carried out. */
export interface RefusedChange {
  readonly session: VmxraySession;
  readonly request: DebugProtocol.Request;
}

/**
 * Follows the life of all VMXray sessions by the messages that their adapters send. `onDidChange` fires when the session
 * that the views show, its run state or its contents change.
 */
export class Sessions implements vscode.Disposable {
  private readonly sessions = new Map<string, VmxraySession>();
  private readonly changed = new vscode.EventEmitter<VmxraySession | undefined>();
  private readonly ended = new vscode.EventEmitter<VmxraySession>();
  private readonly refused = new vscode.EventEmitter<RefusedChange>();
  /** Requests without an answer yet, by session and number. */
  private readonly pending = new WeakMap<VmxraySession, Map<number, DebugProtocol.Request>>();
  private readonly subscriptions: vscode.Disposable;
  private last: VmxraySession | undefined;

  readonly onDidChange = this.changed.event;
  readonly onDidEnd = this.ended.event;
  /** A change in the past that the adapter has not made, since it forgets the future. */
  readonly onDidRefuseChange = this.refused.event;

  constructor() {
    this.subscriptions = vscode.Disposable.from(
      this.changed,
      this.ended,
      this.refused,
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
  private onRequest(session: VmxraySession, request: DebugProtocol.Request): void {
    const pending = this.pending.get(session) ?? new Map<number, DebugProtocol.Request>();
    this.pending.set(session, pending.set(request.seq, request));
    if (RESUMING.has(request.command)) this.setState(session, 'running');
  }

  private onResponse(session: VmxraySession, { command, success, request_seq, body }: DebugProtocol.Response): void {
    const request = this.pending.get(session)?.get(request_seq);
    this.pending.get(session)?.delete(request_seq);
    if (success) return;
    if (RESUMING.has(command)) this.setState(session, 'stopped');
    if (request && body?.error?.id === CHANGES_THE_PAST) this.refused.fire({ session, request });
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
    else if (event === 'vmxray/timeTravel') session.past = body.inPast ? body : undefined;
    else if (event === 'invalidated' || event === 'memory') this.setState(session, session.state);
  }

  private end(session: VmxraySession): void {
    if (!this.sessions.delete(session.session.id)) return;
    if (this.last === session) this.last = [...this.sessions.values()].at(-1);
    this.ended.fire(session);
    this.changed.fire(this.current);
  }
}
