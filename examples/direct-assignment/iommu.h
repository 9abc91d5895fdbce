/* VT-d: the device may reach the guest's memory, at the guest's addresses, and nothing else. */
#pragma once
#include <stdint.h>

/* Returns 0 when the machine has no IOMMU. */
int iommu_assign(uint16_t requester);
/* Prints the DMA faults that the IOMMU has recorded. */
void iommu_report(void);
