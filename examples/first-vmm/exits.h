/* What the VMM does at each kind of VM exit. */
#pragma once
#include <stdint.h>

/* The guest's general registers while the VMM runs, as vmexit.S pushed them. Numbered as instructions number them. */
struct guest_registers {
	uint64_t rax, rcx, rdx, rbx;
	uint64_t rbp, rsi, rdi;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
};

/* From vmexit.S, after every VM exit. Returns to resume the guest. */
void handle_vm_exit(struct guest_registers *registers);
_Noreturn void vm_resume_failed(void);
