/* The VM exits of both runs. With EPT those about paging do not happen. */
#include "exits.h"
#include "console.h"
#include "guest_machine.h"
#include "runs.h"
#include "shadow.h"
#include "vmcs.h"

#define RUNS 2
static unsigned exit_counts[RUNS][EXIT_REASON_COUNT];
/* Of the exits by #PF: those that were the guest's own, and went on to it. */
static unsigned reflected;

static void skip_instruction(void)
{
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
}

/* ---- What shadow paging is made of ---- */

#define INTERRUPTION_VALID BIT(31)
#define INTERRUPTION_DELIVER_ERROR_CODE BIT(11)
#define INTERRUPTION_HARDWARE_EXCEPTION (3ull << 8)
#define INTERRUPTION_VECTOR 0xFF

static inline void write_cr2(uint64_t value)
{
	asm volatile("mov %0, %%cr2" : : "r"(value));
}

/* As the processor would: CR2 is not in the VMCS, and VM entries leave it alone. */
static void inject_page_fault(uint64_t linear, uint64_t error_code)
{
	write_cr2(linear);
	vmwrite(ENTRY_INTERRUPTION_INFORMATION, INTERRUPTION_VALID | INTERRUPTION_HARDWARE_EXCEPTION |
	                                                INTERRUPTION_DELIVER_ERROR_CODE | EXCEPTION_PAGE_FAULT);
	vmwrite(ENTRY_EXCEPTION_ERROR_CODE, error_code);
}

/* The fault may have come up while an event was delivered, as on the guest's stack: then that is still to be done. */
static int resume_delivery(void)
{
	uint64_t information = vmread(IDT_VECTORING_INFORMATION);
	if (!(information & INTERRUPTION_VALID))
		return 0;
	vmwrite(ENTRY_INTERRUPTION_INFORMATION, information);
	if (information & INTERRUPTION_DELIVER_ERROR_CODE)
		vmwrite(ENTRY_EXCEPTION_ERROR_CODE, vmread(IDT_VECTORING_ERROR_CODE));
	return 1;
}

static void handle_page_fault(void)
{
	uint64_t linear = vmread(EXIT_QUALIFICATION), error_code = vmread(EXIT_INTERRUPTION_ERROR_CODE);
	if ((vmread(EXIT_INTERRUPTION_INFORMATION) & INTERRUPTION_VECTOR) != EXCEPTION_PAGE_FAULT)
		die("Unexpected exception or NMI at %lx.", vmread(GUEST_RIP));
	int is_filled = shadow_fill(linear, error_code);
	int is_delivery = resume_delivery();
	if (is_filled)
		return;
	if (is_delivery)
		die("The guest faults in the delivery of an event, at %lx.", linear);
	reflected++;
	inject_page_fault(linear, error_code);
}

#define CR_QUALIFICATION_NUMBER(q) ((q) & 15)
#define CR_QUALIFICATION_TYPE(q) ((q) >> 4 & 3)
#define CR_QUALIFICATION_REGISTER(q) ((q) >> 8 & 15)
enum { CR_TYPE_MOV_TO_CR, CR_TYPE_MOV_FROM_CR };

static void handle_cr3(struct guest_registers *registers)
{
	enum { CR3 = 3, RSP = 4 };
	uint64_t qualification = vmread(EXIT_QUALIFICATION);
	unsigned number = CR_QUALIFICATION_REGISTER(qualification);
	if (CR_QUALIFICATION_NUMBER(qualification) != CR3 || number == RSP)
		die("Unexpected access to a control register, qualification %lx.", qualification);
	/* RSP, number 4, is in the VMCS and not in the structure. */
	uint64_t *operand = (uint64_t *)registers + (number < RSP ? number : number - 1);
	if (CR_QUALIFICATION_TYPE(qualification) == CR_TYPE_MOV_TO_CR)
		shadow_switch(*operand);
	else
		*operand = shadow_guest_cr3();
	skip_instruction();
}

static void handle_invlpg(void)
{
	shadow_forget(vmread(EXIT_QUALIFICATION));
	skip_instruction();
}

/* ---- What both runs need ---- */

static void handle_io(struct guest_registers *registers)
{
	static int at_start_of_line = 1;
	if (IO_QUALIFICATION_PORT(vmread(EXIT_QUALIFICATION)) != GUEST_CONSOLE_PORT)
		die("Unexpected I/O, qualification %lx.", vmread(EXIT_QUALIFICATION));
	char c = (char)registers->rax;
	if (at_start_of_line)
		print("  guest says: ");
	print_char(c);
	at_start_of_line = c == '\n';
	skip_instruction();
}

static void print_counts(enum paging paging)
{
	const unsigned *counts = exit_counts[paging];
	print("VM exits %s: %u #PF, %u CR3, %u INVLPG, %u I/O, %u HLT\n",
	      paging == BY_EPT ? "by EPT" : "by shadow page tables", counts[EXIT_REASON_EXCEPTION_OR_NMI],
	      counts[EXIT_REASON_CR_ACCESS], counts[EXIT_REASON_INVLPG], counts[EXIT_REASON_IO_INSTRUCTION],
	      counts[EXIT_REASON_HLT]);
}

static _Noreturn void end_run(void)
{
	if (current_run() == BY_SHADOW_TABLES)
		begin_run(BY_EPT);
	print_counts(BY_SHADOW_TABLES);
	print("Of the #PF, %u were the guest's own\n", reflected);
	print_counts(BY_EPT);
	end_machine(END_SUCCESS);
}

void handle_vm_exit(struct guest_registers *registers)
{
	uint64_t reason = vmread(EXIT_REASON);
	if (reason < EXIT_REASON_COUNT)
		exit_counts[current_run()][reason]++;
	switch (reason) {
	case EXIT_REASON_EXCEPTION_OR_NMI:
		handle_page_fault();
		return;
	case EXIT_REASON_CR_ACCESS:
		handle_cr3(registers);
		return;
	case EXIT_REASON_INVLPG:
		handle_invlpg();
		return;
	case EXIT_REASON_IO_INSTRUCTION:
		handle_io(registers);
		return;
	case EXIT_REASON_HLT:
		end_run();
	default:
		die("Unexpected exit %lx, qualification %lx, guest RIP %lx.", reason, vmread(EXIT_QUALIFICATION),
		    vmread(GUEST_RIP));
	}
}

_Noreturn void vm_resume_failed(void)
{
	die("VMRESUME failed, VM-instruction error %u.", (unsigned)vmread(VM_INSTRUCTION_ERROR));
}
