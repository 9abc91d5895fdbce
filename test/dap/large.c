/* Much of everything: a deep call stack, a long array, much output. */

static int numbers[1000000];
static volatile int sink;

__attribute__((noinline)) static int descend(int left)
{
	int below = left == 0 ? numbers[999999] : descend(left - 1);
	return below + left;
}

__attribute__((noinline)) static void print(long count)
{
	for (long i = 0; i < count; i++)
		__asm__ volatile("outb %0, %1" : : "a"((unsigned char)('a' + i % 26)), "d"((unsigned short)0x3f8));
}

__attribute__((noinline)) static void finish(void)
{
	sink = 1;
}

void work(void)
{
	for (int i = 0; i < 1000000; i++)
		numbers[i] = i;
	sink = descend(9999);
	/* Long enough for the debugger's slices to grow. */
	for (long i = 0; i < 100000000; i++)
		__asm__ volatile("");
	print(1000000);
	finish();
	for (;;)
		;
}

__asm__(".globl _start\n"
	"_start: lea stack_top(%rip), %rsp\n"
	"call work\n"
	".bss\n"
	".align 16\n"
	".skip 4000000\n"
	"stack_top:\n"
	".text\n");
