/*
 * VM entry and VM exit as one function call: run_vcpu enters the guest and returns behind its next VM exit. What lies
 * between, however long, is the guest's.
 */
#include "vcpu_layout.h"

HOST_RSP                = 0x6C14        /* a VMCS field's number */

        .cfi_sections .debug_frame

        .macro  push_host register
        push    %\register
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %\register, 0
        .endm

        .macro  pop_host register
        pop     %\register
        .cfi_adjust_cfa_offset -8
        .cfi_restore %\register
        .endm

        .text
/* int run_vcpu(struct vcpu *vcpu) */
        .globl  run_vcpu
        .type   run_vcpu, @function
run_vcpu:
        .cfi_startproc
        /* C expects these back; all others it has given up for the call. */
        push_host rbp
        push_host rbx
        push_host r12
        push_host r13
        push_host r14
        push_host r15
        push    %rdi                    /* for after the VM exit, which leaves no register of ours */
        .cfi_adjust_cfa_offset 8
        mov     $HOST_RSP, %eax
        vmwrite %rsp, %rax              /* The VM exit brings us back to this very stack. */
        cmpq    $0, VCPU_LAUNCHED(%rdi) /* MOV leaves the flags alone. */
        mov     VCPU_REGISTER(0)(%rdi), %rax
        mov     VCPU_REGISTER(1)(%rdi), %rcx
        mov     VCPU_REGISTER(2)(%rdi), %rdx
        mov     VCPU_REGISTER(3)(%rdi), %rbx
        mov     VCPU_REGISTER(5)(%rdi), %rbp
        mov     VCPU_REGISTER(6)(%rdi), %rsi
        mov     VCPU_REGISTER(8)(%rdi), %r8
        mov     VCPU_REGISTER(9)(%rdi), %r9
        mov     VCPU_REGISTER(10)(%rdi), %r10
        mov     VCPU_REGISTER(11)(%rdi), %r11
        mov     VCPU_REGISTER(12)(%rdi), %r12
        mov     VCPU_REGISTER(13)(%rdi), %r13
        mov     VCPU_REGISTER(14)(%rdi), %r14
        mov     VCPU_REGISTER(15)(%rdi), %r15
        mov     VCPU_REGISTER(7)(%rdi), %rdi
        jne     1f
        vmlaunch
        jmp     2f
1:      vmresume
        /* Still here: the processor refused. */
2:      pop     %rdi
        .cfi_adjust_cfa_offset -8
        xor     %eax, %eax
        jmp     3f

        /* HOST_RIP: the VM exit arrives here. All registers but RSP are the guest's. */
        .cfi_adjust_cfa_offset 8
        .globl  vm_exit_entry
vm_exit_entry:
        xchg    %rdi, (%rsp)            /* RDI: our struct vcpu; on the stack: the guest's RDI */
        mov     %rax, VCPU_REGISTER(0)(%rdi)
        mov     %rcx, VCPU_REGISTER(1)(%rdi)
        mov     %rdx, VCPU_REGISTER(2)(%rdi)
        mov     %rbx, VCPU_REGISTER(3)(%rdi)
        mov     %rbp, VCPU_REGISTER(5)(%rdi)
        mov     %rsi, VCPU_REGISTER(6)(%rdi)
        mov     %r8, VCPU_REGISTER(8)(%rdi)
        mov     %r9, VCPU_REGISTER(9)(%rdi)
        mov     %r10, VCPU_REGISTER(10)(%rdi)
        mov     %r11, VCPU_REGISTER(11)(%rdi)
        mov     %r12, VCPU_REGISTER(12)(%rdi)
        mov     %r13, VCPU_REGISTER(13)(%rdi)
        mov     %r14, VCPU_REGISTER(14)(%rdi)
        mov     %r15, VCPU_REGISTER(15)(%rdi)
        pop     %rax
        .cfi_adjust_cfa_offset -8
        mov     %rax, VCPU_REGISTER(7)(%rdi)
        movq    $1, VCPU_LAUNCHED(%rdi)
        mov     $1, %eax
3:      pop_host r15
        pop_host r14
        pop_host r13
        pop_host r12
        pop_host rbx
        pop_host rbp
        ret
        .cfi_endproc
        .size   run_vcpu, . - run_vcpu

        .section .note.GNU-stack, "", @progbits
