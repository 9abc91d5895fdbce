/*
 * The machine that the VMM makes up for its guest: what a data sheet would say. The VMM and the guest include this.
 *
 * The guest starts in 64-bit mode with interrupts off, at its ELF file's entry point, with its page tables' root (CR3)
 * in the lowest page of its ELF file.
 */
#pragma once

/* Guest-physical memory: [0, GUEST_MEMORY_SIZE), without the page of the device, which is a hole. */
#define GUEST_MEMORY_SIZE (4ull << 20)

/* A byte written here appears on the VMM's console. */
#define GUEST_CONSOLE_PORT 0xE9
/* The old POST-code port: the VMM does not care, so writes to it do not leave the guest. */
#define GUEST_POST_PORT 0x80

/* The adding machine, a device with three 32-bit registers. */
#define ADDER_ADDRESS 0x1F0000ull
#define ADDER_IDENTITY 0x0 /* read: ADDER_IDENTITY_VALUE */
#define ADDER_IDENTITY_VALUE 0x41444452
#define ADDER_ADD 0x4 /* write: adds the value to the sum */
#define ADDER_SUM 0x8 /* read: the sum */

/* An MSR that no processor has: reading it gives the number of VM exits so far. */
#define MSR_EXIT_COUNT 0x40000000

/* CPUID leaf with the VMM's name in EBX, ECX, EDX. */
#define CPUID_HYPERVISOR 0x40000000
