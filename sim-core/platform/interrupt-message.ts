/** Interrupt messages: what I/O APICs, message-signalled interrupts and IPIs send to the local APICs. */

/** Delivery modes (SDM Vol. 3A, "Interrupt Command Register (ICR)"). */
export const DELIVERY_MODE = { fixed: 0, lowestPriority: 1, smi: 2, nmi: 4, init: 5, startUp: 6, external: 7 } as const;
export type DeliveryMode = (typeof DELIVERY_MODE)[keyof typeof DELIVERY_MODE];

export interface InterruptMessage {
  /** APIC ID, or a logical destination; 0xFF (xAPIC) or 0xFFFF_FFFF (x2APIC) for all. */
  readonly destination: number;
  readonly logical: boolean;
  readonly deliveryMode: DeliveryMode;
  /** 0…255. */
  readonly vector: number;
  /** Level-triggered: its end is told to the I/O APICs. */
  readonly level: boolean;
}

/** Takes interrupt messages to the local APICs that they name. @returns whether one accepted it */
export type DeliverInterrupt = (message: InterruptMessage) => boolean;
