; SYSCALL, SYSRET, SYSENTER and SYSEXIT in 64-bit mode. SDM volume 2, the instructions; volume 3A, "Fast System Calls".
        %include "kernel.inc"

IA32_SYSENTER_CS        equ 0x174
IA32_SYSENTER_ESP       equ 0x175
IA32_SYSENTER_EIP       equ 0x176
IA32_STAR               equ 0xC0000081
IA32_LSTAR              equ 0xC0000082
IA32_FMASK              equ 0xC0000084

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    without_sce
        call    system_call
        call    system_return
        call    sysenter_sysexit
        jmp     finish64

; WRMSR: %1 the MSR, RAX the value.
%macro write_msr 1
        mov     ecx, %1
        mov     rdx, rax
        shr     rdx, 32
        wrmsr
%endmacro

without_sce:
        trap    "SYSCALL with EFER.SCE = 0", UD
        syscall
        endtrap
        trap    "SYSRET with EFER.SCE = 0", UD
        o64 sysret
        endtrap
        mov     ecx, IA32_EFER
        rdmsr
        or      eax, EFER_SCE
        wrmsr
        ret

system_call:
        mov     rax, (CODE64 << 32) | ((USER32 & ~3) << 48)
        write_msr IA32_STAR
        mov     eax, .entry
        write_msr IA32_LSTAR
        mov     eax, FLAG_CF | FLAG_IF | FLAG_DF
        write_msr IA32_FMASK
        trap    "SYSCALL from ring 3", LEAVE_USER_MODE
        mov     rdi, .user
        call    enter_user64
.user:  stc
        std
        syscall
.return:
.entry: mov     eax, cs
        mov     [.cs], rax
        mov     eax, ss
        mov     [.ss], rax
        mov     [.rsp], rsp
        mov     [.rcx], rcx
        mov     [.r11], r11
        pushfq                          ; RSP is still that of ring 3
        pop     qword [.flags]
        cld
        mov     rsp, stack_top - 4096
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "SYSCALL: CS comes from IA32_STAR", [.cs], CODE64
        check   "SYSCALL: SS is CS + 8", [.ss], CODE64 + 8
        check   "RCX is the address behind SYSCALL", [.rcx], .return
        check   "RSP is not changed", [.rsp], user_stack_top
        mov     rax, [.r11]
        and     eax, FLAG_CF | FLAG_DF
        check   "R11 has the old flags", rax, FLAG_CF | FLAG_DF
        mov     rax, [.flags]
        and     eax, FLAG_CF | FLAG_DF | FLAG_IF
        check   "IA32_FMASK clears flags", rax, 0
        ret
        section .data
        align   8
.cs:    dq      0
.ss:    dq      0
.rsp:   dq      0
.rcx:   dq      0
.r11:   dq      0
.flags: dq      0
        section .text

system_return:
        trap    "SYSRET to 64-bit code", LEAVE_USER_MODE
        mov     ecx, .in_64
        mov     r11d, FLAG_CF | 2
        o64 sysret
.in_64: mov     ebx, ss
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "CS is STAR[63:48] + 16 with RPL 3", [saved.cs], USER64
        check   "SS is STAR[63:48] + 8 with RPL 3", [saved.rbx], USER_DATA
        mov     rax, [saved.flags]
        and     eax, FLAG_CF
        check   "flags come from R11", rax, FLAG_CF
        trap    "SYSRET to compatibility mode", LEAVE_USER_MODE
        mov     ecx, .in_32
        mov     r11d, 2
        sysret
        bits    32
.in_32: mov     ebx, cs
        inc     eax                     ; in 64-bit mode this byte would be a REX prefix
        int     LEAVE_USER_MODE
        at_fault
        bits    64
        endtrap
        check   "CS is STAR[63:48] with RPL 3", [saved.rbx], USER32
        trap    "SYSRET to an address that is not canonical faults in ring 0", GP, 0
        mov     rcx, 0x8000000000000000
        mov     r11d, 2
        at_fault
        o64 sysret
        endtrap
        check   "the fault is at CPL 0", [saved.cs], CODE64
        trap    "SYSRET in ring 3", GP, 0
        mov     rdi, .user
        call    enter_user64
.user:  at_fault
        o64 sysret
        endtrap
        ret

sysenter_sysexit:
        xor     eax, eax
        write_msr IA32_SYSENTER_CS
        trap    "SYSENTER with IA32_SYSENTER_CS = 0", GP, 0
        mov     rdi, .user0
        call    enter_user64
.user0: at_fault
        sysenter
        endtrap
        trap    "SYSEXIT with IA32_SYSENTER_CS = 0", GP, 0
        mov     ecx, user_stack_top
        mov     edx, .user1
        at_fault
        o64 sysexit
        endtrap
        mov     eax, CODE64
        write_msr IA32_SYSENTER_CS
        mov     eax, stack_top - 4096
        write_msr IA32_SYSENTER_ESP
        mov     eax, .entry
        write_msr IA32_SYSENTER_EIP
        trap    "SYSENTER from ring 3", LEAVE_USER_MODE
        mov     rdi, .user1
        call    enter_user64
.user1: sysenter
.entry: mov     eax, cs
        mov     ebx, eax
        mov     ecx, ss
        mov     rdx, rsp
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "SYSENTER: CS is IA32_SYSENTER_CS", [saved.rbx], CODE64
        check   "SYSENTER: SS is CS + 8", [saved.rcx], CODE64 + 8
        check   "RSP is IA32_SYSENTER_ESP", [saved.rdx], stack_top - 4096
        trap    "SYSEXIT to 64-bit code", LEAVE_USER_MODE
        mov     ecx, user_stack_top - 64
        mov     edx, .in_64
        o64 sysexit
.in_64: mov     ebx, ss
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "CS is IA32_SYSENTER_CS + 32 with RPL 3", [saved.cs], (CODE64 + 32) | 3
        check   "SS is IA32_SYSENTER_CS + 40 with RPL 3", [saved.rbx], (CODE64 + 40) | 3
        check   "RSP comes from RCX", [saved.rsp], user_stack_top - 64
        trap    "SYSEXIT to compatibility mode", LEAVE_USER_MODE
        mov     ecx, user_stack_top
        mov     edx, .in_32
        sysexit
        bits    32
.in_32: mov     ebx, ss
        int     LEAVE_USER_MODE
        at_fault
        bits    64
        endtrap
        check   "CS is IA32_SYSENTER_CS + 16 with RPL 3", [saved.cs], (CODE64 + 16) | 3
        check   "SS is IA32_SYSENTER_CS + 24 with RPL 3", [saved.rbx], (CODE64 + 24) | 3
        trap    "SYSEXIT in ring 3", GP, 0
        mov     rdi, .user2
        call    enter_user64
.user2: at_fault
        o64 sysexit
        endtrap
        ret

        %include "end.inc"
