#include "device.h"
#include "assignment.h"
#include "console.h"
#include "cpu.h"

/* Configuration mechanism #1: an address at CF8h, the doubleword at CFCh. */
#define CONFIG_ADDRESS 0xCF8
#define CONFIG_DATA 0xCFC
#define CONFIG_ENABLE 0x80000000u
#define CONFIG_COMMAND 0x04
#define CONFIG_BAR_0 0x10
#define COMMAND_MEMORY BIT(1)
#define COMMAND_BUS_MASTER BIT(2)
#define DEVICES_ON_A_BUS 32

static uint32_t in32(uint16_t port)
{
	uint32_t value;
	asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static uint32_t read_config(uint16_t requester, unsigned offset)
{
	out32(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)requester << 8 | offset);
	return in32(CONFIG_DATA);
}

static void write_config(uint16_t requester, unsigned offset, uint32_t value)
{
	out32(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)requester << 8 | offset);
	out32(CONFIG_DATA, value);
}

struct device find_device(void)
{
	for (unsigned number = 0; number < DEVICES_ON_A_BUS; number++) {
		uint16_t requester = (uint16_t)(number << 3);
		if (read_config(requester, 0) != EDU_VENDOR_AND_DEVICE)
			continue;
		uint32_t command = read_config(requester, CONFIG_COMMAND) & 0xFFFF;
		write_config(requester, CONFIG_COMMAND, command | COMMAND_MEMORY | COMMAND_BUS_MASTER);
		uint32_t registers = read_config(requester, CONFIG_BAR_0) & ~0xFu;
		print("edu is PCI device 0:%x.0, its registers are at %x\n", number, registers);
		return (struct device){requester, registers};
	}
	die("There is no edu device.");
}
