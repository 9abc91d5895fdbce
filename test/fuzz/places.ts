/** Physical and linear addresses of what a case has. */
export const AT = {
  idt: 0x1000, gdt: 0x2000, tss: 0x3000, tables: 0x4000, code: 0x1_0000, data: 0x2_0000,
  /** VMXON region, VMCS, what the guest's physical addresses are mapped by, bitmaps of all kinds; stub that sets up. */
  vmxon: 0x8000, vmcs: 0x9000, ept: 0xa000, bitmaps: 0xc000, stub: 0x3_0000, fields: 0x3_1000,
} as const; // biome-ignore format: a table reads better in rows
export const CODE_SIZE = 0x1000;
export const DATA_SIZE = 0x2000;
