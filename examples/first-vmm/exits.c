#include "exits.h"
#include "adder.h"
#include "console.h"
#include "vmcs.h"

static unsigned exit_counts[EXIT_REASON_COUNT];
static unsigned exit_total;

enum verdict { RESUME_GUEST, END_GUEST };

/* ---- What several handlers need ---- */

/* After an instruction that was emulated, the guest goes on behind it. */
static void skip_instruction(void)
{
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
}

#define INTERRUPTION_VALID BIT(31)
#define INTERRUPTION_DELIVER_ERROR_CODE BIT(11)
#define INTERRUPTION_HARDWARE_EXCEPTION (3ull << 8)

/* The next VM entry delivers #GP(0) through the guest's IDT, as if the instruction had faulted: RIP stays on it. */
static void inject_general_protection(void)
{
	vmwrite(ENTRY_INTERRUPTION_INFORMATION,
	        INTERRUPTION_VALID | INTERRUPTION_HARDWARE_EXCEPTION | INTERRUPTION_DELIVER_ERROR_CODE | EXCEPTION_GP);
	vmwrite(ENTRY_EXCEPTION_ERROR_CODE, 0);
}

static uint64_t read_register(const struct guest_registers *registers, unsigned number)
{
	enum { RSP = 4 };
	if (number == RSP)
		return vmread(GUEST_RSP);
	/* RSP, number 4, is in the VMCS and not in the structure. */
	return ((const uint64_t *)registers)[number < RSP ? number : number - 1];
}

static void write_register(struct guest_registers *registers, unsigned number, uint64_t value)
{
	enum { RSP = 4 };
	if (number == RSP)
		vmwrite(GUEST_RSP, value);
	else
		((uint64_t *)registers)[number < RSP ? number : number - 1] = value;
}

/* ---- One handler per exit reason ---- */

static enum verdict handle_cpuid(struct guest_registers *registers)
{
	uint32_t leaf = (uint32_t)registers->rax;
	struct cpuid_result result;
	if (leaf == CPUID_HYPERVISOR)
		result = (struct cpuid_result){CPUID_HYPERVISOR, 0x73726946, 0x4D4D5674, 0x2D2D2D2D}; /* "FirstVMM----" */
	else
		result = cpuid(leaf, (uint32_t)registers->rcx);
	if (leaf == 1) {
		result.ecx &= ~(uint32_t)BIT(5);  /* no VMX for the guest */
		result.ecx |= (uint32_t)BIT(31);  /* "a hypervisor is present" */
	}
	registers->rax = result.eax;
	registers->rbx = result.ebx;
	registers->rcx = result.ecx;
	registers->rdx = result.edx;
	skip_instruction();
	return RESUME_GUEST;
}

/* A guest that halts with interrupts off can never wake: it is done. */
static enum verdict handle_hlt(struct guest_registers *registers)
{
	(void)registers;
	if (vmread(GUEST_RFLAGS) & RFLAGS_IF)
		print("guest: HLT with interrupts on, but this VMM has no interrupts to give\n");
	return END_GUEST;
}

/* Exit qualification of control-register accesses (SDM table "Exit Qualification for Control-Register Accesses"). */
#define CR_QUALIFICATION_NUMBER(q) ((q) & 15)
#define CR_QUALIFICATION_TYPE(q) ((q) >> 4 & 3)
#define CR_QUALIFICATION_REGISTER(q) ((q) >> 8 & 15)
#define CR_TYPE_MOV_TO_CR 0

static enum verdict handle_cr_access(struct guest_registers *registers)
{
	uint64_t qualification = vmread(EXIT_QUALIFICATION);
	unsigned number = CR_QUALIFICATION_NUMBER(qualification);
	if (CR_QUALIFICATION_TYPE(qualification) != CR_TYPE_MOV_TO_CR || (number != 0 && number != 4)) {
		print("guest: unexpected access to CR%u, qualification %lx\n", number, qualification);
		return END_GUEST;
	}
	uint64_t value = read_register(registers, CR_QUALIFICATION_REGISTER(qualification));
	/* What this VMM allows: its guest stays in 64-bit mode with paging, and has no VMX of its own. */
	const uint64_t cr0_required = CR0_PE | CR0_PG | CR0_ET, cr0_allowed = cr0_required | CR0_TS | CR0_NE | CR0_WP;
	const uint64_t cr4_required = CR4_PAE, cr4_allowed = cr4_required | CR4_PGE;
	uint64_t required = number == 0 ? cr0_required : cr4_required;
	uint64_t allowed = number == 0 ? cr0_allowed : cr4_allowed;
	if ((value & required) != required || (value & ~allowed)) {
		inject_general_protection();
		return RESUME_GUEST;
	}
	/* The guest will read what it wrote (the shadow); the processor obeys that plus what VMX fixes. */
	vmwrite(number == 0 ? CR0_READ_SHADOW : CR4_READ_SHADOW, value);
	vmwrite(number == 0 ? GUEST_CR0 : GUEST_CR4,
	        value | rdmsr(number == 0 ? IA32_VMX_CR0_FIXED0 : IA32_VMX_CR4_FIXED0));
	print("guest: CR%u = %lx\n", number, value);
	skip_instruction();
	return RESUME_GUEST;
}

static void guest_console(char c)
{
	static int at_start_of_line = 1;
	if (at_start_of_line)
		print("  guest says: ");
	print_char(c);
	at_start_of_line = c == '\n';
}

static enum verdict handle_io_instruction(struct guest_registers *registers)
{
	uint64_t qualification = vmread(EXIT_QUALIFICATION);
	if (qualification & IO_QUALIFICATION_STRING) {
		print("guest: INS and OUTS are not emulated\n");
		return END_GUEST;
	}
	/* The bits of RAX that the instruction moves: AL, AX or EAX. */
	uint64_t mask = BIT(8 * IO_QUALIFICATION_SIZE(qualification)) - 1;
	if (qualification & IO_QUALIFICATION_IN)
		registers->rax |= mask; /* Nothing answers: the bus floats high. */
	else if (IO_QUALIFICATION_PORT(qualification) == GUEST_CONSOLE_PORT)
		guest_console((char)registers->rax);
	if (qualification & IO_QUALIFICATION_IN && mask == 0xFFFFFFFF)
		registers->rax = mask; /* A 32-bit result clears the upper half. */
	skip_instruction();
	return RESUME_GUEST;
}

/* The guest's own IA32_STAR: it must not change the VMM's, and VM entries do not switch it. */
static uint64_t guest_star;

static enum verdict handle_rdmsr(struct guest_registers *registers)
{
	uint64_t value;
	switch ((uint32_t)registers->rcx) {
	case IA32_STAR:
		value = guest_star;
		break;
	case IA32_EFER:
		value = vmread(GUEST_IA32_EFER);
		break;
	case MSR_EXIT_COUNT:
		value = exit_total;
		break;
	default:
		print("guest: RDMSR of %x: #GP\n", (unsigned)registers->rcx);
		inject_general_protection();
		return RESUME_GUEST;
	}
	registers->rax = (uint32_t)value;
	registers->rdx = value >> 32;
	skip_instruction();
	return RESUME_GUEST;
}

static enum verdict handle_wrmsr(struct guest_registers *registers)
{
	uint64_t value = registers->rdx << 32 | (uint32_t)registers->rax;
	if ((uint32_t)registers->rcx != IA32_STAR) {
		print("guest: WRMSR of %x: #GP\n", (unsigned)registers->rcx);
		inject_general_protection();
		return RESUME_GUEST;
	}
	guest_star = value;
	skip_instruction();
	return RESUME_GUEST;
}

/* The longest instruction of an x86 processor has 15 bytes; those that are emulated here have at most 8. */
#define MMIO_INSTRUCTION_MAX 8
#define REX_MASK 0xF0
#define REX 0x40
#define REX_R BIT(2)
#define REX_W BIT(3)
#define OPCODE_MOV_TO_MEMORY 0x89   /* MOV r/m32, r32 */
#define OPCODE_MOV_FROM_MEMORY 0x8B /* MOV r32, r/m32 */

struct mmio_instruction {
	int is_write;
	unsigned register_number;
	unsigned length;
};

/*
 * An EPT violation does not tell which instruction it was or how long it is: read it from memory. Returns 0 unless it
 * is one of the two forms above with an address of [register], [register + disp8] or [register + disp32].
 */
static int decode_mmio(struct mmio_instruction *instruction)
{
	uint8_t bytes[MMIO_INSTRUCTION_MAX];
	for (unsigned i = 0; i < MMIO_INSTRUCTION_MAX; i++) {
		const uint8_t *byte = guest_linear_to_host(vmread(GUEST_RIP) + i);
		bytes[i] = byte ? *byte : 0;
	}
	unsigned at = 0, rex = 0;
	if ((bytes[at] & REX_MASK) == REX)
		rex = bytes[at++];
	unsigned opcode = bytes[at++], modrm = bytes[at++];
	unsigned mode = modrm >> 6, base = modrm & 7;
	if ((opcode != OPCODE_MOV_TO_MEMORY && opcode != OPCODE_MOV_FROM_MEMORY) || rex & REX_W)
		return 0;
	/* mode 3 is a register; base 4 announces a SIB byte; mode 0 with base 5 is RIP-relative. */
	if (mode == 3 || base == 4 || (mode == 0 && base == 5))
		return 0;
	const unsigned displacement_size[] = {0, 1, 4};
	instruction->is_write = opcode == OPCODE_MOV_TO_MEMORY;
	instruction->register_number = (modrm >> 3 & 7) | (rex & REX_R ? 8 : 0);
	instruction->length = at + displacement_size[mode];
	return 1;
}

static enum verdict handle_ept_violation(struct guest_registers *registers)
{
	uint64_t address = vmread(GUEST_PHYSICAL_ADDRESS);
	struct mmio_instruction instruction;
	if ((address & ~(PAGE_SIZE - 1)) != ADDER_ADDRESS || !decode_mmio(&instruction)) {
		print("guest: nothing at guest-physical %lx (qualification %lx)\n", address, vmread(EXIT_QUALIFICATION));
		return END_GUEST;
	}
	uint64_t offset = address - ADDER_ADDRESS;
	if (instruction.is_write)
		adder_write(offset, (uint32_t)read_register(registers, instruction.register_number));
	else
		write_register(registers, instruction.register_number, adder_read(offset));
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + instruction.length);
	return RESUME_GUEST;
}

static enum verdict handle_triple_fault(struct guest_registers *registers)
{
	(void)registers;
	print("guest: triple fault at %lx\n", vmread(GUEST_RIP));
	return END_GUEST;
}

/* ---- Dispatch ---- */

struct exit_handler {
	const char *name;
	enum verdict (*handle)(struct guest_registers *registers);
};

static const struct exit_handler exit_handlers[EXIT_REASON_COUNT] = {
	[EXIT_REASON_TRIPLE_FAULT] = {"triple fault", handle_triple_fault},
	[EXIT_REASON_CPUID] = {"CPUID", handle_cpuid},
	[EXIT_REASON_HLT] = {"HLT", handle_hlt},
	[EXIT_REASON_CR_ACCESS] = {"control-register access", handle_cr_access},
	[EXIT_REASON_IO_INSTRUCTION] = {"I/O instruction", handle_io_instruction},
	[EXIT_REASON_RDMSR] = {"RDMSR", handle_rdmsr},
	[EXIT_REASON_WRMSR] = {"WRMSR", handle_wrmsr},
	[EXIT_REASON_EPT_VIOLATION] = {"EPT violation", handle_ept_violation},
};

static _Noreturn void end_guest(void)
{
	print("The guest has ended. VM exits: %u\n", exit_total);
	for (unsigned reason = 0; reason < EXIT_REASON_COUNT; reason++)
		if (exit_counts[reason])
			print("  %u %s (exit reason %u)\n", exit_counts[reason], exit_handlers[reason].name, reason);
	end_machine(END_SUCCESS);
}

void handle_vm_exit(struct guest_registers *registers)
{
	uint64_t field = vmread(EXIT_REASON);
	uint64_t reason = field & 0xFFFF; /* bits above tell more, bit 31 that it was the VM entry that failed */
	if (field & BIT(31) || reason >= EXIT_REASON_COUNT || !exit_handlers[reason].handle)
		die("Unexpected exit %lx, qualification %lx, guest RIP %lx.", field, vmread(EXIT_QUALIFICATION),
		    vmread(GUEST_RIP));
	exit_counts[reason]++;
	exit_total++;
	if (exit_handlers[reason].handle(registers) == END_GUEST)
		end_guest();
}

_Noreturn void vm_resume_failed(void)
{
	die("VMRESUME failed, VM-instruction error %u.", (unsigned)vmread(VM_INSTRUCTION_ERROR));
}
