/* A hypervisor for one guest: prepares, launches, and from then on lives in exits.c. */
#include "console.h"
#include "multiboot.h"
#include "vmcs.h"

/* The firmware may have left the timer running, and every interrupt would be a VM exit: silence the 8259s. */
static void mask_interrupts(void)
{
	const uint16_t first_mask_port = 0x21, second_mask_port = 0xA1;
	out8(first_mask_port, 0xFF);
	out8(second_mask_port, 0xFF);
}

static const struct multiboot_module *find_guest(uint32_t magic, const struct multiboot_information *information)
{
	if (magic != MULTIBOOT_LOADER_MAGIC)
		die("Not started by a multiboot loader.");
	if (!(information->flags & MULTIBOOT_INFO_MODULES) || information->module_count == 0)
		die("No guest: give guest.elf as the first module.");
	return (const struct multiboot_module *)(uintptr_t)information->modules;
}

_Noreturn void vmm_main(uint32_t magic, const struct multiboot_information *information)
{
	console_init();
	print("First VMM\n");
	const struct multiboot_module *module = find_guest(magic, information);
	mask_interrupts();
	check_processor();
	enter_vmx_operation();
	struct guest_image guest = load_guest((const uint8_t *)(uintptr_t)module->start, module->end - module->start);
	set_up_vmcs(guest);
	print("Launching the guest at %lx\n", guest.entry);
	launch_guest();
	/* Only a VMLAUNCH that failed comes here. */
	unsigned error = (unsigned)vmread(VM_INSTRUCTION_ERROR);
	die("VMLAUNCH failed, VM-instruction error %u.", error);
}
