#include "ept.h"
#include "guest_memory.h"

#define PAGE_TABLE __attribute__((aligned(PAGE_SIZE)))
static uint64_t pml4[512] PAGE_TABLE;
static uint64_t page_directory_pointers[512] PAGE_TABLE;
static uint64_t page_directory[512] PAGE_TABLE;
static uint64_t page_table[512] PAGE_TABLE; /* guest-physical 0…2 MiB */

uint64_t ept_build(void)
{
	/* Rights of all levels are combined with "and"; the upper levels grant everything and the leaves decide. */
	pml4[0] = (uint64_t)page_directory_pointers | EPT_ALL;
	page_directory_pointers[0] = (uint64_t)page_directory | EPT_ALL;

	/* The first 2 MiB in pages of 4 KiB, because one of them must be missing. */
	page_directory[0] = (uint64_t)page_table | EPT_ALL;
	for (uint64_t address = 0; address < LARGE_PAGE_SIZE; address += PAGE_SIZE) {
		if (address == ADDER_ADDRESS)
			continue; /* An entry of zero is not present: every access is an EPT violation. */
		page_table[address / PAGE_SIZE] =
			(uint64_t)(guest_memory + address) | EPT_ALL | EPT_MEMORY_TYPE_WRITE_BACK;
	}

	/* The rest in pages of 2 MiB. */
	for (uint64_t address = LARGE_PAGE_SIZE; address < GUEST_MEMORY_SIZE; address += LARGE_PAGE_SIZE)
		page_directory[address / LARGE_PAGE_SIZE] =
			(uint64_t)(guest_memory + address) | EPT_ALL | EPT_MEMORY_TYPE_WRITE_BACK | EPT_LARGE_PAGE;

	return (uint64_t)pml4 | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_LENGTH_4;
}
