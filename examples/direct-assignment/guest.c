/* A guest that owns a device: it lets the device copy memory, once within the guest's memory and once beyond it. */
#include "assignment.h"
#include "cpu.h"
#include "guest/print.h"

/* Guest-physical addresses begin at this linear address; see ../first-vmm/guest.ld. */
#define LINEAR_BASE 0x40000000ull

/* Counted by the handler in entry.S, which this guest has no need of. */
volatile uint32_t general_protection_count;

/* The device's source: some page of the guest. */
static volatile uint64_t message __attribute__((aligned(PAGE_SIZE)));

static volatile uint32_t *device_register(unsigned offset)
{
	return (volatile uint32_t *)(LINEAR_BASE + DEVICE_ADDRESS + offset);
}

/* Addresses for the device are guest-physical: the guest knows no others. */
static void transfer(uint64_t source, uint64_t destination, uint32_t command)
{
	*device_register(EDU_DMA_SOURCE) = (uint32_t)source;
	*device_register(EDU_DMA_DESTINATION) = (uint32_t)destination;
	*device_register(EDU_DMA_COUNT) = sizeof message;
	*device_register(EDU_DMA_COMMAND) = command | EDU_DMA_START;
	while (*device_register(EDU_DMA_COMMAND) & EDU_DMA_START)
		;
}

void guest_main(void)
{
	volatile uint64_t *buffer = (volatile uint64_t *)(LINEAR_BASE + GUEST_BUFFER);
	print(*device_register(EDU_IDENTITY) == EDU_IDENTITY_VALUE ? "The device is mine\n" : "There is NO device\n");
	message = GUEST_VALUE;
	*buffer = 0;
	transfer((uint64_t)&message - LINEAR_BASE, EDU_BUFFER, 0);
	transfer(EDU_BUFFER, GUEST_BUFFER, EDU_DMA_TO_MEMORY);
	print(*buffer == GUEST_VALUE ? "DMA has copied my message\n" : "DMA has NOT copied my message\n");
	print("Now the device shall write where I have no memory\n");
	transfer(EDU_BUFFER, HOST_SECRET, EDU_DMA_TO_MEMORY);
	print("Goodbye\n");
}
