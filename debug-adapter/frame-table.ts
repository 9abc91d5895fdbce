import { exitTitle } from '../sim-core/vmx/exit-reasons.ts';
import { errors } from './errors.ts';
import type { Target } from './target.ts';
import { type Frame, unwind } from './unwind.ts';
import { guestSuspended } from './world-view.ts';

/** A line of the call stack: an activation, or a label between two worlds. */
export type StackEntry =
  | { readonly id: number; readonly kind: 'frame'; readonly frame: Frame }
  | { readonly id: number; readonly kind: 'label'; readonly text: string };

/** The call stack of the current stop, made when first asked for; ids are never used again. */
export class FrameTable {
  private entries: readonly StackEntry[] | undefined;
  private readonly known = new Map<number, StackEntry>();
  private next = 1;

  reset(): void {
    this.entries = undefined;
    this.known.clear();
  }

  /** The stack may look different now; ids that clients hold stay valid until the machine runs. */
  refresh(): void {
    this.entries = undefined;
  }

  /** The running world's activations; a label; the other world's. */
  stack(target: Target): readonly StackEntry[] {
    if (!this.entries) {
      this.entries = this.build(target);
      for (const entry of this.entries) this.known.set(entry.id, entry);
    }
    return this.entries;
  }

  /** @throws unknownFrame. */
  entry(id: number): StackEntry {
    const entry = this.known.get(id);
    if (!entry) throw errors.unknownFrame(id);
    return entry;
  }

  private build(target: Target): StackEntry[] {
    const frames = (list: readonly Frame[]): StackEntry[] =>
      list.map((frame) => ({ id: this.next++, kind: 'frame', frame }));
    const label = (text: string): StackEntry => ({ id: this.next++, kind: 'label', text });
    const { machine } = target;
    const own = frames(unwind(target, target.view()));
    if (machine.world === 'guest') {
      return [...own, label('VMM, entered by VM exits'), ...frames(unwind(target, target.view('vmm')).slice(0, 1))];
    }
    if (!guestSuspended(machine)) return own;
    const { lastExit } = machine.vmx;
    const title = lastExit ? `VM exit: ${exitTitle(lastExit.reason)}` : 'Guest, suspended';
    return [...own, label(title), ...frames(unwind(target, target.view('guest')))];
  }
}
