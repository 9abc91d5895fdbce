/* Shadow page tables: what the processor walks in place of the guest's own. */
#pragma once
#include <stdint.h>

/* Bits of a page fault's error code (SDM volume 3A, "Page-Fault Exceptions"). */
#define PAGE_FAULT_WRITE 0x2
#define PAGE_FAULT_USER 0x4

/* The guest has loaded CR3 with this value: what was shadowed is of another address space. */
void shadow_switch(uint64_t guest_cr3);
/* What the guest has in CR3, as it believes. */
uint64_t shadow_guest_cr3(void);
/* What the processor has in CR3 meanwhile. */
uint64_t shadow_root(void);
/* The guest has executed INVLPG. */
void shadow_forget(uint64_t linear);

/*
 * The processor could not translate an address by the shadow tables. Returns 1 when the guest's own tables permit the
 * access, and the shadow tables now do; 0 when they do not: it is the guest's fault.
 */
int shadow_fill(uint64_t linear, uint64_t error_code);
