/** For tests: a processor with real memory, MMU, event delivery and VMX that executes instructions given as bytes. */

import type { Clock, Cpu } from '../cpu/cpu.ts';
import { type Delivery, deliverFault, serviceBoundary } from '../cpu/events.ts';
import { CPU_INSTRUCTIONS } from '../cpu/instructions.ts';
import { findModel } from '../cpu/models.ts';
import { resetCpu } from '../cpu/reset.ts';
import { readRflags } from '../cpu/rflags.ts';
import { setSegment } from '../cpu/segments.ts';
import { RECORD } from '../engine/record.ts';
import { InstructionDecoder } from '../isa/decoder.ts';
import type { Fault } from '../mmu/fault.ts';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { type CodeMode, GPR, REGION, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import { State } from '../state/state.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { ENCODING, type FieldName } from './fields.ts';
import type { VmEntryFailure, VmExitRecord, VmxAbort } from './records.ts';
import { type FieldChanges, VALID_CHANGES } from './test-vmcs.ts';
import { Vmx } from './vmx.ts';

/** Physical addresses of what the tests use. */
export const AT = {
  pml4: 0x3000,
  pdpt: 0x4000,
  vmxon: 0x5000,
  vmcs: 0x6000,
  otherVmcs: 0x7000,
  /** Operands of memory instructions. */
  data: 0x8000,
  bitmaps: 0x9000,
  msrList: 0xa000,
  idt: 0xb000,
  gdt: 0xc000,
  stack: 0xe000,
  ept: 0x2_0000,
  eptPdpt: 0x2_1000,
} as const;

/** Instructions as nasm encodes them in 64-bit mode. */
export const CODE = {
  vmxon: [0xf3, 0x0f, 0xc7, 0x33],
  vmxoff: [0x0f, 0x01, 0xc4],
  vmclear: [0x66, 0x0f, 0xc7, 0x33],
  vmptrld: [0x0f, 0xc7, 0x33],
  vmptrst: [0x0f, 0xc7, 0x3b],
  /** vmread rax, rcx */
  vmread: [0x0f, 0x78, 0xc8],
  /** vmread [rbx], rcx */
  vmreadMemory: [0x0f, 0x78, 0x0b],
  /** vmwrite rcx, rax */
  vmwrite: [0x0f, 0x79, 0xc8],
  vmlaunch: [0x0f, 0x01, 0xc2],
  vmresume: [0x0f, 0x01, 0xc3],
  vmcall: [0x0f, 0x01, 0xc1],
  vmfunc: [0x0f, 0x01, 0xd4],
  /** invept rax, [rbx] */
  invept: [0x66, 0x0f, 0x38, 0x80, 0x03],
  /** invvpid rax, [rbx] */
  invvpid: [0x66, 0x0f, 0x38, 0x81, 0x03],
  cpuid: [0x0f, 0xa2],
} as const;

const ALL_ONE_GIGABYTE = 0x83n;

/** In 64-bit mode with identity paging, CPL 0, VMXE set and IA32_FEATURE_CONTROL locked open; RBX points to AT.data. */
export class TestProcessor {
  readonly state = new State(0x4_0000);
  readonly physical = new PhysicalMemory(this.state);
  readonly mmu = new Mmu(this.state, this.physical, new Tlb(this.state));
  readonly exits: VmExitRecord[] = [];
  readonly failures: VmEntryFailure[] = [];
  readonly aborts: VmxAbort[] = [];
  /** Virtual time, moved by the tests. */
  now = 0;
  /** The vector that the interrupt controller gives. */
  vector = 0x40;
  readonly vmx = new Vmx({
    onExit: (record) => this.exits.push(record),
    onEntry: () => {},
    onEntryFailure: (failure) => this.failures.push(failure),
    onAbort: (abort) => this.aborts.push(abort),
  });
  readonly cpu: Cpu;

  constructor() {
    const clock: Clock = { cycles: () => this.now + this.state.getFloat('extraCycles') };
    this.cpu = {
      state: this.state,
      mmu: this.mmu,
      ports: { read: () => 0, write: () => {} },
      interrupts: {
        acknowledge: () => {
          this.state.set32('interruptRequest', 0);
          return this.vector;
        },
        readMsr: () => undefined,
        writeMsr: () => false,
        getTaskPriority: () => 0,
        performanceMonitoringInterrupt: () => undefined,
        setTaskPriority: () => {},
        endOfInterrupt: () => {},
        initialize: () => {},
      },
      clock,
      model: findModel('max'),
      intercepts: this.vmx,
      vmxMsrs: this.vmx.msrs,
    };
    this.vmx.attach(this.cpu);
    resetCpu(this.cpu);
    this.buildTables();
    this.enterLongMode();
    this.state.set64('msrFeatureControl', 5n);
    this.state.set64('rip', 0x1_0000n);
    this.setGpr('rbx', BigInt(AT.data));
    this.setGpr('rsp', BigInt(AT.stack));
  }

  private enterLongMode(): void {
    const { state } = this;
    state.set64('cr0', 0x8005_0033n);
    state.set64('cr3', BigInt(AT.pml4));
    state.set64('cr4', 0x2620n);
    state.set64('efer', 0x500n);
    for (let index: number = SEGMENT.es; index <= SEGMENT.gs; index++) {
      const code = index === SEGMENT.cs;
      setSegment(state, index as SegmentIndex, code ? 8 : 0x10, 0n, 0xffff_ffff, code ? 0xa09b : 0xc093);
    }
    this.mmu.updateContext();
  }

  private buildTables(): void {
    this.physical.write64(AT.pml4, BigInt(AT.pdpt) | 7n);
    this.physical.write64(AT.pdpt, ALL_ONE_GIGABYTE);
    this.physical.write64(AT.ept, BigInt(AT.eptPdpt) | 7n);
    // 1-GiB page, write-back, all access.
    this.physical.write64(AT.eptPdpt, 0xb7n);
    for (const region of [AT.vmxon, AT.vmcs, AT.otherVmcs]) this.physical.write(region, 4, VMCS_REVISION);
  }

  setGpr(name: keyof typeof GPR, value: bigint): void {
    this.state.set64('gpr', value, GPR[name]);
  }
  gpr(name: keyof typeof GPR): bigint {
    return this.state.get64('gpr', GPR[name]);
  }

  /** Executes one instruction: 'done', a delivery, or the fault that VMX root operation would deliver. */
  execute(code: readonly number[]): 'done' | Delivery | Fault {
    const decoder = new InstructionDecoder(this.state.get32('codeMode') as CodeMode, Uint8Array.from(code), 0);
    decoder.next();
    const instruction = decoder.decoded();
    decoder.free();
    const table = new Map([...CPU_INSTRUCTIONS, ...this.vmx.instructions]);
    const outcome = table.get(instruction.mnemonic)?.(this.cpu, instruction);
    if (outcome === undefined) throw new RangeError('no such instruction');
    if (typeof outcome === 'object') return this.fault(outcome, instruction.length);
    if (outcome === 0) this.state.set64('rip', this.state.get64('rip') + BigInt(instruction.length));
    return 'done';
  }

  /** A fault of an instruction of `length` bytes: in the guest it is delivered, in root operation returned. */
  fault(fault: Fault, length = 0): Delivery | Fault {
    if (this.state.get32('nonRoot') === 0) return fault;
    this.state.set32('exitRecord', REGION.code.start);
    this.state.bytes[REGION.code.start + RECORD.length] = length;
    return deliverFault(this.cpu, fault);
  }

  boundary(): Delivery | undefined {
    return serviceBoundary(this.cpu);
  }

  /** The status of the last VMX instruction: 'ok', 'invalid' (CF) or the VM-instruction error (ZF). */
  status(): 'ok' | 'invalid' | number {
    const flags = readRflags(this.state);
    if (flags & 1) return 'invalid';
    return flags & 0x40 ? Number(this.field('VM_INSTRUCTION_ERROR')) : 'ok';
  }

  /** Executes a VMX instruction that takes a pointer in memory. */
  withPointer(code: readonly number[], pointer: number): 'ok' | 'invalid' | number {
    this.physical.write64(AT.data, BigInt(pointer));
    this.execute(code);
    return this.status();
  }

  vmwrite(encoding: number, value: bigint): 'ok' | 'invalid' | number {
    this.setGpr('rcx', BigInt(encoding));
    this.setGpr('rax', value);
    this.execute(CODE.vmwrite);
    return this.status();
  }

  vmread(encoding: number): bigint | 'invalid' | number {
    this.setGpr('rcx', BigInt(encoding));
    this.execute(CODE.vmread);
    const status = this.status();
    return status === 'ok' ? this.gpr('rax') : status;
  }

  /** A field of the current VMCS, without VMREAD. */
  field(name: FieldName): bigint {
    const value = this.vmx.read(ENCODING[name]);
    if (value === undefined) throw new RangeError('no current VMCS');
    return value;
  }

  /** VMXON, VMCLEAR and VMPTRLD of AT.vmcs, then a VMCS that passes all checks, with changes. */
  prepare(changes: FieldChanges = {}): void {
    this.withPointer(CODE.vmxon, AT.vmxon);
    this.withPointer(CODE.vmclear, AT.vmcs);
    this.withPointer(CODE.vmptrld, AT.vmcs);
    this.change({
      ...VALID_CHANGES,
      EPT_POINTER: BigInt(AT.ept) | 0x1en,
      HOST_CR3: BigInt(AT.pml4),
      GUEST_CR3: BigInt(AT.pml4),
      GUEST_IDTR_BASE: BigInt(AT.idt),
      GUEST_IDTR_LIMIT: 0xfff,
      GUEST_GDTR_BASE: BigInt(AT.gdt),
      GUEST_GDTR_LIMIT: 0xff,
      ...changes,
    });
  }

  change(changes: FieldChanges): void {
    for (const [name, value] of Object.entries(changes)) {
      this.vmx.write(ENCODING[name as FieldName], BigInt(value));
    }
  }

  /** Prepares and launches the guest. */
  enter(changes: FieldChanges = {}): void {
    this.prepare(changes);
    this.execute(CODE.vmlaunch);
    if (this.state.get32('nonRoot') === 0) {
      throw new Error(`VM entry failed: ${this.failures[0]?.checks.map((check) => check.explanation).join(' ')}`);
    }
  }
}
