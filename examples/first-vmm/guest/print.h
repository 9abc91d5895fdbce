/* Text of a guest on its VMM's console. */
#pragma once
#include "../cpu.h"
#include "../guest_machine.h"

__attribute__((unused)) static void print(const char *s)
{
	for (; *s; s++)
		out8(GUEST_CONSOLE_PORT, (uint8_t)*s);
}

__attribute__((unused)) static void print_number(uint32_t value)
{
	char digits[11] = {0};
	int at = 10;
	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	print(digits + at);
}
