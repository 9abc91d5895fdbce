#include "adder.h"
#include "guest_machine.h"

static uint32_t sum;

uint32_t adder_read(uint64_t offset)
{
	switch (offset) {
	case ADDER_IDENTITY:
		return ADDER_IDENTITY_VALUE;
	case ADDER_SUM:
		return sum;
	default:
		return 0xFFFFFFFF; /* no such register */
	}
}

void adder_write(uint64_t offset, uint32_t value)
{
	if (offset == ADDER_ADD)
		sum += value;
}
