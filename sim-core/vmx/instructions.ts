/** The VMX instructions (SDM Vol. 3C, "VMX Instruction Reference"). */

import { Mnemonic } from 'iced-x86';
import { NEXT, type Next, type SlowInstruction, type SlowInstructionTable } from '../cpu/cpu.ts';
import { operandDisplacement, operandInformation } from '../cpu/instruction-information.ts';
import { in64BitMode, inLongMode, inProtectedMode, inVirtual8086, isCanonicalForModel } from '../cpu/modes.ts';
import { readMemoryOperand, readOperand, writeMemoryOperand, writeOperand } from '../cpu/operands.ts';
import { writeStatusFlags } from '../cpu/rflags.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import { type Fault, generalProtection, undefinedOpcode, type VmExitFault } from '../mmu/fault.ts';
import { MAPPING } from '../mmu/tlb.ts';
import { BLOCKING, CR4, RFLAGS } from '../state/control-bits.ts';
import { GPR } from '../state/layout.ts';
import { CR0_FIXED, cr4Fixed, MISC, VM_FUNCTION } from './capabilities.ts';
import { fieldExists, SECONDARY } from './controls.ts';
import { enterGuest } from './entry.ts';
import { secondaryControls } from './exit.ts';
import { EXIT, exitTitle } from './exit-reasons.ts';
import { FIELD_OFFSET as F, fieldByEncoding } from './fields.ts';
import { fieldStore, shadowExitCause } from './shadow-vmcs.ts';
import type { VmxUnit } from './unit.ts';
import { NO_VMCS } from './vmcs.ts';

/** VM-instruction error numbers (SDM Vol. 3C, "VM Instruction Error Numbers"). */
const ERROR = {
  vmcallInRoot: 1,
  vmclearAddress: 2,
  vmclearVmxon: 3,
  vmlaunchNotClear: 4,
  vmresumeNotLaunched: 5,
  vmptrldAddress: 9,
  vmptrldVmxon: 10,
  vmptrldRevision: 11,
  unsupportedField: 12,
  readOnlyField: 13,
  vmxonInRoot: 15,
  blockedByMovSs: 26,
  invalidationOperand: 28,
} as const;

type Outcome = Next | Fault;
type Body = (unit: VmxUnit, instruction: DecodedInstruction) => Outcome;

function vmSucceed({ state }: VmxUnit): Next {
  writeStatusFlags(state, 0);
  return NEXT.sequential;
}
function vmFailInvalid({ state }: VmxUnit): Next {
  writeStatusFlags(state, RFLAGS.cf);
  return NEXT.sequential;
}
/** VMfail: VMfailValid with the error number when there is a current VMCS, else VMfailInvalid. */
function vmFail(unit: VmxUnit, error: number): Next {
  if (!unit.vmcs.exists) return vmFailInvalid(unit);
  writeStatusFlags(unit.state, RFLAGS.zf);
  unit.vmcs.set32(F.VM_INSTRUCTION_ERROR, error);
  return NEXT.sequential;
}

const isFault = (value: bigint | Fault): value is Fault => typeof value === 'object';

/** Modes in which no VMX instruction exists. */
const isWrongMode = ({ state }: VmxUnit): boolean =>
  !inProtectedMode(state) || inVirtual8086(state) || (inLongMode(state) && !in64BitMode(state));

/** Whether an address can be that of a VMCS or VMXON region. */
const isRegionAddress = (unit: VmxUnit, address: bigint): boolean =>
  (address & 0xfffn) === 0n && address >> BigInt(unit.facts.physicalAddressBits) === 0n;

/** The VM exit of a VMX instruction in the guest. */
function guestExit(
  unit: VmxUnit,
  instruction: DecodedInstruction,
  reason: number,
  form: Form,
  cause = `${exitTitle(reason)} always causes a VM exit`,
): VmExitFault {
  const exit: VmExitFault = {
    kind: 'vmExit',
    reason,
    qualification: 0n,
    cause,
  };
  if (form === 'none') return exit;
  const rm = form === 'rmSecond' ? 1 : 0;
  const reg = form === 'memory' ? undefined : instruction.operands[1 - rm];
  const reg2 = reg?.kind === 'register' ? (REGISTERS.get(reg.register)?.number ?? 0) << 28 : 0;
  return {
    ...exit,
    qualification: operandDisplacement(instruction, rm, unit.state.get64('rip')),
    instructionInformation: (operandInformation(instruction, rm) | reg2) >>> 0,
  };
}

/** Where the ModRM.rm operand is, for the instruction information. */
type Form = 'none' | 'memory' | 'rmFirst' | 'rmSecond';

/** #UD outside VMX operation and in wrong modes, a VM exit in the guest, #GP(0) above CPL 0; then the body. */
const guarded =
  (reason: number, form: Form, body: Body): Body =>
  (unit, instruction) => {
    const { state } = unit;
    if (state.get32('vmxOn') === 0 || isWrongMode(unit)) return undefinedOpcode();
    if (state.get32('nonRoot') !== 0) return guestExit(unit, instruction, reason, form);
    return state.get32('cpl') > 0 ? generalProtection() : body(unit, instruction);
  };

/** As `guarded`, but the controls let VMREAD and VMWRITE use a shadow VMCS in the guest. */
const shadowable =
  (
    reason: number,
    form: 'rmFirst' | 'rmSecond',
    bitmap: 'VMREAD_BITMAP_ADDRESS' | 'VMWRITE_BITMAP_ADDRESS',
    body: Body,
  ): Body =>
  (unit, instruction) => {
    const { state, cpu } = unit;
    if (state.get32('vmxOn') === 0 || isWrongMode(unit)) return undefinedOpcode();
    if (state.get32('nonRoot') !== 0) {
      // The encoding is the operand that is not ModRM.rm, always a register.
      const encoding = readOperand(cpu, instruction, form === 'rmFirst' ? 1 : 0);
      if (isFault(encoding)) return encoding;
      const cause = shadowExitCause(unit, encoding, bitmap);
      if (cause !== undefined) return guestExit(unit, instruction, reason, form, cause);
    }
    return state.get32('cpl') > 0 ? generalProtection() : body(unit, instruction);
  };

// ---- VMX operation

const FEATURE_CONTROL = { lock: 1, outsideSmx: 4 } as const;

function vmxon(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const { state, cpu } = unit;
  if (isWrongMode(unit) || (state.low('cr4') & CR4.vmxe) === 0) return undefinedOpcode();
  if (state.get32('vmxOn') !== 0) return vmxonAgain(unit, instruction);
  const allowed = FEATURE_CONTROL.lock | FEATURE_CONTROL.outsideSmx;
  const mayTurnOn = (state.low('msrFeatureControl') & allowed) === allowed;
  if (state.get32('cpl') > 0 || !mayTurnOn || !hasFixedBits(unit)) return generalProtection();
  const pointer = readMemoryOperand(cpu, instruction, 0, 8);
  if (isFault(pointer)) return pointer;
  if (!isRegionAddress(unit, pointer) || !unit.vmcs.hasRevision(pointer)) return vmFailInvalid(unit);
  state.set32('vmxOn', 1);
  state.set64('vmxonPointer', pointer);
  state.set64('vmcsPointer', NO_VMCS);
  return vmSucceed(unit);
}

function vmxonAgain(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  if (unit.state.get32('nonRoot') !== 0) return guestExit(unit, instruction, EXIT.VMXON, 'memory');
  return unit.state.get32('cpl') > 0 ? generalProtection() : vmFail(unit, ERROR.vmxonInRoot);
}

function hasFixedBits({ state, cpu }: VmxUnit): boolean {
  const cr4 = cr4Fixed(cpu.model);
  const missing = (CR0_FIXED.mustBeOne & ~state.get64('cr0')) | (cr4.mustBeOne & ~state.get64('cr4'));
  return missing === 0n;
}

function vmxoff(unit: VmxUnit): Outcome {
  unit.vmcs.forget();
  unit.state.set32('vmxOn', 0);
  unit.state.set64('vmxonPointer', NO_VMCS);
  // VMX operation has blocked INIT signals until now.
  if (unit.state.get32('initRequest') !== 0) unit.state.set32('attention', 1);
  return vmSucceed(unit);
}

// ---- the current VMCS

function vmclear(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const pointer = readMemoryOperand(unit.cpu, instruction, 0, 8);
  if (isFault(pointer)) return pointer;
  if (!isRegionAddress(unit, pointer)) return vmFail(unit, ERROR.vmclearAddress);
  if (pointer === unit.state.get64('vmxonPointer')) return vmFail(unit, ERROR.vmclearVmxon);
  unit.vmcs.clear(pointer);
  return vmSucceed(unit);
}

function vmptrld(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const pointer = readMemoryOperand(unit.cpu, instruction, 0, 8);
  if (isFault(pointer)) return pointer;
  if (!isRegionAddress(unit, pointer)) return vmFail(unit, ERROR.vmptrldAddress);
  if (pointer === unit.state.get64('vmxonPointer')) return vmFail(unit, ERROR.vmptrldVmxon);
  if (!unit.vmcs.hasRevision(pointer, true)) return vmFail(unit, ERROR.vmptrldRevision);
  unit.vmcs.load(pointer);
  unit.known.loaded(Number(pointer));
  return vmSucceed(unit);
}

function vmptrst(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  return writeMemoryOperand(unit.cpu, instruction, 0, 8, unit.vmcs.pointer) ?? vmSucceed(unit);
}

/** The field that an encoding operand names, if this machine has it. Bits 63:32 must be 0. */
function existingField(encoding: bigint) {
  const found = encoding >> 32n === 0n ? fieldByEncoding(Number(encoding)) : undefined;
  return found && fieldExists(found.field.name) ? found : undefined;
}

function vmread(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const store = fieldStore(unit);
  if (!store) return vmFailInvalid(unit);
  const encoding = readOperand(unit.cpu, instruction, 1);
  if (isFault(encoding)) return encoding;
  const found = existingField(encoding);
  if (!found) return vmFail(unit, ERROR.unsupportedField);
  const whole = store.get64(found.field.offset);
  const value = found.high ? whole >> 32n : whole;
  const bits = in64BitMode(unit.state) ? 64 : 32;
  return writeOperand(unit.cpu, instruction, 0, BigInt.asUintN(bits, value)) ?? vmSucceed(unit);
}

function vmwrite(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const store = fieldStore(unit);
  if (!store) return vmFailInvalid(unit);
  const value = readOperand(unit.cpu, instruction, 1);
  if (isFault(value)) return value;
  const encoding = readOperand(unit.cpu, instruction, 0);
  if (isFault(encoding)) return encoding;
  const found = existingField(encoding);
  if (!found) return vmFail(unit, ERROR.unsupportedField);
  const { field, high } = found;
  if (field.area === 'readOnly' && !MISC.vmwriteAnyField) return vmFail(unit, ERROR.readOnlyField);
  const low = Number(value & 0xffff_ffffn);
  if (high) store.setHalves(field.offset, Number(store.get64(field.offset) & 0xffff_ffffn), low);
  else if (field.bytes === 8) store.setHalves(field.offset, low, Number(value >> 32n));
  else store.setHalves(field.offset, field.bytes === 2 ? low & 0xffff : low, 0);
  return vmSucceed(unit);
}

// ---- VM entry

const vmEntry =
  (launch: boolean): Body =>
  (unit) => {
    const { vmcs, state } = unit;
    if (!vmcs.exists || vmcs.isShadow) return vmFailInvalid(unit);
    if (state.get32('interruptibility') & BLOCKING.byMovSs) return vmFail(unit, ERROR.blockedByMovSs);
    if (launch && vmcs.launchState !== 'clear') return vmFail(unit, ERROR.vmlaunchNotClear);
    if (!launch && vmcs.launchState !== 'launched') return vmFail(unit, ERROR.vmresumeNotLaunched);
    const outcome = enterGuest(unit, launch);
    return typeof outcome === 'object' && 'vmFail' in outcome ? vmFail(unit, outcome.vmFail) : outcome;
  };

// ---- cached translations

const INVEPT_TYPE = { singleContext: 1n, allContext: 2n } as const;
const INVVPID_TYPE = { address: 0n, singleContext: 1n, allContext: 2n, singleContextKeepGlobal: 3n } as const;
const EPT_KINDS = [MAPPING.guestPhysical, MAPPING.combined];
const VPID_KINDS = [MAPPING.linear, MAPPING.combined];

/** The type and the two halves of the descriptor. */
function invalidationOperands(unit: VmxUnit, instruction: DecodedInstruction) {
  const type = readOperand(unit.cpu, instruction, 0);
  if (isFault(type)) return type;
  const low = readMemoryOperand(unit.cpu, instruction, 1, 8);
  if (isFault(low)) return low;
  const high = readMemoryOperand(unit.cpu, instruction, 1, 8, 8n);
  return isFault(high) ? high : { type, low, high };
}

/** An EPT pointer that VM entry would accept. */
const isEptPointer = (unit: VmxUnit, eptp: bigint): boolean =>
  [0n, 6n].includes(eptp & 7n) &&
  unit.facts.eptLevels.includes(Number((eptp >> 3n) & 7n) + 1) &&
  ((eptp >> 7n) & 0x1fn) === 0n &&
  eptp >> BigInt(unit.facts.physicalAddressBits) === 0n;

function invept(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const operands = invalidationOperands(unit, instruction);
  if ('kind' in operands) return operands;
  const { type, low } = operands;
  const { tlb } = unit.cpu.mmu;
  if (type === INVEPT_TYPE.allContext) tlb.invalidate({ kinds: EPT_KINDS });
  else if (type === INVEPT_TYPE.singleContext && isEptPointer(unit, low)) {
    tlb.invalidate({ kinds: EPT_KINDS, eptRoot: Number(low & ~0xfffn) });
  } else return vmFail(unit, ERROR.invalidationOperand);
  return vmSucceed(unit);
}

function invvpid(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const operands = invalidationOperands(unit, instruction);
  if ('kind' in operands) return operands;
  const { type, low, high } = operands;
  const vpid = Number(low & 0xffffn);
  const wrongVpid = low >> 16n !== 0n || (vpid === 0 && type !== INVVPID_TYPE.allContext);
  const wrongAddress = type === INVVPID_TYPE.address && !isCanonicalForModel(unit.cpu, high);
  if (type > INVVPID_TYPE.singleContextKeepGlobal || wrongVpid || wrongAddress) {
    return vmFail(unit, ERROR.invalidationOperand);
  }
  const { tlb } = unit.cpu.mmu;
  if (type === INVVPID_TYPE.allContext) {
    // The manual allows mappings of VPID 0, the host's, to go as well.
    tlb.invalidate({ kinds: VPID_KINDS });
  } else if (type === INVVPID_TYPE.address) tlb.invalidate({ kinds: VPID_KINDS, vpid, linear: high });
  else tlb.invalidate({ kinds: VPID_KINDS, vpid, keepGlobal: type === INVVPID_TYPE.singleContextKeepGlobal });
  return vmSucceed(unit);
}

/** VMCALL in root operation calls no SMM monitor: there is none. */
const vmcall: Body = (unit) => vmFail(unit, ERROR.vmcallInRoot);

/** Entries of the EPTP list. */
const EPT_POINTERS = 512n;

/** VMFUNC, which only a guest can execute, at any privilege (SDM Vol. 3C, "VM Functions"). */
function vmfunc(unit: VmxUnit, instruction: DecodedInstruction): Outcome {
  const { state, vmcs, cpu } = unit;
  const enabled = (secondaryControls(vmcs) & SECONDARY.ENABLE_VM_FUNCTIONS) !== 0;
  if (state.get32('nonRoot') === 0 || !enabled) return undefinedOpcode();
  const leave = (cause: string) => guestExit(unit, instruction, EXIT.VMFUNC, 'none', cause);
  const leaf = state.low('gpr', GPR.rax);
  const supported = leaf === VM_FUNCTION.eptpSwitching;
  if (!supported || ((vmcs.get64(F.VM_FUNCTION_CONTROLS) >> BigInt(leaf)) & 1n) === 0n) {
    return leave(`VM function ${leaf} is not enabled in VM_FUNCTION_CONTROLS`);
  }
  const index = BigInt(state.low('gpr', GPR.rcx));
  if (index >= EPT_POINTERS) return leave(`entry ${index} is beyond the EPTP list’s ${EPT_POINTERS}`);
  const pointer = cpu.mmu.physical.read64(Number(vmcs.get64(F.EPTP_LIST_ADDRESS) + 8n * index));
  if (!isEptPointer(unit, pointer))
    return leave(`entry ${index} of the EPTP list, 0x${pointer.toString(16)}, is invalid`);
  vmcs.set64(F.EPT_POINTER, pointer);
  vmcs.set32(F.EPTP_INDEX, Number(index));
  state.set64('eptp', pointer);
  cpu.mmu.updateContext();
  return NEXT.sequential;
}

const BODIES: readonly (readonly [Mnemonic, Body])[] = [
  [Mnemonic.Vmxon, vmxon],
  [Mnemonic.Vmxoff, guarded(EXIT.VMXOFF, 'none', vmxoff)],
  [Mnemonic.Vmclear, guarded(EXIT.VMCLEAR, 'memory', vmclear)],
  [Mnemonic.Vmptrld, guarded(EXIT.VMPTRLD, 'memory', vmptrld)],
  [Mnemonic.Vmptrst, guarded(EXIT.VMPTRST, 'memory', vmptrst)],
  [Mnemonic.Vmread, shadowable(EXIT.VMREAD, 'rmFirst', 'VMREAD_BITMAP_ADDRESS', vmread)],
  [Mnemonic.Vmwrite, shadowable(EXIT.VMWRITE, 'rmSecond', 'VMWRITE_BITMAP_ADDRESS', vmwrite)],
  [Mnemonic.Vmlaunch, guarded(EXIT.VMLAUNCH, 'none', vmEntry(true))],
  [Mnemonic.Vmresume, guarded(EXIT.VMRESUME, 'none', vmEntry(false))],
  [Mnemonic.Vmcall, guarded(EXIT.VMCALL, 'none', vmcall)],
  [Mnemonic.Vmfunc, vmfunc],
  [Mnemonic.Invept, guarded(EXIT.INVEPT, 'rmSecond', invept)],
  [Mnemonic.Invvpid, guarded(EXIT.INVVPID, 'rmSecond', invvpid)],
];

/** @param unit gives the VMX unit, which is attached to its processor later */
export const vmxInstructions = (unit: () => VmxUnit): SlowInstructionTable =>
  new Map(
    BODIES.map(([mnemonic, body]): [number, SlowInstruction] => [
      mnemonic,
      (_cpu, instruction) => body(unit(), instruction),
    ]),
  );
