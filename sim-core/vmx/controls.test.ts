import assert from 'node:assert/strict';
import type { CpuModel } from '../cpu/cpu.ts';
import { findModel } from '../cpu/models.ts';
import { allowedSettings, CR0_FIXED, capabilityMsrs, MISC, VMCS_REVISION } from './capabilities.ts';
import { CONTROL_FIELDS, ENTRY_CONTROL, EXIT_CONTROL, fieldExists, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { EXIT, EXIT_GROUPS, EXIT_REASONS } from './exit-reasons.ts';
import { fieldOf, VMCS_FIELDS } from './fields.ts';

const model: CpuModel = findModel('westmere');
const msr = (index: number): bigint => {
  const value = capabilityMsrs(model).get(index);
  assert.ok(value !== undefined, `MSR ${index.toString(16)}`);
  return value;
};
const low = (value: bigint): number => Number(value & 0xffff_ffffn);
const high = (value: bigint): number => Number(value >> 32n);

describe('VMX controls', () => {
  it('have unique bits and names in each field', () => {
    for (const { field, bits } of CONTROL_FIELDS) {
      assert.equal(new Set(bits.map((row) => row.bit)).size, bits.length, field);
      assert.equal(new Set(bits.map((row) => row.name)).size, bits.length, field);
      assert.ok(bits.every((row) => row.bit < 8 * fieldOf(field).bytes));
    }
  });

  it('have the bit positions that Linux knows', () => {
    assert.deepEqual(
      [PIN.EXTERNAL_INTERRUPT_EXITING, PIN.NMI_EXITING, PIN.VIRTUAL_NMIS, PIN.ACTIVATE_VMX_PREEMPTION_TIMER],
      [0x01, 0x08, 0x20, 0x40],
    );
    assert.equal(PRIMARY.INTERRUPT_WINDOW_EXITING, 0x0000_0004);
    assert.equal(PRIMARY.USE_TSC_OFFSETTING, 0x0000_0008);
    assert.equal(PRIMARY.HLT_EXITING, 0x0000_0080);
    assert.equal(PRIMARY.CR3_LOAD_EXITING, 0x0000_8000);
    assert.equal(PRIMARY.CR8_STORE_EXITING, 0x0010_0000);
    assert.equal(PRIMARY.UNCONDITIONAL_IO_EXITING, 0x0100_0000);
    assert.equal(PRIMARY.USE_IO_BITMAPS, 0x0200_0000);
    assert.equal(PRIMARY.USE_MSR_BITMAPS, 0x1000_0000);
    assert.equal(PRIMARY.ACTIVATE_SECONDARY_CONTROLS, 0x8000_0000);
    assert.equal(SECONDARY.ENABLE_EPT, 0x02);
    assert.equal(SECONDARY.ENABLE_VPID, 0x20);
    assert.equal(SECONDARY.UNRESTRICTED_GUEST, 0x80);
    assert.equal(EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE, 0x200);
    assert.equal(EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT_ON_EXIT, 0x8000);
    assert.equal(EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER_VALUE, 0x40_0000);
    assert.equal(ENTRY_CONTROL.IA_32E_MODE_GUEST, 0x200);
    assert.equal(ENTRY_CONTROL.LOAD_IA32_EFER, 0x8000);
  });

  it('make fields exist only where a simulated control brings them', () => {
    assert.ok(fieldExists('EPT_POINTER'));
    assert.ok(fieldExists('GUEST_IA32_PAT'));
    assert.ok(fieldExists('GUEST_RIP'));
    assert.ok(fieldExists('TSC_MULTIPLIER'));
    assert.ok(!fieldExists('PCONFIG_EXITING_BITMAP'));
    assert.ok(!fieldExists('TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS'));
  });
});

describe('VMX capability MSRs', () => {
  it('describe region size, memory type, true controls in IA32_VMX_BASIC', () => {
    const basic = msr(0x480);
    assert.equal(low(basic), VMCS_REVISION);
    assert.equal(low(basic) >>> 31, 0);
    assert.equal((basic >> 32n) & 0x1fffn, 4096n);
    assert.equal((basic >> 50n) & 15n, 6n);
    assert.equal((basic >> 55n) & 1n, 1n);
    assert.equal((basic >> 48n) & 1n, 0n, 'addresses are not limited to 32 bits');
  });

  it('report the default1 classes of Appendix A, and what of them may be 0', () => {
    assert.equal(low(msr(0x481)), 0x0000_0016);
    assert.equal(low(msr(0x482)), 0x0401_e172);
    assert.equal(low(msr(0x483)), 0x0003_6dff);
    assert.equal(low(msr(0x484)), 0x0000_11ff);
    assert.equal(low(msr(0x48d)), 0x0000_0016);
    assert.equal(low(msr(0x48e)), 0x0400_6172);
    assert.equal(low(msr(0x48f)), 0x0003_6dfb);
    assert.equal(low(msr(0x490)), 0x0000_11fb);
    assert.equal(low(msr(0x48b)), 0);
  });

  it('never demand a bit that they forbid, and allow exactly what is simulated or default1', () => {
    for (const control of CONTROL_FIELDS.filter((row) => row.bits.some((bit) => bit.simulated))) {
      const value = msr(control.trueMsr ?? control.capabilityMsr);
      assert.equal(low(value) & ~high(value), 0);
      for (const row of control.bits) {
        const allowed = ((high(value) >>> row.bit) & 1) === 1;
        assert.equal(allowed, row.simulated || ((control.default1 >>> row.bit) & 1) === 1, row.title);
      }
    }
  });

  it('agree with what VM entry accepts', () => {
    const { mustBeOne, mayBeOne } = allowedSettings('VM_ENTRY_CONTROLS');
    assert.equal(low(msr(0x490)), mustBeOne);
    assert.equal(high(msr(0x490)), mayBeOne);
  });

  it('give CR0 and CR4 bits, the highest field index, EPT and VPID', () => {
    assert.equal(msr(0x486), 0x8000_0021n);
    assert.equal(msr(0x487), CR0_FIXED.mayBeOne);
    assert.equal(msr(0x488), 0x2000n);
    assert.equal(msr(0x489), BigInt(model.cr4Bits));
    const highest = Math.max(...VMCS_FIELDS.filter((f) => fieldExists(f.name)).map((f) => f.index));
    assert.equal(msr(0x48a), BigInt(highest << 1));
    // Execute-only, 4 levels, UC, WB, 2 MiB, 1 GiB, INVEPT 1 and 2, A/D; INVVPID 0 to 3.
    assert.equal(msr(0x48c), 0x0f01_0633_4141n);
  });

  it('report 4 CR3 targets, all activity states and LMA saving in IA32_VMX_MISC', () => {
    const misc = msr(0x485);
    assert.equal(misc & 0x1fn, BigInt(MISC.preemptionTimerShift));
    assert.equal((misc >> 5n) & 1n, 1n, 'unrestricted guest demands it');
    assert.equal((misc >> 6n) & 7n, 7n);
    assert.equal((misc >> 29n) & 1n, 1n, 'VMWRITE of any field');
    assert.equal((misc >> 16n) & 0x1ffn, 4n);
  });

  it('do not exist for controls that are not simulated', () => {
    assert.equal(msr(0x491), 1n, 'EPTP switching');
    for (const index of [0x492, 0x493]) assert.equal(capabilityMsrs(model).get(index), undefined);
  });
});

describe('VM-exit reasons', () => {
  it('have unique numbers and names and known groups', () => {
    assert.equal(new Set(EXIT_REASONS.map((row) => row.number)).size, EXIT_REASONS.length);
    assert.equal(new Set(EXIT_REASONS.map((row) => row.name)).size, EXIT_REASONS.length);
    assert.ok(EXIT_REASONS.every((row) => row.group in EXIT_GROUPS && row.documentation.endsWith('.')));
  });

  it('have the numbers of SDM Appendix C', () => {
    assert.deepEqual(
      [EXIT.EXCEPTION_OR_NMI, EXIT.TRIPLE_FAULT, EXIT.CPUID, EXIT.HLT, EXIT.VMCALL, EXIT.CR_ACCESS, EXIT.RDMSR],
      [0, 2, 10, 12, 18, 28, 31],
    );
    assert.deepEqual(
      [EXIT.ENTRY_FAILURE_DUE_TO_GUEST_STATE, EXIT.EPT_VIOLATION, EXIT.EPT_MISCONFIGURATION, EXIT.XSETBV],
      [33, 48, 49, 55],
    );
    const undefinedReasons = [35, 38, 42, 71, 82, 83];
    assert.ok(undefinedReasons.every((number) => EXIT_REASONS.every((row) => row.number !== number)));
  });
});
