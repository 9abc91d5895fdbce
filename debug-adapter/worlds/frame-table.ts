import { exitTitle } from '../../sim-core/vmx/exit-reasons.ts';
import { errors } from '../errors.ts';
import { threadOfProcessor } from '../handler.ts';
import type { Place } from '../references.ts';
import type { Target } from '../running/target.ts';
import { inlineFrames } from '../views/frame-scope.ts';
import { withTailCalls } from './tail-calls.ts';
import { DEEPEST, type Frame, unwind } from './unwind.ts';
import { threadOfVcpu } from './vcpus.ts';
import { guestSuspended, type SuspendedGuest, type WorldView } from './world-view.ts';

/** A line of the call stack: an activation, or a label between two worlds. */
export type StackEntry =
  | { readonly id: number; readonly kind: 'frame'; readonly frame: Frame }
  | { readonly id: number; readonly kind: 'label'; readonly text: string };

/** A call stack that is unwound as far as somebody has asked. */
export class Stack {
  /** The innermost ones, as far as they are known. */
  private readonly known: StackEntry[] = [];
  private readonly rest: Iterator<StackEntry, void>;
  private readonly onEntry: (entry: StackEntry) => void;
  /** Whether there are no more than those known. */
  isComplete = false;

  constructor(entries: Iterator<StackEntry, void>, onEntry: (entry: StackEntry) => void) {
    this.rest = entries;
    this.onEntry = onEntry;
  }

  /** How many entries are known. */
  get length(): number {
    return this.known.length;
  }

  /** Entries [start, end), fewer where the stack ends. */
  slice(start: number, end: number): readonly StackEntry[] {
    while (!this.isComplete && this.known.length < end) {
      const { done, value } = this.rest.next();
      if (done) this.isComplete = true;
      else {
        this.known.push(value);
        this.onEntry(value);
      }
    }
    return this.known.slice(start, end);
  }
}

/** The processors' call stacks at the current stop, made when first asked for; ids are never used again. */
export class FrameTable {
  private readonly place: Place;
  /** By thread. */
  private readonly stacks = new Map<number, Stack>();
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
  stack(target: Target, vcpu?: SuspendedGuest): Stack {
    const { processor } = this.place;
    const thread = vcpu ? threadOfVcpu(vcpu.number) : threadOfProcessor(processor);
    const made = this.stacks.get(thread);
    if (made) return made;
    const entries = vcpu ? this.activations(target, target.suspendedView(vcpu)) : this.build(target);
    const stack = new Stack(entries, (entry) => this.known.set(entry.id, { entry, processor }));
    this.stacks.set(thread, stack);
    return stack;
  }

  /** The machine then shows the processor that the frame is of. @throws unknownFrame */
  entry(id: number): StackEntry {
    const known = this.known.get(id);
    if (!known) throw errors.unknownFrame(id);
    this.place.goTo(known.processor);
    return known.entry;
  }

  private *build(target: Target): Generator<StackEntry, void> {
    const { machine } = target;
    yield* this.activations(target, target.view());
    if (machine.world === 'guest') {
      yield this.label('VMM, entered by VM exits');
      yield* this.activations(target, target.view('vmm'));
    } else if (guestSuspended(machine)) {
      const { lastExit } = machine.vmx;
      yield this.label(lastExit ? `VM exit: ${exitTitle(lastExit.reason)}` : 'Guest, suspended');
      yield* this.activations(target, target.view('guest'));
    }
  }

  private label(text: string): StackEntry {
    return { id: this.next++, kind: 'label', text };
  }

  private *activations(target: Target, view: WorldView): Generator<StackEntry, void> {
    for (const frame of withTailCalls(target, unwind(target, view))) {
      if (frame.interrupted) yield this.label('Exception or interrupt');
      for (const activation of inlineFrames(target, frame)) {
        yield { id: this.next++, kind: 'frame', frame: activation };
      }
      if (frame.depth + 1 === DEEPEST && !frame.endedInto)
        yield this.label(`Frames beyond ${DEEPEST} are not looked for`);
    }
  }
}
