#include "host.h"
#include "console.h"
#include "elf.h"
#include "vcpu_layout.h"
#include "vmcs.h"
#include <stddef.h>

_Static_assert(offsetof(struct vcpu, registers) == VCPU_REGISTER(0), "run.S");
_Static_assert(offsetof(struct vcpu, launched) == VCPU_LAUNCHED, "run.S");

#define PAGE __attribute__((aligned(PAGE_SIZE)))
#define ENTRIES_PER_TABLE 512
static uint32_t vmcs_regions[HOST_COUNT][PAGE_SIZE / 4] PAGE;
static uint64_t pml4s[HOST_COUNT][ENTRIES_PER_TABLE] PAGE;
static uint64_t page_directory_pointers[HOST_COUNT][ENTRIES_PER_TABLE] PAGE;
static uint64_t page_directories[HOST_COUNT][ENTRIES_PER_TABLE] PAGE;
static uint64_t page_tables[HOST_COUNT][ENTRIES_PER_TABLE] PAGE;
__attribute__((section(".guest_memory"), aligned(GUEST_SIZE))) static uint8_t memories[HOST_COUNT][GUEST_SIZE];

/* Guest-physical 0 … 2 MiB in pages of 4 KiB, so that few bytes have to be copied for one that was written. */
static uint64_t build_ept(unsigned number)
{
	pml4s[number][0] = (uint64_t)page_directory_pointers[number] | EPT_ALL;
	page_directory_pointers[number][0] = (uint64_t)page_directories[number] | EPT_ALL;
	page_directories[number][0] = (uint64_t)page_tables[number] | EPT_ALL;
	for (unsigned page = 0; page < PAGE_COUNT; page++)
		page_tables[number][page] =
			(uint64_t)(memories[number] + page * PAGE_SIZE) | EPT_ALL | EPT_MEMORY_TYPE_WRITE_BACK;
	return (uint64_t)pml4s[number] | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_LENGTH_4 |
	       EPT_POINTER_ACCESSED_DIRTY;
}

/* All I/O exits, since no bitmap is used; the guest uses no MSRs. */
#define PRIMARY_UNCONDITIONAL_IO_EXITING BIT(24)

static void set_up_controls(const struct vcpu *vcpu)
{
	vmwrite(PIN_BASED_CONTROLS, adjust_controls("pin-based", IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS,
	                                            PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING));
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

void host_select(struct host *host)
{
	if (vmptrld((uint64_t)host->vcpu.vmcs) != VMX_SUCCEED)
		die("VMPTRLD failed.");
}

void host_create(struct host *host, unsigned number, const char *name)
{
	if (!(rdmsr(IA32_VMX_EPT_VPID_CAP) & EPT_CAP_ACCESSED_DIRTY))
		die("This processor's EPT has no dirty flags.");
	struct vcpu *vcpu = &host->vcpu;
	host->page_table = page_tables[number];
	vcpu->name = name;
	vcpu->vpid = number + 1; /* 0 is the VMM's own */
	vcpu->vmcs = vmcs_regions[number];
	vcpu->memory = memories[number];
	vcpu->ept_pointer = build_ept(number);
	vcpu->vmcs[0] = (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7FFFFFFF;
	if (vmclear((uint64_t)vcpu->vmcs) != VMX_SUCCEED)
		die("VMCLEAR failed.");
	host_select(host);
	set_up_controls(vcpu);
	set_up_host_state(); /* run.S sets HOST_RSP */
	if (invept(vcpu->ept_pointer) != VMX_SUCCEED || invvpid((uint16_t)vcpu->vpid) != VMX_SUCCEED)
		die("INVEPT or INVVPID failed.");
}

struct guest_image host_load(struct host *host, const uint8_t *file, uint64_t size)
{
	const struct elf_header *header = (const struct elf_header *)file;
	if (size < sizeof *header || header->magic != ELF_MAGIC ||
	    header->program_headers + header->program_header_count * sizeof(struct elf_program_header) > size)
		die("The guest is no ELF file.");
	const struct elf_program_header *segments = (const struct elf_program_header *)(file + header->program_headers);
	struct guest_image image = {header->entry, GUEST_SIZE};
	for (unsigned i = 0; i < header->program_header_count; i++) {
		const struct elf_program_header *s = &segments[i];
		if (s->type != ELF_SEGMENT_LOAD || s->memory_size == 0)
			continue;
		if (s->file_size > s->memory_size || s->offset + s->file_size > size || s->physical > GUEST_SIZE ||
		    s->memory_size > GUEST_SIZE - s->physical)
			die("The guest does not fit into its memory.");
		for (uint64_t at = 0; at < s->file_size; at++) /* all else is zero from the start */
			host->vcpu.memory[s->physical + at] = file[s->offset + at];
		if (s->physical < image.page_table_root)
			image.page_table_root = s->physical;
	}
	return image;
}
