import assert from 'node:assert/strict';
import { basename, join } from 'node:path';
import { DebugClient } from '@vscode/debugadapter-testsupport';
import type { DebugProtocol } from '@vscode/debugprotocol';
import type { LaunchArguments, TlbBody, TranslateBody, VmcsBody } from '../../debug-adapter/protocol.ts';
import { useAdapter } from './adapter.ts';
import { FIRST_VMM, firstVmm, lineWith } from './sample.ts';

const THREAD = { threadId: 1 };

describe('debugging the sample hypervisor', () => {
  const adapter = useAdapter();
  let client: DebugClient;

  beforeEach(async () => {
    client = new DebugClient('', '', 'vmxray');
    await client.start(adapter.port);
  });
  afterEach(() => client.stop());

  const stopped = async (): Promise<DebugProtocol.StoppedEvent['body']> => (await client.waitForEvent('stopped')).body;

  /** Launches, sets what `configure` sets, and waits for the first stop. */
  async function start(
    more: Partial<LaunchArguments> = {},
    configure: () => Promise<unknown> = async () => {},
  ): Promise<DebugProtocol.StoppedEvent['body']> {
    const stop = stopped();
    await Promise.all([
      client
        .waitForEvent('initialized')
        .then(configure)
        .then(() => client.configurationDoneRequest()),
      client.launch(firstVmm(more)),
    ]);
    return stop;
  }

  type Motion = 'continue' | 'next' | 'stepIn' | 'stepOut';
  async function go(
    motion: Motion,
    granularity: DebugProtocol.SteppingGranularity = 'line',
  ): Promise<DebugProtocol.StoppedEvent['body']> {
    const stop = stopped();
    await client.customRequest(motion, { ...THREAD, granularity });
    return stop;
  }

  async function frames(): Promise<DebugProtocol.StackFrame[]> {
    return (await client.stackTraceRequest(THREAD)).body.stackFrames;
  }
  async function top(): Promise<DebugProtocol.StackFrame> {
    const [frame] = await frames();
    assert.ok(frame);
    return frame;
  }
  async function value(expression: string): Promise<bigint> {
    const { result } = (await client.evaluateRequest({ expression, context: 'watch' })).body;
    return BigInt(/^-?[0-9a-fx]+/.exec(result)?.[0] ?? result);
  }
  const place = ({ source, line }: DebugProtocol.StackFrame): string => `${basename(source?.path ?? '?')}:${line}`;
  const breakAt = (file: string, text: string, more: object = {}) => {
    const { path, line } = lineWith(file, text);
    return client.setBreakpointsRequest({ source: { path }, breakpoints: [{ line, ...more }] });
  };
  const open = async (variablesReference: number) =>
    (await client.variablesRequest({ variablesReference })).body.variables;
  const names = (list: readonly DebugProtocol.StackFrame[]): string[] => list.map((frame) => frame.name);

  it('stops at the entry, and runs to the end with its output', async () => {
    assert.equal((await start()).reason, 'entry');
    let output = '';
    client.on('output', (event: DebugProtocol.OutputEvent) => {
      if (event.body.category === 'stdout') output += event.body.output;
    });
    const exited = client.waitForEvent('exited');
    const terminated = client.waitForEvent('terminated');
    await client.continueRequest(THREAD);
    assert.equal((await exited).body.exitCode, 1);
    await terminated;
    assert.match(output, /guest says: 40 \+ 2 = 42/);
    assert.match(output, /The guest has ended\. VM exits: \d+/);
  });

  it('hits breakpoints in the VMM and in the guest, each in its world', async () => {
    const inHandler = lineWith('exits.c', 'exit_total++;');
    const inGuest = lineWith('guest/guest.c', 'print("Hello');
    const stop = await start({ stopOn: 'none' }, async () => {
      const handler = await breakAt('exits.c', 'exit_total++;');
      assert.deepEqual(
        handler.body.breakpoints.map(({ verified, line }) => ({ verified, line })),
        [{ verified: true, line: inHandler.line }],
      );
      await breakAt('guest/guest.c', 'print("Hello');
    });
    assert.equal(stop.reason, 'breakpoint');
    assert.equal(place(await top()), `guest.c:${inGuest.line}`);
    assert.deepEqual(names(await frames()).slice(0, 1), ['guest_main']);
    await go('continue');
    const stack = await frames();
    assert.equal(place(stack[0] as DebugProtocol.StackFrame), `exits.c:${inHandler.line}`);
    assert.equal(await value('reason'), 30n);
  });

  it('shows the VMM, the label of the exit, and the guest below it', async () => {
    await start({ stopOn: 'none' }, () =>
      client.setFunctionBreakpointsRequest({ breakpoints: [{ name: 'handle_cpuid' }] }),
    );
    const stack = await frames();
    const label = stack.findIndex((frame) => frame.presentationHint === 'label');
    assert.deepEqual(names(stack).slice(0, label + 1), [
      'handle_cpuid',
      'handle_vm_exit',
      'vm_exit_entry',
      'VM exit: CPUID',
    ]);
    const guest = names(stack).slice(label + 1);
    assert.ok(guest.includes('look_at_processor') || guest.includes('guest_main'), guest.join());
    assert.equal(guest.at(-1), 'guest_start');
  });

  /** In a function, or in cpuid() inlined into it. */
  async function isIn(name: string): Promise<void> {
    const [first, second] = (await frames()).map((frame) => frame.name);
    assert.equal(first === 'cpuid' ? second : first, name);
  }

  it('steps out of the VMM’s entry function: back in the guest, behind the instruction', async () => {
    await start({ stopOn: 'none', breakOnVmExit: ['CPUID'] });
    const exiting = await value('guest.rip');
    await client.customRequest('vmxray/setVmExitStops', { reasons: [] });
    await go('stepOut');
    assert.equal(await value('rip'), exiting + 2n);
    await isIn('look_at_processor');
  });

  /** Goes to the guest's first CPUID. @returns its address */
  async function toCpuid(): Promise<bigint> {
    await start({ stopOn: 'none' }, () =>
      client.setFunctionBreakpointsRequest({ breakpoints: [{ name: 'look_at_processor' }] }),
    );
    let steps = 0;
    while (!(await disassembled())?.startsWith('cpuid')) {
      assert.ok(steps++ < 200, 'no CPUID');
      await go('stepIn', 'instruction');
    }
    return value('rip');
  }

  it('steps from the guest’s CPUID into the VMM and over VMRESUME back', async () => {
    const cpuid = await toCpuid();
    await go('stepIn', 'instruction');
    assert.equal((await top()).name, 'vm_exit_entry');
    assert.equal(await value('reason'), 10n);
    let steps = 0;
    while ((await disassembled()) !== 'vmresume') {
      assert.ok(steps++ < 200, 'no VMRESUME');
      await go('next', 'instruction');
    }
    await go('next', 'instruction');
    assert.equal(await value('rip'), cpuid + 2n);
    await isIn('look_at_processor');
  });

  it('steps over CPUID by instruction: the next instruction of this guest', async () => {
    const cpuid = await toCpuid();
    const exits = await value('exits');
    await go('next', 'instruction');
    assert.equal(await value('rip'), cpuid + 2n);
    assert.equal(await value('exits'), exits + 1n);
  });

  async function disassembled(): Promise<string> {
    const { instructionPointerReference = '' } = await top();
    const answer = await client.disassembleRequest({
      memoryReference: instructionPointerReference,
      instructionCount: 1,
    });
    return answer.body?.instructions[0]?.instruction ?? '';
  }

  it('steps line by line over an emulated MMIO access', async () => {
    const first = lineWith('guest/guest.c', 'mmio_write32(adder + ADDER_ADD, 40)');
    await start({ stopOn: 'none' }, () => breakAt('guest/guest.c', 'mmio_write32(adder + ADDER_ADD, 40)'));
    assert.equal(place(await top()), `guest.c:${first.line}`);
    const violations = await countOf('EPT_VIOLATION');
    await go('next');
    assert.equal(place(await top()), `guest.c:${first.line + 1}`);
    assert.equal(await countOf('EPT_VIOLATION'), violations + 1);
    await go('next');
    assert.equal(place(await top()), `guest.c:${first.line + 2}`);
  });

  async function countOf(name: string): Promise<number> {
    const { reasons } = (await client.customRequest('vmxray/vmExits')).body;
    return reasons.find((reason: { name: string }) => reason.name === name).count;
  }

  it('steps over inline functions of headers, and into them', async () => {
    const out = lineWith('guest/guest.c', 'out8(GUEST_POST_PORT');
    await start({ stopOn: 'none' }, () => breakAt('guest/guest.c', 'out8(GUEST_POST_PORT'));
    assert.equal(place(await top()), `guest.c:${out.line}`);
    await go('next');
    assert.equal(place(await top()), `guest.c:${out.line + 1}`);
    await go('next');
    assert.equal(place(await top()), `guest.c:${out.line + 2}`);
  });

  it('steps into functions behind their prologue, and out of them', async () => {
    const call = lineWith('guest/guest.c', '\tlook_at_processor();');
    await start({ stopOn: 'none' }, () => breakAt('guest/guest.c', '\tlook_at_processor();'));
    await go('stepIn');
    assert.equal((await top()).name, 'look_at_processor');
    await go('stepOut');
    const after = await top();
    assert.equal(after.name, 'guest_main');
    assert.ok(after.line >= call.line && after.line <= call.line + 1, place(after));
  });

  it('stops for filtered VM exits and explains them', async () => {
    const filters = {
      filters: [],
      filterOptions: [{ filterId: 'exit:EPT_VIOLATION', condition: 'qualification & 2' }],
    };
    const stop = await start({ stopOn: 'none' }, () => client.setExceptionBreakpointsRequest(filters));
    assert.equal(stop.reason, 'exception');
    assert.equal(stop.description, 'VM exit: EPT violation');
    const info = (await client.exceptionInfoRequest(THREAD)).body;
    assert.equal(info.exceptionId, 'EPT_VIOLATION');
    assert.match(info.description ?? '', /write/);
    assert.equal((await value('qualification')) & 2n, 2n);
    // The adder's page has no EPT entry, so that its accesses come to the VMM: the PTE is the entry that refuses.
    const story = info.details?.stackTrace ?? '';
    assert.match(story, /^Access: a data write at linear address 0x[0-9a-f]+$/m);
    assert.match(story, /^EPT entry: EPT P\w+E at 0x[0-9a-f]+ = 0x0 \(not present\)$/m);
    assert.match(story, /^Reason: not present$/m);
    assert.match(story, /^Instruction: mov /m);
    const tables = [...story.matchAll(/^ {4}(\w.*?) at 0x/gm)].map(([, table]) => table);
    // Four guest entries, each behind a walk of EPT, and the last walk that fails (SDM Vol. 3C 29.3.2).
    assert.deepEqual(
      tables.filter((table) => !table?.startsWith('EPT')),
      ['PML4E', 'PDPTE', 'PDE', 'PTE'],
    );
    assert.equal(tables.filter((table) => table === 'EPT PML4E').length, 5);
  });

  it('evaluates conditions, hit counts and log messages', async () => {
    const stop = await start({ stopOn: 'none' }, () =>
      breakAt('exits.c', 'exit_total++;', { condition: 'reason == exit.RDMSR', hitCondition: '2' }),
    );
    assert.equal(stop.reason, 'breakpoint');
    assert.equal(await value('reason'), 31n);
    assert.equal(await countOf('RDMSR'), 2);
    // What the hypervisor prints between the two stops may come first.
    const logged = new Promise<DebugProtocol.OutputEvent>((resolve) =>
      client.on('output', (event: DebugProtocol.OutputEvent) => event.body.category !== 'stdout' && resolve(event)),
    );
    await breakAt('exits.c', 'exit_total++;', { logMessage: 'exit {reason}' });
    const exited = client.waitForEvent('exited');
    await client.continueRequest(THREAD);
    assert.match((await logged).body.output, /^exit (0x)?[0-9a-f]+\n$/);
    await exited;
  });

  it('lists registers, VMCS groups with bits, and the last exit', async () => {
    await start({ stopOn: 'none', breakOnVmExit: ['CPUID'] });
    const { id } = await top();
    const { scopes } = (await client.scopesRequest({ frameId: id })).body;
    assert.deepEqual(
      scopes.map((scope) => scope.name),
      [
        'General',
        'Segments',
        'Control registers',
        'Debug registers',
        'Model-specific registers',
        'Vector registers',
        'x87 registers',
        'VMCS',
        'Last VM exit',
      ],
    );
    const variable = (list: DebugProtocol.Variable[], name: string): DebugProtocol.Variable => {
      const found = list.find((candidate) => candidate.name === name);
      assert.ok(found, name);
      return found;
    };
    const general = await open(scopes[0]?.variablesReference ?? 0);
    assert.match(variable(general, 'rip').value, /<vm_exit_entry>/);
    const flags = await open(variable(general, 'rflags').variablesReference);
    // SDM Vol. 3C, "Loading Host RIP, RSP, and RFLAGS": a VM exit clears RFLAGS but for bit 1.
    assert.deepEqual(
      flags.filter((flag) => flag.value !== '0').map((flag) => flag.name),
      [],
    );
    const x87 = scopes[6]?.variablesReference ?? 0;
    // SDM Vol. 1, "x87 FPU Data Types": sign and exponent, bias 16383, then the significand with its integer bit.
    await client.setVariableRequest({ variablesReference: x87, name: 'st2', value: '0xc002a000000000000000' });
    await client.setVariableRequest({ variablesReference: x87, name: 'fcw', value: '0xa7f' });
    const floats = await open(x87);
    assert.equal(variable(floats, 'st2').value, '0xc002a000000000000000 -10');
    assert.match(variable(floats, 'fcw').value, /^0x0a7f IM, .*, double precision, up$/);
    const groups = await open(scopes[7]?.variablesReference ?? 0);
    const host = await open(variable(groups, 'Host state').variablesReference);
    assert.match(variable(host, 'HOST_RIP').value, /<vm_exit_entry>/);
    const controls = await open(variable(groups, 'VM-execution controls').variablesReference);
    const secondary = variable(controls, 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS');
    const bits = await open(secondary.variablesReference);
    assert.equal(variable(bits, 'Enable EPT').value, '1');
    const last = await open(scopes[8]?.variablesReference ?? 0);
    assert.match(variable(last, 'Reason').value, /10 CPUID/);
  });

  it('changes registers, VMCS fields and memory', async () => {
    await start({ stopOn: 'none', breakOnVmExit: ['CPUID'] });
    const { id } = await top();
    const { scopes } = (await client.scopesRequest({ frameId: id })).body;
    const general = scopes[0]?.variablesReference ?? 0;
    const answer = await client.setVariableRequest({ variablesReference: general, name: 'rcx', value: '0x10 + 2' });
    assert.match(answer.body.value, /^0x0*12$/);
    assert.equal(await value('rcx'), 0x12n);
    const rip = await value('guest.rip');
    await client.customRequest('vmxray/setVmcsField', { name: 'GUEST_RIP', value: 'guest.rip + 2' });
    assert.equal(await value('vmcs.GUEST_RIP'), rip + 2n);
    await assert.rejects(client.customRequest('vmxray/setVmcsField', { name: 'EXIT_QUALIFICATION', value: '1' }));
    const guestFrame = (await frames()).find((frame) => frame.moduleId === 'guest');
    const guestScopes = (await client.scopesRequest({ frameId: guestFrame?.id ?? 0 })).body.scopes;
    const guestGeneral = guestScopes.find((scope) => scope.name === 'General')?.variablesReference ?? 0;
    await client.setVariableRequest({ variablesReference: guestGeneral, name: 'rip', value: 'guest.rip + 1' });
    assert.equal(await value('vmcs.GUEST_RIP'), rip + 3n);
    const groups = await open(scopes.find((scope) => scope.name === 'VMCS')?.variablesReference ?? 0);
    const reference = (name: string) => groups.find((group) => group.name === name)?.variablesReference ?? 0;
    const guestState = reference('Guest register state');
    await client.setVariableRequest({ variablesReference: guestState, name: 'GUEST_RSP', value: '0x7000' });
    assert.equal(await value('guest.rsp'), 0x7000n);
    const readOnly = { variablesReference: reference('VM-exit information'), name: 'EXIT_QUALIFICATION', value: '1' };
    await assert.rejects(client.setVariableRequest(readOnly), /the processor writes it/);
    const sp = await value('rsp');
    const memoryReference = `linear:0x${(sp - 64n).toString(16)}`;
    const data = Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]).toString('base64');
    await client.customRequest('writeMemory', { memoryReference, data });
    assert.equal((await client.customRequest('readMemory', { memoryReference, count: 8 })).body.data, data);
    assert.equal(await value('u64(rsp - 64)'), 0x0807060504030201n);
  });

  it('reads the guest’s memory in every address space, the same bytes each time', async () => {
    await start({ stopOn: 'vmlaunch' });
    const rip = await value('rip');
    const read = async (memoryReference: string): Promise<string> =>
      (await client.customRequest('readMemory', { memoryReference, count: 16 })).body.data;
    const linear = await read(`linear:0x${rip.toString(16)}`);
    const translation = (
      await client.customRequest('vmxray/translate', { address: `0x${rip.toString(16)}`, space: 'linear' })
    ).body;
    assert.equal(await read(`guest:0x${rip.toString(16)}`), linear);
    assert.equal(await read(`gpa:${translation.guestPhysical}`), linear);
    assert.equal(await read(`hpa:${translation.physical}`), linear);
    assert.notEqual(translation.guestPhysical, translation.physical);
    assert.ok(translation.steps.some((step: { level: string }) => step.level === 'ept'));
  });

  it('disassembles exactly the instructions asked for, on their boundaries', async () => {
    await start({ stopOn: 'vmlaunch' });
    const { instructionPointerReference = '' } = await top();
    const answer = await client.disassembleRequest({
      memoryReference: instructionPointerReference,
      instructionOffset: -20,
      instructionCount: 50,
    });
    const instructions = answer.body?.instructions ?? [];
    assert.equal(instructions.length, 50);
    assert.equal(BigInt(instructions[20]?.address ?? 0), await value('rip'));
    const addresses = instructions.map((instruction) => BigInt(instruction.address));
    assert.deepEqual(
      addresses,
      addresses.toSorted((a, b) => (a < b ? -1 : 1)),
    );
  });

  it('keeps breakpoints over a restart', async () => {
    await start({ stopOn: 'none' }, () => breakAt('guest/guest.c', 'print("Hello'));
    const stop = stopped();
    await client.restartRequest({});
    assert.equal((await stop).reason, 'breakpoint');
    assert.equal((await top()).name, 'guest_main');
  });

  it('shows VMCS, exits, EPT and TLB', async () => {
    await start({ stopOn: 'none', breakOnVmExit: ['CPUID'] });
    const vmcs = (await client.customRequest('vmxray/vmcs')).body;
    assert.equal(vmcs.launchState, 'launched');
    assert.ok(vmcs.groups.every((group: { fields: unknown[] }) => group.fields.length > 0));
    const bits = (vmcs as VmcsBody).groups.flatMap(({ fields }) => fields.flatMap((field) => field.bits ?? []));
    assert.equal(bits.find(({ name }) => name === 'HLT exiting (7)')?.documentation, 'HLT causes a VM exit.');
    const root = (await client.customRequest('vmxray/eptTable', {})).body;
    assert.equal(root.level, 4);
    const [entry] = root.entries;
    const next = (await client.customRequest('vmxray/eptTable', { table: entry.target, level: 3, base: entry.base }))
      .body;
    assert.ok(next.entries.length > 0);
    const tlb = (await client.customRequest('vmxray/tlb')).body;
    assert.ok(
      tlb.entries.some(
        (candidate: { kind: string; vpid: number }) => candidate.kind === 'combined' && candidate.vpid === 1,
      ),
    );
    assert.deepEqual((await client.customRequest('vmxray/checkVmEntry')).body, { ok: true, checks: [] });
    await go('continue');
    const changed = (await client.customRequest('vmxray/vmcs')).body.groups
      .flatMap((group: { fields: { name: string; changed: boolean }[] }) => group.fields)
      .filter((field: { changed: boolean }) => field.changed)
      .map((field: { name: string }) => field.name);
    assert.ok(changed.includes('GUEST_RIP'), changed.join());
  });

  it('foretells whether the guest’s next instruction exits', async () => {
    await start({ stopOn: 'vmlaunch' });
    const forecast = async (): Promise<string> =>
      (await client.evaluateRequest({ expression: 'will-exit', context: 'repl' })).body.result;
    assert.match(await forecast(), /no control of the VMCS decides/);
    const exit = stopped();
    await client.setExceptionBreakpointsRequest({ filters: ['exit:CPUID'] });
    await client.continueRequest(THREAD);
    await exit;
    // At the stop the guest is suspended in front of its CPUID.
    assert.match(await forecast(), /^cpuid causes a VM exit \(CPUID\): CPUID always causes a VM exit$/);
    const { result } = (await client.evaluateRequest({ expression: 'cpuid', context: 'hover' })).body;
    assert.equal(result, await forecast());
    const memoryReference = `guest:0x${(await value('guest.rip')).toString(16)}`;
    const { body } = await client.customRequest('disassemble', { memoryReference, instructionCount: 1 });
    assert.match(body.instructions[0].instruction, /^cpuid {2}; cpuid causes a VM exit/);
    // The adder's page is not present in EPT: mmio_write32 begins with a MOV to it.
    await client.setExceptionBreakpointsRequest({ filters: [] });
    await client.setFunctionBreakpointsRequest({ breakpoints: [{ name: 'mmio_write32' }] });
    const write = stopped();
    await client.continueRequest(THREAD);
    await write;
    assert.match(
      await forecast(),
      /^mov causes a VM exit \(EPT violation\): the write of 0x[0-9a-f]+ \(EPT PTE at 0x[0-9a-f]+: not present\)$/,
    );
  });

  it('marks the translations that a change of the page tables has made stale', async () => {
    await start({ stopOn: 'none' }, () => breakAt('guest/guest.c', 'print("Goodbye'));
    const stale = async (): Promise<TlbBody['entries']> => {
      const { entries }: TlbBody = (await client.customRequest('vmxray/tlb', {})).body;
      return entries.filter((entry) => entry.stale);
    };
    assert.deepEqual(await stale(), []);
    // The debugger takes the page of the code away in the guest's own table: what runs is in the TLB.
    const translate = { address: `0x${(await value('rip')).toString(16)}`, space: 'linear' };
    const { steps }: TranslateBody = (await client.customRequest('vmxray/translate', translate)).body;
    const leaf = steps.findLast((step) => step.level === 'linear' && step.table !== 'TLB');
    await client.evaluateRequest({ expression: `u64(hpa:${leaf?.address}) = 0`, context: 'repl' });
    const [entry, ...others] = await stale();
    assert.deepEqual([entry?.kind, entry?.vpid, others.length], ['combined', 1, 0]);
    assert.match(entry?.stale?.difference ?? '', /= 0x0 gives none: not present/);
    assert.match(entry?.stale?.invalidations[0] ?? '', /^INVVPID type 0 .* VPID 1/);
    const { result } = (await client.evaluateRequest({ expression: 'stale', context: 'repl' })).body;
    assert.match(result, /^combined mapping of .*would remove it: INVVPID/s);
  });

  it('runs to the next VM entry and the next VM exit', async () => {
    await start({ stopOn: 'vmlaunch' });
    assert.equal((await top()).name, 'guest_start');
    const runTo = async (event: string) => {
      const stop = stopped();
      await client.customRequest('vmxray/runTo', { ...THREAD, event });
      return stop;
    };
    assert.match((await runTo('vmExit')).description ?? '', /^VM exit: /);
    assert.equal((await top()).name, 'vm_exit_entry');
    assert.equal((await runTo('vmEntry')).description, 'Stopped after VM entry');
    assert.equal((await frames())[0]?.moduleId, 'guest');
  });

  it('goes on from another line, and sets expressions', async () => {
    await start({ stopOn: 'none' }, () => breakAt('exits.c', 'exit_total++;'));
    const { path, line } = lineWith('exits.c', 'exit_counts[reason]++;');
    const { targets } = (await client.gotoTargetsRequest({ source: { path }, line })).body;
    const moved = stopped();
    await client.gotoRequest({ ...THREAD, targetId: targets[0]?.id ?? -1 });
    assert.equal((await moved).reason, 'goto');
    assert.equal(place(await top()), `exits.c:${line}`);
    await client.customRequest('setExpression', { expression: 'vmcs.GUEST_RSP', value: '0x1234' });
    assert.equal(await value('guest.rsp'), 0x1234n);
    await client.customRequest('setExpression', { expression: 'u32(exit_total)', value: '77' });
    assert.equal(await value('u32(exit_total)'), 77n);
  });

  it('stops at the failed VM entry of the broken sample and names check, field, value and section', async () => {
    const program = join(FIRST_VMM, '../broken-entry/broken-entry.elf');
    const stop = await start({ program, stopOn: 'none' });
    assert.equal(stop.reason, 'exception');
    assert.match(stop.description ?? '', /invalid host-state fields \(error 8\)/);
    const info = (await client.exceptionInfoRequest(THREAD)).body;
    assert.match(info.description ?? '', /HOST_TR_SELECTOR must not be 0/);
    assert.match(info.details?.stackTrace ?? '', /HOST_TR_SELECTOR = 0x0/);
    // SDM Vol. 3C 27.2.3, "Checks on Host Segment and Descriptor-Table Registers".
    assert.match(info.details?.stackTrace ?? '', /SDM Vol\. 3C 27\.2\.3/);
    assert.match(info.details?.stackTrace ?? '', /would satisfy it: set bit 3.* of HOST_TR_SELECTOR/);
    assert.equal((await top()).name, 'launch_guest');

    // The field is marked in the VMCS until its value is right.
    const marked = async (): Promise<string[]> => {
      const { groups }: VmcsBody = (await client.customRequest('vmxray/vmcs', {})).body;
      return groups.flatMap(({ fields }) => fields.filter(({ failing }) => failing).map(({ name }) => name));
    };
    assert.deepEqual(await marked(), ['HOST_TR_SELECTOR']);
    const check = (await client.customRequest('vmxray/checkVmEntry', {})).body;
    assert.deepEqual([check.ok, check.checks.length], [false, 1]);
    const [remedy] = check.checks[0].remedies;
    await client.customRequest('vmxray/setVmcsField', { name: remedy.field, value: remedy.value });
    assert.deepEqual(await marked(), []);
    assert.equal((await client.customRequest('vmxray/checkVmEntry', {})).body.ok, true);
  });

  it('runs without debugging when asked to', async () => {
    const exited = client.waitForEvent('exited');
    await Promise.all([
      client.waitForEvent('initialized').then(() => client.configurationDoneRequest()),
      client.launch(firstVmm({ noDebug: true, breakOnVmExit: ['*'] })),
    ]);
    assert.equal((await exited).body.exitCode, 1);
  });

  it('completes names', async () => {
    await start();
    const complete = async (text: string): Promise<string[]> =>
      (await client.completionsRequest({ text, column: text.length + 1 })).body.targets.map((target) => target.label);
    assert.deepEqual(await complete('1 + vmcs.GUEST_RI'), ['vmcs.GUEST_RIP']);
    assert.ok((await complete('handle_vm')).includes('handle_vm_exit'));
  });
});
