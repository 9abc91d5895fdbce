/* The guest's device: a machine that adds. Its registers are in guest_machine.h. */
#pragma once
#include <stdint.h>

uint32_t adder_read(uint64_t offset);
void adder_write(uint64_t offset, uint32_t value);
