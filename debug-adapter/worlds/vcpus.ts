import type { Machine } from '../../sim-core/machine/api.ts';
import { type KnownVmcs, type VmcsAccess, vmcsInMemory } from '../../sim-core/vmx/known-vmcses.ts';
import type { Target } from '../running/target.ts';
import { hex } from './memory-reference.ts';
import type { SuspendedGuest } from './world-view.ts';

/** Threads of virtual processors have numbers from here on; below are the processors'. */
const FIRST_THREAD = 1000;
export const threadOfVcpu = (number: number): number => FIRST_THREAD + number;
/** Undefined for a processor's thread. */
export const vcpuOfThread = (thread: number): number | undefined =>
  thread > FIRST_THREAD ? thread - FIRST_THREAD : undefined;

/** 'vCPU 2 (VPID 2), suspended at is_prime+0x12' */
export function nameOfVcpu(target: Target, guest: SuspendedGuest): string {
  const view = target.suspendedView(guest);
  const { pc, vpid } = view;
  const what = guest.registers ? 'suspended at' : 'not started yet, to begin at';
  const owner = vpid === 0 ? '' : ` (VPID ${vpid})`;
  return `vCPU ${guest.number}${owner}, ${what} ${target.symbolName(view, pc) ?? hex(pc)}`;
}

/** The virtual processors of the hypervisors on a machine, numbered as they come up. */
export class VirtualProcessors {
  /** By the physical address of the VMCS. */
  private readonly numbers = new Map<number, number>();

  /** Those that do not run, on any processor. */
  suspended(machine: Machine): SuspendedGuest[] {
    const known = new Map<number, KnownVmcs>();
    const running = new Set<number>();
    /** Processor that has a VMCS's fields in itself. */
    const owners = new Map<number, number>();
    onEach(machine, (processor) => {
      for (const vmcs of machine.vmx.knownVmcses) {
        const other = known.get(vmcs.pointer);
        if (!other || other.exitedAt < vmcs.exitedAt) known.set(vmcs.pointer, vmcs);
      }
      const { currentVmcs } = machine.vmx;
      if (currentVmcs === undefined) return;
      owners.set(Number(currentVmcs), processor);
      if (machine.world === 'guest') running.add(Number(currentVmcs));
    });
    return [...known.values()]
      .flatMap((vmcs): SuspendedGuest[] => {
        const number = this.numberOf(vmcs.pointer);
        const owner = owners.get(vmcs.pointer);
        const isRunning = running.has(vmcs.pointer);
        const access = isRunning ? undefined : accessTo(machine, vmcs.pointer, owner);
        return access ? [{ number, ...vmcs, ...access }] : [];
      })
      .sort((a, b) => a.number - b.number);
  }

  private numberOf(pointer: number): number {
    const number = this.numbers.get(pointer) ?? this.numbers.size + 1;
    this.numbers.set(pointer, number);
    return number;
  }
}

/** Does something with each processor shown in turn. */
function onEach(machine: Machine, work: (processor: number) => void): void {
  const { selected } = machine;
  for (const { number } of machine.processors) {
    machine.select(number);
    work(number);
  }
  machine.select(selected);
}

/** @param owner the processor on which the VMCS is current, if it is. */
function accessTo(machine: Machine, pointer: number, owner: number | undefined): VmcsAccess | undefined {
  const inMemory = vmcsInMemory(machine.physical, pointer);
  if (owner === undefined || !inMemory) return inMemory;
  const asOwner = <T>(read: () => T): T => {
    const { selected } = machine;
    machine.select(owner);
    try {
      return read();
    } finally {
      machine.select(selected);
    }
  };
  return {
    launchState: asOwner(() => machine.vmx.launchState),
    read: (encoding) => asOwner(() => machine.vmx.read(encoding)),
  };
}
