import { exitTitle } from '../sim-core/vmx/exit-reasons.ts';
import { errors } from './errors.ts';
import { inlineFrames } from './frame-scope.ts';
import type { Place } from './references.ts';
import type { Target } from './target.ts';
import { type Frame, unwind } from './unwind.ts';
import { guestSuspended, type WorldView } from './world-view.ts';

/** A line of the call stack: an activation, or a label between two worlds. */
export type StackEntry =
  | { readonly id: number; readonly kind: 'frame'; readonly frame: Frame }
  | { readonly id: number; readonly kind: 'label'; readonly text: string };

/** The processors' call stacks at the current stop, made when first asked for; ids are never used again. */
export class FrameTable {
  private readonly place: Place;
  /** By processor. */
  private readonly stacks = new Map<number, readonly StackEntry[]>();
  private readonly known = new Map<number, { readonly entry: StackEntry; readonly processor: number }>();
  private next = 1;

  constructor(place: Place) {
    this.place = place;
  }

  reset(): void {
    this.stacks.clear();
    this.known.clear();
  }

  /** The stack may look different now; ids that clients hold stay valid until the machine runs. */
  refresh(): void {
    this.stacks.clear();
  }

  /** Of the processor that the machine shows: the running world's activations; a label; the other world's. */
  stack(target: Target): readonly StackEntry[] {
    const { processor } = this.place;
    const made = this.stacks.get(processor);
    if (made) return made;
    const entries = this.build(target);
    this.stacks.set(processor, entries);
    for (const entry of entries) this.known.set(entry.id, { entry, processor });
    return entries;
  }

  /** The machine then shows the processor that the frame is of. @throws unknownFrame */
  entry(id: number): StackEntry {
    const known = this.known.get(id);
    if (!known) throw errors.unknownFrame(id);
    this.place.goTo(known.processor);
    return known.entry;
  }

  private build(target: Target): StackEntry[] {
    const frames = (list: readonly Frame[]): StackEntry[] =>
      list.map((frame) => ({ id: this.next++, kind: 'frame', frame }));
    const label = (text: string): StackEntry => ({ id: this.next++, kind: 'label', text });
    const { machine } = target;
    const activations = (view: WorldView): Frame[] =>
      unwind(target, view).flatMap((frame) => inlineFrames(target, frame));
    const own = frames(activations(target.view()));
    if (machine.world === 'guest') {
      return [...own, label('VMM, entered by VM exits'), ...frames(activations(target.view('vmm')).slice(0, 1))];
    }
    if (!guestSuspended(machine)) return own;
    const { lastExit } = machine.vmx;
    const title = lastExit ? `VM exit: ${exitTitle(lastExit.reason)}` : 'Guest, suspended';
    return [...own, label(title), ...frames(activations(target.view('guest')))];
  }
}
