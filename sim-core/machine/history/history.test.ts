import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { assemble } from '../../../test/support/nasm.ts';
import { randomNumbers } from '../../../test/support/random-program.ts';
import type { Machine } from '../api.ts';
import { createMachine } from '../machine.ts';
import { differentStretches, processorDifferences, stretchDifferences } from '../state-differences.ts';
import { History, type HistoryOptions } from './history.ts';
import { before, type Position } from './position.ts';

const SAMPLE = join(import.meta.dirname, '../../../examples/first-vmm');
const MEMORY = 16 << 20;

function bootSample(): Machine {
  const machine = createMachine({ memory: MEMORY });
  const file = (name: string) => readFileSync(join(SAMPLE, name));
  const guest = { name: 'guest.elf', bytes: file('guest.elf'), commandLine: 'guest.elf' };
  machine.boot({ name: 'first-vmm', image: file('first-vmm.elf'), commandLine: '', modules: [guest] });
  return machine;
}

function bootCode(source: string): Machine {
  const machine = createMachine({ memory: 1 << 22 });
  const image = assemble(`bits 32\norg 0x100000\n${source}`);
  machine.boot({ name: 'test', image, commandLine: '', modules: [], format: 'flat' });
  return machine;
}

/** Everything in which two machines differ. */
function differences(a: Machine, b: Machine): readonly string[] {
  const found = [
    ...processorDifferences(a.state, b.state),
    ...stretchDifferences(a.state, b.state, differentStretches(a.state, b.state)),
  ];
  const all = found.map(({ name, values }) => `${name}: ${values.map((value) => value.toString(16)).join(', ')}`);
  const [x, y] = [a.rewindable.saveOutside(), b.rewindable.saveOutside()];
  return isDeepStrictEqual(x, y) ? all : [...all, 'devices'];
}

const withHistory = (machine: Machine, options?: HistoryOptions) => new History(machine.rewindable, options);

/** A machine of its own that was never anywhere but on the straight way to a place. */
function straightTo(boot: () => Machine, at: Position): Machine {
  const machine = boot();
  while (machine.rewindable.position.instructions < at.instructions) {
    machine.run(at.instructions - machine.rewindable.position.instructions);
  }
  while (before(machine.rewindable.position, at)) machine.step();
  assert.deepEqual(machine.rewindable.position, at);
  return machine;
}

describe('time travel', () => {
  it('takes checkpoints where repeating takes long by the clock of the host, and comes to the same states', () => {
    const machine = bootSample();
    let now = 0;
    let slow = false;
    // Each run takes as long as it takes to ask twice.
    const history = withHistory(machine, { clock: () => (now += slow ? 200 : 0) });
    history.run(100_000);
    assert.equal(history.usage.checkpoints, 1, 'quick stretches need none');
    slow = true;
    for (let i = 0; i < 10; i++) history.run(1000);
    const { checkpoints } = history.usage;
    assert.ok(checkpoints > 1 && checkpoints < 10, `${checkpoints}: fewer than runs, as taking one takes as long here`);
    assert.deepEqual(differences(machine, straightTo(bootSample, history.position)), []);
    history.goTo({ instructions: 105_500, events: 0 });
    assert.deepEqual(differences(machine, straightTo(bootSample, history.position)), []);
  });

  for (const seed of [1, 2]) {
    it(`leads through the sample to the same states, seed ${seed}`, () => {
      const random = randomNumbers(seed);
      const machine = bootSample();
      const history = withHistory(machine, { interval: 3000 });
      assert.equal(history.run(1_000_000).kind, 'debugExit');
      const end = history.position;
      for (let i = 0; i < 6; i++) {
        const at = { instructions: random(end.instructions + 1), events: 0 };
        history.goTo(at);
        const reached = history.position;
        assert.deepEqual(differences(machine, straightTo(bootSample, reached)), [], `at ${reached.instructions}`);
        const far = random(2000);
        for (let left = far; left > 0; left--) if (history.step().kind !== 'limit') break;
        assert.deepEqual(differences(machine, straightTo(bootSample, history.position)), [], `${far} further`);
      }
    });
  }

  it('steps back over every instruction and event that it stepped over', () => {
    const machine = bootSample();
    const history = withHistory(machine, { interval: 500 });
    history.run(9000);
    const places: Position[] = [];
    for (let i = 0; i < 60; i++) {
      places.push(history.position);
      history.step();
    }
    for (const place of places.reverse()) {
      assert.equal(history.stepBack(), true);
      assert.deepEqual(history.position, place);
    }
    assert.deepEqual(differences(machine, straightTo(bootSample, places.at(-1) as Position)), []);
    assert.ok(history.isInPast);
  });

  it('finds the last VM exit before a place, and then the one before that', () => {
    const machine = bootSample();
    const exits: number[] = [];
    machine.onVmExit = (exit) => {
      exits.push(exit.reason);
      return true;
    };
    const history = withHistory(machine, { interval: 2000 });
    for (let i = 0; i < 20; i++) assert.equal(history.run(1_000_000).kind, 'vmExit');
    const reasons = exits.slice(0, 20);
    for (const expected of reasons.slice(0, -1).reverse()) {
      const found = history.findBackwards((reason) => reason.kind === 'vmExit');
      assert.equal(found?.reason.kind === 'vmExit' ? found.reason.exit.reason : undefined, expected);
      assert.equal(machine.vmx.lastExit?.reason, expected);
    }
    assert.equal(
      history.findBackwards((reason) => reason.kind === 'vmExit'),
      undefined,
    );
    assert.deepEqual(history.position, history.start);
  });

  it('stays within its memory by giving up checkpoints, and still reaches every place', () => {
    // Dirties another page every few instructions, all over 2 MiB.
    const source = `
      mov ecx, 400000
    again: imul eax, ecx, 4096 * 7 + 4
      and eax, 0x1ffffc
      mov [eax + 0x200000], ecx
      loop again
      hlt`;
    const machine = bootCode(source);
    const history = withHistory(machine, { interval: 10_000, maxMemory: 12 << 20 });
    assert.equal(history.run(10_000_000).kind, 'halted');
    assert.ok(history.usage.checkpoints > 3);
    assert.ok(history.usage.bytes <= 12 << 20, `${history.usage.bytes} bytes`);
    for (const instructions of [1_500_000, 17, 777_777, 1_000_001]) {
      history.goTo({ instructions, events: 0 });
      assert.equal(history.position.instructions, instructions);
      const straight = straightTo(() => bootCode(source), history.position);
      assert.deepEqual(differences(machine, straight), []);
    }
  });

  it('finds a breakpoint again at whose place something came from outside', () => {
    const machine = bootCode('mov ecx, 1000\nagain: inc ebx\ndec ecx\njnz again\nhlt');
    const history = withHistory(machine);
    const again = 0x10_0005n;
    machine.setBreakpoints([{ address: again }]);
    const places: Position[] = [];
    for (let i = 0; i < 5; i++) {
      assert.equal(history.run(1_000_000).kind, 'breakpoint');
      places.push(history.position);
      history.apply({ kind: 'register', name: 'rdx', value: BigInt(i) });
    }
    for (const place of places.slice(0, -1).reverse()) {
      assert.equal(history.findBackwards(({ kind }) => kind === 'breakpoint')?.at.instructions, place.instructions);
    }
  });

  it('repeats input and what the debugger changed at their places, and forgets a future that did not happen', () => {
    // Adds up what comes on the serial port.
    const source = `
      xor ebx, ebx
      mov dx, 0x3fd
    again: inc ecx
      in al, dx
      test al, 1
      jz again
      mov dx, 0x3f8
      in al, dx
      movzx eax, al
      add ebx, eax
      mov dx, 0x3fd
      jmp again`;
    const machine = bootCode(source);
    const history = withHistory(machine, { interval: 1000 });
    const rbx = () => machine.state.get64('gpr', 3);
    history.run(5000);
    history.apply({ kind: 'input', bytes: Uint8Array.of(40) });
    history.run(5000);
    history.apply({ kind: 'register', name: 'rbx', value: 100n });
    history.run(5000);
    history.apply({ kind: 'input', bytes: Uint8Array.of(7) });
    history.run(5000);
    assert.equal(rbx(), 107n);
    const counted = machine.state.get64('gpr', 1);
    history.goTo({ instructions: 4000, events: 0 });
    assert.equal(rbx(), 0n);
    history.run(5900);
    assert.equal(rbx(), 40n);
    history.run(20_000 - history.position.instructions);
    assert.equal(rbx(), 107n);
    assert.equal(machine.state.get64('gpr', 1), counted);
    history.goTo({ instructions: 12_000, events: 0 });
    history.apply({ kind: 'input', bytes: Uint8Array.of(1) });
    assert.equal(history.isInPast, false);
    history.run(20_000);
    assert.equal(rbx(), 101n);
    assert.throws(() => history.goTo({ instructions: 40_000, events: 0 }), RangeError);
  });
});
