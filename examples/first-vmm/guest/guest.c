/* A guest that does one thing of each kind that its VMM has a handler for. */
#include "../cpu.h"
#include "../guest_machine.h"
#include "print.h"

/* Guest-physical addresses begin at this linear address; see guest.ld. */
#define LINEAR_BASE 0x40000000ull

uint32_t mmio_read32(uint64_t address);
void mmio_write32(uint64_t address, uint32_t value);

/* Counted by the handler in entry.S. */
volatile uint32_t general_protection_count;

static void check(const char *what, int holds)
{
	print(what);
	print(holds ? ": yes\n" : ": NO\n");
}

static void look_at_processor(void)
{
	struct cpuid_result vendor = cpuid(CPUID_HYPERVISOR, 0);
	uint32_t name[4] = {vendor.ebx, vendor.ecx, vendor.edx, 0};
	print("I run on ");
	print((const char *)name);
	print("\n");
	struct cpuid_result features = cpuid(1, 0);
	check("VMX is hidden", !(features.ecx & BIT(5)));
}

static void use_adder(void)
{
	const uint64_t adder = LINEAR_BASE + ADDER_ADDRESS;
	check("The adder is there", mmio_read32(adder + ADDER_IDENTITY) == ADDER_IDENTITY_VALUE);
	mmio_write32(adder + ADDER_ADD, 40);
	mmio_write32(adder + ADDER_ADD, 2);
	print("40 + 2 = ");
	print_number(mmio_read32(adder + ADDER_SUM));
	print("\n");
}

static void use_control_registers(void)
{
	check("CR0.NE reads 0", !(read_cr0() & CR0_NE)); /* It is 1, but the read shadow says 0. */
	check("CR4.VMXE reads 0", !(read_cr4() & CR4_VMXE));
	write_cr0(read_cr0() | CR0_TS); /* not in the mask: no exit */
	write_cr0(read_cr0() | CR0_WP); /* in the mask: exit */
	check("CR0.WP reads 1", (read_cr0() & CR0_WP) != 0);
	write_cr4(read_cr4() | CR4_PGE); /* exit */
	check("CR4.PGE reads 1", (read_cr4() & CR4_PGE) != 0);
}

static void use_msrs(void)
{
	const uint64_t star = 0x0013000800000000;
	wrmsr(IA32_STAR, star);
	check("IA32_STAR keeps its value", rdmsr(IA32_STAR) == star);
	check("Time goes on", rdmsr(IA32_TIME_STAMP_COUNTER) > 0); /* no exit: its bit in the MSR bitmap is 0 */
	rdmsr(IA32_FEATURE_CONTROL);
	check("An MSR that is not offered faults", general_protection_count == 1);
	check("Exits are counted", rdmsr(MSR_EXIT_COUNT) > 0);
}

void guest_main(void)
{
	out8(GUEST_POST_PORT, 1); /* no exit: its bit in the I/O bitmap is 0 */
	print("Hello\n");
	look_at_processor();
	use_adder();
	use_control_registers();
	use_msrs();
	print("Goodbye\n");
}
