import * as vscode from 'vscode';
import { uriOf } from '../files.ts';
import { type GuessedConfiguration, guessConfigurations } from './guess.ts';
import { classifyImage } from './image-kind.ts';
import { imageProblem } from './image-problem.ts';
import { fileStat, findImages } from './images.ts';
import { absolute, inWorkspaceFolder, mapDevicePath, mapModulePath, modulePath } from './paths.ts';

const TYPE = 'vmxray';

/** What launch.json starts with in a folder that has no image yet. */
const TEMPLATE: vscode.DebugConfiguration = {
  type: TYPE,
  request: 'launch',
  name: 'VMXray',
  program: inWorkspaceFolder('vmm.elf'),
  stopOn: 'entry',
};

export function registerConfigurationProviders(): vscode.Disposable {
  const { Initial, Dynamic } = vscode.DebugConfigurationProviderTriggerKind;
  return vscode.Disposable.from(
    vscode.debug.registerDebugConfigurationProvider(TYPE, new ConfigurationProvider([TEMPLATE]), Initial),
    vscode.debug.registerDebugConfigurationProvider(TYPE, new GuessProvider([]), Dynamic),
  );
}

class GuessProvider implements vscode.DebugConfigurationProvider {
  private readonly otherwise: readonly vscode.DebugConfiguration[];

  /** @param otherwise what to provide in a folder without images. */
  constructor(otherwise: readonly vscode.DebugConfiguration[]) {
    this.otherwise = otherwise;
  }

  async provideDebugConfigurations(
    folder: vscode.WorkspaceFolder | undefined,
    token?: vscode.CancellationToken,
  ): Promise<vscode.DebugConfiguration[]> {
    const guesses = await guess(folder, token);
    return guesses.length > 0 ? guesses.map((one) => ({ ...one })) : [...this.otherwise];
  }
}

/** Fills in what a configuration lacks, makes its paths absolute, and refuses with a sentence what cannot start. */
class ConfigurationProvider extends GuessProvider {
  async resolveDebugConfiguration(
    folder: vscode.WorkspaceFolder | undefined,
    configuration: vscode.DebugConfiguration,
    token?: vscode.CancellationToken,
  ): Promise<vscode.DebugConfiguration | undefined> {
    if (configuration.program !== undefined) return configuration;
    const chosen = await chooseGuess(await guess(folder, token));
    if (chosen === undefined) return undefined;
    return { ...chosen, ...definedOf(configuration) };
  }

  async resolveDebugConfigurationWithSubstitutedVariables(
    folder: vscode.WorkspaceFolder | undefined,
    configuration: vscode.DebugConfiguration,
  ): Promise<vscode.DebugConfiguration | undefined> {
    const base = (folder ?? vscode.workspace.workspaceFolders?.[0])?.uri.fsPath;
    const resolved = withAbsolutePaths(configuration, (path) => absolute(path, base));
    const problem = await firstProblem(resolved);
    if (problem === undefined) return resolved;
    await refuse(problem, folder);
    return undefined;
  }
}

async function guess(
  folder: vscode.WorkspaceFolder | undefined,
  token?: vscode.CancellationToken,
): Promise<GuessedConfiguration[]> {
  const where = folder ?? vscode.workspace.workspaceFolders?.[0];
  return where ? guessConfigurations(await findImages(where, token)) : [];
}

async function chooseGuess(guesses: readonly GuessedConfiguration[]): Promise<GuessedConfiguration | undefined> {
  if (guesses.length > 1) {
    const items = guesses.map((one) => ({ label: one.name, description: guestNames(one), guess: one }));
    const placeHolder = vscode.l10n.t('Which image shall the machine boot?');
    return (await vscode.window.showQuickPick(items, { placeHolder }))?.guess;
  }
  if (guesses[0]) return guesses[0];
  const newSample = vscode.l10n.t('New Sample Hypervisor…');
  const choice = await vscode.window.showErrorMessage(
    vscode.l10n.t(
      'There is no bare x86 ELF file in this folder to boot. Build the project first, or name the image as "program" in launch.json.',
    ),
    newSample,
  );
  if (choice === newSample) await vscode.commands.executeCommand('vmxray.newSample');
  return undefined;
}

const guestNames = ({ guests }: GuessedConfiguration): string =>
  guests ? vscode.l10n.t('with {0}', guests.map(({ name }) => name).join(', ')) : '';

/** F5 without launch.json passes a configuration whose type, request and name are empty. */
function definedOf(configuration: vscode.DebugConfiguration): Partial<vscode.DebugConfiguration> {
  return Object.fromEntries(Object.entries(configuration).filter(([, value]) => value !== undefined && value !== ''));
}

function withAbsolutePaths(
  configuration: vscode.DebugConfiguration,
  change: (path: string) => string,
): vscode.DebugConfiguration {
  const { program, modules, guests, symbols, machine, replay, snapshot } = configuration;
  const resolved = { ...configuration };
  if (typeof program === 'string') resolved.program = change(program);
  if (typeof replay === 'string') resolved.replay = change(replay);
  if (typeof snapshot === 'string') resolved.snapshot = change(snapshot);
  if (Array.isArray(machine?.devices)) {
    const devices = machine.devices.map((one: unknown) => (typeof one === 'string' ? mapDevicePath(one, change) : one));
    resolved.machine = { ...machine, devices };
  }
  if (Array.isArray(modules)) {
    resolved.modules = modules.map((one) => (typeof one === 'string' ? mapModulePath(one, change) : one));
  }
  if (Array.isArray(guests)) {
    resolved.guests = guests.map((one) =>
      typeof one?.program === 'string' ? { ...one, program: change(one.program) } : one,
    );
  }
  if (Array.isArray(symbols)) {
    resolved.symbols = symbols.map((one) => {
      if (typeof one === 'string') return change(one);
      return typeof one?.path === 'string' ? { ...one, path: change(one.path) } : one;
    });
  }
  return resolved;
}

/** The adapter judges every argument again; here are the mistakes that the editor can explain before it starts. */
async function firstProblem(configuration: vscode.DebugConfiguration): Promise<string | undefined> {
  const { program, modules, guests } = configuration;
  if (typeof program !== 'string' || program === '') {
    return vscode.l10n.t('"program" must be the path of the image to boot.');
  }
  const unreadable = await whyUnreadable('program', program);
  if (unreadable !== undefined) return unreadable;
  const problem = imageProblem(program, classifyImage(await vscode.workspace.fs.readFile(uriOf(program))));
  if (problem !== undefined) return problem;
  for (const [attribute, path] of otherFiles(modules, guests)) {
    const reason = await whyUnreadable(attribute, path);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

/** Attribute and path of the modules and guests that have the right shape; the adapter judges the others. */
function otherFiles(modules: unknown, guests: unknown): [string, string][] {
  const modulePaths = (Array.isArray(modules) ? modules : []).filter((one) => typeof one === 'string').map(modulePath);
  const guestPaths = (Array.isArray(guests) ? guests : [])
    .map((one) => one?.program)
    .filter((one) => typeof one === 'string');
  return [
    ...modulePaths.map((path): [string, string] => ['modules', path]),
    ...guestPaths.map((path): [string, string] => ['guests', path]),
  ];
}

/** @returns a sentence that says why a file cannot be read, or undefined when it can. */
async function whyUnreadable(attribute: string, path: string): Promise<string | undefined> {
  try {
    await fileStat(uriOf(path));
    return undefined;
  } catch (error) {
    const code = error instanceof vscode.FileSystemError ? error.code : undefined;
    if (code === 'FileNotFound') {
      return vscode.l10n.t(
        '{0} ("{1}" of the launch configuration) does not exist. Build it, or correct the path.',
        path,
        attribute,
      );
    }
    if (code === 'FileIsADirectory') {
      return vscode.l10n.t(
        '{0} ("{1}" of the launch configuration) is a folder. Name the image file in it.',
        path,
        attribute,
      );
    }
    const reason = error instanceof Error ? error.message : String(error);
    return vscode.l10n.t('{0} ("{1}" of the launch configuration) cannot be read: {2}', path, attribute, reason);
  }
}

async function refuse(problem: string, folder: vscode.WorkspaceFolder | undefined): Promise<void> {
  const open = vscode.l10n.t('Open launch.json');
  const choice = await vscode.window.showErrorMessage(problem, { modal: true }, ...(folder ? [open] : []));
  if (choice === open) await vscode.commands.executeCommand('workbench.action.debug.configure');
}
