/*
 * The border between the VMM and the guest. VM entry and VM exit switch RIP, RSP, RFLAGS, segments and control
 * registers through the VMCS; the other general registers are ours to save and load.
 */

        .cfi_sections .debug_frame

/* The guest's registers, in the order of struct guest_registers. RSP is in the VMCS. */
        .macro  save_guest_registers
        push    %r15
        push    %r14
        push    %r13
        push    %r12
        push    %r11
        push    %r10
        push    %r9
        push    %r8
        push    %rdi
        push    %rsi
        push    %rbp
        push    %rbx
        push    %rdx
        push    %rcx
        push    %rax
        .endm

        .macro  load_guest_registers
        pop     %rax
        pop     %rcx
        pop     %rdx
        pop     %rbx
        pop     %rbp
        pop     %rsi
        pop     %rdi
        pop     %r8
        pop     %r9
        pop     %r10
        pop     %r11
        pop     %r12
        pop     %r13
        pop     %r14
        pop     %r15
        .endm

        .text
/*
 * void launch_guest(void): enters the guest for the first time, with all general registers zero.
 * When it works, the next host instruction is at vm_exit_entry and this never returns; it returns when VMLAUNCH failed.
 */
        .globl  launch_guest
        .type   launch_guest, @function
launch_guest:
        .cfi_startproc
        push    %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        push    %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        push    %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        push    %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        push    %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r14, 0
        push    %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r15, 0
        xor     %eax, %eax
        xor     %ecx, %ecx
        xor     %edx, %edx
        xor     %ebx, %ebx
        xor     %ebp, %ebp
        xor     %esi, %esi
        xor     %edi, %edi
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        xor     %r10d, %r10d
        xor     %r11d, %r11d
        xor     %r12d, %r12d
        xor     %r13d, %r13d
        xor     %r14d, %r14d
        xor     %r15d, %r15d
        vmlaunch
        /* Still here: the processor refused. RFLAGS says how; the caller asks for the VM-instruction error. */
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_endproc
        .size   launch_guest, . - launch_guest

/* HOST_RIP: every VM exit arrives here, with RSP = HOST_RSP, and the guest's values in the general registers. */
        .globl  vm_exit_entry
        .type   vm_exit_entry, @function
vm_exit_entry:
        .cfi_startproc
        .cfi_undefined %rip             /* Nobody called: the stack's oldest frame. */
        save_guest_registers
        mov     %rsp, %rdi              /* handle_vm_exit(struct guest_registers *) */
        xor     %ebp, %ebp
        call    handle_vm_exit          /* Returns only to resume the guest. */
        load_guest_registers
        vmresume
        call    vm_resume_failed        /* Never returns. */
        ud2
        .cfi_endproc
        .size   vm_exit_entry, . - vm_exit_entry

        .section .note.GNU-stack, "", @progbits
