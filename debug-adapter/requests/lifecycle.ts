import type { DebugProtocol } from '@vscode/debugprotocol';
import { IMAGE_FORMATS } from '../../sim-core/loaders/boot-request.ts';
import { errors } from '../errors.ts';
import { type HandlerTable, handler, shapedPart } from '../handler.ts';
import type { LaunchArguments } from '../protocol.ts';
import { loadTarget } from '../running/target.ts';
import type { Session } from '../session.ts';
import { EXCEPTION_FILTERS } from '../stops/exception-filters.ts';

const CAPABILITIES: DebugProtocol.Capabilities = {
  supportsConfigurationDoneRequest: true,
  supportsFunctionBreakpoints: true,
  supportsConditionalBreakpoints: true,
  supportsHitConditionalBreakpoints: true,
  supportsLogPoints: true,
  supportsBreakpointLocationsRequest: true,
  supportsInstructionBreakpoints: true,
  supportsDataBreakpoints: true,
  supportsDataBreakpointBytes: true,
  supportsSteppingGranularity: true,
  supportsEvaluateForHovers: true,
  supportsSetVariable: true,
  supportsSetExpression: true,
  supportsCompletionsRequest: true,
  completionTriggerCharacters: ['.', '$'],
  supportsExceptionOptions: false,
  supportsExceptionFilterOptions: true,
  supportsExceptionInfoRequest: true,
  supportsDelayedStackTraceLoading: true,
  supportsLoadedSourcesRequest: true,
  supportsModulesRequest: true,
  supportsDisassembleRequest: true,
  supportsReadMemoryRequest: true,
  supportsWriteMemoryRequest: true,
  supportsRestartRequest: true,
  supportsTerminateRequest: true,
  supportTerminateDebuggee: false,
  supportsCancelRequest: true,
  supportsGotoTargetsRequest: true,
  supportsStepBack: true,
  supportsRestartFrame: true,
  exceptionBreakpointFilters: [...EXCEPTION_FILTERS],
};

/** What a client says of itself. */
const CLIENT_SHAPE = {
  clientID: 'string?',
  linesStartAt1: 'boolean?',
  columnsStartAt1: 'boolean?',
  supportsMemoryEvent: 'boolean?',
  supportsInvalidatedEvent: 'boolean?',
} as const;

/** The parts of launch.json that must have the right type before anything is done with them. */
const LAUNCH_SHAPE = {
  program: 'string?',
  args: 'string?',
  format: 'string?',
  modules: 'strings?',
  guests: 'array?',
  symbols: 'array?',
  machine: 'object?',
  stopOn: 'string?',
  breakOnVmExit: 'strings?',
  maxInstructions: 'number?',
  consoles: 'object?',
  sourceMap: 'object?',
  noDebug: 'boolean?',
  history: 'object?',
  replay: 'string?',
  snapshot: 'string?',
  stopAtEnd: 'string?',
} as const;
const HISTORY_SHAPE = { enabled: 'boolean?', maxMemoryMB: 'number?' } as const;
const MACHINE_SHAPE = {
  memory: 'string?',
  cpus: 'number?',
  cpuModel: 'string?',
  vmx: 'boolean?',
  quantum: 'number?',
  startTime: 'string?',
  devices: 'strings?',
  iommu: 'boolean?',
} as const;
const GUEST_SHAPE = { name: 'string', program: 'string', loadAddress: 'string?', when: 'object?' } as const;
const SYMBOLS_SHAPE = {
  path: 'string',
  name: 'string?',
  loadAddress: 'string?',
  sections: 'object?',
  when: 'object?',
} as const;
const WHEN_SHAPE = {
  mode: 'string?',
  vpid: 'number?',
  eptp: 'string?',
  cr3: 'string?',
  from: 'string?',
  to: 'string?',
} as const;
const FORMATS = ['auto', ...IMAGE_FORMATS] as const;
const STOP_ON = ['entry', 'vmlaunch', 'firstExit', 'none'] as const;
const STOP_AT_END = ['always', 'onFailure', 'never'] as const;

/** @throws badArguments or badLaunchValue for what a hand-written launch.json can have wrong. */
function checkLaunch(args: unknown): LaunchArguments {
  const launch = shapedPart('launch', 'arguments', args, LAUNCH_SHAPE);
  if (launch.machine) shapedPart('launch', 'machine', launch.machine, MACHINE_SHAPE);
  if (launch.history) shapedPart('launch', 'history', launch.history, HISTORY_SHAPE);
  const checkWhen = (where: string, when: unknown): unknown =>
    when === undefined || when === null ? when : shapedPart('launch', `${where}.when`, when, WHEN_SHAPE);
  for (const guest of launch.guests ?? []) {
    checkWhen('guests[]', shapedPart('launch', 'guests[]', guest, GUEST_SHAPE).when);
  }
  for (const symbols of launch.symbols ?? []) {
    if (typeof symbols === 'string') continue;
    const { when, sections } = shapedPart('launch', 'symbols[]', symbols, SYMBOLS_SHAPE);
    checkWhen('symbols[]', when);
    if (Object.values(sections ?? {}).some((address) => typeof address !== 'string')) {
      throw errors.badLaunchValue('symbols[].sections', 'it must map names of sections to addresses such as "0x1000"');
    }
  }
  if (launch.format !== undefined && !FORMATS.some((known) => known === launch.format)) {
    throw errors.badLaunchValue('format', `'${launch.format}' is not one of ${FORMATS.join(', ')}`);
  }
  if (launch.stopOn !== undefined && !STOP_ON.some((known) => known === launch.stopOn)) {
    throw errors.badLaunchValue('stopOn', `'${launch.stopOn}' is not one of ${STOP_ON.join(', ')}`);
  }
  if (launch.stopAtEnd !== undefined && !STOP_AT_END.some((known) => known === launch.stopAtEnd)) {
    throw errors.badLaunchValue('stopAtEnd', `'${launch.stopAtEnd}' is not one of ${STOP_AT_END.join(', ')}`);
  }
  if (launch.sourceMap && Object.values(launch.sourceMap).some((to) => typeof to !== 'string')) {
    throw errors.badLaunchValue('sourceMap', 'it must map path prefixes to path prefixes');
  }
  if (launch.consoles && Object.values(launch.consoles).some((to) => typeof to !== 'string')) {
    throw errors.badLaunchValue('consoles', "it must map names of consoles to 'terminal', 'none' or files");
  }
  return launch as LaunchArguments;
}

async function load(session: Session, args: unknown): Promise<void> {
  const launch = checkLaunch(args);
  const complain = (text: string): void => session.output(text, 'stderr');
  const target = await loadTarget(session.host, session.createMachine, launch, complain);
  session.launchArguments = args;
  session.adopt(target);
  for (const problem of target.programs.flatMap(({ program }) => program.problems)) session.output(`${problem}\n`);
}

/** Begins to run as the launch configuration says. */
function start(session: Session, command: string): void {
  const { launch } = session.target(command);
  if (launch.noDebug) session.run(command, {}, { kind: 'entry' });
  else if (launch.stopOn === 'none') session.run(command, {}, { kind: 'entry' });
  else if (launch.stopOn === 'vmlaunch') session.run(command, { vmEntry: () => true }, { kind: 'vmEntry' });
  else if (launch.stopOn === 'firstExit') session.runToVmExit(command);
  else session.afterwards(() => session.report({ kind: 'entry' }));
}

export const lifecycleRequests: HandlerTable = {
  initialize: handler(CLIENT_SHAPE, (session, args) => {
    session.linesStartAt1 = args.linesStartAt1 ?? true;
    session.selectsBySource = args.clientID === 'vscode';
    session.columnsStartAt1 = args.columnsStartAt1 ?? true;
    session.takesMemoryEvents = args.supportsMemoryEvent ?? false;
    session.takesInvalidatedEvents = args.supportsInvalidatedEvent ?? false;
    return CAPABILITIES;
  }),

  launch: async (session, args) => {
    if (session.isLaunched) throw errors.launchedTwice();
    await load(session, args);
    const { launch } = session.target('launch');
    if (launch.noDebug) session.disarm();
    else session.filters.setStopsByName(launch.breakOnVmExit ?? []);
    session.afterwards(() => session.event('initialized'));
  },

  configurationDone: handler({}, (session, _args, command) => start(session, command)),

  /** `arguments.arguments` may hold a new launch configuration. */
  restart: handler({ arguments: 'object?' }, async (session, args, command) => {
    session.target(command);
    await load(session, args.arguments ?? session.launchArguments);
    session.relocateBreakpoints();
    start(session, command);
  }),

  terminate: handler({}, (session, _args, command) => session.terminate(command)),

  disconnect: handler({}, (session) => session.afterwards(() => session.dispose())),

  // Requests are answered as they come: there is never one left to cancel.
  cancel: handler({}, () => undefined),

  attach: () => {
    throw errors.badLaunchValue('request', "'attach' is not possible: VMXray runs its own machine, use 'launch'");
  },
};
