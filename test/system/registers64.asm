; MSRs, control registers and canonical addresses in 64-bit mode.
; SDM volume 4 (MSRs); volume 2, "MOV—Move to/from Control Registers"; volume 1, "Canonical Addressing".
        %include "kernel.inc"

IA32_PAT        equ 0x277
IA32_TSC        equ 0x10
IA32_FS_BASE    equ 0xC0000100
IA32_GS_BASE    equ 0xC0000101
IA32_KERNEL_GS_BASE equ 0xC0000102
IA32_LSTAR      equ 0xC0000082
IA32_SYSENTER_EIP equ 0x176
NOT_CANONICAL   equ 0x0000800000000000
BUFFER          equ 0x00800000

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    msrs
        call    control_registers
        call    segment_bases
        call    canonical
        jmp     finish64

msrs:
        trap    "RDMSR of an MSR that does not exist", GP, 0
        mov     ecx, 0x12345678
        at_fault
        rdmsr
        endtrap
        trap    "WRMSR of an MSR that does not exist", GP, 0
        mov     ecx, 0x12345678
        at_fault
        wrmsr
        endtrap
        trap    "reserved bit of EFER", GP, 0
        mov     ecx, IA32_EFER
        rdmsr
        or      edx, 1
        at_fault
        wrmsr
        endtrap
        trap    "EFER.LME cannot change while paging", GP, 0
        mov     ecx, IA32_EFER
        rdmsr
        and     eax, ~EFER_LME
        at_fault
        wrmsr
        endtrap
        mov     ecx, IA32_EFER
        rdmsr
        and     eax, 0xD00 & ~EFER_NXE | EFER_LME
        check   "EFER has LMA and LME", rax, 0x500
        trap    "IA32_PAT with a reserved memory type", GP, 0
        mov     ecx, IA32_PAT
        rdmsr
        mov     al, 2
        at_fault
        wrmsr
        endtrap
        trap    "IA32_LSTAR must be canonical", GP, 0
        mov     ecx, IA32_LSTAR
        xor     eax, eax
        mov     edx, 0x8000
        at_fault
        wrmsr
        endtrap
        trap    "IA32_SYSENTER_EIP must be canonical", GP, 0
        mov     ecx, IA32_SYSENTER_EIP
        xor     eax, eax
        mov     edx, 0x8000
        at_fault
        wrmsr
        endtrap
        mov     ecx, IA32_TSC
        xor     eax, eax
        mov     edx, 0x100
        wrmsr
        rdtsc
        check   "writing IA32_TIME_STAMP_COUNTER", rdx, 0x100
        mov     rax, -1
        mov     rdx, -1
        rdtsc
        shr     rax, 32
        check   "RDTSC clears the upper half of RAX", rax, 0
        trap    "RDMSR in ring 3", GP, 0
        mov     rdi, .user
        call    enter_user64
.user:  at_fault
        rdmsr
        endtrap
        mov     rax, cr4
        or      rax, 1 << 2                     ; TSD
        mov     cr4, rax
        rdtsc
        trap    "RDTSC in ring 3 with CR4.TSD", GP, 0
        mov     rdi, .user2
        call    enter_user64
.user2: at_fault
        rdtsc
        endtrap
        mov     rax, cr4
        and     rax, ~(1 << 2)
        mov     cr4, rax
        ret

control_registers:
        trap    "CR0.PG = 0 in 64-bit mode", GP, 0
        mov     rax, cr0
        btr     rax, 31
        at_fault
        mov     cr0, rax
        endtrap
        trap    "CR0.NW without CR0.CD", GP, 0
        mov     rax, cr0
        or      rax, 1 << 29
        at_fault
        mov     cr0, rax
        endtrap
        trap    "CR0 above bit 31", GP, 0
        mov     rax, cr0
        bts     rax, 32
        at_fault
        mov     cr0, rax
        endtrap
        trap    "CR4.PAE = 0 in long mode", GP, 0
        mov     rax, cr4
        and     rax, ~CR4_PAE
        at_fault
        mov     cr4, rax
        endtrap
        trap    "reserved bit of CR4", GP, 0
        mov     rax, cr4
        bts     rax, 31
        at_fault
        mov     cr4, rax
        endtrap
        trap    "reserved bit of CR3", GP, 0
        mov     rax, cr3
        bts     rax, 60
        at_fault
        mov     cr3, rax
        endtrap
        trap    "reserved bit of CR8", GP, 0
        mov     eax, 0x10
        at_fault
        mov     cr8, rax
        endtrap
        mov     eax, 5
        mov     cr8, rax
        mov     rcx, cr8
        check   "CR8", rcx, 5
        xor     eax, eax
        mov     cr8, rax
        trap    "CR1 does not exist", UD
        db      0x0F, 0x20, 0xC8                ; MOV RAX, CR1
        endtrap
        trap    "MOV from CR0 in ring 3", GP, 0
        mov     rdi, .user
        call    enter_user64
.user:  at_fault
        mov     rax, cr0
        endtrap
        mov     rax, cr0
        or      rax, 1 << 3
        mov     cr0, rax
        clts
        mov     rax, cr0
        and     eax, 1 << 3
        check   "CLTS", rax, 0
        smsw    eax
        lmsw    ax                              ; LMSW cannot clear PE
        mov     rcx, cr0
        and     ecx, 1
        check   "LMSW leaves PE", rcx, 1
        ret

segment_bases:
        mov     rax, 0x1122334455667788
        mov     [BUFFER], rax
        mov     ecx, IA32_FS_BASE
        mov     eax, BUFFER
        xor     edx, edx
        wrmsr
        mov     rbx, [fs:0]
        check   "IA32_FS_BASE", rbx, 0x1122334455667788
        mov     ecx, IA32_GS_BASE
        mov     eax, BUFFER - 8
        wrmsr
        mov     ecx, IA32_KERNEL_GS_BASE
        mov     eax, BUFFER - 16
        wrmsr
        mov     rbx, [gs:8]
        check   "IA32_GS_BASE", rbx, 0x1122334455667788
        swapgs
        mov     rbx, [gs:16]
        check   "SWAPGS", rbx, 0x1122334455667788
        mov     ecx, IA32_KERNEL_GS_BASE
        rdmsr
        check   "SWAPGS saves the other base", rax, BUFFER - 8
        trap    "IA32_FS_BASE must be canonical", GP, 0
        mov     ecx, IA32_FS_BASE
        xor     eax, eax
        mov     edx, 0x8000
        at_fault
        wrmsr
        endtrap
        trap    "SWAPGS in ring 3", GP, 0
        mov     rdi, .user
        call    enter_user64
.user:  at_fault
        swapgs
        endtrap
        ; The base of DS is not used in 64-bit mode.
        mov     dword [gdt_spare], 0x8000FFFF
        mov     dword [gdt_spare + 4], 0x00CF9300
        mov     eax, SPARE
        mov     ds, eax
        mov     rbx, [BUFFER]
        mov     eax, DATA
        mov     ds, eax
        check   "the base of DS is ignored", rbx, 0x1122334455667788
        mov     eax, SPARE
        mov     fs, eax
        mov     ecx, IA32_FS_BASE
        rdmsr
        check   "loading FS loads its base from the descriptor", rax, 0x8000
        ret

canonical:
        mov     rbx, NOT_CANONICAL
        trap    "read of an address that is not canonical", GP, 0
        mov     eax, [rbx]
        endtrap
        trap    "write", GP, 0
        mov     [rbx], eax
        endtrap
        trap    "operand that crosses into the hole", GP, 0
        mov     rbx, NOT_CANONICAL - 4
        at_fault
        mov     rax, [rbx]
        endtrap
        mov     rbx, NOT_CANONICAL
        trap    "through RBP it is a stack fault", SS_, 0
        mov     rbp, rbx
        at_fault
        mov     eax, [rbp]
        endtrap
        mov     byte [idt64 + 16 * SS_ + 4], 1  ; IST1: the handler needs a stack
        trap    "through RSP as a base too", SS_, 0
        mov     rsp, rbx
        at_fault
        mov     eax, [rsp]
        endtrap
        trap    "PUSH", SS_, 0
        lea     rsp, [rbx + 4096]
        at_fault
        push    rax
        endtrap
        mov     byte [idt64 + 16 * SS_ + 4], 0
        trap    "JMP to an address that is not canonical", GP, 0
        jmp     rbx
        endtrap
        trap    "RET to an address that is not canonical", GP, 0
        push    rbx
        at_fault
        ret
        endtrap
        trap    "CALL to an address that is not canonical", GP, 0
        call    rbx
        endtrap
        mov     rbx, 0xFFFF7FFFFFFFFFFF
        trap    "one below the upper half", GP, 0
        mov     al, [rbx]
        endtrap
        trap    "LEA does not care", LEAVE_USER_MODE
        lea     rax, [rbx + 8]
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        trap    "INVLPG does not care", LEAVE_USER_MODE
        invlpg  [rbx]
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        trap    "LGDT of a base that is not canonical", GP, 0
        lgdt    [.bad_gdt]
        endtrap
        ret
.bad_gdt:
        dw      0xFFFF
        dq      NOT_CANONICAL

        %include "end.inc"
