/* A hypervisor that gives a PCI device to its guest, behind VT-d where the machine has it. */
#include "assignment.h"
#include "console.h"
#include "device.h"
#include "iommu.h"
#include "multiboot.h"
#include "vmcs.h"

/* For ept.c. */
struct device assigned_device;

_Noreturn void vmm_main(uint32_t magic, const struct multiboot_information *information)
{
	console_init();
	print("Direct assignment\n");
	if (magic != MULTIBOOT_LOADER_MAGIC || !(information->flags & MULTIBOOT_INFO_MODULES) || !information->module_count)
		die("No guest: give guest.elf as the first multiboot module.");
	const struct multiboot_module *module = (const struct multiboot_module *)(uintptr_t)information->modules;
	out8(0x21, 0xFF); /* no interrupts from the 8259s */
	out8(0xA1, 0xFF);
	*(volatile uint64_t *)HOST_SECRET = SECRET_VALUE;
	*(volatile uint64_t *)GUEST_BUFFER = SECRET_VALUE;
	assigned_device = find_device();
	check_processor();
	enter_vmx_operation();
	struct guest_image guest = load_guest((const uint8_t *)(uintptr_t)module->start, module->end - module->start);
	set_up_vmcs(guest);
	if (iommu_assign(assigned_device.requester))
		print("VT-d translates the device's addresses as EPT does the guest's\n");
	else
		print("There is no VT-d: the device takes the guest's addresses for the host's\n");
	launch_guest();
	die("VMLAUNCH failed, VM-instruction error %u.", (unsigned)vmread(VM_INSTRUCTION_ERROR));
}
