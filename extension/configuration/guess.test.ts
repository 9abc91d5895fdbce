import assert from 'node:assert/strict';
import { bootable, type FoundImage, guessConfigurations } from './guess.ts';
import { inWorkspaceFolder } from './paths.ts';

const found = (name: string, role: 'bare' | 'hosted' | 'object' = 'bare', multiboot?: 1): FoundImage => ({
  path: inWorkspaceFolder(name),
  name,
  image: { kind: 'elf', bits: 64, multiboot, role },
});

describe('guessed launch configurations', () => {
  it('boot the hypervisor with the guest beside it, as a multiboot module and for symbols', () => {
    assert.deepEqual(guessConfigurations([found('build/guest.elf'), found('build/vmm.elf', 'bare', 1)]), [
      {
        type: 'vmxray',
        request: 'launch',
        name: 'VMXray: build/vmm.elf',
        program: inWorkspaceFolder('build/vmm.elf'),
        modules: [inWorkspaceFolder('build/guest.elf')],
        guests: [{ name: 'guest', program: inWorkspaceFolder('build/guest.elf') }],
        stopOn: 'entry',
      },
    ]);
  });

  it('do not mix the guests of two samples', () => {
    const guesses = guessConfigurations([found('a/vmm.elf'), found('a/guest.elf'), found('b/vmm.elf')]);
    assert.deepEqual(
      guesses.map(({ name, guests }) => [name, guests?.length ?? 0]),
      [
        ['VMXray: a/vmm.elf', 1],
        ['VMXray: b/vmm.elf', 0],
      ],
    );
  });

  it('leave out programs of the operating system and object files', () => {
    assert.deepEqual(guessConfigurations([found('tool', 'hosted'), found('main.elf', 'object')]), []);
  });

  it('boot a guest when there is nothing else', () => {
    assert.deepEqual(guessConfigurations([found('guest.elf')])[0]?.program, inWorkspaceFolder('guest.elf'));
  });

  it('put names of hypervisors before multiboot headers before the alphabet', () => {
    const order = bootable([found('b.elf'), found('a.elf'), found('c.elf', 'bare', 1), found('vmm.elf')]);
    assert.deepEqual(
      order.map(({ name }) => name),
      ['vmm.elf', 'c.elf', 'a.elf', 'b.elf'],
    );
  });
});
