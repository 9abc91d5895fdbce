/* A kernel that changes a page-table entry and forgets INVLPG. boot.S of first-vmm brings it into 64-bit mode. */
#include "console.h"
#include "cpu.h"

#define PAGE __attribute__((aligned(PAGE_SIZE)))
#define PAGE_PRESENT BIT(0)
#define PAGE_WRITABLE BIT(1)

/* The window: one page at 512 GiB, the first linear address of the second PML4 entry. */
#define WINDOW 0x8000000000ull
#define PML4_INDEX 1

static uint64_t page_directory_pointers[512] PAGE;
static uint64_t page_directory[512] PAGE;
static uint64_t page_table[512] PAGE;

static const char first_page[PAGE_SIZE] PAGE = "the first page";
static const char second_page[PAGE_SIZE] PAGE = "the second page";

static void set_up_window(void)
{
	uint64_t *pml4 = (uint64_t *)read_cr3();
	pml4[PML4_INDEX] = (uint64_t)page_directory_pointers | PAGE_PRESENT | PAGE_WRITABLE;
	page_directory_pointers[0] = (uint64_t)page_directory | PAGE_PRESENT | PAGE_WRITABLE;
	page_directory[0] = (uint64_t)page_table | PAGE_PRESENT | PAGE_WRITABLE;
}

/* The mistake: a processor may use the old translation until INVLPG, or a load of CR3, removes it from the TLB. */
static void show(const char *page)
{
	page_table[0] = (uint64_t)page | PAGE_PRESENT;
}

static inline void invalidate(uint64_t linear)
{
	asm volatile("invlpg (%0)" : : "r"(linear) : "memory");
}

static void look(const char *expected)
{
	print("%s is mapped, the window shows %s\n", expected, (const char *)WINDOW);
}

_Noreturn void vmm_main(void)
{
	console_init();
	set_up_window();

	show(first_page);
	look("the first page"); /* Fills the TLB. */

	show(second_page);
	look("the second page"); /* The TLB still has the first. */

	invalidate(WINDOW);
	look("the second page");
	end_machine(END_SUCCESS);
}
