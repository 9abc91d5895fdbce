import { exitTitle } from '../../sim-core/vmx/exit-reasons.ts';
import { errors } from '../errors.ts';
import { threadOfProcessor } from '../handler.ts';
import type { Place } from '../references.ts';
import type { Target } from '../running/target.ts';
import { inlineFrames } from '../views/frame-scope.ts';
import { type Frame, unwind } from './unwind.ts';
import { threadOfVcpu } from './vcpus.ts';
import { guestSuspended, type SuspendedGuest, type WorldView } from './world-view.ts';

/** A line of the call stack: an activation, or a label between two worlds. */
export type StackEntry =
  | { readonly id: number; readonly kind: 'frame'; readonly frame: Frame }
  | { readonly id: number; readonly kind: 'label'; readonly text: string };

/** The processors' call stacks at the current stop, made when first asked for; ids are never used again. */
export class FrameTable {
  private readonly place: Place;
  /** By thread. */
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

  /**
   * Of the processor that the machine shows: the running world's activations; a label; the other world's.
   * @param vcpu a virtual processor that does not run, whose stack is wanted instead
   */
  stack(target: Target, vcpu?: SuspendedGuest): readonly StackEntry[] {
    const { processor } = this.place;
    const thread = vcpu ? threadOfVcpu(vcpu.number) : threadOfProcessor(processor);
    const made = this.stacks.get(thread);
    if (made) return made;
    const entries = vcpu ? this.activations(target, target.suspendedView(vcpu)) : this.build(target);
    this.stacks.set(thread, entries);
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
    const { machine } = target;
    const own = this.activations(target, target.view());
    if (machine.world === 'guest') {
      return [...own, this.label('VMM, entered by VM exits'), ...this.activations(target, target.view('vmm'))];
    }
    if (!guestSuspended(machine)) return own;
    const { lastExit } = machine.vmx;
    const title = lastExit ? `VM exit: ${exitTitle(lastExit.reason)}` : 'Guest, suspended';
    return [...own, this.label(title), ...this.activations(target, target.view('guest'))];
  }

  private label(text: string): StackEntry {
    return { id: this.next++, kind: 'label', text };
  }

  private activations(target: Target, view: WorldView): StackEntry[] {
    return unwind(target, view).flatMap((frame): StackEntry[] => {
      const entries = inlineFrames(target, frame).map(
        (activation): StackEntry => ({ id: this.next++, kind: 'frame', frame: activation }),
      );
      return frame.interrupted ? [this.label('Exception or interrupt'), ...entries] : entries;
    });
  }
}
