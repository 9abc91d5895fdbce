/*
 * The processor's side of VT-x: capability MSRs, VMCS fields, controls, exit reasons and the VMX instructions.
 * Names and numbers are those of the Intel SDM, volume 3C, and appendices A to C of volume 3D.
 */
#pragma once
#include "cpu.h"

/* Capability MSRs (appendix A). */
#define IA32_VMX_BASIC 0x480
#define VMX_BASIC_TRUE_CONTROLS BIT(55)
#define IA32_VMX_PINBASED_CTLS 0x481
#define IA32_VMX_PROCBASED_CTLS 0x482
#define IA32_VMX_EXIT_CTLS 0x483
#define IA32_VMX_ENTRY_CTLS 0x484
#define IA32_VMX_CR0_FIXED0 0x486
#define IA32_VMX_CR0_FIXED1 0x487
#define IA32_VMX_CR4_FIXED0 0x488
#define IA32_VMX_CR4_FIXED1 0x489
#define IA32_VMX_PROCBASED_CTLS2 0x48B
#define IA32_VMX_EPT_VPID_CAP 0x48C
#define IA32_VMX_TRUE_PINBASED_CTLS 0x48D
#define IA32_VMX_TRUE_PROCBASED_CTLS 0x48E
#define IA32_VMX_TRUE_EXIT_CTLS 0x48F
#define IA32_VMX_TRUE_ENTRY_CTLS 0x490

#define EPT_CAP_WALK_LENGTH_4 BIT(6)
#define EPT_CAP_WRITE_BACK BIT(14)
#define EPT_CAP_2MIB_PAGES BIT(16)
#define EPT_CAP_INVEPT_SINGLE_CONTEXT (BIT(20) | BIT(25))
#define VPID_CAP_INVVPID_SINGLE_CONTEXT (BIT(32) | BIT(41))

/* VMCS fields (appendix B). */
enum vmcs_field {
	/* 16-bit control and guest and host selectors */
	VPID = 0x0000,
	GUEST_ES_SELECTOR = 0x0800,
	GUEST_CS_SELECTOR = 0x0802,
	GUEST_SS_SELECTOR = 0x0804,
	GUEST_DS_SELECTOR = 0x0806,
	GUEST_FS_SELECTOR = 0x0808,
	GUEST_GS_SELECTOR = 0x080A,
	GUEST_LDTR_SELECTOR = 0x080C,
	GUEST_TR_SELECTOR = 0x080E,
	HOST_ES_SELECTOR = 0x0C00,
	HOST_CS_SELECTOR = 0x0C02,
	HOST_SS_SELECTOR = 0x0C04,
	HOST_DS_SELECTOR = 0x0C06,
	HOST_FS_SELECTOR = 0x0C08,
	HOST_GS_SELECTOR = 0x0C0A,
	HOST_TR_SELECTOR = 0x0C0C,
	/* 64-bit */
	IO_BITMAP_A = 0x2000,
	IO_BITMAP_B = 0x2002,
	MSR_BITMAP = 0x2004,
	EPT_POINTER = 0x201A,
	GUEST_PHYSICAL_ADDRESS = 0x2400,
	VMCS_LINK_POINTER = 0x2800,
	GUEST_IA32_DEBUGCTL = 0x2802,
	GUEST_IA32_EFER = 0x2806,
	HOST_IA32_EFER = 0x2C02,
	/* 32-bit */
	PIN_BASED_CONTROLS = 0x4000,
	PRIMARY_CONTROLS = 0x4002,
	EXCEPTION_BITMAP = 0x4004,
	PAGE_FAULT_ERROR_CODE_MASK = 0x4006,
	PAGE_FAULT_ERROR_CODE_MATCH = 0x4008,
	CR3_TARGET_COUNT = 0x400A,
	EXIT_CONTROLS = 0x400C,
	EXIT_MSR_STORE_COUNT = 0x400E,
	EXIT_MSR_LOAD_COUNT = 0x4010,
	ENTRY_CONTROLS = 0x4012,
	ENTRY_MSR_LOAD_COUNT = 0x4014,
	ENTRY_INTERRUPTION_INFORMATION = 0x4016,
	ENTRY_EXCEPTION_ERROR_CODE = 0x4018,
	SECONDARY_CONTROLS = 0x401E,
	VM_INSTRUCTION_ERROR = 0x4400,
	EXIT_REASON = 0x4402,
	EXIT_INSTRUCTION_LENGTH = 0x440C,
	GUEST_ES_LIMIT = 0x4800,
	GUEST_CS_LIMIT = 0x4802,
	GUEST_SS_LIMIT = 0x4804,
	GUEST_DS_LIMIT = 0x4806,
	GUEST_FS_LIMIT = 0x4808,
	GUEST_GS_LIMIT = 0x480A,
	GUEST_LDTR_LIMIT = 0x480C,
	GUEST_TR_LIMIT = 0x480E,
	GUEST_GDTR_LIMIT = 0x4810,
	GUEST_IDTR_LIMIT = 0x4812,
	GUEST_ES_ACCESS_RIGHTS = 0x4814,
	GUEST_CS_ACCESS_RIGHTS = 0x4816,
	GUEST_SS_ACCESS_RIGHTS = 0x4818,
	GUEST_DS_ACCESS_RIGHTS = 0x481A,
	GUEST_FS_ACCESS_RIGHTS = 0x481C,
	GUEST_GS_ACCESS_RIGHTS = 0x481E,
	GUEST_LDTR_ACCESS_RIGHTS = 0x4820,
	GUEST_TR_ACCESS_RIGHTS = 0x4822,
	GUEST_INTERRUPTIBILITY_STATE = 0x4824,
	GUEST_ACTIVITY_STATE = 0x4826,
	GUEST_IA32_SYSENTER_CS = 0x482A,
	HOST_IA32_SYSENTER_CS = 0x4C00,
	/* natural width */
	CR0_GUEST_HOST_MASK = 0x6000,
	CR4_GUEST_HOST_MASK = 0x6002,
	CR0_READ_SHADOW = 0x6004,
	CR4_READ_SHADOW = 0x6006,
	EXIT_QUALIFICATION = 0x6400,
	GUEST_CR0 = 0x6800,
	GUEST_CR3 = 0x6802,
	GUEST_CR4 = 0x6804,
	GUEST_ES_BASE = 0x6806,
	GUEST_CS_BASE = 0x6808,
	GUEST_SS_BASE = 0x680A,
	GUEST_DS_BASE = 0x680C,
	GUEST_FS_BASE = 0x680E,
	GUEST_GS_BASE = 0x6810,
	GUEST_LDTR_BASE = 0x6812,
	GUEST_TR_BASE = 0x6814,
	GUEST_GDTR_BASE = 0x6816,
	GUEST_IDTR_BASE = 0x6818,
	GUEST_DR7 = 0x681A,
	GUEST_RSP = 0x681C,
	GUEST_RIP = 0x681E,
	GUEST_RFLAGS = 0x6820,
	GUEST_PENDING_DEBUG_EXCEPTIONS = 0x6822,
	GUEST_IA32_SYSENTER_ESP = 0x6824,
	GUEST_IA32_SYSENTER_EIP = 0x6826,
	HOST_CR0 = 0x6C00,
	HOST_CR3 = 0x6C02,
	HOST_CR4 = 0x6C04,
	HOST_FS_BASE = 0x6C06,
	HOST_GS_BASE = 0x6C08,
	HOST_TR_BASE = 0x6C0A,
	HOST_GDTR_BASE = 0x6C0C,
	HOST_IDTR_BASE = 0x6C0E,
	HOST_IA32_SYSENTER_ESP = 0x6C10,
	HOST_IA32_SYSENTER_EIP = 0x6C12,
	HOST_RSP = 0x6C14,
	HOST_RIP = 0x6C16,
};

/* VM-execution, VM-exit and VM-entry controls that this VMM uses. */
#define PIN_EXTERNAL_INTERRUPT_EXITING BIT(0)
#define PIN_NMI_EXITING BIT(3)
#define PRIMARY_HLT_EXITING BIT(7)
#define PRIMARY_USE_IO_BITMAPS BIT(25)
#define PRIMARY_USE_MSR_BITMAPS BIT(28)
#define PRIMARY_ACTIVATE_SECONDARY_CONTROLS BIT(31)
#define SECONDARY_ENABLE_EPT BIT(1)
#define SECONDARY_ENABLE_VPID BIT(5)
#define EXIT_HOST_ADDRESS_SPACE_SIZE BIT(9)
#define EXIT_SAVE_IA32_EFER BIT(20)
#define EXIT_LOAD_IA32_EFER BIT(21)
#define ENTRY_IA32E_MODE_GUEST BIT(9)
#define ENTRY_LOAD_IA32_EFER BIT(15)

/* Basic exit reasons (appendix C). */
enum exit_reason {
	EXIT_REASON_TRIPLE_FAULT = 2,
	EXIT_REASON_CPUID = 10,
	EXIT_REASON_HLT = 12,
	EXIT_REASON_CR_ACCESS = 28,
	EXIT_REASON_IO_INSTRUCTION = 30,
	EXIT_REASON_RDMSR = 31,
	EXIT_REASON_WRMSR = 32,
	EXIT_REASON_EPT_VIOLATION = 48,
	EXIT_REASON_COUNT = 70,
};

/* Exit qualification of I/O instructions. */
#define IO_QUALIFICATION_SIZE(q) (((q) & 7) + 1)
#define IO_QUALIFICATION_IN BIT(3)
#define IO_QUALIFICATION_STRING BIT(4)
#define IO_QUALIFICATION_PORT(q) ((q) >> 16 & 0xFFFF)

/* VMX instructions report failure in CF (no VMCS to note why) or ZF (VM_INSTRUCTION_ERROR notes why). */
enum vmx_result { VMX_SUCCEED, VMX_FAIL_INVALID, VMX_FAIL_VALID };

#define VMX_RESULT(carry, zero) ((carry) ? VMX_FAIL_INVALID : (zero) ? VMX_FAIL_VALID : VMX_SUCCEED)

static inline enum vmx_result vmxon(uint64_t region)
{
	int carry, zero;
	asm volatile("vmxon %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(region) : "memory");
	return VMX_RESULT(carry, zero);
}

static inline enum vmx_result vmclear(uint64_t region)
{
	int carry, zero;
	asm volatile("vmclear %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(region) : "memory");
	return VMX_RESULT(carry, zero);
}

static inline enum vmx_result vmptrld(uint64_t region)
{
	int carry, zero;
	asm volatile("vmptrld %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(region) : "memory");
	return VMX_RESULT(carry, zero);
}

static inline enum vmx_result vmwrite_result(enum vmcs_field field, uint64_t value)
{
	int carry, zero;
	asm volatile("vmwrite %2, %3" : "=@ccc"(carry), "=@ccz"(zero) : "r"(value), "r"((uint64_t)field) : "memory");
	return VMX_RESULT(carry, zero);
}

static inline uint64_t vmread(enum vmcs_field field)
{
	uint64_t value;
	asm volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)field) : "cc");
	return value;
}

#define INVALIDATE_SINGLE_CONTEXT 1ull

static inline enum vmx_result invept(uint64_t ept_pointer)
{
	const uint64_t descriptor[2] = {ept_pointer, 0};
	int carry, zero;
	asm volatile("invept %2, %3"
	             : "=@ccc"(carry), "=@ccz"(zero)
	             : "m"(descriptor), "r"(INVALIDATE_SINGLE_CONTEXT)
	             : "memory");
	return VMX_RESULT(carry, zero);
}

static inline enum vmx_result invvpid(uint16_t vpid)
{
	const uint64_t descriptor[2] = {vpid, 0};
	int carry, zero;
	asm volatile("invvpid %2, %3"
	             : "=@ccc"(carry), "=@ccz"(zero)
	             : "m"(descriptor), "r"(INVALIDATE_SINGLE_CONTEXT)
	             : "memory");
	return VMX_RESULT(carry, zero);
}
