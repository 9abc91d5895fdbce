; Five-level paging: how it is turned on, addresses of 57 bits, PML5 entries, what is canonical.
; SDM volume 3A, "Paging": 5-level paging, "Linear-Address Pre-Processing"; volume 2, MOV to CR4, SYSRET, LGDT, INVPCID.
        %include "kernel.inc"

CR4_LA57        equ 1 << 12
ERROR_P         equ 1
ERROR_RSVD      equ 8
IA32_LSTAR      equ 0xC0000082
IA32_KERNEL_GS_BASE equ 0xC0000102
FRAME           equ 0x00800000
; Entry 1 of the PML5 table: bit 48, which is not canonical in 4-level paging.
UPPER           equ 1 << 48
; Canonical for 57 bits, not for 48; and not even for 57 bits.
CANONICAL57     equ 1 << 55
NOT_CANONICAL   equ 1 << 56
; The highest half of 57-bit addresses.
HIGH            equ 0xFF00000000000000

        section .bss
        alignb  4096
pml5:           resb    4096

        section .data
                align   8
table:          dw      0xFFF
                dq      0
reports:        dq      0

        section .text
        bits    32
main:
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        shr     ecx, 16
        and     ecx, 1
        mov     [reports], ecx
        check   "CPUID reports 5-level paging", [reports], 1
        cmp     dword [reports], 0
        je      .end
        mov     dword [pml5], pml4 + (PRESENT | WRITABLE | USER)
        mov     dword [pml5 + 8], pml4 + (PRESENT | WRITABLE | USER)
        mov     dword [pml5 + 256 * 8], pml4 + (PRESENT | WRITABLE | USER)
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    four_levels
        call    switch
        call    five_levels
        call    canonical
        jmp     finish64
        bits    32
.end:   ret

        bits    64
four_levels:
        mov     dword [FRAME], 0x57575757
        mov     rbx, UPPER + FRAME
        trap    "4 levels: bit 48 alone is not canonical", GP, 0
        mov     eax, [rbx]
        endtrap
        trap    "CR4.LA57 does not change in IA-32e mode", GP, 0
        mov     rax, cr4
        or      rax, CR4_LA57
        at_fault
        mov     cr4, rax
        endtrap
        ; Registers take what CPUID allows, whatever the paging mode is.
        call    registers4
        ret

registers4:
        mov     ecx, IA32_LSTAR
        xor     eax, eax
        mov     edx, CANONICAL57 >> 32
        wrmsr
        xor     edx, edx
        rdmsr
        check   "4 levels: IA32_LSTAR takes 57 bits", rdx, CANONICAL57 >> 32
        trap    "4 levels: IA32_LSTAR takes no more", GP, 0
        mov     edx, NOT_CANONICAL >> 32
        at_fault
        wrmsr
        endtrap
        sgdt    [saved_gdt]
        mov     rax, CANONICAL57
        mov     [table + 2], rax
        lgdt    [table]
        sgdt    [table]
        lgdt    [saved_gdt]
        mov     rbx, [table + 2]
        mov     rcx, CANONICAL57
        check   "4 levels: LGDT takes a base of 57 bits", rbx, rcx
        ret

        section .data
saved_gdt:      dw      0
                dq      0
        section .text

; Paging can be turned off in compatibility mode only: to 32-bit code, other tables, and back.
switch:
        pop     rax
        mov     [.return], eax
        push    CODE32
        push    .compatible
        retfq
        bits    32
.compatible:
        mov     eax, cr0
        and     eax, ~CR0_PG
        mov     cr0, eax
        mov     eax, cr4
        or      eax, CR4_LA57
        mov     cr4, eax
        mov     eax, pml5
        mov     cr3, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        jmp     CODE64:.long
        bits    64
.long:  mov     eax, [.return]
        jmp     rax
.return: dd     0

five_levels:
        mov     rax, cr4
        shr     rax, 12
        and     eax, 1
        check   "CR4.LA57", rax, 1
        mov     eax, [FRAME]
        check   "5 levels: entry 0 of the PML5 table", rax, 0x57575757
        mov     rbx, UPPER + FRAME
        mov     eax, [rbx]
        check   "5 levels: entry 1 of the PML5 table", rax, 0x57575757
        mov     rbx, HIGH + FRAME
        mov     eax, [rbx]
        check   "5 levels: entry 256, bits 63:57 are ones", rax, 0x57575757
        mov     eax, [pml5 + 8]
        and     eax, ACCESSED | DIRTY
        check   "5 levels: the PML5 entry is accessed, never dirty", rax, ACCESSED
        mov     eax, [pml5 + 16]
        mov     rbx, (2 << 48) + FRAME
        trap    "5 levels: a PML5 entry that is not present", PF, 0
        mov     eax, [rbx]
        endtrap
        mov     rax, cr2
        mov     rcx, (2 << 48) + FRAME
        check   "5 levels: CR2 has the whole address", rax, rcx
        mov     qword [pml5 + 16], pml4 + (PRESENT | WRITABLE | LARGE)
        trap    "5 levels: PS in a PML5 entry is reserved", PF, ERROR_P | ERROR_RSVD
        mov     eax, [rbx]
        endtrap
        mov     qword [pml5 + 16], pml4 + PRESENT
        mov     rax, cr3
        mov     cr3, rax
        mov     rax, cr0
        or      eax, CR0_WP
        mov     cr0, rax
        trap    "5 levels: the PML5 entry's R/W counts", PF, ERROR_P | 2
        mov     [rbx], eax
        endtrap
        mov     qword [pml5 + 16], 0
        invlpg  [rbx]
        trap    "5 levels: INVLPG of a 57-bit address", PF, 0
        mov     eax, [rbx]
        endtrap
        ret

canonical:
        mov     rbx, NOT_CANONICAL
        trap    "5 levels: bit 56 alone is not canonical", GP, 0
        mov     eax, [rbx]
        endtrap
        trap    "5 levels: SS-relative, not canonical", SS_, 0
        mov     rbp, rbx
        at_fault
        mov     eax, [rbp]
        endtrap
        trap    "5 levels: JMP to an address that is not canonical", GP, 0
        jmp     rbx
        endtrap
        mov     rbx, UPPER + .target
        jmp     rbx
.target:
        lea     rax, [rel .target]
        mov     rcx, UPPER + .target
        check   "5 levels: code runs at a 57-bit address", rax, rcx
        mov     rsi, UPPER + .target
        sub     rsp, 16
        mov     rdi, rsp
        mov     ecx, 2
        cld
        rep     movsd
        pop     rcx
        add     rsp, 8
        mov     rax, [.target]
        check   "5 levels: REP MOVSD reads at a 57-bit address", rax, rcx
        mov     rcx, UPPER + .target + 8
        check   "5 levels: REP MOVSD leaves a 57-bit address", rsi, rcx
        mov     eax, .low
        jmp     rax
.low:
        mov     rcx, NOT_CANONICAL
        trap    "5 levels: access across the end of the canonical addresses", GP, 0
        mov     eax, [rcx - 2]
        endtrap
        trap    "5 levels: CR4.LA57 does not change, either", GP, 0
        mov     rax, cr4
        and     rax, ~CR4_LA57
        at_fault
        mov     cr4, rax
        endtrap
        ret

        %include "end.inc"
