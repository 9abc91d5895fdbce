/* The guest's VM exits: it only prints and halts. */
#include "exits.h"
#include "assignment.h"
#include "console.h"
#include "guest_memory.h"
#include "iommu.h"
#include "vmcs.h"

static void guest_console(char c)
{
	static int at_start_of_line = 1;
	if (at_start_of_line)
		print("  guest says: ");
	print_char(c);
	at_start_of_line = c == '\n';
}

static uint64_t host_memory(uint64_t address)
{
	return *(volatile uint64_t *)address;
}

/* What the device has done to the host. */
static _Noreturn void end_guest(void)
{
	iommu_report();
	int wrong_page = host_memory(GUEST_BUFFER) != SECRET_VALUE, overwritten = host_memory(HOST_SECRET) != SECRET_VALUE;
	print("Host memory at %lx, which the guest calls its own: %s\n", (uint64_t)GUEST_BUFFER,
	      wrong_page ? "WRITTEN BY THE DEVICE" : "untouched");
	print("Host memory at %lx, beyond the guest's memory: %s\n", (uint64_t)HOST_SECRET,
	      overwritten ? "WRITTEN BY THE DEVICE" : "untouched");
	end_machine(wrong_page || overwritten ? END_FAILURE : END_SUCCESS);
}

void handle_vm_exit(struct guest_registers *registers)
{
	uint64_t reason = vmread(EXIT_REASON), qualification = vmread(EXIT_QUALIFICATION);
	if (reason == EXIT_REASON_HLT)
		end_guest();
	if (reason != EXIT_REASON_IO_INSTRUCTION || IO_QUALIFICATION_PORT(qualification) != GUEST_CONSOLE_PORT)
		die("Unexpected exit %lx, qualification %lx, guest RIP %lx.", reason, qualification, vmread(GUEST_RIP));
	guest_console((char)registers->rax);
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
}

_Noreturn void vm_resume_failed(void)
{
	die("VMRESUME failed, VM-instruction error %u.", (unsigned)vmread(VM_INSTRUCTION_ERROR));
}
