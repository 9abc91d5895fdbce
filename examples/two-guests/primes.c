/* The first guest counts primes, and never gives up the processor by itself. */
#include "guest.h"

#define LIMIT 2000

__attribute__((noinline)) static int is_prime(unsigned number)
{
	for (unsigned divisor = 2; divisor < number; divisor++)
		if (number % divisor == 0)
			return 0;
	return 1;
}

__attribute__((noinline)) static unsigned count_primes(unsigned limit)
{
	unsigned count = 0;
	for (unsigned number = 2; number < limit; number++)
		count += (unsigned)is_prime(number);
	return count;
}

void guest_main(void)
{
	print_number(count_primes(LIMIT));
	print(" primes are below 2000\n");
}
