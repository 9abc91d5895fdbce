/* A hypervisor without EPT, and then one with EPT, for the same guest. */
#include "console.h"
#include "multiboot.h"
#include "runs.h"
#include "shadow.h"
#include "vmcs.h"

static const struct multiboot_module *module;
static enum paging run;

enum paging current_run(void)
{
	return run;
}

/* Turns a VMCS for EPT into one without: guest-physical addresses mean nothing to the processor any more. */
static void use_shadow_tables(uint64_t page_table_root)
{
	shadow_switch(page_table_root);
	vmwrite(GUEST_CR3, shadow_root());
	/* Without VPIDs every VM entry and VM exit empties the TLB, so the shadow tables need no INVVPID. */
	vmwrite(SECONDARY_CONTROLS, 0);
	vmwrite(PRIMARY_CONTROLS, vmread(PRIMARY_CONTROLS) | PRIMARY_INVLPG_EXITING | PRIMARY_CR3_LOAD_EXITING |
	                                  PRIMARY_CR3_STORE_EXITING);
	vmwrite(EXCEPTION_BITMAP, BIT(EXCEPTION_PAGE_FAULT));
}

_Noreturn void begin_run(enum paging paging)
{
	run = paging;
	print(paging == BY_SHADOW_TABLES ? "By shadow page tables:\n" : "By EPT:\n");
	struct guest_image guest = load_guest((const uint8_t *)(uintptr_t)module->start, module->end - module->start);
	set_up_vmcs(guest);
	/* The guest begins with CR0.WP = 1: its kernel, too, writes only where an entry permits it. */
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_WP);
	vmwrite(CR0_READ_SHADOW, vmread(CR0_READ_SHADOW) | CR0_WP);
	if (paging == BY_SHADOW_TABLES)
		use_shadow_tables(guest.page_table_root);
	launch_guest();
	die("VMLAUNCH failed, VM-instruction error %u.", (unsigned)vmread(VM_INSTRUCTION_ERROR));
}

_Noreturn void vmm_main(uint32_t magic, const struct multiboot_information *information)
{
	console_init();
	print("Shadow paging\n");
	if (magic != MULTIBOOT_LOADER_MAGIC || !(information->flags & MULTIBOOT_INFO_MODULES) || !information->module_count)
		die("No guest: give guest.elf as the first multiboot module.");
	module = (const struct multiboot_module *)(uintptr_t)information->modules;
	out8(0x21, 0xFF); /* no interrupts from the 8259s */
	out8(0xA1, 0xFF);
	check_processor();
	enter_vmx_operation();
	begin_run(BY_SHADOW_TABLES);
}
