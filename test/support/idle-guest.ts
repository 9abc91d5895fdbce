/** A guest that does nothing but wait, and one that only works: 32-bit flat images for 1 MiB. */

const out = (port: number, value: number): number[] => [0xb0, value, 0xe6, port]; // mov al, value; out port, al
/** Milliseconds: the 8254's counter 0 at its slowest: 65536 / 1.193182 MHz = 54.925 ms. */
export const TICK = 65_536 / 1193.182;
/** Flat images begin here, in 32-bit protected mode. */
const BASE = 0x10_0000;
const IDT_REGISTER = 0x100;
const IDT = 0x200;
const HANDLER = 0x400;
const VECTOR = 0x20;
const GDT_REGISTER = 0x110;
const GDT = 0x180;
const CODE_SELECTOR = 8;

/** The start of a guest that is interrupted at each tick: local APIC off, 8259A at vector 20h, IRQ 0 open. */
const START = [
  ...[0xbc, 0, 0, 0x18, 0], // mov esp, 180000h
  ...[0xb9, 0x1b, 0, 0, 0, 0xb8, 0, 1, 0xe0, 0xfe, 0x33, 0xd2, 0x0f, 0x30], // IA32_APIC_BASE without EN
  ...[0x0f, 0x01, 0x15, 0x10, 1, 0x10, 0], // lgdt [100110h]
  ...[0x0f, 0x01, 0x1d, 0, 1, 0x10, 0], // lidt [100100h]
  ...[...out(0x20, 0x11), ...out(0x21, VECTOR), ...out(0x21, 4), ...out(0x21, 1), ...out(0x21, 0xfe)],
  ...[...out(0x43, 0x34), ...out(0x40, 0), ...out(0x40, 0)],
  0xfb, // sti
];
export const HALT = [0xf4, 0xeb, 0xfd]; // again: hlt; jmp again
export const SPIN = [0xeb, 0xfe];

/** @param code what the guest does, interrupted at each tick */
export function idleImage(code: readonly number[]): Uint8Array {
  const image = new Uint8Array(0x1000);
  const view = new DataView(image.buffer);
  image.set([...START, ...code]);
  view.setUint16(IDT_REGISTER, VECTOR * 8 + 7, true);
  view.setUint32(IDT_REGISTER + 2, BASE + IDT, true);
  view.setUint16(GDT_REGISTER, 15, true);
  view.setUint32(GDT_REGISTER + 2, BASE + GDT, true);
  view.setBigUint64(GDT + CODE_SELECTOR, 0x00cf_9b00_0000_ffffn, true);
  const gate = IDT + VECTOR * 8;
  view.setUint16(gate, HANDLER, true);
  view.setUint16(gate + 2, CODE_SELECTOR, true);
  view.setUint16(gate + 4, 0x8e00, true);
  view.setUint16(gate + 6, BASE >> 16, true);
  image.set([...out(0x20, 0x20), 0xcf], HANDLER); // end of interrupt; iret
  return image;
}
