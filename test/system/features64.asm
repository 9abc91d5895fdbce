; Features that not every processor has: UMIP, protection keys, the XSAVE instructions, RDRAND, RDPID, CPUID's flag of
; the
; local APIC. SDM volume 3A, "Protection Keys"; volume 1, "Managing State Using the XSAVE Feature Set".
        %include "kernel.inc"

CR4_OSFXSR      equ 1 << 9
CR4_UMIP        equ 1 << 11
CR4_OSXSAVE     equ 1 << 18
CR4_PKE         equ 1 << 22
CR0_TS          equ 1 << 3
FLAG_STATUS     equ 0x8D5
KEY_2           equ 2 << 27             ; in the upper half of an entry
AD_2            equ 1 << 4              ; PKRU: access disabled, write disabled
WD_2            equ 1 << 5
PF_PRESENT      equ 1
PF_WRITE        equ 2
PF_USER         equ 4
PF_KEY          equ 32
IA32_TSC_AUX    equ 0xC0000103
IA32_APIC_BASE  equ 0x1B
PAGE            equ 0x00800000          ; a user page, of 2 MiB
AREA            equ 0x00600000          ; for XSAVE
PAGE_ENTRY      equ pd + (PAGE >> 21) * 8

%macro set_cr4 1
        mov     rax, cr4
        or      rax, %1
        mov     cr4, rax
%endmacro
%macro clear_cr4 1
        mov     rax, cr4
        and     rax, ~(%1)
        mov     cr4, rax
%endmacro

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    user_mode_instruction_prevention
        call    protection_keys
        call    extended_states
        call    numbers
        call    apic_flag
        jmp     finish64

user_mode_instruction_prevention:
        set_cr4 CR4_UMIP
        trap    "UMIP: SGDT in ring 3", GP, 0
        mov     edi, .sgdt
        jmp     enter_user64
        at_fault
.sgdt:  sgdt    [PAGE]
        endtrap
        trap    "UMIP: SIDT in ring 3", GP, 0
        mov     edi, .sidt
        jmp     enter_user64
        at_fault
.sidt:  sidt    [PAGE]
        endtrap
        trap    "UMIP: SLDT in ring 3", GP, 0
        mov     edi, .sldt
        jmp     enter_user64
        at_fault
.sldt:  sldt    ax
        endtrap
        trap    "UMIP: STR in ring 3", GP, 0
        mov     edi, .str
        jmp     enter_user64
        at_fault
.str:   str     ax
        endtrap
        trap    "UMIP: SMSW in ring 3", GP, 0
        mov     edi, .smsw
        jmp     enter_user64
        at_fault
.smsw:  smsw    ax
        endtrap
        str     ax
        movzx   eax, ax
        check   "UMIP: STR in ring 0", rax, TSS
        clear_cr4 CR4_UMIP
        trap    "without UMIP: STR in ring 3", LEAVE_USER_MODE
        mov     edi, .allowed
        jmp     enter_user64
.allowed: str   ax
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        ret

%macro set_pkru 1
        xor     ecx, ecx
        xor     edx, edx
        mov     eax, %1
        wrpkru
%endmacro

protection_keys:
        trap    "RDPKRU without CR4.PKE", UD
        xor     ecx, ecx
        at_fault
        rdpkru
        endtrap
        or      dword [PAGE_ENTRY + 4], KEY_2
        set_cr4 CR4_PKE
        mov     rax, cr3
        mov     cr3, rax
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        shr     ecx, 4
        and     ecx, 1
        check   "CPUID: OSPKE is CR4.PKE", rcx, 1
        set_pkru AD_2
        xor     eax, eax
        xor     ecx, ecx
        rdpkru
        check   "RDPKRU", rax, AD_2
        trap    "RDPKRU with ECX = 1", GP, 0
        mov     ecx, 1
        at_fault
        rdpkru
        endtrap
        trap    "WRPKRU with EDX = 1", GP, 0
        xor     ecx, ecx
        mov     edx, 1
        at_fault
        wrpkru
        endtrap
        trap    "access disabled: read in ring 0 of a user page", PF, PF_PRESENT | PF_KEY
        mov     al, [PAGE]
        endtrap
        trap    "access disabled: read in ring 3", PF, PF_PRESENT | PF_KEY | PF_USER
        mov     edi, .read
        jmp     enter_user64
        at_fault
.read:  mov     al, [PAGE]
        endtrap
        mov     al, [PAGE + 0x200000]
        check   "a page with another key", rdi, .read
        set_pkru WD_2
        mov     dword [PAGE], 0x77
        check   "write disabled: ring 0 may write without CR0.WP", [PAGE], 0x77
        mov     rax, cr0
        or      rax, CR0_WP
        mov     cr0, rax
        trap    "write disabled: write in ring 0 with CR0.WP", PF, PF_PRESENT | PF_KEY | PF_WRITE
        mov     dword [PAGE], 1
        endtrap
        mov     rax, cr0
        and     rax, ~CR0_WP
        mov     cr0, rax
        trap    "write disabled: write in ring 3", PF, PF_PRESENT | PF_KEY | PF_USER | PF_WRITE
        mov     edi, .write
        jmp     enter_user64
        at_fault
.write: mov     dword [PAGE], 1
        endtrap
        mov     eax, [PAGE]
        check   "write disabled: reads go on", rax, 0x77
        ; Fetches have no key.
        mov     byte [PAGE + 16], 0xCD
        mov     byte [PAGE + 17], LEAVE_USER_MODE
        set_pkru AD_2 | WD_2
        trap    "execution is not a matter of protection keys", LEAVE_USER_MODE
        mov     edi, PAGE + 16
        jmp     enter_user64
        endtrap_at PAGE + 18
        set_pkru 0
        mov     eax, [PAGE]
        check   "PKRU = 0 allows everything", rax, 0x77
        clear_cr4 CR4_PKE
        and     dword [PAGE_ENTRY + 4], ~KEY_2
        ret

; EDX:EAX of an XSAVE instruction.
%macro components 1
        mov     eax, %1
        xor     edx, edx
%endmacro
%macro clear_area 0
        mov     edi, AREA
        mov     ecx, 1024 / 8
        xor     eax, eax
        cld
        rep     stosq
%endmacro

extended_states:
        set_cr4 CR4_OSFXSR
        trap    "XGETBV without CR4.OSXSAVE", UD
        xor     ecx, ecx
        at_fault
        xgetbv
        endtrap
        trap    "XSAVE without CR4.OSXSAVE", UD
        xsave   [AREA]
        endtrap
        set_cr4 CR4_OSXSAVE
        mov     eax, 1
        cpuid
        shr     ecx, 27
        and     ecx, 1
        check   "CPUID: OSXSAVE is CR4.OSXSAVE", rcx, 1
        trap    "XSETBV without x87", GP, 0
        xor     ecx, ecx
        components 2
        at_fault
        xsetbv
        endtrap
        trap    "XSETBV of bit 63", GP, 0
        xor     ecx, ecx
        mov     eax, 3
        mov     edx, 1 << 31
        at_fault
        xsetbv
        endtrap
        trap    "XSETBV of XCR1", GP, 0
        mov     ecx, 1
        components 3
        at_fault
        xsetbv
        endtrap
        xor     ecx, ecx
        components 3
        xsetbv
        xgetbv
        check   "XGETBV", rax, 3
        mov     eax, 0xD
        xor     ecx, ecx
        cpuid
        check   "CPUID: size of the area for x87 and SSE", rbx, 576

        trap    "XSAVE of an area that is not aligned", GP, 0
        components 3
        at_fault
        xsave   [AREA + 32]
        endtrap
        trap    "XSAVE with CR0.TS", NM
        mov     rax, cr0
        or      rax, CR0_TS
        mov     cr0, rax
        at_fault
        xsave   [AREA]
        endtrap
        clts

        fninit
        mov     rax, 0x1122334455667788
        movq    xmm3, rax
        clear_area
        mov     dword [AREA + 24], 0xFFFFFFFF
        mov     dword [AREA + 160 + 3 * 16], 0xFFFFFFFF
        components 1
        xsave   [AREA]
        mov     eax, [AREA]
        and     eax, 0xFFFF
        check   "XSAVE of x87: the control word", rax, 0x37F
        mov     eax, [AREA + 24]
        check   "XSAVE of x87 leaves MXCSR alone", rax, 0xFFFFFFFF
        mov     eax, [AREA + 160 + 3 * 16]
        check   "XSAVE of x87 leaves XMM alone", rax, 0xFFFFFFFF
        components 2
        xsave   [AREA]
        mov     rax, [AREA + 160 + 3 * 16]
        check   "XSAVE of SSE", rax, 0x1122334455667788
        mov     eax, [AREA + 24]
        check   "XSAVE of SSE: MXCSR", rax, 0x1F80
        mov     rax, [AREA + 512]
        and     eax, 2
        check   "XSTATE_BV has SSE", rax, 2

        mov     qword [AREA + 512], 0
        components 2
        xrstor  [AREA]
        movq    rax, xmm3
        check   "XRSTOR of what XSTATE_BV does not have initialises it", rax, 0
        mov     qword [AREA + 512], 2
        components 2
        xrstor  [AREA]
        movq    rax, xmm3
        check   "XRSTOR loads what it has", rax, 0x1122334455667788
        trap    "XRSTOR: XSTATE_BV with a bit that is not in XCR0", GP, 0
        mov     qword [AREA + 512], 0x10
        components 3
        at_fault
        xrstor  [AREA]
        endtrap
        mov     qword [AREA + 512], 2
        trap    "XRSTOR: a reserved byte of the header", GP, 0
        mov     byte [AREA + 528], 1
        components 3
        at_fault
        xrstor  [AREA]
        endtrap
        mov     byte [AREA + 528], 0
        trap    "XRSTOR: a reserved bit of MXCSR", GP, 0
        mov     dword [AREA + 24], 0x10000
        components 2
        at_fault
        xrstor  [AREA]
        endtrap

        clear_area
        components 3
        xsavec  [AREA]
        mov     rax, [AREA + 520]
        mov     rcx, 0x8000000000000003
        check   "XSAVEC: XCOMP_BV", rax, rcx
        mov     rax, [AREA + 512]
        check   "XSAVEC leaves x87 out, which is as FNINIT has it", rax, 2
        pxor    xmm3, xmm3
        components 3
        xrstor  [AREA]
        movq    rax, xmm3
        check   "XRSTOR of the compacted format", rax, 0x1122334455667788
        mov     ecx, 1
        xgetbv
        and     eax, 2
        check   "XGETBV of XINUSE", rax, 2
        trap    "XRSTORS of the standard format", GP, 0
        mov     qword [AREA + 520], 0
        components 3
        at_fault
        xrstors [AREA]
        endtrap
        trap    "XSAVES in ring 3", GP, 0
        mov     edi, .user
        jmp     enter_user64
        at_fault
.user:  xsaves  [AREA]
        endtrap
        clear_cr4 CR4_OSXSAVE
        ret

numbers:
        stc
        xor     ecx, ecx
        rdrand  rbx
        pushfq
        pop     rax
        and     eax, FLAG_STATUS
        check   "RDRAND sets CF and clears the other status flags", rax, FLAG_CF
        rdrand  rcx
        xor     eax, eax
        cmp     rbx, rcx
        setne   al
        check   "RDRAND: two numbers differ", rax, 1
        mov     rcx, -1
        rdseed  ecx
        shr     rcx, 32
        check   "RDSEED of 32 bits clears the upper half", rcx, 0
        mov     ecx, IA32_TSC_AUX
        mov     eax, 0x5A5A5A5A
        xor     edx, edx
        wrmsr
        mov     rbx, -1
        rdpid   rbx
        check   "RDPID", rbx, 0x5A5A5A5A
        ret

apic_flag:
        mov     ecx, IA32_APIC_BASE
        rdmsr
        and     eax, ~(1 << 11)
        wrmsr
        mov     eax, 1
        cpuid
        and     edx, 1 << 9
        check   "CPUID.1:EDX.APIC follows IA32_APIC_BASE.EN", rdx, 0
        ret

        %include "end.inc"
