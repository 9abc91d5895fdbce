#include "console.h"
#include "cpu.h"
#include <stdarg.h>

/* A 16550 UART's registers, from its base port. */
#define COM1 0x3F8
#define UART_DATA 0
#define UART_INTERRUPT_ENABLE 1
#define UART_LINE_CONTROL 3
#define UART_LINE_STATUS 5
#define LINE_CONTROL_8N1 0x03
#define LINE_CONTROL_DIVISOR_LATCH 0x80
#define LINE_STATUS_HOLDING_REGISTER_EMPTY 0x20
#define LINE_STATUS_TRANSMITTER_EMPTY 0x40
#define DIVISOR_115200_BAUD 1

/* Ports by which emulators end: QEMU's isa-debug-exit, and one that Bochs and others take the word "Shutdown" at. */
#define DEBUG_EXIT_PORT 0xF4
#define SHUTDOWN_PORT 0x8900

void console_init(void)
{
	out8(COM1 + UART_INTERRUPT_ENABLE, 0);
	out8(COM1 + UART_LINE_CONTROL, LINE_CONTROL_DIVISOR_LATCH);
	out8(COM1 + 0, DIVISOR_115200_BAUD);
	out8(COM1 + 1, 0);
	out8(COM1 + UART_LINE_CONTROL, LINE_CONTROL_8N1);
}

void print_char(char c)
{
	while (!(in8(COM1 + UART_LINE_STATUS) & LINE_STATUS_HOLDING_REGISTER_EMPTY))
		;
	out8(COM1 + UART_DATA, (uint8_t)c);
}

static void print_string(const char *s)
{
	while (*s)
		print_char(*s++);
}

static void print_number(uint64_t value, unsigned base)
{
	char digits[20];
	int count = 0;
	do {
		digits[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (count)
		print_char(digits[--count]);
}

static void print_list(const char *format, va_list arguments)
{
	for (; *format; format++) {
		if (*format != '%') {
			print_char(*format);
			continue;
		}
		switch (*++format) {
		case 's':
			print_string(va_arg(arguments, const char *));
			break;
		case 'c':
			print_char((char)va_arg(arguments, int));
			break;
		case 'u':
			print_number(va_arg(arguments, unsigned), 10);
			break;
		case 'x':
			print_number(va_arg(arguments, unsigned), 16);
			break;
		case 'l':
			format++; /* %lx is the only one with an l */
			print_number(va_arg(arguments, uint64_t), 16);
			break;
		}
	}
}

void print(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	print_list(format, arguments);
	va_end(arguments);
}

_Noreturn void end_machine(enum end how)
{
	/* The last characters may still be on their way. */
	while (!(in8(COM1 + UART_LINE_STATUS) & LINE_STATUS_TRANSMITTER_EMPTY))
		;
	out32(DEBUG_EXIT_PORT, how);
	for (const char *s = "Shutdown"; *s; s++)
		out8(SHUTDOWN_PORT, (uint8_t)*s);
	for (;;)
		asm volatile("cli; hlt");
}

_Noreturn void die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	print_list(format, arguments);
	va_end(arguments);
	print_char('\n');
	end_machine(END_FAILURE);
}
