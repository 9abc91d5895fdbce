#include "vcpu.h"
#include "console.h"
#include "elf.h"
#include "ept.h"
#include "scheduler.h"
#include "vcpu_layout.h"
#include "vmcs.h"
#include <stddef.h>

_Static_assert(offsetof(struct vcpu, registers) == VCPU_REGISTER(0), "run.S");
_Static_assert(offsetof(struct vcpu, launched) == VCPU_LAUNCHED, "run.S");

#define PAGE __attribute__((aligned(PAGE_SIZE)))
#define ENTRIES_PER_TABLE 512
static uint32_t vmcs_regions[VCPU_COUNT][PAGE_SIZE / 4] PAGE;
static uint64_t pml4s[VCPU_COUNT][ENTRIES_PER_TABLE] PAGE;
static uint64_t page_directory_pointers[VCPU_COUNT][ENTRIES_PER_TABLE] PAGE;
static uint64_t page_directories[VCPU_COUNT][ENTRIES_PER_TABLE] PAGE;
__attribute__((section(".guest_memory"), aligned(GUEST_SIZE))) static uint8_t memories[VCPU_COUNT][GUEST_SIZE];

/* ---- Memory ---- */

/* Guest-physical 0 … 2 MiB, and nothing else. */
static uint64_t build_ept(unsigned number)
{
	pml4s[number][0] = (uint64_t)page_directory_pointers[number] | EPT_ALL;
	page_directory_pointers[number][0] = (uint64_t)page_directories[number] | EPT_ALL;
	page_directories[number][0] = (uint64_t)memories[number] | EPT_ALL | EPT_MEMORY_TYPE_WRITE_BACK | EPT_LARGE_PAGE;
	return (uint64_t)pml4s[number] | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_LENGTH_4;
}

/* Copies the segments to their guest-physical addresses. Returns the lowest one, where the page tables are. */
static uint64_t load(uint8_t *memory, const uint8_t *file, uint64_t size)
{
	const struct elf_header *header = (const struct elf_header *)file;
	if (size < sizeof *header || header->magic != ELF_MAGIC ||
	    header->program_headers + header->program_header_count * sizeof(struct elf_program_header) > size)
		die("A guest is no ELF file.");
	const struct elf_program_header *segments = (const struct elf_program_header *)(file + header->program_headers);
	uint64_t lowest = GUEST_SIZE;
	for (unsigned i = 0; i < header->program_header_count; i++) {
		const struct elf_program_header *s = &segments[i];
		if (s->type != ELF_SEGMENT_LOAD || s->memory_size == 0)
			continue;
		if (s->file_size > s->memory_size || s->offset + s->file_size > size || s->physical > GUEST_SIZE ||
		    s->memory_size > GUEST_SIZE - s->physical)
			die("A guest does not fit into its memory.");
		for (uint64_t at = 0; at < s->memory_size; at++)
			memory[s->physical + at] = at < s->file_size ? file[s->offset + at] : 0;
		if (s->physical < lowest)
			lowest = s->physical;
	}
	return lowest;
}

/* ---- The VMCS: first-vmm's README explains the fields ---- */

#define PIN_ACTIVATE_PREEMPTION_TIMER BIT(6)

/* All I/O exits, since no bitmap is used; the guests use no MSRs. */
#define PRIMARY_UNCONDITIONAL_IO_EXITING BIT(24)

static void set_up_controls(const struct vcpu *vcpu)
{
	vmwrite(PIN_BASED_CONTROLS, adjust_controls("pin-based", IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS,
	                                            PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING |
	                                                    PIN_ACTIVATE_PREEMPTION_TIMER));
	vmwrite(PRIMARY_CONTROLS, adjust_controls("processor-based", IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS,
	                                          PRIMARY_HLT_EXITING | PRIMARY_UNCONDITIONAL_IO_EXITING |
	                                                  PRIMARY_ACTIVATE_SECONDARY_CONTROLS));
	vmwrite(SECONDARY_CONTROLS, adjust_controls("processor-based", IA32_VMX_PROCBASED_CTLS2, IA32_VMX_PROCBASED_CTLS2,
	                                            SECONDARY_ENABLE_EPT | SECONDARY_ENABLE_VPID));
	vmwrite(EXIT_CONTROLS, adjust_controls("VM-exit", IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS,
	                                       EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_SAVE_IA32_EFER | EXIT_LOAD_IA32_EFER));
	vmwrite(ENTRY_CONTROLS, adjust_controls("VM-entry", IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS,
	                                        ENTRY_IA32E_MODE_GUEST | ENTRY_LOAD_IA32_EFER));
	static const enum vmcs_field zero[] = {
		EXCEPTION_BITMAP, PAGE_FAULT_ERROR_CODE_MASK, PAGE_FAULT_ERROR_CODE_MATCH, CR3_TARGET_COUNT,
		EXIT_MSR_STORE_COUNT, EXIT_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_COUNT, ENTRY_INTERRUPTION_INFORMATION,
		ENTRY_EXCEPTION_ERROR_CODE,
	};
	for (unsigned i = 0; i < sizeof zero / sizeof *zero; i++)
		vmwrite(zero[i], 0);
	vmwrite(EPT_POINTER, vcpu->ept_pointer);
	vmwrite(VPID, vcpu->vpid);
}

void vcpu_select(struct vcpu *vcpu)
{
	if (vmptrld((uint64_t)vcpu->vmcs) != VMX_SUCCEED)
		die("VMPTRLD failed.");
}

void vcpu_create(struct vcpu *vcpu, unsigned number, const char *name, const uint8_t *file, uint64_t size)
{
	vcpu->name = name;
	vcpu->vpid = number + 1; /* 0 is the VMM's own */
	vcpu->vmcs = vmcs_regions[number];
	vcpu->memory = memories[number];
	vcpu->ept_pointer = build_ept(number);
	uint64_t page_table_root = load(vcpu->memory, file, size);
	vcpu->vmcs[0] = (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7FFFFFFF;
	if (vmclear((uint64_t)vcpu->vmcs) != VMX_SUCCEED)
		die("VMCLEAR failed.");
	vcpu_select(vcpu);
	set_up_controls(vcpu);
	set_up_host_state(); /* run.S sets HOST_RSP */
	set_up_guest_state((struct guest_image){((const struct elf_header *)file)->entry, page_table_root});
	if (invept(vcpu->ept_pointer) != VMX_SUCCEED || invvpid((uint16_t)vcpu->vpid) != VMX_SUCCEED)
		die("INVEPT or INVVPID failed.");
}
