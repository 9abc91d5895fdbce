; 32-bit paging with PSE, and PAE paging. SDM volume 3A, "32-Bit Paging" and "PAE Paging".
        %include "kernel.inc"

ERROR_P         equ 1
ERROR_W         equ 2
ERROR_U         equ 4
ERROR_RSVD      equ 8
ERROR_I         equ 16
TEST_PAGE       equ 0x40000000
TEST_OFFSET     equ 0x40000123
FRAME_A         equ 0x00800000
FRAME_B         equ 0x00801000

        section .bss
        alignb  4096
directory:      resb    4096
table:          resb    4096
pae_directories: resb   4096 * 2                ; for linear 0 and for TEST_PAGE
pae_table:      resb    4096
other_pointers: resb    32
        section .data
        align   32
pointers:       dq      0, 0, 0, 0
        section .text

        bits    32
main:
        call    load_tss32
        mov     dword [FRAME_A + 0x123], 0xAAAAAAAA
        mov     dword [FRAME_B + 0x123], 0xBBBBBBBB
        call    two_levels
        call    rights
        call    pae
        mov     eax, cr0
        btr     eax, 31
        mov     cr0, eax
        ret

two_levels:
        mov     dword [directory], PRESENT | WRITABLE | USER | LARGE                    ; 0 … 4 MiB
        mov     dword [directory + 8], FRAME_A | PRESENT | WRITABLE | LARGE             ; 8 … 12 MiB
        mov     dword [directory + 4 * (TEST_PAGE >> 22)], table + (PRESENT | WRITABLE | USER)
        mov     dword [table], FRAME_A | PRESENT | WRITABLE
        mov     eax, directory
        mov     cr3, eax
        mov     eax, cr4
        or      eax, CR4_PSE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        mov     eax, [TEST_OFFSET]
        check   "4 KiB page", eax, 0xAAAAAAAA
        mov     eax, [FRAME_B + 0x123]
        check   "4 MiB page", eax, 0xBBBBBBBB
        check   "A of the page", [table], FRAME_A | PRESENT | WRITABLE | ACCESSED
        mov     eax, [directory + 4 * (TEST_PAGE >> 22)]
        and     eax, ACCESSED | DIRTY
        check   "A of the directory entry, no D", eax, ACCESSED
        mov     dword [TEST_OFFSET], 0x12345678
        check   "D of the page", [table], FRAME_A | PRESENT | WRITABLE | ACCESSED | DIRTY
        mov     eax, [directory + 8]
        and     eax, ACCESSED | DIRTY
        check   "A of a 4 MiB page that is only read", eax, ACCESSED
        mov     dword [FRAME_B + 0x123], 0xBBBBBBBB
        mov     eax, [directory + 8]
        and     eax, ACCESSED | DIRTY
        check   "A and D of a 4 MiB page that is written", eax, ACCESSED | DIRTY
        trap    "not present: read", PF, 0
        mov     eax, [TEST_PAGE + 0x1004]
        endtrap
        check   "CR2", [saved.cr2], TEST_PAGE + 0x1004
        trap    "not present: write", PF, ERROR_W
        mov     [TEST_PAGE + 0x1004], eax
        endtrap
        trap    "not present in the directory", PF, 0
        mov     eax, [0x80000000]
        endtrap
        mov     ebx, TEST_PAGE + 0x1000
        trap    "not present: fetch", PF, 0
        jmp     ebx
        endtrap_at TEST_PAGE + 0x1000
        mov     dword [directory + 4 * 300], FRAME_A | PRESENT | WRITABLE | LARGE | 1 << 21
        trap    "reserved bit of a 4 MiB page", PF, ERROR_P | ERROR_RSVD
        mov     eax, [300 << 22]
        endtrap
        mov     dword [table + 4], FRAME_B | PRESENT
        mov     eax, [TEST_PAGE + 0x1123]
        mov     dword [table + 4], FRAME_A | PRESENT
        invlpg  [TEST_PAGE + 0x1123]
        mov     eax, [TEST_PAGE + 0x1123]
        check   "INVLPG", eax, 0x12345678
        ret

rights:
        mov     dword [table], FRAME_A | PRESENT
        invlpg  [TEST_PAGE]
        mov     dword [TEST_OFFSET], 0x11111111
        mov     eax, [TEST_OFFSET]
        check   "CR0.WP = 0: ring 0 writes to a read-only page", eax, 0x11111111
        mov     eax, cr0
        or      eax, CR0_WP
        mov     cr0, eax
        trap    "CR0.WP = 1: it faults", PF, ERROR_P | ERROR_W
        mov     dword [TEST_OFFSET], 1
        endtrap
        mov     dword [directory + 8], FRAME_A | PRESENT | WRITABLE | LARGE
        trap    "ring 3 reads a supervisor page", PF, ERROR_P | ERROR_U
        mov     edi, .user
        jmp     enter_user32
.user:  at_fault
        mov     eax, [TEST_OFFSET]
        endtrap
        trap    "ring 3 fetches from a supervisor page", PF, ERROR_P | ERROR_U
        mov     edi, FRAME_A
        jmp     enter_user32
        endtrap_at FRAME_A
        ret

; PAE: four pointers that MOV to CR3 loads into the processor, then two levels with entries of 8 bytes.
pae:
        mov     eax, cr0
        and     eax, ~(CR0_PG | CR0_WP)
        mov     cr0, eax
        mov     dword [pointers], pae_directories + PRESENT
        mov     dword [pointers + 8], pae_directories + 4096 + PRESENT
        mov     eax, PRESENT | WRITABLE | USER | LARGE
        xor     ecx, ecx
.fill:  mov     [pae_directories + ecx * 8], eax
        add     eax, 0x200000
        inc     ecx
        cmp     ecx, 8
        jne     .fill
        mov     dword [pae_directories + 4096], pae_table + (PRESENT | WRITABLE | USER)
        mov     dword [pae_table], FRAME_A | PRESENT | WRITABLE
        mov     eax, cr4
        or      eax, CR4_PAE
        mov     cr4, eax
        mov     eax, pointers
        mov     cr3, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax
        mov     dword [FRAME_A + 0x123], 0xAAAAAAAA
        mov     eax, [TEST_OFFSET]
        check   "PAE: 4 KiB page", eax, 0xAAAAAAAA
        check   "PAE: A", [pae_table], FRAME_A | PRESENT | WRITABLE | ACCESSED
        mov     eax, [FRAME_B + 0x123]
        check   "PAE: 2 MiB page", eax, 0xBBBBBBBB
        trap    "PAE: not present in the pointers", PF, 0
        mov     eax, [0xC0000000]
        endtrap

        ; The pointers are registers: memory counts at the next MOV to CR3 only.
        mov     dword [pointers + 8], 0
        invlpg  [TEST_PAGE]
        mov     eax, [TEST_OFFSET]
        check   "PAE: the pointers are cached until CR3 is written", eax, 0xAAAAAAAA
        mov     eax, cr3
        mov     cr3, eax
        trap    "PAE: after that the new ones count", PF, 0
        mov     eax, [TEST_OFFSET]
        endtrap
        mov     dword [pointers + 8], pae_directories + 4096 + (PRESENT | 1 << 1)
        trap    "PAE: MOV to CR3 checks reserved bits of the pointers", GP, 0
        mov     eax, cr3
        at_fault
        mov     cr3, eax
        endtrap
        mov     dword [pointers + 8], pae_directories + 4096 + PRESENT
        mov     eax, cr3
        mov     cr3, eax

        mov     dword [pae_table + 4], 1 << 31
        invlpg  [TEST_PAGE]
        trap    "PAE: bit 63 without NXE", PF, ERROR_P | ERROR_RSVD
        mov     eax, [TEST_OFFSET]
        endtrap
        mov     ecx, IA32_EFER
        rdmsr
        or      eax, EFER_NXE
        wrmsr
        mov     eax, [TEST_OFFSET]
        check   "PAE: bit 63 with NXE allows reading", eax, 0xAAAAAAAA
        mov     ebx, TEST_PAGE
        trap    "PAE: and forbids fetching", PF, ERROR_P | ERROR_I
        jmp     ebx
        endtrap_at TEST_PAGE
        mov     dword [pae_table + 4], 1 << 30
        invlpg  [TEST_PAGE]
        trap    "PAE: address bit 62", PF, ERROR_P | ERROR_RSVD
        mov     eax, [TEST_OFFSET]
        endtrap
        ret

        %include "end.inc"
