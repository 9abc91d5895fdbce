/* A hypervisor that moves its guest to another host while the guest runs. */
#include "console.h"
#include "guest_machine.h"
#include "move.h"
#include "multiboot.h"
#include "vmcs.h"

/* So few pages are copied while the guest stands still: nobody notices. */
#define FEW_PAGES 8

static struct host hosts[HOST_COUNT];

/* The guest's output, with the name of the host that it comes from. Returns whether a line has ended. */
static int write_console(const struct vcpu *vcpu, char c)
{
	static int is_inside_line;
	if (!is_inside_line)
		print("%s: ", vcpu->name);
	print_char(c);
	is_inside_line = c != '\n';
	return !is_inside_line;
}

enum verdict { GO_ON, LINE_IS_WRITTEN, HAS_ENDED };

/* What a VM exit means. The guest's VMCS is current. */
static enum verdict handle_exit(struct vcpu *vcpu)
{
	uint64_t reason = vmread(EXIT_REASON), qualification = vmread(EXIT_QUALIFICATION);
	switch (reason) {
	case EXIT_REASON_HLT:
		return HAS_ENDED;
	case EXIT_REASON_IO_INSTRUCTION:
		vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
		if (IO_QUALIFICATION_PORT(qualification) != GUEST_CONSOLE_PORT)
			return GO_ON;
		return write_console(vcpu, (char)vcpu->registers[RAX]) ? LINE_IS_WRITTEN : GO_ON;
	default:
		die("Unexpected exit %lx, qualification %lx, RIP %lx.", reason, qualification, vmread(GUEST_RIP));
	}
}

static enum verdict run(struct host *host)
{
	enum verdict verdict;
	do {
		if (!run_vcpu(&host->vcpu))
			die("VM entry failed, VM-instruction error %u.", (unsigned)vmread(VM_INSTRUCTION_ERROR));
		verdict = handle_exit(&host->vcpu);
	} while (verdict == GO_ON);
	return verdict;
}

/*
 * Pre-copy: everything once, while the guest goes on; then again what it has written meanwhile; and when that is
 * little, the rest with the processor's state. The guest's lines mark the time: a hypervisor of several processors
 * would copy beside the running guest. Dies when the guest ends before.
 */
static void migrate(struct host *from, struct host *to)
{
	if (run(from) == HAS_ENDED)
		die("The guest has ended too early.");
	print("  %u pages are copied\n", copy_all_pages(from, to));
	for (;;) {
		if (run(from) == HAS_ENDED)
			die("The guest has ended too early.");
		unsigned count = copy_written_pages(from, to);
		print("  %u pages were written, and are copied again\n", count);
		if (count <= FEW_PAGES)
			break;
	}
	print("  15 registers and %u VMCS fields are moved\n", move_processor(from, to));
	forget_guest(from);
}

_Noreturn void vmm_main(uint32_t magic, const struct multiboot_information *information)
{
	console_init();
	print("Migration\n");
	if (magic != MULTIBOOT_LOADER_MAGIC || information->module_count < 1)
		die("Give guest.elf as a multiboot module.");
	out8(0x21, 0xFF); /* no interrupts from the 8259s */
	out8(0xA1, 0xFF);
	check_processor();
	enter_vmx_operation();
	struct host *here = &hosts[0], *there = &hosts[1];
	host_create(here, 0, "here");
	host_create(there, 1, "there");
	host_select(here);
	const struct multiboot_module *module = (const struct multiboot_module *)(uintptr_t)information->modules;
	set_up_guest_state(host_load(here, (const uint8_t *)(uintptr_t)module->start, module->end - module->start));
	migrate(here, there);
	while (run(there) != HAS_ENDED)
		;
	print("The guest has ended there\n");
	end_machine(END_SUCCESS);
}
