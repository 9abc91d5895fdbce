/* The guest looks for primes by the sieve of Eratosthenes. It does not notice that it is moved. */
#include "guest/print.h"

#define LIMIT 200000
#define PARTS 4

/* Counted by the handler in first-vmm's entry.S, which this guest has no need of. */
volatile uint32_t general_protection_count;

static uint8_t is_composite[LIMIT];

__attribute__((noinline)) static void cross_out(unsigned first, unsigned end)
{
	for (unsigned number = first; number < end; number++) {
		if (is_composite[number])
			continue;
		for (unsigned multiple = number * number; multiple < LIMIT; multiple += number)
			is_composite[multiple] = 1;
	}
}

__attribute__((noinline)) static unsigned count_primes(unsigned from, unsigned to)
{
	unsigned count = 0;
	for (unsigned number = from; number < to; number++)
		count += !is_composite[number];
	return count;
}

void guest_main(void)
{
	static const unsigned ends[] = {3, 4, 8, 448}; /* 448 × 448 is beyond the limit */
	for (unsigned i = 0, first = 2; i < sizeof ends / sizeof *ends; first = ends[i++]) {
		cross_out(first, ends[i]);
		print("multiples of numbers below ");
		print_number(ends[i]);
		print(" are crossed out\n");
	}
	unsigned count = 0, from = 2;
	for (unsigned part = 1; part <= PARTS; part++) {
		unsigned to = LIMIT / PARTS * part;
		count += count_primes(from, to);
		from = to;
		print_number(count);
		print(" primes are below ");
		print_number(to);
		print("\n");
	}
}
