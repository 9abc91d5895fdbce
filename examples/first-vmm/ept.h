/* Extended page tables: from guest-physical to host-physical addresses (SDM volume 3C, chapter on EPT). */
#pragma once
#include "cpu.h"

/* Bits of an entry. */
#define EPT_READ BIT(0)
#define EPT_WRITE BIT(1)
#define EPT_EXECUTE BIT(2)
#define EPT_ALL (EPT_READ | EPT_WRITE | EPT_EXECUTE)
#define EPT_MEMORY_TYPE_UNCACHEABLE 0ull
#define EPT_MEMORY_TYPE_WRITE_BACK (6ull << 3)
#define EPT_LARGE_PAGE BIT(7)

#define EPT_POINTER_WRITE_BACK 6ull
#define EPT_POINTER_WALK_LENGTH_4 (3ull << 3) /* one less than the number of levels */

/* Maps the guest's memory, with a hole where the device is. Returns the EPT pointer for the VMCS. */
uint64_t ept_build(void);
