/* Text on the serial port COM1, and the end of the machine. */
#pragma once
#include <stdint.h>

void console_init(void);
void print_char(char c);

/* Knows %s, %c, %u (unsigned int), %x (unsigned int), %lx (uint64_t). */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

enum end { END_SUCCESS = 0, END_FAILURE = 1 };

/* Leaves QEMU, Bochs and VMXray alike. */
_Noreturn void end_machine(enum end how);

/* Prints and ends the machine with a failure. */
__attribute__((format(printf, 1, 2))) _Noreturn void die(const char *format, ...);
