import type { DebugProtocol } from '@vscode/debugprotocol';
import { type HandlerTable, handler } from '../handler.ts';
import type { Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import type { SourceLine } from '../symbols/line-index.ts';
import { baseName } from '../symbols/paths.ts';
import type { Stack, StackEntry } from '../worlds/frame-table.ts';
import { hex } from '../worlds/memory-reference.ts';
import type { Frame } from '../worlds/unwind.ts';

/** A file that the client opens by itself. */
export const sourceOf = (path: string): DebugProtocol.Source => ({ name: baseName(path), path });

function frameName(target: Target, { view, pc, lookupPc, activation, endedInto }: Frame): string {
  const ended = endedInto ? ' (tail call)' : '';
  if (activation) return activation.name + ended;
  const home = target.functionAt(view, lookupPc);
  return home ? `${home.name}` : (target.symbolName(view, lookupPc) ?? hex(pc));
}

/** The line that an activation is at: of one that inlined another, that of the call. */
function lineOf(target: Target, { view, depth, pc, lookupPc, inlined }: Frame): SourceLine | undefined {
  if (inlined) return target.programAt(view, lookupPc)?.callLine(inlined, lookupPc);
  return depth === 0 ? target.statementAt(view, pc) : target.lineAt(view, lookupPc);
}

/** Innermost frames among which one with a source is looked for. */
const NEAR = 20;

/** Clients fold frames without sources, which helps only where there are others. */
export const hasSources = (target: Target, stack: Stack): boolean =>
  stack.slice(0, NEAR).some((entry) => entry.kind !== 'label' && lineOf(target, entry.frame) !== undefined);

function describeFrame(
  session: Session,
  target: Target,
  entry: StackEntry,
  foldable: boolean,
): DebugProtocol.StackFrame {
  if (entry.kind === 'label') {
    return { id: entry.id, name: entry.text, line: 0, column: 0, presentationHint: 'label' };
  }
  const { frame } = entry;
  const { view } = frame;
  const line = lineOf(target, frame);
  const program = target.programAt(view, frame.lookupPc);
  return {
    id: entry.id,
    name: frameName(target, frame),
    instructionPointerReference: `${view.space}:${hex(frame.pc)}`,
    ...(program ? { moduleId: program.name } : {}),
    ...(line
      ? { source: sourceOf(line.file), line: session.clientLine(line.line), column: columnOf(session, line.column) }
      : { line: 0, column: 0, ...(foldable ? { presentationHint: 'subtle' } : {}) }),
  };
}

const columnOf = (session: Session, column: number): number => Math.max(column, 1) - (session.columnsStartAt1 ? 0 : 1);

export const stackRequests: HandlerTable = {
  stackTrace: handler(
    { threadId: 'number', startFrame: 'number?', levels: 'number?' },
    (session, { threadId, startFrame = 0, levels = 0 }, command) => {
      const target = session.stoppedTarget(command);
      const vcpu = session.checkThread(threadId);
      const stack = session.frames.stack(target, vcpu);
      const wanted = stack.slice(startFrame, levels > 0 ? startFrame + levels : Number.POSITIVE_INFINITY);
      // Larger than what is known: there may be more to ask for.
      const totalFrames = stack.length + (stack.isComplete ? 0 : 1);
      const foldable = hasSources(target, stack);
      return { stackFrames: wanted.map((entry) => describeFrame(session, target, entry, foldable)), totalFrames };
    },
  ),
};
