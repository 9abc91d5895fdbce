/* A guest that works its page tables: two address spaces, pages that are mapped when they are used, and INVLPG. */
#include "cpu.h"
#include "guest/print.h"

/* Guest-physical addresses begin at this linear address; see ../first-vmm/guest.ld. */
#define LINEAR_BASE 0x40000000ull
#define PHYSICAL(address) ((uint64_t)(address) - LINEAR_BASE)

#define PAGE_PRESENT BIT(0)
#define PAGE_WRITABLE BIT(1)
#define PAGE_DIRTY BIT(6)

/* The window: pages from 512 GiB on, the second PML4 entry, other ones in each address space. */
#define WINDOW 0x8000000000ull
#define WINDOW_PML4_INDEX 1
#define WINDOW_PAGES 4
#define SPACES 2
#define SWITCHES 8

#define ALIGNED __attribute__((aligned(PAGE_SIZE)))
typedef uint64_t table[512];
static table pml4[SPACES] ALIGNED, directory_pointers[SPACES] ALIGNED;
static table directory[SPACES] ALIGNED, entries[SPACES] ALIGNED;
static uint8_t pages[SPACES][WINDOW_PAGES][PAGE_SIZE] ALIGNED;

static unsigned space;
static volatile unsigned page_faults;

/* Counted by the handler in entry.S, which this guest has no need of. */
volatile uint32_t general_protection_count;

static void print_counted(const char *before, unsigned number, const char *after)
{
	char digits[12], *at = digits + sizeof digits;
	*--at = 0;
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	print(before);
	print(at);
	print(after);
}

/* ---- Page faults: the window's pages are there as soon as they are used ---- */

struct interrupt_frame;

static inline uint64_t read_cr2(void)
{
	uint64_t value;
	asm volatile("mov %%cr2, %0" : "=r"(value));
	return value;
}

__attribute__((interrupt)) static void page_fault(struct interrupt_frame *frame, uint64_t error_code)
{
	(void)frame, (void)error_code;
	uint64_t index = (read_cr2() - WINDOW) / PAGE_SIZE;
	if (index >= WINDOW_PAGES) {
		print("A page fault outside the window\n");
		asm volatile("hlt");
	}
	page_faults++;
	entries[space][index] = PHYSICAL(pages[space][index]) | PAGE_PRESENT | PAGE_WRITABLE;
}

struct gate {
	uint16_t offset_low, selector, type, offset_middle;
	uint32_t offset_high, reserved;
};
#define EXCEPTION_PAGE_FAULT 14
#define GATE_INTERRUPT 0x8E00 /* present, DPL 0, 64-bit interrupt gate */
static struct gate idt[EXCEPTION_PAGE_FAULT + 1];

static void catch_page_faults(void)
{
	uint64_t handler = (uint64_t)page_fault;
	uint16_t code;
	asm("mov %%cs, %0" : "=r"(code));
	idt[EXCEPTION_PAGE_FAULT] =
		(struct gate){(uint16_t)handler, code, GATE_INTERRUPT, (uint16_t)(handler >> 16), (uint32_t)(handler >> 32), 0};
	struct descriptor_table_register idtr = {sizeof idt - 1, (uint64_t)idt};
	asm volatile("lidt %0" : : "m"(idtr));
}

/* ---- Address spaces ---- */

static void make_spaces(void)
{
	const uint64_t rights = PAGE_PRESENT | PAGE_WRITABLE;
	const uint64_t *first = (const uint64_t *)(read_cr3() + LINEAR_BASE);
	for (unsigned i = 0; i < SPACES; i++) {
		pml4[i][0] = first[0]; /* what the guest itself is in */
		pml4[i][WINDOW_PML4_INDEX] = PHYSICAL(directory_pointers[i]) | rights;
		directory_pointers[i][0] = PHYSICAL(directory[i]) | rights;
		directory[i][0] = PHYSICAL(entries[i]) | rights;
	}
}

static void switch_to(unsigned number)
{
	space = number;
	asm volatile("mov %0, %%cr3" : : "r"(PHYSICAL(pml4[number])) : "memory");
}

static volatile uint32_t *window(unsigned page)
{
	return (volatile uint32_t *)(WINDOW + page * PAGE_SIZE);
}

static unsigned sum(void)
{
	unsigned total = 0;
	for (unsigned page = 0; page < WINDOW_PAGES; page++)
		total += *window(page);
	return total;
}

static void exchange_first_pages(void)
{
	uint64_t first = entries[space][0];
	entries[space][0] = entries[space][1];
	entries[space][1] = first;
	for (unsigned page = 0; page < 2; page++)
		asm volatile("invlpg (%0)" : : "r"(window(page)) : "memory");
}

static unsigned dirty_pages(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < SPACES; i++)
		for (unsigned page = 0; page < WINDOW_PAGES; page++)
			count += (entries[i][page] & PAGE_DIRTY) != 0;
	return count;
}

void guest_main(void)
{
	catch_page_faults();
	make_spaces();
	/* The first space's pages are all written, of the second one's only the last. */
	switch_to(0);
	for (unsigned page = 0; page < WINDOW_PAGES; page++)
		*window(page) = page + 1;
	switch_to(1);
	*window(WINDOW_PAGES - 1) = 100;

	unsigned total = 0;
	for (unsigned i = 0; i < SWITCHES; i++) {
		switch_to(i % SPACES);
		total += sum();
	}
	print_counted("the windows add up to ", total, "\n");
	switch_to(0);
	exchange_first_pages();
	print_counted("the first page has ", *window(0), " now\n");
	print_counted("", page_faults, " page faults, ");
	print_counted("", dirty_pages(), " dirty pages\n");
}
