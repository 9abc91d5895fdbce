/* The device on PCI bus 0 that the guest gets. */
#pragma once
#include <stdint.h>

struct device {
	/* Bus 15:8, device 7:3, function 2:0: how it signs its accesses to memory. */
	uint16_t requester;
	/* Host-physical address of its registers. */
	uint64_t registers;
};

/* Finds edu and lets it answer and access memory; dies when there is none. */
struct device find_device(void);
