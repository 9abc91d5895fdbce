#include "iommu.h"
#include "console.h"
#include "cpu.h"
#include "guest_memory.h"

/* The DMAR table of the firmware says where the registers are; this VMM knows where Q35 machines have them. */
#define IOMMU 0xFED90000ull
#define IOMMU_VERSION 0x00
#define IOMMU_CAPABILITY 0x08
#define IOMMU_GLOBAL_COMMAND 0x18
#define IOMMU_GLOBAL_STATUS 0x1C
#define IOMMU_ROOT_TABLE 0x20
#define IOMMU_CONTEXT_COMMAND 0x28
#define IOMMU_FAULT_STATUS 0x34
#define IOMMU_EXTENDED_CAPABILITY 0x10

#define GLOBAL_TRANSLATION 0x80000000u
#define GLOBAL_SET_ROOT_TABLE 0x40000000u
#define CONTEXT_INVALIDATE_ALL (BIT(63) | BIT(61))
#define IOTLB_INVALIDATE_ALL (BIT(63) | BIT(60))
#define INVALIDATION_BUSY BIT(63)
#define FAULT_PENDING BIT(1)
#define FAULT_RECORDED BIT(63)
#define FAULT_IS_READ BIT(62)

#define PRESENT BIT(0)
#define SECOND_STAGE_READ BIT(0)
#define SECOND_STAGE_WRITE BIT(1)
#define SECOND_STAGE_LARGE_PAGE BIT(7)
#define ADDRESS_WIDTH_48 2ull
#define GUEST_DOMAIN 1ull

#define PAGE_TABLE __attribute__((aligned(PAGE_SIZE)))
static uint64_t root_table[512] PAGE_TABLE;    /* two quadwords for each bus */
static uint64_t context_table[512] PAGE_TABLE; /* two quadwords for each device and function of bus 0 */
static uint64_t pml4[512] PAGE_TABLE;
static uint64_t page_directory_pointers[512] PAGE_TABLE;
static uint64_t page_directory[512] PAGE_TABLE;

static uint32_t read32(unsigned offset)
{
	return *(volatile uint32_t *)(IOMMU + offset);
}
static void write32(unsigned offset, uint32_t value)
{
	*(volatile uint32_t *)(IOMMU + offset) = value;
}
static uint64_t read64(unsigned offset)
{
	return *(volatile uint64_t *)(IOMMU + offset);
}
static void write64(unsigned offset, uint64_t value)
{
	*(volatile uint64_t *)(IOMMU + offset) = value;
}

/* Guest-physical addresses to where the guest's memory is: the same as ept.c builds for the processor. */
static void build_tables(uint16_t requester)
{
	const uint64_t rights = SECOND_STAGE_READ | SECOND_STAGE_WRITE;
	root_table[0] = (uint64_t)context_table | PRESENT;
	context_table[2 * requester] = (uint64_t)pml4 | PRESENT;
	context_table[2 * requester + 1] = GUEST_DOMAIN << 8 | ADDRESS_WIDTH_48;
	pml4[0] = (uint64_t)page_directory_pointers | rights;
	page_directory_pointers[0] = (uint64_t)page_directory | rights;
	for (uint64_t address = 0; address < GUEST_MEMORY_SIZE; address += LARGE_PAGE_SIZE)
		page_directory[address / LARGE_PAGE_SIZE] =
			(uint64_t)(guest_memory + address) | rights | SECOND_STAGE_LARGE_PAGE;
}

static void command(uint32_t bit)
{
	write32(IOMMU_GLOBAL_COMMAND, bit);
	while (!(read32(IOMMU_GLOBAL_STATUS) & bit))
		;
}

/* Where the registers of IOTLB invalidation are, in units of 16 bytes, is in bits 17:8 of ECAP. */
static unsigned iotlb_registers(void)
{
	return (unsigned)(read64(IOMMU_EXTENDED_CAPABILITY) >> 8 & 0x3FF) * 16;
}

static void invalidate_everything(void)
{
	write64(IOMMU_CONTEXT_COMMAND, CONTEXT_INVALIDATE_ALL);
	while (read64(IOMMU_CONTEXT_COMMAND) & INVALIDATION_BUSY)
		;
	unsigned iotlb = iotlb_registers() + 8;
	write64(iotlb, IOTLB_INVALIDATE_ALL);
	while (read64(iotlb) & INVALIDATION_BUSY)
		;
}

int iommu_assign(uint16_t requester)
{
	if (read32(IOMMU_VERSION) == 0xFFFFFFFF)
		return 0; /* Nothing answers there. */
	build_tables(requester);
	write64(IOMMU_ROOT_TABLE, (uint64_t)root_table);
	command(GLOBAL_SET_ROOT_TABLE);
	invalidate_everything();
	command(GLOBAL_TRANSLATION);
	return 1;
}

void iommu_report(void)
{
	if (read32(IOMMU_VERSION) == 0xFFFFFFFF || !(read32(IOMMU_FAULT_STATUS) & FAULT_PENDING))
		return;
	/* CAP has the place of the fault recording registers in bits 33:24, and their number less one in 47:40. */
	uint64_t capability = read64(IOMMU_CAPABILITY);
	unsigned at = (unsigned)(capability >> 24 & 0x3FF) * 16, count = (unsigned)(capability >> 40 & 0xFF) + 1;
	for (unsigned i = 0; i < count; i++, at += 16) {
		uint64_t upper = read64(at + 8);
		if (!(upper & FAULT_RECORDED))
			continue;
		print("VT-d: requester %x was refused a %s at %lx, fault reason %x\n", (unsigned)(upper & 0xFFFF),
		      upper & FAULT_IS_READ ? "read" : "write", read64(at), (unsigned)(upper >> 32 & 0xFF));
	}
}
