/** Several processors: the same run is the same run, however it is executed and looked at. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Machine } from '../../sim-core/machine/api.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { MACHINE_REGISTERS } from '../../sim-core/machine/registers.ts';

import { assemble as assembleFlat } from '../support/nasm.ts';
import { assemble, KERNELS, type Kernel } from './kernels.ts';

const RAM = 16 * 2 ** 20;
const LIMIT = 20_000_000;
const kernel = KERNELS.find(({ name }) => name === 'smp') as Kernel;

function boot(image: Uint8Array, compile: boolean, quantum = 20_000): Machine {
  const machine = createMachine({ memory: RAM, cpus: 4, compile, quantum });
  machine.boot({ name: kernel.name, image, commandLine: '', modules: [] });
  return machine;
}

/** Starts all others by INIT and a start-up IPI; each counts in its doubleword of a table, by its APIC ID. */
const startAll = (table: number): Uint8Array =>
  assembleFlat(`
        bits    32
        org     0x100000
        mov     esi, others
        mov     edi, 0x8000
        mov     ecx, end - others
        rep     movsb
        mov     edi, ${table}
        mov     ecx, 16
        xor     eax, eax
        rep     stosd
        mov     dword [0xfee000f0], 0x1ff
        mov     dword [0xfee00300], 0xc4500
        mov     dword [0xfee00300], 0xc4608
        mov     ebx, ${table}
count:  inc     dword [ebx]
        jmp     count
others: bits    16
        mov     eax, 1
        cpuid
        shr     ebx, 24
        shl     bx, 2
        add     bx, ${table}
.count: inc     dword [bx]
        jmp     .count
end:`);

const TIMER = 0x20;

/**
 * Starts all others, which halt until their own timers interrupt. Each counts in the doubleword at 9000h + 4 × APIC ID.
 * @param spin what the first processor does again and again @param period ticks of the timer, one for each cycle
 */
const timedOthers = (spin: string, period: number): Uint8Array =>
  assembleFlat(`
        bits    32
        org     0x100000
        mov     esi, others
        mov     edi, 0x8000
        mov     ecx, end - others
        rep     movsb
        mov     edi, 0x9000
        mov     ecx, 16
        xor     eax, eax
        rep     stosd
        mov     dword [4 * ${TIMER}], 0x8000 + handler - others
        mov     dword [0xfee000f0], 0x1ff
        mov     dword [0xfee00300], 0xc4500
        mov     dword [0xfee00300], 0xc4608
again:  inc     ebx
        ${spin}
        jmp     again
        bits    16
others: mov     esp, 0x7000
        mov     ecx, 0x1b
        rdmsr
        or      ah, 0x0c
        wrmsr
        xor     edx, edx
        mov     ecx, 0x80f
        mov     eax, 0x1ff
        wrmsr
        mov     ecx, 0x83e
        mov     eax, 0x0b
        wrmsr
        mov     ecx, 0x832
        mov     eax, 0x20000 + ${TIMER}
        wrmsr
        mov     ecx, 0x838
        mov     eax, ${period}
        wrmsr
        sti
.wait:  hlt
        jmp     .wait
handler:
        mov     ecx, 0x802
        rdmsr
        lea     ebx, [4 * eax + 0x9000]
        inc     dword [bx]
        mov     ecx, 0x80b
        xor     eax, eax
        xor     edx, edx
        wrmsr
        iret
end:`);

/** Time, every processor's registers, and memory. */
function describeState(machine: Machine): readonly string[] {
  const memory = createHash('sha256').update(machine.physical.peek(0, RAM)).digest('hex');
  const registers = machine.processors.map(({ number, activity }) => {
    machine.select(number);
    return `${number} ${activity} ${MACHINE_REGISTERS.map(({ name, read }) => `${name}=${read(machine.state)}`)}`;
  });
  return [`${machine.instructions} instructions, ${machine.cycles} cycles`, ...registers, memory];
}

describe('several processors', function () {
  this.timeout(60_000);
  const image = assemble(kernel);

  it('come to the same state in every run, compiled and interpreted', () => {
    const states = [true, true, false].map((compile) => {
      const machine = boot(image, compile);
      assert.deepEqual(machine.run(LIMIT), { kind: 'debugExit', value: 0 });
      return describeState(machine);
    });
    assert.deepEqual(states[1], states[0]);
    assert.deepEqual(states[2], states[0]);
  });

  it('do so when a debugger looks at one after the other', () => {
    const [undisturbed, watched] = [boot(image, true), boot(image, true)];
    for (let i = 0; i < 50; i++) {
      undisturbed.run(10_007);
      watched.run(10_007);
      for (const { number } of watched.processors) watched.select(number);
    }
    assert.deepEqual(describeState(watched), describeState(undisturbed));
  });

  it('interleave otherwise with another quantum, and come to the same end', () => {
    const machine = boot(image, true, 777);
    assert.deepEqual(machine.run(LIMIT), { kind: 'debugExit', value: 0 });
  });

  it('are stepped one at a time, while the others take their turns', () => {
    const machine = boot(image, true);
    machine.run(200_000);
    machine.select(2);
    for (let i = 0; i < 20; i++) {
      const before = machine.processors[2]?.rip;
      assert.deepEqual([machine.step().kind, machine.selected], ['limit', 2]);
      assert.notEqual(machine.processors[2]?.rip, before);
    }
  });

  describe('that wait for their timers', () => {
    const PERIOD = 30_011;
    const start = (spin: string, compile = true, period = PERIOD): Machine => {
      const machine = createMachine({ memory: RAM, cpus: 4, compile });
      machine.boot({ name: 'timed', image: timedOthers(spin, period), commandLine: '', modules: [], format: 'flat' });
      return machine;
    };
    const counts = (machine: Machine): number[] => [1, 2, 3].map((id) => machine.physical.read(0x9000 + 4 * id, 4));

    for (const spin of ['pause', 'nop']) {
      it(`come in time beside one that spins (${spin}), however the run is cut into pieces`, () => {
        const [whole, pieces, interpreted] = [start(spin), start(spin), start(spin, false)];
        for (const machine of [whole, interpreted]) machine.run(1_000_000);
        for (let left = 1_000_000; left > 0; left -= 997) {
          pieces.run(Math.min(left, 997));
          for (const { number } of pieces.processors) pieces.select(number);
        }
        // A processor that spins keeps the turn for 20,000 cycles; a period is longer.
        const periods = Math.floor(whole.cycles / PERIOD);
        for (const count of counts(whole))
          assert.ok(count >= periods - 2 && count <= periods, `${count} of ${periods}`);
        for (const machine of [pieces, interpreted]) assert.deepEqual(describeState(machine), describeState(whole));
      });
    }

    it('interrupt nothing while they wait', () => {
      const machine = start('nop', true, 100_000_000);
      machine.run(100_000);
      let boundaries = 0;
      machine.onSample = () => {
        boundaries++;
      };
      machine.run(1_000_000);
      // 50,000 instructions at once while somebody is to be asked; turns are of 20,000.
      assert.ok(boundaries <= 1_000_000 / 50_000 + 2, `${boundaries} boundaries`);
    });
  });

  it('all run when there are 16, and each takes its turn', () => {
    const table = 0x9000;
    const machine = createMachine({ memory: RAM, cpus: 16, quantum: 1000 });
    machine.boot({ name: 'many', image: startAll(table), commandLine: '', modules: [], format: 'flat' });
    machine.run(2_000_000);
    const counts = Array.from({ length: 16 }, (_, number) => machine.physical.read(table + 4 * number, 4));
    const [least, most] = [Math.min(...counts), Math.max(...counts)];
    assert.ok(least > 20_000 && most - least <= most / 4, counts.join());
    assert.deepEqual(
      machine.processors.map(({ activity }) => activity),
      Array(16).fill('active'),
    );
  });

  it('are as many as a machine may have, or none is built', () => {
    assert.equal(createMachine({ memory: RAM, cpus: 16 }).processors.length, 16);
    for (const cpus of [0, 17, 1.5]) assert.throws(() => createMachine({ memory: RAM, cpus }), RangeError);
  });
});
