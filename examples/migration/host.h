/* A host: memory for a guest, with its EPT, and a virtual processor. Two of them stand for two computers. */
#pragma once
#include "ept.h"
#include "guest_memory.h"
#include "vcpu.h"

#define HOST_COUNT 2
#define PAGE_COUNT (GUEST_SIZE / PAGE_SIZE)

/* Two more bits of EPT, which the processor sets when EPT_POINTER_ACCESSED_DIRTY is. */
#define EPT_POINTER_ACCESSED_DIRTY BIT(6)
#define EPT_DIRTY BIT(9)
#define EPT_CAP_ACCESSED_DIRTY BIT(21)

struct host {
	struct vcpu vcpu;
	uint64_t *page_table; /* EPT's last level: an entry for each of the guest's pages */
};

/*
 * Makes memory, EPT and VMCS, all without a guest. The VMCS is current then. `number` counts from 0. Dies when the
 * processor has no dirty flags in EPT.
 */
void host_create(struct host *host, unsigned number, const char *name);

/* Puts a guest into the memory. Dies when the ELF file is not one for a guest. */
struct guest_image host_load(struct host *host, const uint8_t *file, uint64_t size);

/* Makes its VMCS the current one. */
void host_select(struct host *host);
