#include "vcpu.h"
#include "console.h"
#include "scheduler.h"
#include "vcpu_layout.h"
#include "vmcs.h"
#include <stddef.h>

_Static_assert(offsetof(struct vcpu, registers) == VCPU_REGISTER(0), "run.S");
_Static_assert(offsetof(struct vcpu, launched) == VCPU_LAUNCHED, "run.S");

/* From boot.S. The selectors are symbols whose address is the value. */
extern const uint8_t HOST_CS[], HOST_DS[], HOST_TR[];
extern const uint8_t host_tss[];

#define PAGE __attribute__((aligned(PAGE_SIZE)))
#define ENTRIES_PER_TABLE 512
static uint32_t vmcs_regions[VCPU_COUNT][PAGE_SIZE / 4] PAGE;
static uint64_t pml4s[VCPU_COUNT][ENTRIES_PER_TABLE] PAGE;
static uint64_t page_directory_pointers[VCPU_COUNT][ENTRIES_PER_TABLE] PAGE;
static uint64_t page_directories[VCPU_COUNT][ENTRIES_PER_TABLE] PAGE;
__attribute__((section(".guest_memory"), aligned(GUEST_SIZE))) static uint8_t memories[VCPU_COUNT][GUEST_SIZE];

/* ---- Memory ---- */

#define EPT_ALL (BIT(0) | BIT(1) | BIT(2)) /* read, write, execute */
#define EPT_WRITE_BACK (6ull << 3)
#define EPT_LARGE_PAGE BIT(7)
#define EPT_POINTER_WRITE_BACK 6ull
#define EPT_POINTER_WALK_LENGTH_4 (3ull << 3) /* one less than the number of levels */

/* Guest-physical 0 … 2 MiB, and nothing else. */
static uint64_t build_ept(unsigned number)
{
	pml4s[number][0] = (uint64_t)page_directory_pointers[number] | EPT_ALL;
	page_directory_pointers[number][0] = (uint64_t)page_directories[number] | EPT_ALL;
	page_directories[number][0] = (uint64_t)memories[number] | EPT_ALL | EPT_WRITE_BACK | EPT_LARGE_PAGE;
	return (uint64_t)pml4s[number] | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_LENGTH_4;
}

#define ELF_MAGIC 0x464C457F
#define ELF_SEGMENT_LOAD 1

struct elf_header {
	uint32_t magic;
	uint8_t ident[12];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, program_headers, section_headers;
	uint32_t flags;
	uint16_t size, program_header_size, program_header_count;
};

struct elf_program_header {
	uint32_t type, flags;
	uint64_t offset, linear, physical, file_size, memory_size, alignment;
};

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

static uint64_t adjust_controls(uint32_t old_msr, uint32_t true_msr, uint64_t wanted)
{
	uint64_t capability = rdmsr(rdmsr(IA32_VMX_BASIC) & VMX_BASIC_TRUE_CONTROLS ? true_msr : old_msr);
	uint32_t must_be_1 = (uint32_t)capability, may_be_1 = (uint32_t)(capability >> 32);
	if (wanted & ~(uint64_t)may_be_1)
		die("This processor does not have the controls %lx.", wanted & ~(uint64_t)may_be_1);
	return wanted | must_be_1;
}

/* All I/O exits, since no bitmap is used; the guests use no MSRs. */
#define PRIMARY_UNCONDITIONAL_IO_EXITING BIT(24)

static void set_up_controls(const struct vcpu *vcpu)
{
	vmwrite(PIN_BASED_CONTROLS, adjust_controls(IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS,
	                                            PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING |
	                                                    PIN_ACTIVATE_PREEMPTION_TIMER));
	vmwrite(PRIMARY_CONTROLS, adjust_controls(IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS,
	                                          PRIMARY_HLT_EXITING | PRIMARY_UNCONDITIONAL_IO_EXITING |
	                                                  PRIMARY_ACTIVATE_SECONDARY_CONTROLS));
	vmwrite(SECONDARY_CONTROLS, adjust_controls(IA32_VMX_PROCBASED_CTLS2, IA32_VMX_PROCBASED_CTLS2,
	                                            SECONDARY_ENABLE_EPT | SECONDARY_ENABLE_VPID));
	vmwrite(EXIT_CONTROLS, adjust_controls(IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS,
	                                       EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_SAVE_IA32_EFER | EXIT_LOAD_IA32_EFER));
	vmwrite(ENTRY_CONTROLS, adjust_controls(IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS,
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

/* The same for every virtual processor, but for HOST_RSP, which run.S sets. */
static void set_up_host_state(void)
{
	vmwrite(HOST_CR0, read_cr0());
	vmwrite(HOST_CR3, read_cr3());
	vmwrite(HOST_CR4, read_cr4());
	vmwrite(HOST_RIP, (uint64_t)vm_exit_entry);
	vmwrite(HOST_CS_SELECTOR, (uint64_t)HOST_CS);
	vmwrite(HOST_SS_SELECTOR, (uint64_t)HOST_DS);
	vmwrite(HOST_DS_SELECTOR, (uint64_t)HOST_DS);
	vmwrite(HOST_ES_SELECTOR, (uint64_t)HOST_DS);
	vmwrite(HOST_FS_SELECTOR, 0);
	vmwrite(HOST_GS_SELECTOR, 0);
	vmwrite(HOST_TR_SELECTOR, (uint64_t)HOST_TR);
	vmwrite(HOST_FS_BASE, 0);
	vmwrite(HOST_GS_BASE, 0);
	vmwrite(HOST_TR_BASE, (uint64_t)host_tss);
	vmwrite(HOST_GDTR_BASE, read_gdtr().base);
	vmwrite(HOST_IDTR_BASE, read_idtr().base);
	vmwrite(HOST_IA32_SYSENTER_CS, 0);
	vmwrite(HOST_IA32_SYSENTER_ESP, 0);
	vmwrite(HOST_IA32_SYSENTER_EIP, 0);
	vmwrite(HOST_IA32_EFER, rdmsr(IA32_EFER));
}

#define RIGHTS_CODE_64 0xA09B
#define RIGHTS_DATA 0xC093
#define RIGHTS_BUSY_TSS 0x008B
#define RIGHTS_UNUSABLE 0x10000

/* The fields of one segment stand at the same distance for ES, CS, SS, DS, FS, GS, LDTR and TR: 2 apart. */
static void set_up_segment(enum vmcs_field selector_field, uint64_t selector, uint64_t limit, uint64_t rights)
{
	unsigned offset = selector_field - GUEST_ES_SELECTOR;
	vmwrite(selector_field, selector);
	vmwrite(GUEST_ES_BASE + offset, 0);
	vmwrite(GUEST_ES_LIMIT + offset, limit);
	vmwrite(GUEST_ES_ACCESS_RIGHTS + offset, rights);
}

static void set_up_guest_state(uint64_t entry, uint64_t page_table_root)
{
	uint64_t cr0 = CR0_PE | CR0_ET | CR0_PG, cr4 = CR4_PAE;
	vmwrite(GUEST_CR0, cr0 | rdmsr(IA32_VMX_CR0_FIXED0));
	vmwrite(CR0_READ_SHADOW, cr0);
	vmwrite(CR0_GUEST_HOST_MASK, ~0ull);
	vmwrite(GUEST_CR4, cr4 | rdmsr(IA32_VMX_CR4_FIXED0));
	vmwrite(CR4_READ_SHADOW, cr4);
	vmwrite(CR4_GUEST_HOST_MASK, ~0ull);
	vmwrite(GUEST_CR3, page_table_root);
	vmwrite(GUEST_IA32_EFER, EFER_LME | EFER_LMA);
	set_up_segment(GUEST_CS_SELECTOR, 0x08, 0xFFFFFFFF, RIGHTS_CODE_64);
	set_up_segment(GUEST_SS_SELECTOR, 0x10, 0xFFFFFFFF, RIGHTS_DATA);
	set_up_segment(GUEST_DS_SELECTOR, 0x10, 0xFFFFFFFF, RIGHTS_DATA);
	set_up_segment(GUEST_ES_SELECTOR, 0x10, 0xFFFFFFFF, RIGHTS_DATA);
	set_up_segment(GUEST_FS_SELECTOR, 0, 0, RIGHTS_UNUSABLE);
	set_up_segment(GUEST_GS_SELECTOR, 0, 0, RIGHTS_UNUSABLE);
	set_up_segment(GUEST_LDTR_SELECTOR, 0, 0, RIGHTS_UNUSABLE);
	set_up_segment(GUEST_TR_SELECTOR, 0, 0x67, RIGHTS_BUSY_TSS);
	static const enum vmcs_field zero[] = {
		GUEST_GDTR_BASE, GUEST_GDTR_LIMIT, GUEST_IDTR_BASE, GUEST_IDTR_LIMIT,
		GUEST_RSP, GUEST_IA32_DEBUGCTL, GUEST_IA32_SYSENTER_CS, GUEST_IA32_SYSENTER_ESP,
		GUEST_IA32_SYSENTER_EIP, GUEST_INTERRUPTIBILITY_STATE, GUEST_ACTIVITY_STATE, GUEST_PENDING_DEBUG_EXCEPTIONS,
	};
	for (unsigned i = 0; i < sizeof zero / sizeof *zero; i++)
		vmwrite(zero[i], 0);
	vmwrite(GUEST_RIP, entry);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	vmwrite(GUEST_DR7, 0x400);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
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
	set_up_host_state();
	set_up_guest_state(((const struct elf_header *)file)->entry, page_table_root);
	if (invept(vcpu->ept_pointer) != VMX_SUCCEED || invvpid((uint16_t)vcpu->vpid) != VMX_SUCCEED)
		die("INVEPT or INVVPID failed.");
}
