/* The guest's memory as the VMM sees it. */
#pragma once
#include "guest_machine.h"
#include <stdint.h>

/* Guest-physical address 0 is the host-physical (and, by our identity mapping, host-linear) address of this array. */
extern uint8_t guest_memory[GUEST_MEMORY_SIZE];

struct guest_image {
	uint64_t entry;           /* guest-linear */
	uint64_t page_table_root; /* guest-physical */
};

/* Copies the segments of an ELF64 file to their (guest-)physical addresses. Dies when the file is no such thing. */
struct guest_image load_guest(const uint8_t *file, uint64_t size);

/* Walks the guest's page tables. Returns where the byte is in host memory, or 0 when it is not mapped to memory. */
const uint8_t *guest_linear_to_host(uint64_t linear);
