/* Extended page tables: from guest-physical to host-physical addresses (SDM volume 3C, chapter on EPT). */
#pragma once
#include <stdint.h>

/* Maps the guest's memory, with a hole where the device is. Returns the EPT pointer for the VMCS. */
uint64_t ept_build(void);
