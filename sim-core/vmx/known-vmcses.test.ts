import assert from 'node:assert/strict';
import { GPR } from '../state/layout.ts';
import { ENCODING, VMCS_REGION } from './fields.ts';
import { KnownVmcses, vmcsInMemory } from './known-vmcses.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';

describe('VMCSs that a processor has worked with', () => {
  const inTwo = (): TestProcessor => {
    const processor = new TestProcessor();
    processor.enter({ GUEST_RIP: 0x1234n });
    processor.setGpr('r15', 0xfeed_0000_0000_beefn);
    processor.execute(CODE.cpuid);
    processor.setGpr('r15', 0n);
    processor.withPointer(CODE.vmclear, AT.otherVmcs);
    processor.withPointer(CODE.vmptrld, AT.otherVmcs);
    return processor;
  };

  it('keeps them in the order of VMPTRLD, with the registers that a guest had at its last VM exit', () => {
    const { vmx } = inTwo();
    assert.deepEqual(
      vmx.knownVmcses.map(({ pointer, registers }) => [pointer, registers?.[GPR.r15]]),
      [
        [AT.vmcs, 0xfeed_0000_0000_beefn],
        [AT.otherVmcs, undefined],
      ],
    );
  });

  it('reads the fields of one that is not current from its region', () => {
    const { physical, vmx } = inTwo();
    const access = vmcsInMemory(physical, AT.vmcs);
    assert.equal(access?.read(ENCODING.GUEST_RIP), 0x1234n);
    assert.equal(access?.read(ENCODING.EPT_POINTER), BigInt(AT.ept) | 0x1en);
    assert.equal(access?.read(ENCODING.EPT_POINTER | 1), 0n, 'the high half');
    assert.equal(access?.launchState, 'launched');
    assert.equal(vmx.launchState, 'clear');
  });

  it('takes no region that was given another use, and no shadow VMCS', () => {
    const { physical } = inTwo();
    physical.write(AT.vmcs + VMCS_REGION.revision, 4, physical.read(AT.vmcs, 4) | 0x8000_0000);
    assert.equal(vmcsInMemory(physical, AT.vmcs), undefined);
    physical.write(AT.vmcs, 4, 0);
    assert.equal(vmcsInMemory(physical, AT.vmcs), undefined);
    assert.equal(vmcsInMemory(physical, 0x7fff_f000), undefined, 'no memory there');
  });

  it('goes back to what it was', () => {
    const { vmx, state } = inTwo();
    const saved = vmx.snapshot();
    vmx.known.exited(state, AT.otherVmcs, 5);
    assert.notEqual(vmx.knownVmcses[1]?.registers, undefined);
    vmx.restore(saved);
    assert.deepEqual(vmx.snapshot(), saved);
  });

  it('forgets the oldest of very many', () => {
    const known = new KnownVmcses();
    for (let number = 1; number <= 1000; number++) known.loaded(4096 * number);
    assert.equal(known.list.length, 256);
    assert.equal(known.list.at(-1)?.pointer, 4096 * 1000);
  });
});
