/* first-vmm's EPT, but for the device's page: it leads to the registers, so that the guest's accesses do not exit. */
#include "ept.h"
#include "assignment.h"
#include "device.h"
#include "guest_memory.h"

extern struct device assigned_device;

#define PAGE_TABLE __attribute__((aligned(PAGE_SIZE)))
static uint64_t pml4[512] PAGE_TABLE;
static uint64_t page_directory_pointers[512] PAGE_TABLE;
static uint64_t page_directory[512] PAGE_TABLE;
static uint64_t page_table[512] PAGE_TABLE; /* guest-physical 0…2 MiB */

uint64_t ept_build(void)
{
	pml4[0] = (uint64_t)page_directory_pointers | EPT_ALL;
	page_directory_pointers[0] = (uint64_t)page_directory | EPT_ALL;
	page_directory[0] = (uint64_t)page_table | EPT_ALL;
	for (uint64_t address = 0; address < LARGE_PAGE_SIZE; address += PAGE_SIZE)
		page_table[address / PAGE_SIZE] =
			(uint64_t)(guest_memory + address) | EPT_ALL | EPT_MEMORY_TYPE_WRITE_BACK;
	page_table[DEVICE_ADDRESS / PAGE_SIZE] =
		assigned_device.registers | EPT_READ | EPT_WRITE | EPT_MEMORY_TYPE_UNCACHEABLE;
	for (uint64_t address = LARGE_PAGE_SIZE; address < GUEST_MEMORY_SIZE; address += LARGE_PAGE_SIZE)
		page_directory[address / LARGE_PAGE_SIZE] =
			(uint64_t)(guest_memory + address) | EPT_ALL | EPT_MEMORY_TYPE_WRITE_BACK | EPT_LARGE_PAGE;
	return (uint64_t)pml4 | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_LENGTH_4;
}
