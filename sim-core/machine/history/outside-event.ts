/** What comes from outside the machine and is part of its history. */
export type OutsideEvent =
  /** Bytes for a serial port, COM1 unless another is named. */
  | { readonly kind: 'input'; readonly bytes: Uint8Array; readonly port?: 'COM2' }
  /** Bytes for a device of `MachineConfig.devices`, by its place there: input of a console, a frame for a network card. */
  | { readonly kind: 'device'; readonly device: number; readonly bytes: Uint8Array }
  /**
   * The debugger wrote physical memory, a register (machine/registers.ts) or a field of the current VMCS: of this
   * processor, or of the one that is selected.
   */
  | { readonly kind: 'memory'; readonly physical: number; readonly bytes: Uint8Array }
  | { readonly kind: 'register'; readonly name: string; readonly value: bigint; readonly processor?: number }
  | { readonly kind: 'field'; readonly encoding: number; readonly value: bigint; readonly processor?: number };
