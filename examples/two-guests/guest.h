/* What both guests need. */
#pragma once
#include "cpu.h"
#include "guest_machine.h"

/* Counted by the handler in first-vmm's entry.S, which these guests have no need of. */
volatile uint32_t general_protection_count;

static void print(const char *s)
{
	for (; *s; s++)
		out8(GUEST_CONSOLE_PORT, (uint8_t)*s);
}

static void print_number(unsigned value)
{
	char digits[11] = {0};
	int at = 10;
	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	print(digits + at);
}
