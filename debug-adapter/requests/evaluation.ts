import { registerByName } from '../../sim-core/machine/registers.ts';
import { storyLines } from '../../sim-core/mmu/explain-stale.ts';
import { staleEntries } from '../../sim-core/mmu/stale.ts';
import { KIND_NAMES } from '../../sim-core/mmu/tlb.ts';
import { type BitField, describeBits } from '../../sim-core/vmx/bits.ts';
import { documentField, layoutOf } from '../../sim-core/vmx/describe.ts';
import { EXIT_REASONS } from '../../sim-core/vmx/exit-reasons.ts';
import { fieldByName } from '../../sim-core/vmx/fields.ts';
import { errors } from '../errors.ts';
import { SPECIAL_NAMES, TargetEnvironment, worldOfScope } from '../expressions/environment.ts';
import {
  assign,
  type Environment,
  evaluate,
  formatNumber,
  formatValue,
  type Value,
  variableOf,
} from '../expressions/evaluate.ts';
import { isAssignable, parseExpression, parseStatement } from '../expressions/parser.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import { isInstructionKind, parseInstructionKind } from '../stops/instruction-kinds.ts';
import { codeNames, explainStop } from '../stops/stop-texts.ts';
import type { TypedValue } from '../symbols/typed-value.ts';
import { describeForecast, forecastNext } from '../views/forecast.ts';
import { FrameScope } from '../views/frame-scope.ts';
import { textScreen } from '../views/text-screen.ts';
import { hex, wrap64 } from '../worlds/memory-reference.ts';
import { type Frame, innermostFrame } from '../worlds/unwind.ts';
import { complete } from './completion.ts';
import { present, setValue } from './program-variables.ts';
import { bitList, fieldWords } from './variables.ts';

interface Evaluation {
  readonly result: string;
  readonly variablesReference: number;
  readonly memoryReference?: string | undefined;
  readonly type?: string | undefined;
  readonly namedVariables?: number;
  readonly indexedVariables?: number;
}

function frameOf(session: Session, frameId: number | undefined): Frame | undefined {
  if (frameId === undefined) return undefined;
  const entry = session.frames.entry(frameId);
  return entry.kind === 'frame' ? entry.frame : undefined;
}

/** The named bits of the register or field that an expression names: RFLAGS, guest.cr0, vmcs.EPT_POINTER. */
function layoutOfName(expression: string): readonly BitField[] {
  const [, scope = '', name = ''] = /^\s*\$?(?:(\w+)\.)?([\w.]+)\s*$/.exec(expression) ?? [];
  if (scope.toLowerCase() === 'vmcs') {
    const field = fieldByName(name);
    return field ? layoutOf(field.name) : [];
  }
  const plain = worldOfScope(scope.toLowerCase()) ? name : expression.trim().replace(/^\$/, '');
  return registerByName(plain)?.layout ?? [];
}

/** A value with what is known of it: decimal, symbol, named bits, the field's documentation. */
function describeValue(
  session: Session,
  target: Target,
  expression: string,
  frame: Frame | undefined,
  value: Value,
): Evaluation {
  if (value.float !== undefined) return { result: formatValue(value), variablesReference: 0, type: 'double' };
  if (value.typed) return describeTyped(session, target, frame, value.typed);
  const { number, space } = value;
  const view = frame?.view ?? target.view();
  const field = fieldByName(/^\s*vmcs\.(\w+)\s*$/i.exec(expression)?.[1] ?? '');
  const layout = layoutOfName(expression);
  const symbol = number > 0xfffn ? target.symbolName(view, wrap64(number)) : undefined;
  const bits = layout.length > 0 ? describeBits(layout, number) : '';
  const words = field ? fieldWords(target, field, number) : bits === '' && symbol ? `<${symbol}>` : bits;
  const shown = formatNumber(number);
  const whole = {
    read: () => evaluate(parseExpression(expression), new TargetEnvironment(target, frame)).number,
    write: (changed: bigint) => assignName(expression, changed, new TargetEnvironment(target, frame)),
    environment: () => new TargetEnvironment(target, frame),
  };
  const decimal = shown.startsWith('0x') && number < 0x1_0000_0000n && number > 0n ? `(${number})` : '';
  return {
    result: [shown, words === '' ? decimal : words].filter((part) => part !== '').join(' '),
    variablesReference: layout.length > 0 ? session.references.add(bitList(layout, whole)) : 0,
    memoryReference: `${space ?? view.space}:${hex(number)}`,
    ...(field ? { type: documentField(field) } : {}),
  };
}

/** @param name as layoutOfName knows it. @throws notWritable */
function assignName(name: string, value: bigint, environment: Environment): void {
  const problem = environment.assign(name.trim(), value);
  if (problem !== undefined) throw errors.notWritable(name.trim(), problem);
}

/** A value of the program, with what opens below it. */
function describeTyped(session: Session, target: Target, frame: Frame | undefined, value: TypedValue): Evaluation {
  const scope = new FrameScope(target, frame ?? innermostFrame(target.view()));
  const { value: result, ...rest } = present({ target, references: session.references, scope }, value);
  return { result, ...rest };
}

/** Commands of the debug console. */
type Command = (target: Target, rest: string) => string;

const COMMANDS: Readonly<Record<string, { readonly help: string; readonly run: Command }>> = {
  help: { help: 'this text', run: () => helpText() },
  exits: { help: 'how often each VM exit has happened', run: listExits },
  counters: {
    help: 'VM exits with their cost in cycles, VM entries, TLB hits, misses and walk references',
    run: counters,
  },
  'last-exit': { help: 'the last VM exit with everything that is known of it', run: describeLastExit },
  'check-entry': { help: 'every VM-entry check that would fail now', run: checkEntry },
  'will-exit': { help: 'whether the guest’s next instruction causes a VM exit, and why', run: willExit },
  stale: { help: 'TLB entries that the tables in memory no longer bear out', run: listStale },
  screen: { help: 'the text screen: 80 columns and 25 rows at B8000h', run: showScreen },
  translate: { help: 'ADDRESS: the page-table entries on the way to memory', run: translate },
};

function helpText(): string {
  const commands = Object.entries(COMMANDS).map(([name, { help }]) => `  ${name.padEnd(12)}${help}`);
  return [
    'Expressions: registers (rax, cs.base), vmcs.FIELD, guest.REGISTER and vmm.REGISTER, numbers, C operators, symbols,',
    '  variables of the program with . -> [] * & (type)a sizeof(a); a name is a local variable first, $rax a register;',
    '  [a] and u8(a) … u64(a), s8(a) … s64(a) read memory; gpa:a, hpa:a, guest:a, vmm:a choose the address space;',
    `  also ${SPECIAL_NAMES.join(', ')},`,
    '  exit.NAME, qualification.PART, msr.NAME and signed(a).',
    'Assignments: rax = 1, vmcs.GUEST_RIP = guest.rip + 2, u32(0x1000) = 5.',
    'Commands:',
    ...commands,
  ].join('\n');
}

function showScreen({ machine }: Target): string {
  return textScreen(machine.physical).join('\n') || 'The text screen is empty.';
}

function listExits({ machine }: Target): string {
  const lines = EXIT_REASONS.flatMap(({ number, title }) => {
    const count = machine.vmx.exitCounts.get(number) ?? 0;
    return count > 0 ? [`${String(count).padStart(10)}  ${title}`] : [];
  });
  return lines.length > 0 ? lines.join('\n') : 'There has been no VM exit.';
}

function counters({ machine: { vmx, mmu } }: Target): string {
  const exits = EXIT_REASONS.flatMap(({ number, title }) => {
    const count = vmx.exitCounts.get(number) ?? 0;
    const cycles = vmx.exitCycles.get(number) ?? 0;
    return count > 0 ? [counterLine(`${title}: VM exits`, count), counterLine(`${title}: cycles`, cycles)] : [];
  });
  const tlb = Object.entries(mmu.tlb.counters).map(([name, count]) => counterLine(`TLB ${name}`, count));
  return [counterLine('VM entries', vmx.entries), ...exits, ...tlb].join('\n');
}

const counterLine = (name: string, count: number): string => `${String(count).padStart(14)}  ${name}`;

function describeLastExit(target: Target): string {
  const exit = target.machine.vmx.lastExit;
  if (!exit) return 'There has been no VM exit.';
  const { title, text, details } = explainStop({ kind: 'vmExit', exit }, target);
  return [title, text, ...details].join('\n');
}

function checkEntry(target: Target): string {
  const { machine } = target;
  if (machine.vmx.currentVmcs === undefined) throw errors.noVmcs();
  const failure = machine.vmx.checkEntry();
  if (!failure) return 'VMLAUNCH or VMRESUME would enter the guest.';
  const { title, details } = explainStop({ kind: 'vmEntryFailure', failure }, target);
  return [title, ...details].join('\n');
}

function willExit(target: Target): string {
  const next = forecastNext(target);
  if (!next) throw errors.noGuest();
  return describeForecast(next);
}

function listStale(target: Target): string {
  const { mmu } = target.machine;
  const lines = staleEntries(mmu).flatMap(({ entry, address, difference, invalidations }) => [
    `${KIND_NAMES[entry.kind]} mapping of ${hex(entry.page)} (VPID ${entry.vpid}), at ${hex(address)}: ${difference}`,
    ...storyLines(mmu.storyOf(entry), codeNames(target)).map((line) => `    ${line}`),
    ...invalidations.map((invalidation) => `    would remove it: ${invalidation}`),
  ]);
  return lines.length > 0 ? lines.join('\n') : 'Every TLB entry agrees with the tables in memory.';
}

function translate(target: Target, rest: string): string {
  const { number } = evaluate(parseExpression(rest), new TargetEnvironment(target));
  const translation = target.machine.mmu.explain(wrap64(number), 'read');
  const steps = translation.steps.map(
    (step) =>
      `${step.table} at ${hex(step.entryAddress)}: ${hex(step.value)}${step.problem ? `  ${step.problem}` : ''}`,
  );
  const end = translation.physical === undefined ? 'no translation' : `physical ${hex(translation.physical)}`;
  return [...steps, end].join('\n');
}

function runConsole(session: Session, target: Target, text: string, frame: Frame | undefined): Evaluation {
  const [, name = '', rest = ''] = /^\s*(\S+)\s*(.*)$/s.exec(text) ?? [];
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command) return { result: command.run(target, rest), variablesReference: 0 };
  if (isInstructionKind(text)) return { result: describeKind(text), variablesReference: 0 };
  const statement = parseStatement(text);
  const environment = new TargetEnvironment(target, frame);
  if (statement.kind !== 'assignment') {
    return describeValue(session, target, text, frame, evaluate(statement, environment));
  }
  const value = assign(statement, environment);
  session.afterwards(() => session.changed());
  return { result: formatValue(value), variablesReference: 0 };
}

/** What a function breakpoint of that name would stop at. */
function describeKind(text: string): string {
  const kind = parseInstructionKind(text);
  return kind.kind === 'problem'
    ? kind.problem
    : `${kind.what}: add a function breakpoint '${text.trim()}' to stop there.`;
}

export const evaluationRequests: HandlerTable = {
  evaluate: handler(
    { expression: 'string', frameId: 'number?', context: 'string?' },
    (session, { expression, frameId, context }, command) => {
      const target = session.stoppedTarget(command);
      const frame = frameOf(session, frameId);
      if (context === 'repl') return runConsole(session, target, expression, frame);
      const next = context === 'hover' ? forecastNext(target) : undefined;
      if (next && next.mnemonic === expression.trim().toLowerCase()) {
        return { result: describeForecast(next), variablesReference: 0 };
      }
      const value = evaluate(parseExpression(expression), new TargetEnvironment(target, frame));
      return describeValue(session, target, expression, frame, value);
    },
  ),

  setExpression: handler(
    { expression: 'string', value: 'string', frameId: 'number?' },
    (session, { expression, value, frameId }, command) => {
      const target = session.stoppedTarget(command);
      const frame = frameOf(session, frameId);
      const assigned = parseExpression(expression);
      if (!isAssignable(assigned)) {
        throw errors.notWritable(expression, 'only registers, VMCS fields, variables and memory can be assigned');
      }
      const variable = variableOf(assigned, new TargetEnvironment(target, frame));
      if (variable) {
        const scope = new FrameScope(target, frame ?? innermostFrame(target.view()));
        session.afterwards(() => session.changed());
        return setValue({ target, references: session.references, scope }, expression, variable, value);
      }
      const statement = { kind: 'assignment', target: assigned, value: parseExpression(value) } as const;
      const environment = new TargetEnvironment(target, frame);
      assign(statement, environment);
      session.afterwards(() => session.changed());
      const { result } = describeValue(session, target, expression, frame, evaluate(assigned, environment));
      return { value: result };
    },
  ),

  completions: handler({ text: 'string', column: 'number', frameId: 'number?' }, (session, request, command) => {
    const target = session.target(command);
    const first = session.columnsStartAt1 ? 1 : 0;
    const frame = frameOf(session, request.frameId);
    return { targets: complete(target, frame, request.text, request.column - first, first, Object.keys(COMMANDS)) };
  }),
};
