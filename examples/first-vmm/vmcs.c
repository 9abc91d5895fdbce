#include "vmcs.h"
#include "console.h"
#include "ept.h"

/* From boot.S. The selectors are symbols whose address is the value. */
extern const uint8_t HOST_CS[], HOST_DS[], HOST_TR[];
extern const uint8_t host_tss[];

#define PAGE __attribute__((aligned(PAGE_SIZE)))
static uint32_t vmxon_region[PAGE_SIZE / 4] PAGE;
static uint32_t vmcs_region[PAGE_SIZE / 4] PAGE;
static uint8_t io_bitmaps[2 * PAGE_SIZE] PAGE; /* bitmap A: ports 0…7FFFh; B: 8000h…FFFFh */
static uint8_t msr_bitmaps[PAGE_SIZE] PAGE;    /* four parts of 1 KiB: read low, read high, write low, write high */
static uint8_t exit_stack[16384] __attribute__((aligned(16)));

/* 0 is the VMM's own. */
#define GUEST_VPID 1

/* ---- The processor ---- */

void check_processor(void)
{
	if (!(cpuid(1, 0).ecx & BIT(5)))
		die("This processor has no VMX (CPUID.1:ECX.VMX is 0).");
	uint64_t feature_control = rdmsr(IA32_FEATURE_CONTROL);
	if (!(feature_control & FEATURE_CONTROL_LOCK))
		wrmsr(IA32_FEATURE_CONTROL, feature_control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
	else if (!(feature_control & FEATURE_CONTROL_VMX_OUTSIDE_SMX))
		die("The firmware has switched VMX off (IA32_FEATURE_CONTROL is %lx).", feature_control);
	uint64_t allowed_primary = rdmsr(IA32_VMX_PROCBASED_CTLS) >> 32;
	if (!(allowed_primary & PRIMARY_ACTIVATE_SECONDARY_CONTROLS))
		die("This processor has no secondary controls, so no EPT.");
	uint64_t needed = EPT_CAP_WALK_LENGTH_4 | EPT_CAP_WRITE_BACK | EPT_CAP_2MIB_PAGES |
	                  EPT_CAP_INVEPT_SINGLE_CONTEXT | VPID_CAP_INVVPID_SINGLE_CONTEXT;
	uint64_t capabilities = rdmsr(IA32_VMX_EPT_VPID_CAP);
	if ((capabilities & needed) != needed)
		die("EPT or VPID capabilities are missing (IA32_VMX_EPT_VPID_CAP is %lx).", capabilities);
}

void enter_vmx_operation(void)
{
	/* VMX fixes some bits of CR0 and CR4: FIXED0 has those that must be 1, FIXED1 those that may be 1. */
	write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
	write_cr4((read_cr4() | rdmsr(IA32_VMX_CR4_FIXED0)) & rdmsr(IA32_VMX_CR4_FIXED1));
	/* Both regions begin with the processor's VMCS revision identifier (bits 30:0); the rest is the processor's. */
	uint32_t revision = (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7FFFFFFF;
	vmxon_region[0] = revision;
	vmcs_region[0] = revision;
	if (vmxon((uint64_t)vmxon_region) != VMX_SUCCEED)
		die("VMXON failed.");
}

/* ---- Fields ---- */

void vmwrite(enum vmcs_field field, uint64_t value)
{
	if (vmwrite_result(field, value) != VMX_SUCCEED)
		die("VMWRITE of field %x failed, VM-instruction error %u.", field, (unsigned)vmread(VM_INSTRUCTION_ERROR));
}

/*
 * Low half of a capability MSR: controls that must be 1; high half: controls that may be 1. The "true" MSRs let more of
 * them be 0 than the old ones.
 */
uint64_t adjust_controls(const char *name, uint32_t old_msr, uint32_t true_msr, uint64_t wanted)
{
	uint64_t capability = rdmsr(rdmsr(IA32_VMX_BASIC) & VMX_BASIC_TRUE_CONTROLS ? true_msr : old_msr);
	uint32_t must_be_1 = (uint32_t)capability, may_be_1 = (uint32_t)(capability >> 32);
	if (wanted & ~(uint64_t)may_be_1)
		die("%s controls: this processor does not have %lx.", name, wanted & ~(uint64_t)may_be_1);
	return wanted | must_be_1;
}

static void set_up_bitmaps(void)
{
	/* A set bit makes an access exit. All do … */
	for (uint64_t i = 0; i < sizeof io_bitmaps; i++)
		io_bitmaps[i] = 0xFF;
	for (uint64_t i = 0; i < sizeof msr_bitmaps; i++)
		msr_bitmaps[i] = 0xFF;
	/* … but for two that can do no harm. */
	io_bitmaps[GUEST_POST_PORT / 8] &= (uint8_t)~BIT(GUEST_POST_PORT % 8);
	msr_bitmaps[IA32_TIME_STAMP_COUNTER / 8] &= (uint8_t)~BIT(IA32_TIME_STAMP_COUNTER % 8);
}

static void set_up_controls(uint64_t ept_pointer)
{
	vmwrite(PIN_BASED_CONTROLS,
	        adjust_controls("pin-based", IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS,
	                        PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING));
	vmwrite(PRIMARY_CONTROLS,
	        adjust_controls("primary processor-based", IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS,
	                        PRIMARY_HLT_EXITING | PRIMARY_USE_IO_BITMAPS | PRIMARY_USE_MSR_BITMAPS |
	                                PRIMARY_ACTIVATE_SECONDARY_CONTROLS));
	vmwrite(SECONDARY_CONTROLS,
	        adjust_controls("secondary processor-based", IA32_VMX_PROCBASED_CTLS2, IA32_VMX_PROCBASED_CTLS2,
	                        SECONDARY_ENABLE_EPT | SECONDARY_ENABLE_VPID));
	vmwrite(EXIT_CONTROLS,
	        adjust_controls("VM-exit", IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS,
	                        EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_SAVE_IA32_EFER | EXIT_LOAD_IA32_EFER));
	vmwrite(ENTRY_CONTROLS,
	        adjust_controls("VM-entry", IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS,
	                        ENTRY_IA32E_MODE_GUEST | ENTRY_LOAD_IA32_EFER));

	/* The guest's exceptions are its own affair. */
	vmwrite(EXCEPTION_BITMAP, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(EXIT_MSR_STORE_COUNT, 0);
	vmwrite(EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(ENTRY_INTERRUPTION_INFORMATION, 0);
	vmwrite(ENTRY_EXCEPTION_ERROR_CODE, 0);

	set_up_bitmaps();
	vmwrite(IO_BITMAP_A, (uint64_t)io_bitmaps);
	vmwrite(IO_BITMAP_B, (uint64_t)io_bitmaps + PAGE_SIZE);
	vmwrite(MSR_BITMAP, (uint64_t)msr_bitmaps);
	vmwrite(EPT_POINTER, ept_pointer);
	vmwrite(VPID, GUEST_VPID);
}

void set_up_host_state(void)
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
#ifdef BROKEN_ENTRY
	vmwrite(HOST_TR_SELECTOR, 0); /* Wrong on purpose: the sample examples/broken-entry. */
#else
	vmwrite(HOST_TR_SELECTOR, (uint64_t)HOST_TR);
#endif

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

/* Access rights as in bits 47:40 and 55:52 of a descriptor, and bit 16 for "unusable". */
#define RIGHTS_CODE_64 0xA09B  /* present, DPL 0, execute/read, accessed, L, G */
#define RIGHTS_DATA 0xC093     /* present, DPL 0, read/write, accessed, B, G */
#define RIGHTS_BUSY_TSS 0x008B /* present, DPL 0, 64-bit TSS, busy */
#define RIGHTS_UNUSABLE 0x10000

struct segment {
	uint64_t selector, base, limit, rights;
};

/* The fields of one segment stand at the same distance for ES, CS, SS, DS, FS, GS, LDTR and TR: 2 apart. */
static void write_guest_segment(enum vmcs_field selector_field, struct segment segment)
{
	unsigned offset = selector_field - GUEST_ES_SELECTOR;
	vmwrite(selector_field, segment.selector);
	vmwrite(GUEST_ES_BASE + offset, segment.base);
	vmwrite(GUEST_ES_LIMIT + offset, segment.limit);
	vmwrite(GUEST_ES_ACCESS_RIGHTS + offset, segment.rights);
}

static void set_up_guest_segments(void)
{
	/* The guest has no GDT yet and needs none: a segment register holds all of its descriptor, as below. */
	const struct segment code = {0x08, 0, 0xFFFFFFFF, RIGHTS_CODE_64};
	const struct segment data = {0x10, 0, 0xFFFFFFFF, RIGHTS_DATA};
	const struct segment unusable = {0, 0, 0, RIGHTS_UNUSABLE};
	write_guest_segment(GUEST_CS_SELECTOR, code);
	write_guest_segment(GUEST_SS_SELECTOR, data);
	write_guest_segment(GUEST_DS_SELECTOR, data);
	write_guest_segment(GUEST_ES_SELECTOR, data);
	write_guest_segment(GUEST_FS_SELECTOR, unusable);
	write_guest_segment(GUEST_GS_SELECTOR, unusable);
	write_guest_segment(GUEST_LDTR_SELECTOR, unusable);
	/* TR alone can never be unusable. */
	write_guest_segment(GUEST_TR_SELECTOR, (struct segment){0, 0, 0x67, RIGHTS_BUSY_TSS});
	vmwrite(GUEST_GDTR_BASE, 0);
	vmwrite(GUEST_GDTR_LIMIT, 0);
	vmwrite(GUEST_IDTR_BASE, 0);
	vmwrite(GUEST_IDTR_LIMIT, 0);
}

void set_up_guest_state(struct guest_image image)
{
	/*
	 * Two truths for each control register. GUEST_CRn is what the processor obeys, and has the bits that VMX fixes.
	 * The read shadow is what the guest sees in the bits of the mask; to change one of those is a VM exit. CR0.TS
	 * is left to the guest.
	 */
	uint64_t cr0 = CR0_PE | CR0_ET | CR0_PG, cr4 = CR4_PAE;
	vmwrite(GUEST_CR0, cr0 | rdmsr(IA32_VMX_CR0_FIXED0));
	vmwrite(CR0_READ_SHADOW, cr0);
	vmwrite(CR0_GUEST_HOST_MASK, ~CR0_TS);
	vmwrite(GUEST_CR4, cr4 | rdmsr(IA32_VMX_CR4_FIXED0));
	vmwrite(CR4_READ_SHADOW, cr4);
	vmwrite(CR4_GUEST_HOST_MASK, ~0ull);
	vmwrite(GUEST_CR3, image.page_table_root);
	vmwrite(GUEST_IA32_EFER, EFER_LME | EFER_LMA);

	set_up_guest_segments();
	vmwrite(GUEST_RIP, image.entry);
	vmwrite(GUEST_RSP, 0); /* the guest's entry.S sets its own */
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	vmwrite(GUEST_DR7, 0x400);
	vmwrite(GUEST_IA32_DEBUGCTL, 0);
	vmwrite(GUEST_IA32_SYSENTER_CS, 0);
	vmwrite(GUEST_IA32_SYSENTER_ESP, 0);
	vmwrite(GUEST_IA32_SYSENTER_EIP, 0);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
	vmwrite(GUEST_ACTIVITY_STATE, 0);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	vmwrite(VMCS_LINK_POINTER, ~0ull); /* "none" */
}

void set_up_vmcs(struct guest_image image)
{
	/* VMCLEAR makes the launch state "clear"; VMPTRLD makes it the VMCS that VMWRITE and VMLAUNCH mean. */
	if (vmclear((uint64_t)vmcs_region) != VMX_SUCCEED)
		die("VMCLEAR failed.");
	if (vmptrld((uint64_t)vmcs_region) != VMX_SUCCEED)
		die("VMPTRLD failed.");
	uint64_t ept_pointer = ept_build();
	set_up_controls(ept_pointer);
	set_up_host_state();
	vmwrite(HOST_RSP, (uint64_t)exit_stack + sizeof exit_stack - 8); /* with 15 registers pushed: aligned to 16 */
	set_up_guest_state(image);
	/* Whoever had this memory or this VPID before us may have left translations in the TLB. */
	if (invept(ept_pointer) != VMX_SUCCEED || invvpid(GUEST_VPID) != VMX_SUCCEED)
		die("INVEPT or INVVPID failed, VM-instruction error %u.", (unsigned)vmread(VM_INSTRUCTION_ERROR));
}
