import assert from 'node:assert/strict';
import { assemble } from '../../../test/support/nasm.ts';
import { createMachine } from '../machine.ts';
import { stateHash } from './state-hash.ts';

describe('the hash of a machine', () => {
  it('is the same when it is taken again, while a performance counter counts', () => {
    const machine = createMachine({ memory: 1 << 22, cpus: 2 });
    // IA32_FIXED_CTR_CTRL: counter 0 in ring 0; IA32_PERF_GLOBAL_CTRL: bit 32 enables it (SDM Vol. 4, table 2-2).
    const source = `
      bits 32
      org 0x100000
      mov ecx, 0x38d
      mov eax, 1
      xor edx, edx
      wrmsr
      mov ecx, 0x38f
      xor eax, eax
      mov edx, 1
      wrmsr
      jmp $`;
    machine.boot({ name: 'counting', image: assemble(source), commandLine: '', modules: [], format: 'flat' });
    machine.run(5000);
    const first = stateHash(machine);
    assert.equal(stateHash(machine), first);
    machine.select(1);
    machine.select(0);
    assert.equal(stateHash(machine), first);
  });
});
