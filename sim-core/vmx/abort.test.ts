import assert from 'node:assert/strict';
import { ACTIVITY } from '../state/layout.ts';
import { VMX_ABORT } from './abort.ts';
import { ENTRY_CONTROL, EXIT_CONTROL } from './controls.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

const base = vmcsWith({});
const NARROW_HOST: FieldChanges = {
  PRIMARY_VM_EXIT_CONTROLS: base.PRIMARY_VM_EXIT_CONTROLS & ~EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE,
};
const GUEST32: FieldChanges = {
  VM_ENTRY_CONTROLS: base.VM_ENTRY_CONTROLS & ~ENTRY_CONTROL.IA_32E_MODE_GUEST,
  GUEST_IA32_EFER: 0n,
  GUEST_CR4: 0x2000n,
  GUEST_CS_ACCESS_RIGHTS: 0xc09b,
};
/** An MSR that does not exist. */
const NO_MSR = 0x1234_5678n;

interface Case {
  readonly enter?: FieldChanges;
  readonly before?: (processor: TestProcessor) => void;
  /** What the debugger changes while the guest runs, where no VM entry would accept it. */
  readonly inGuest?: FieldChanges;
  readonly explanation: RegExp;
}

const CASES: { readonly [Name in keyof typeof VMX_ABORT]: Case } = {
  savingGuestMsrs: {
    enter: { VM_EXIT_MSR_STORE_COUNT: 1, VM_EXIT_MSR_STORE_ADDRESS: BigInt(AT.msrList) },
    before: (processor) => processor.physical.write64(AT.msrList, NO_MSR),
    explanation: /guest MSR could not be saved: Entry 1 of the list \(MSR 0x12345678\)/,
  },
  hostPdptes: {
    enter: GUEST32,
    // PAE paging, and bit 1 of the first PDPTE, which is reserved.
    before: (processor) => processor.physical.write64(AT.otherVmcs, 3n),
    inGuest: { ...NARROW_HOST, HOST_CR3: BigInt(AT.otherVmcs), HOST_IA32_EFER: 0n },
    explanation: /PDPTEs at HOST_CR3/,
  },
  loadingHostMsrs: {
    enter: { VM_EXIT_MSR_LOAD_COUNT: 1, VM_EXIT_MSR_LOAD_ADDRESS: BigInt(AT.msrList) },
    before: (processor) => processor.physical.write64(AT.msrList, NO_MSR),
    explanation: /host MSR could not be loaded: Entry 1 of the list/,
  },
  hostNot64Bit: { inGuest: NARROW_HOST, explanation: /IA-32e mode/ },
};

describe('VMX aborts', () => {
  for (const [name, { enter, before, inGuest, explanation }] of Object.entries(CASES)) {
    const [indicator] = VMX_ABORT[name as keyof typeof VMX_ABORT];
    it(`${indicator} (${name}) is in the VMCS region; nothing but a reset wakes the processor`, () => {
      const processor = new TestProcessor();
      before?.(processor);
      processor.enter(enter);
      processor.change(inGuest ?? {});
      processor.execute(CODE.cpuid);
      assert.equal(processor.physical.read(AT.vmcs + 4, 4), indicator);
      assert.equal(processor.aborts.length, 1);
      assert.equal(processor.aborts[0]?.indicator, indicator);
      assert.match(processor.aborts[0]?.explanation ?? '', explanation);
      assert.deepEqual(processor.exits, [], 'the VM exit is not complete');
      assert.equal(processor.state.get32('activity'), ACTIVITY.vmxAbort);
      processor.state.set32('nmiRequest', 1);
      processor.state.set32('interruptRequest', 1);
      assert.equal(processor.boundary(), undefined);
    });
  }

  it('have the indicators of the manual', () => {
    const indicators = Object.values(VMX_ABORT).map(([indicator]) => indicator);
    assert.deepEqual(indicators, [1, 2, 4, 6]);
  });
});
