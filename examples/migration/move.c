#include "move.h"
#include "console.h"
#include "vmcs.h"

static void copy_bytes(uint8_t *to, const uint8_t *from, uint64_t count)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void copy_page(struct host *from, struct host *to, unsigned page)
{
	copy_bytes(to->vcpu.memory + page * PAGE_SIZE, from->vcpu.memory + page * PAGE_SIZE, PAGE_SIZE);
}

/*
 * The TLB remembers that a page is dirty, and the processor does not set the flag again while it does: after flags were
 * cleared the TLB has to forget.
 */
static void forget_translations(struct host *host)
{
	if (invept(host->vcpu.ept_pointer) != VMX_SUCCEED)
		die("INVEPT failed.");
}

unsigned copy_all_pages(struct host *from, struct host *to)
{
	for (unsigned page = 0; page < PAGE_COUNT; page++) {
		from->page_table[page] &= ~EPT_DIRTY;
		copy_page(from, to, page);
	}
	forget_translations(from);
	return PAGE_COUNT;
}

unsigned copy_written_pages(struct host *from, struct host *to)
{
	unsigned count = 0;
	for (unsigned page = 0; page < PAGE_COUNT; page++) {
		if (!(from->page_table[page] & EPT_DIRTY))
			continue;
		from->page_table[page] &= ~EPT_DIRTY;
		copy_page(from, to, page);
		count++;
	}
	forget_translations(from);
	return count;
}

/*
 * All that VM entry loads and VM exit saves of this guest, and what goes with its control registers. Only VMREAD and
 * VMWRITE know where a processor keeps it: copying the VMCS region itself would not do.
 */
static const enum vmcs_field guest_state[] = {
	GUEST_ES_SELECTOR, GUEST_CS_SELECTOR, GUEST_SS_SELECTOR, GUEST_DS_SELECTOR,
	GUEST_FS_SELECTOR, GUEST_GS_SELECTOR, GUEST_LDTR_SELECTOR, GUEST_TR_SELECTOR,
	GUEST_ES_BASE, GUEST_CS_BASE, GUEST_SS_BASE, GUEST_DS_BASE,
	GUEST_FS_BASE, GUEST_GS_BASE, GUEST_LDTR_BASE, GUEST_TR_BASE,
	GUEST_ES_LIMIT, GUEST_CS_LIMIT, GUEST_SS_LIMIT, GUEST_DS_LIMIT,
	GUEST_FS_LIMIT, GUEST_GS_LIMIT, GUEST_LDTR_LIMIT, GUEST_TR_LIMIT,
	GUEST_ES_ACCESS_RIGHTS, GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, GUEST_DS_ACCESS_RIGHTS,
	GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_LDTR_ACCESS_RIGHTS, GUEST_TR_ACCESS_RIGHTS,
	GUEST_GDTR_BASE, GUEST_GDTR_LIMIT, GUEST_IDTR_BASE, GUEST_IDTR_LIMIT,
	GUEST_CR0, GUEST_CR3, GUEST_CR4, CR0_GUEST_HOST_MASK, CR4_GUEST_HOST_MASK, CR0_READ_SHADOW, CR4_READ_SHADOW,
	GUEST_RIP, GUEST_RSP, GUEST_RFLAGS, GUEST_DR7, GUEST_PENDING_DEBUG_EXCEPTIONS,
	GUEST_INTERRUPTIBILITY_STATE, GUEST_ACTIVITY_STATE, VMCS_LINK_POINTER,
	GUEST_IA32_DEBUGCTL, GUEST_IA32_EFER,
	GUEST_IA32_SYSENTER_CS, GUEST_IA32_SYSENTER_ESP, GUEST_IA32_SYSENTER_EIP,
};
#define FIELD_COUNT (sizeof guest_state / sizeof *guest_state)

unsigned move_processor(struct host *from, struct host *to)
{
	uint64_t values[FIELD_COUNT];
	host_select(from);
	for (unsigned i = 0; i < FIELD_COUNT; i++)
		values[i] = vmread(guest_state[i]);
	host_select(to);
	for (unsigned i = 0; i < FIELD_COUNT; i++)
		vmwrite(guest_state[i], values[i]);
	copy_bytes((uint8_t *)to->vcpu.registers, (const uint8_t *)from->vcpu.registers, sizeof to->vcpu.registers);
	return FIELD_COUNT;
}

void forget_guest(struct host *host)
{
	for (unsigned page = 0; page < PAGE_COUNT; page++)
		host->page_table[page] = 0;
	for (uint64_t at = 0; at < GUEST_SIZE; at += sizeof(uint64_t))
		*(volatile uint64_t *)(host->vcpu.memory + at) = 0;
	forget_translations(host);
	if (vmclear((uint64_t)host->vcpu.vmcs) != VMX_SUCCEED)
		die("VMCLEAR failed.");
}
