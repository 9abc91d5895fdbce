/* A virtual processor: all that has to be put away while another one runs. */
#pragma once
#include "vmx.h"

#define VCPU_CONSOLE_SIZE 256

/* A guest's memory is one page of EPT's middle size. */
#define GUEST_SIZE LARGE_PAGE_SIZE

/* Registers are numbered as instructions number them. RSP, number 4, is in the VMCS and its place here is not used. */
enum register_number { RAX = 0, RSP = 4 };

struct vcpu {
	uint64_t registers[16]; /* while the guest does not run */
	uint64_t launched;      /* VMLAUNCH has been done: from now on VMRESUME */
	unsigned vpid;
	const char *name;
	uint32_t *vmcs;
	uint64_t ept_pointer;
	uint8_t *memory;
	int has_ended;
	unsigned preemptions;
	unsigned written;
	char console[VCPU_CONSOLE_SIZE];
};

/*
 * Gives a virtual processor its VMCS, EPT and memory, and puts a guest into that memory. The VMCS is current then.
 * `number` counts from 0. Dies when the ELF file is not one for a guest.
 */
void vcpu_create(struct vcpu *vcpu, unsigned number, const char *name, const uint8_t *file, uint64_t size);

/* Makes its VMCS the current one. */
void vcpu_select(struct vcpu *vcpu);

/* From run.S: lets the guest run until its next VM exit. Returns 0 when the processor refused the VM entry. */
int run_vcpu(struct vcpu *vcpu);
/* HOST_RIP, in the middle of run_vcpu. */
void vm_exit_entry(void);
