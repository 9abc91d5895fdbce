import assert from 'node:assert/strict';
import * as vscode from 'vscode';
import type { EptTableBody, TlbBody, TranslateBody, VmcsBody, VmExitsBody } from '../../../debug-adapter/protocol.ts';
import { inWorkspaceFolder } from '../../../extension/configuration/paths.ts';
import { eventually } from './poll.ts';

const SAMPLE = {
  type: 'vmxray',
  request: 'launch',
  name: 'test',
  program: inWorkspaceFolder('first-vmm.elf'),
  modules: [inWorkspaceFolder('guest.elf')],
  guests: [{ name: 'guest', program: inWorkspaceFolder('guest.elf') }],
  stopOn: 'entry',
};

/** Counts the stops that the sessions report, and keeps what their guests write. */
class Watcher {
  stops = 0;
  serial = '';
  private readonly subscription: vscode.Disposable;

  constructor() {
    this.subscription = vscode.Disposable.from(
      vscode.debug.registerDebugAdapterTrackerFactory('vmxray', {
        createDebugAdapterTracker: () => ({
          onDidSendMessage: (message) => {
            if (message.type === 'event' && message.event === 'stopped') this.stops += 1;
          },
        }),
      }),
      vscode.debug.onDidReceiveDebugSessionCustomEvent(({ event, body }) => {
        if (event === 'vmxray/serialOutput') this.serial += body.data;
      }),
    );
  }

  /** Does something that ends in a stop, and waits for it. */
  async stopAfter(action: () => PromiseLike<unknown>): Promise<void> {
    const before = this.stops;
    await action();
    await eventually(
      () => this.stops,
      (stops) => stops > before,
    );
  }

  dispose(): void {
    this.subscription.dispose();
  }
}

function session(): vscode.DebugSession {
  const active = vscode.debug.activeDebugSession;
  assert.ok(active, 'a debug session is active');
  return active;
}

const ask = <T>(request: string, args: object = {}): Thenable<T> => session().customRequest(request, args);
const run = (command: string) => vscode.commands.executeCommand(`vmxray.${command}`);

async function field(name: string): Promise<bigint> {
  const { groups } = await ask<VmcsBody>('vmxray/vmcs');
  const found = groups.flatMap(({ fields }) => fields).find((one) => one.name === name);
  assert.ok(found, name);
  return BigInt(found.value);
}

describe('a session of the sample hypervisor', () => {
  const watcher = new Watcher();

  before(async () => {
    const [folder] = vscode.workspace.workspaceFolders ?? [];
    await watcher.stopAfter(async () => assert.equal(await vscode.debug.startDebugging(folder, SAMPLE), true));
  });
  after(async () => {
    await vscode.debug.stopDebugging();
    watcher.dispose();
  });

  it('has no VMCS at the entry', async () => {
    assert.deepEqual((await ask<VmcsBody>('vmxray/vmcs')).groups, []);
  });

  it('runs to the first VM entry and fills the views', async () => {
    await watcher.stopAfter(() => run('runToVmEntry'));
    const { address, launchState, groups } = await ask<VmcsBody>('vmxray/vmcs');
    assert.match(address ?? '', /^0x[0-9a-f]+$/);
    assert.equal(launchState, 'launched');
    assert.ok(groups.length >= 5);
    assert.equal((await ask<VmExitsBody>('vmxray/vmExits')).entries, 1);
  });

  it('runs to the next VM exit', async () => {
    await watcher.stopAfter(() => run('runToVmExit'));
    const { total, last } = await ask<VmExitsBody>('vmxray/vmExits');
    assert.equal(total, 1);
    assert.equal(BigInt(last?.guestRip ?? 0), await field('GUEST_RIP'));
  });

  it('walks from a guest-linear address to memory, and through the EPT', async () => {
    const address = `0x${(await field('GUEST_RIP')).toString(16)}`;
    const { steps, physical, fault } = await ask<TranslateBody>('vmxray/translate', { address, space: 'guestLinear' });
    assert.equal(fault, undefined);
    assert.match(physical ?? '', /^0x/);
    // Each of four levels of the guest's paging, and the page itself, lies behind an EPT walk.
    assert.ok(steps.some(({ level }) => level === 'ept') && steps.some(({ level }) => level === 'linear'));
    const root = await ask<EptTableBody>('vmxray/eptTable');
    assert.equal(root.level, 4);
    const [entry] = root.entries;
    assert.ok(entry && !entry.leaf);
    const next = await ask<EptTableBody>('vmxray/eptTable', { table: entry.target, level: 3, base: entry.base });
    assert.ok(next.entries.length > 0);
  });

  it('shows what the guest has left in the TLB, under its VPID', async () => {
    const { entries } = await ask<TlbBody>('vmxray/tlb');
    assert.ok(entries.some(({ kind, vpid }) => kind === 'combined' && vpid !== 0));
  });

  it('takes an edit of a VMCS field', async () => {
    const before = await field('GUEST_RIP');
    const set = (value: bigint) => ask('vmxray/setVmcsField', { name: 'GUEST_RIP', value: `0x${value.toString(16)}` });
    await set(before + 1n);
    assert.equal(await field('GUEST_RIP'), before + 1n);
    await set(before);
  });

  it('explains the last VM exit and checks VM entry in documents', async () => {
    for (const [command, name] of [
      ['explainExit', 'VM exit'],
      ['checkVmEntry', 'VM entry'],
    ] as const) {
      await run(command);
      const tabs = () => vscode.window.tabGroups.all.flatMap((group) => group.tabs.map(({ label }) => label));
      await eventually(tabs, (labels) => labels.some((label) => label.includes(name)));
    }
  });

  it('shows the views while it is stopped', async () => {
    for (const view of ['vmcs', 'exits', 'translation', 'tlb']) {
      await vscode.commands.executeCommand(`vmxray.${view}.focus`);
    }
  });

  it('runs to its end, and its serial port is a terminal', async () => {
    const ended = new Promise((resolve) => vscode.debug.onDidTerminateDebugSession(resolve));
    await session().customRequest('vmxray/setVmExitStops', { reasons: [] });
    await vscode.commands.executeCommand('workbench.action.debug.continue');
    await ended;
    assert.ok(watcher.serial.length > 0);
    assert.ok(vscode.window.terminals.some(({ name }) => name.includes('test')));
  });
});
