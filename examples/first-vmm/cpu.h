/* Instructions that C has no word for, and the architecture's names for their bits. */
#pragma once
#include <stdint.h>

#define BIT(n) (1ull << (n))
#define PAGE_SIZE 4096ull
#define LARGE_PAGE_SIZE (2ull << 20)

#define CR0_PE BIT(0)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_PG BIT(31)

#define CR4_PAE BIT(5)
#define CR4_PGE BIT(7)
#define CR4_VMXE BIT(13)

#define RFLAGS_FIXED BIT(1)
#define RFLAGS_IF BIT(9)

#define IA32_FEATURE_CONTROL 0x3A
#define FEATURE_CONTROL_LOCK BIT(0)
#define FEATURE_CONTROL_VMX_OUTSIDE_SMX BIT(2)
#define IA32_TIME_STAMP_COUNTER 0x10
#define IA32_EFER 0xC0000080
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define IA32_STAR 0xC0000081

#define EXCEPTION_GP 13

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r;
	asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;
	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;
	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void out8(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint64_t read_cr0(void)
{
	uint64_t value;
	asm volatile("mov %%cr0, %0" : "=r"(value));
	return value;
}

static inline void write_cr0(uint64_t value)
{
	asm volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline uint64_t read_cr3(void)
{
	uint64_t value;
	asm volatile("mov %%cr3, %0" : "=r"(value));
	return value;
}

static inline uint64_t read_cr4(void)
{
	uint64_t value;
	asm volatile("mov %%cr4, %0" : "=r"(value));
	return value;
}

static inline void write_cr4(uint64_t value)
{
	asm volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

/* What SGDT and SIDT store. */
struct descriptor_table_register {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

static inline struct descriptor_table_register read_gdtr(void)
{
	struct descriptor_table_register gdtr;
	asm volatile("sgdt %0" : "=m"(gdtr));
	return gdtr;
}

static inline struct descriptor_table_register read_idtr(void)
{
	struct descriptor_table_register idtr;
	asm volatile("sidt %0" : "=m"(idtr));
	return idtr;
}
