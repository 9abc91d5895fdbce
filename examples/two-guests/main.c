/* A hypervisor for two guests on one processor. */
#include "console.h"
#include "multiboot.h"
#include "scheduler.h"
#include "vmcs.h"

static struct vcpu vcpus[VCPU_COUNT];

_Noreturn void vmm_main(uint32_t magic, const struct multiboot_information *information)
{
	console_init();
	print("Two guests\n");
	if (magic != MULTIBOOT_LOADER_MAGIC || information->module_count < VCPU_COUNT)
		die("Give primes.elf and collatz.elf as multiboot modules.");
	out8(0x21, 0xFF); /* no interrupts from the 8259s */
	out8(0xA1, 0xFF);
	check_processor();
	enter_vmx_operation();
	const struct multiboot_module *modules = (const struct multiboot_module *)(uintptr_t)information->modules;
	static const char *const names[VCPU_COUNT] = {"primes", "collatz"};
	for (unsigned i = 0; i < VCPU_COUNT; i++)
		vcpu_create(&vcpus[i], i, names[i], (const uint8_t *)(uintptr_t)modules[i].start,
		            modules[i].end - modules[i].start);
	schedule(vcpus);
	/* How often somebody's turn was over depends on the processor's speed; that it was does not. */
	for (unsigned i = 0; i < VCPU_COUNT; i++)
		print("%s (VPID %u, interrupted %s) says: %s", vcpus[i].name, vcpus[i].vpid,
		      vcpus[i].preemptions > 1 ? "more than once" : "HARDLY EVER", vcpus[i].console);
	end_machine(END_SUCCESS);
}
