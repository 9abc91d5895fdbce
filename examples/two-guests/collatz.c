/* The second guest looks for the longest walk of the 3n + 1 problem. It has the first one's linear addresses. */
#include "guest.h"

#define LIMIT 1000

__attribute__((noinline)) static unsigned steps_from(unsigned long number)
{
	unsigned steps = 0;
	for (; number != 1; steps++)
		number = number % 2 ? 3 * number + 1 : number / 2;
	return steps;
}

__attribute__((noinline)) static unsigned longest_start(unsigned limit)
{
	unsigned best = 1, most = 0;
	for (unsigned start = 1; start < limit; start++) {
		unsigned steps = steps_from(start);
		if (steps > most) {
			most = steps;
			best = start;
		}
	}
	return best;
}

void guest_main(void)
{
	unsigned best = longest_start(LIMIT);
	print("from ");
	print_number(best);
	print(" it takes ");
	print_number(steps_from(best));
	print(" steps to 1\n");
}
