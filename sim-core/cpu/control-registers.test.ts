import assert from 'node:assert/strict';
import { exception, generalProtection, VECTOR } from '../mmu/fault.ts';
import { MAPPING } from '../mmu/tlb.ts';
import { CODE_MODE, GPR, SEGMENT } from '../state/layout.ts';
import { AT, enter32, enter64, newCpu, run, SELECTOR, type TestCpu } from './test-cpu.ts';

/** mov cr, rax with this value in RAX. */
const MOV_CR = { 0: '0f 22 c0', 3: '0f 22 d8', 4: '0f 22 e0', 8: '44 0f 22 c0' } as const;
function movToCr(cpu: TestCpu, cr: 0 | 3 | 4 | 8, value: bigint) {
  cpu.state.set64('gpr', value, GPR.rax);
  return run(cpu, MOV_CR[cr]);
}

describe('MOV to control registers', () => {
  it('refuses combinations of CR0 that the manual forbids', () => {
    const cpu = enter32(newCpu());
    assert.deepEqual(movToCr(cpu, 0, 0x8000_0000n), generalProtection());
    assert.deepEqual(movToCr(cpu, 0, 0x2000_0011n), generalProtection());
    assert.equal(cpu.state.get64('cr0'), 0x11n);
    cpu.state.set32('cpl', 3);
    assert.deepEqual(movToCr(cpu, 0, 0x11n), generalProtection());
  });

  it('activates IA-32e mode with paging, and needs PAE for it', () => {
    const cpu = enter32(newCpu());
    cpu.state.set64('efer', 0x100n);
    assert.deepEqual(movToCr(cpu, 0, 0x8000_0011n), generalProtection());
    assert.equal(movToCr(cpu, 4, 0x20n), undefined);
    assert.equal(movToCr(cpu, 0, 0x8000_0011n), undefined);
    assert.equal(cpu.state.get64('efer'), 0x500n);
    assert.equal(cpu.state.get32('codeMode'), CODE_MODE.code32stack32);
    // CR4.PAE cannot be cleared now.
    assert.deepEqual(movToCr(cpu, 4, 0n), generalProtection());
    assert.equal(movToCr(cpu, 0, 0x11n), undefined);
    assert.equal(cpu.state.get64('efer'), 0x100n);
  });

  it('cannot turn paging off in 64-bit mode', () => {
    const cpu = enter64(newCpu());
    assert.deepEqual(movToCr(cpu, 0, 0x31n), generalProtection());
    assert.deepEqual(movToCr(cpu, 0, 0x1_0000_0000n | 0x8000_0031n), generalProtection());
  });

  it('loads PDPTEs with CR3 under PAE paging and refuses reserved bits in them', () => {
    const cpu = enter32(newCpu());
    cpu.mmu.physical.write64(0x8000, 0x9001n);
    assert.equal(movToCr(cpu, 3, 0x8000n), undefined);
    assert.equal(movToCr(cpu, 4, 0x20n), undefined);
    cpu.mmu.physical.write64(0x9000, 0x83n);
    assert.equal(movToCr(cpu, 0, 0x8000_0011n), undefined);
    assert.equal(cpu.state.get64('pdpte', 0), 0x9001n);
    cpu.mmu.physical.write64(0x8000, 0x9003n);
    assert.deepEqual(movToCr(cpu, 3, 0x8000n), generalProtection());
    assert.equal(cpu.state.get64('pdpte', 0), 0x9001n);
  });

  it('empties the TLB of the PCID unless bit 63 says otherwise', () => {
    const cpu = enter64(newCpu());
    const count = (): number => cpu.mmu.tlb.entries().filter(({ kind }) => kind === MAPPING.linear).length;
    assert.equal(movToCr(cpu, 4, 0x2_0220n), undefined);
    cpu.mmu.read(0x1000n, 1);
    assert.equal(count(), 1);
    assert.equal(movToCr(cpu, 3, BigInt(AT.tables) | (1n << 63n)), undefined);
    assert.equal(cpu.state.get64('cr3'), BigInt(AT.tables));
    assert.equal(count(), 1);
    assert.equal(movToCr(cpu, 3, BigInt(AT.tables)), undefined);
    assert.equal(count(), 0);
    assert.deepEqual(movToCr(cpu, 3, 1n << 40n), generalProtection());
  });

  it('refuses CR4 bits that the model lacks, and PCIDE with a PCID in CR3', () => {
    const cpu = enter64(newCpu());
    assert.deepEqual(movToCr(cpu, 4, 0x10_0220n), generalProtection());
    cpu.state.set64('cr3', BigInt(AT.tables) | 1n);
    assert.deepEqual(movToCr(cpu, 4, 0x2_0220n), generalProtection());
    const max = enter64(newCpu('max'));
    assert.equal(movToCr(max, 4, 0x10_0220n), undefined);
  });

  it('keeps the bits that VMX operation fixes', () => {
    const cpu = enter64(newCpu());
    assert.equal(movToCr(cpu, 4, 0x2220n), undefined);
    cpu.state.set32('vmxOn', 1);
    assert.deepEqual(movToCr(cpu, 4, 0x220n), generalProtection());
    assert.deepEqual(movToCr(cpu, 0, 0x8000_0011n), generalProtection());
  });

  it('CR8 is the task priority', () => {
    const cpu = enter64(newCpu());
    assert.equal(movToCr(cpu, 8, 5n), undefined);
    assert.equal(cpu.taskPriority, 5);
    assert.deepEqual(movToCr(cpu, 8, 16n), generalProtection());
  });

  it('asks VMX, after the privilege check', () => {
    const cpu = enter64(newCpu());
    cpu.state.set32('nonRoot', 1);
    cpu.exits = (query) => query.kind === 'writeCr' && query.cr === 3 && query.gpr === 0 && query.value === 0x9000n;
    assert.equal(movToCr(cpu, 3, 0x9000n)?.kind, 'vmExit');
    cpu.state.set32('cpl', 3);
    assert.deepEqual(movToCr(cpu, 3, 0x9000n), generalProtection());
  });

  it('LMSW sets PE but does not clear it; CLTS clears TS', () => {
    const cpu = enter32(newCpu());
    cpu.state.set64('gpr', 0xen, GPR.rax);
    assert.equal(run(cpu, '0f 01 f0'), undefined);
    assert.equal(cpu.state.get64('cr0'), 0x1fn);
    assert.equal(run(cpu, '0f 06'), undefined);
    assert.equal(cpu.state.get64('cr0'), 0x17n);
    assert.equal(run(cpu, '0f 01 e3'), undefined);
    assert.equal(cpu.state.get64('gpr', GPR.rbx), 0x17n);
  });
});

describe('MOV of debug and segment registers', () => {
  it('fixes the reserved bits of DR6 and DR7, and aliases DR4 unless CR4.DE', () => {
    const cpu = enter64(newCpu());
    cpu.state.set64('gpr', 0n, GPR.rax);
    assert.equal(run(cpu, '0f 23 f0'), undefined);
    assert.equal(run(cpu, '0f 23 f8'), undefined);
    assert.equal(cpu.state.get64('dr', 6), 0xffff_0ff0n);
    assert.equal(cpu.state.get64('dr', 7), 0x400n);
    assert.equal(run(cpu, '0f 21 e3'), undefined);
    assert.equal(cpu.state.get64('gpr', GPR.rbx), 0xffff_0ff0n);
    cpu.state.set64('cr4', cpu.state.get64('cr4') | 8n);
    assert.deepEqual(run(cpu, '0f 21 e3'), exception(VECTOR.ud));
  });

  it('raises #DB with BD for general detect', () => {
    const cpu = enter64(newCpu());
    cpu.state.set64('dr', 0x2400n, 7);
    assert.deepEqual(run(cpu, '0f 21 c0'), { kind: 'exception', vector: 1, debugStatus: 0x2000n });
  });

  it('loads data segments with the checks of privilege and type', () => {
    const cpu = enter32(newCpu(), 3);
    const load = (selector: number) => {
      cpu.state.set64('gpr', BigInt(selector), GPR.rax);
      return run(cpu, '8e d8');
    };
    assert.deepEqual(load(SELECTOR.data0 | 3), generalProtection(SELECTOR.data0));
    assert.deepEqual(load(SELECTOR.tss), generalProtection(SELECTOR.tss));
    assert.equal(load(SELECTOR.data3 | 3), undefined);
    assert.equal(load(0), undefined);
    assert.equal(cpu.state.get64('segmentReadTop', SEGMENT.ds), 0n);
    cpu.mmu.physical.write64(AT.gdt + 0x50, 0x0040_7200_1000_0fffn);
    assert.deepEqual(load(0x53), exception(VECTOR.np, 0x50));
    cpu.mmu.physical.write64(AT.gdt + 0x50, 0x0040_f200_1000_0fffn);
    assert.equal(load(0x53), undefined);
    assert.deepEqual(cpu.state.segment(SEGMENT.ds), { selector: 0x53, base: 0x1000n, limit: 0xfff, rights: 0x40f3 });
    assert.equal(cpu.state.get64('segmentWriteTop', SEGMENT.ds), 0x1000n);
    // The accessed flag is set in memory.
    assert.equal(cpu.mmu.physical.read(AT.gdt + 0x55, 1), 0xf3);
  });

  it('gives no fast limit to read-only writes, expand-down and execute-only segments', () => {
    const cpu = enter32(newCpu());
    const load = (low: bigint) => {
      cpu.mmu.physical.write64(AT.gdt + 0x50, low);
      cpu.state.set64('gpr', 0x50n, GPR.rax);
      assert.equal(run(cpu, '8e d8'), undefined);
      return [cpu.state.get64('segmentReadTop', SEGMENT.ds), cpu.state.get64('segmentWriteTop', SEGMENT.ds)];
    };
    assert.deepEqual(load(0x00cf_9000_0000_ffffn), [0x1_0000_0000n, 0n]);
    assert.deepEqual(load(0x00cf_9600_0000_ffffn), [0n, 0n]);
    assert.deepEqual(load(0x00c0_9a00_0000_00ffn), [0x10_0000n, 0n]);
  });

  it('needs CPL, RPL and DPL equal for SS, and blocks interrupts after loading it', () => {
    const cpu = enter32(newCpu());
    cpu.state.set64('gpr', BigInt(SELECTOR.data3 | 3), GPR.rax);
    assert.deepEqual(run(cpu, '8e d0'), generalProtection(SELECTOR.data3));
    cpu.state.set64('gpr', 0n, GPR.rax);
    assert.deepEqual(run(cpu, '8e d0'), generalProtection());
    cpu.state.set64('gpr', BigInt(SELECTOR.data0), GPR.rax);
    assert.equal(run(cpu, '8e d0'), undefined);
    assert.equal(cpu.state.get32('interruptibility'), 2);
  });

  it('pushes and pops segment registers', () => {
    const cpu = enter64(newCpu());
    assert.equal(run(cpu, '0f a8'), undefined);
    assert.equal(cpu.mmu.physical.read64(AT.stack - 8), BigInt(SELECTOR.data0));
    cpu.mmu.physical.write64(AT.stack - 8, BigInt(SELECTOR.data3 | 3));
    assert.equal(run(cpu, '0f a1'), undefined);
    assert.equal(cpu.state.segment(SEGMENT.fs).selector, SELECTOR.data3 | 3);
    assert.equal(cpu.state.get64('gpr', GPR.rsp), BigInt(AT.stack));
  });
});
