# Begins the sample: the same state under Linux and on the bare machine.
        .globl _start, finished
_start: .cfi_startproc
        .cfi_undefined rip
        lea     stack_top(%rip), %rsp
        xor     %eax, %eax
        xor     %ebx, %ebx
        xor     %ecx, %ecx
        xor     %edx, %edx
        xor     %esi, %esi
        xor     %edi, %edi
        xor     %ebp, %ebp
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        xor     %r10d, %r10d
        xor     %r11d, %r11d
        xor     %r12d, %r12d
        xor     %r13d, %r13d
        xor     %r14d, %r14d
        xor     %r15d, %r15d
        call    main
finished:
        jmp     finished
        .cfi_endproc
        .section .note.GNU-stack, "", @progbits
        .bss
        .balign 16
        .skip   65536
stack_top:
