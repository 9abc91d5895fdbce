; Four-level paging: translation, rights, accessed and dirty flags, error codes, TLB.
; SDM volume 3A, "Paging": 4-level paging, access rights, page-fault exceptions, accessed and dirty flags, caching.
        %include "kernel.inc"

ERROR_P         equ 1                   ; bits of a page fault's error code
ERROR_W         equ 2
ERROR_U         equ 4
ERROR_RSVD      equ 8
ERROR_I         equ 16

TEST_PAGE       equ 0x40000000          ; linear: entry 1 of the PDPT is ours
TEST_OFFSET     equ 0x40000123
FRAME_A         equ 0x00800000          ; physical
FRAME_B         equ 0x00801000

        section .bss
        alignb  4096
test_pd:        resb    4096
test_pt:        resb    4096
        section .text

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        mov     qword [pdpt + 8], test_pd + (PRESENT | WRITABLE | USER)
        mov     qword [test_pd], test_pt + (PRESENT | WRITABLE | USER)
        mov     dword [FRAME_A + 0x123], 0xAAAAAAAA
        mov     dword [FRAME_B + 0x123], 0xBBBBBBBB
        call    translation
        call    not_present
        call    write_protection
        call    user_rights
        call    no_execute
        call    reserved_bits
        call    accessed_and_dirty
        call    stale_translations
        call    global_pages
        call    straddling
        jmp     finish64

; Puts RAX into the test page's entry and forgets what the TLB has of it.
set_entry:
        mov     [test_pt], rax
        invlpg  [TEST_PAGE]
        ret

translation:
        mov     eax, FRAME_A | PRESENT | WRITABLE
        call    set_entry
        mov     eax, [TEST_OFFSET]
        check   "4 KiB page", rax, 0xAAAAAAAA
        mov     qword [test_pd + 8], 0x800000 | PRESENT | WRITABLE | LARGE
        mov     eax, [TEST_PAGE + 0x201123]
        check   "2 MiB page", rax, 0xBBBBBBBB
        mov     eax, 0x80000001
        cpuid
        test    edx, 1 << 26                    ; 1 GiB pages
        jz      .no_gigabyte
        mov     qword [pdpt + 16], PRESENT | WRITABLE | LARGE
        mov     eax, [abs qword 0x80801123]
        check   "1 GiB page", rax, 0xBBBBBBBB
.no_gigabyte:
        mov     rax, 0xFFFF800000801123         ; PML4 entry 256
        mov     rcx, [pml4]
        mov     [pml4 + 256 * 8], rcx
        mov     eax, [rax]
        check   "upper half of the address space", rax, 0xBBBBBBBB
        ret

not_present:
        xor     eax, eax
        call    set_entry
        trap    "read of a page that is not present", PF, 0
        mov     eax, [TEST_OFFSET]
        endtrap
        check   "CR2 is the address", [saved.cr2], TEST_OFFSET
        trap    "write to a page that is not present", PF, ERROR_W
        mov     [TEST_OFFSET], eax
        endtrap
        trap    "read-modify-write counts as a write", PF, ERROR_W
        add     [TEST_OFFSET], eax
        endtrap
        mov     rbx, TEST_OFFSET
        trap    "fetch without NXE has no I flag", PF, 0
        jmp     rbx
        endtrap_at TEST_OFFSET
        trap    "not present at the level of the PML4", PF, 0
        mov     rax, 0x0000700000000000
        at_fault
        mov     eax, [rax]
        endtrap
        trap    "from ring 3", PF, ERROR_U
        mov     rdi, .user
        call    enter_user64
.user:  at_fault
        mov     eax, [TEST_OFFSET]
        endtrap
        ret

write_protection:
        mov     eax, FRAME_A | PRESENT | USER
        call    set_entry
        mov     rax, cr0
        and     rax, ~CR0_WP
        mov     cr0, rax
        mov     dword [TEST_OFFSET], 0x11111111
        mov     ecx, [FRAME_A + 0x123]
        check   "CR0.WP = 0: ring 0 writes to a read-only page", rcx, 0x11111111
        or      rax, CR0_WP
        mov     cr0, rax
        trap    "CR0.WP = 1: it faults", PF, ERROR_P | ERROR_W
        mov     dword [TEST_OFFSET], 1
        endtrap
        mov     eax, [TEST_OFFSET]
        check   "reading goes on", rax, 0x11111111
        ; The write right is the "and" of all levels.
        mov     eax, FRAME_A | PRESENT | WRITABLE | USER
        mov     qword [test_pd], test_pt + (PRESENT | USER)
        call    set_entry
        trap    "read-only at the level of the page directory", PF, ERROR_P | ERROR_W
        mov     dword [TEST_OFFSET], 1
        endtrap
        mov     qword [test_pd], test_pt + (PRESENT | WRITABLE | USER)
        invlpg  [TEST_PAGE]
        mov     rax, cr0
        and     rax, ~CR0_WP
        mov     cr0, rax
        ret

user_rights:
        mov     eax, FRAME_A | PRESENT | WRITABLE
        call    set_entry
        trap    "ring 3 reads a supervisor page", PF, ERROR_P | ERROR_U
        mov     rdi, .read
        call    enter_user64
.read:  at_fault
        mov     eax, [TEST_OFFSET]
        endtrap
        trap    "ring 3 writes to a supervisor page", PF, ERROR_P | ERROR_U | ERROR_W
        mov     rdi, .write
        call    enter_user64
.write: at_fault
        mov     [TEST_OFFSET], eax
        endtrap
        mov     eax, FRAME_A | PRESENT | USER
        call    set_entry
        trap    "ring 3 writes to a read-only page, whatever CR0.WP", PF, ERROR_P | ERROR_U | ERROR_W
        mov     rdi, .write2
        call    enter_user64
.write2:
        at_fault
        mov     [TEST_OFFSET], eax
        endtrap
        mov     qword [test_pd], test_pt + (PRESENT | WRITABLE)
        mov     eax, FRAME_A | PRESENT | WRITABLE | USER
        call    set_entry
        trap    "supervisor at the level of the page directory", PF, ERROR_P | ERROR_U
        mov     rdi, .read2
        call    enter_user64
.read2: at_fault
        mov     eax, [TEST_OFFSET]
        endtrap
        mov     qword [test_pd], test_pt + (PRESENT | WRITABLE | USER)
        invlpg  [TEST_PAGE]
        ret

no_execute:
        mov     rax, FRAME_A | PRESENT | WRITABLE | USER | 1 << 63
        call    set_entry
        trap    "bit 63 is reserved while EFER.NXE = 0", PF, ERROR_P | ERROR_RSVD
        mov     eax, [TEST_OFFSET]
        endtrap
        mov     ecx, IA32_EFER
        rdmsr
        or      eax, EFER_NXE
        wrmsr
        mov     rbx, TEST_OFFSET
        trap    "fetch from a page with XD", PF, ERROR_P | ERROR_I
        call    rbx
        endtrap_at TEST_OFFSET
        check   "CR2 of a fetch", [saved.cr2], TEST_OFFSET
        trap    "fetch from a page that is not present, with NXE", PF, ERROR_I
        mov     ebx, TEST_PAGE + 0x5000
        call    rbx
        endtrap_at TEST_PAGE + 0x5000
        mov     byte [FRAME_A + 0x123], 0xF9    ; STC
        mov     byte [FRAME_A + 0x124], 0xC3    ; RET
        mov     rax, FRAME_A | PRESENT | WRITABLE
        call    set_entry
        clc
        mov     ebx, TEST_OFFSET
        call    rbx
        setc    al
        movzx   eax, al
        check   "execution without XD", rax, 1
        ret

reserved_bits:
        mov     rax, FRAME_A | PRESENT | WRITABLE | 1 << 51
        call    set_entry
        trap    "address bit beyond MAXPHYADDR", PF, ERROR_P | ERROR_RSVD
        mov     eax, [TEST_OFFSET]
        endtrap
        mov     rax, FRAME_A | 1 << 51
        call    set_entry
        trap    "reserved bits of an entry that is not present do not matter", PF, 0
        mov     eax, [TEST_OFFSET]
        endtrap
        mov     qword [test_pd + 16], 0x802000 | PRESENT | WRITABLE | LARGE
        trap    "2 MiB page that is not aligned (bits 20:13)", PF, ERROR_P | ERROR_RSVD | ERROR_W
        mov     [TEST_PAGE + 0x400000], eax
        endtrap
        mov     qword [test_pd + 16], 0
        mov     rax, [pml4]
        or      rax, LARGE
        mov     [pml4 + 8 * 8], rax
        trap    "PS in a PML4 entry", PF, ERROR_P | ERROR_RSVD
        mov     rax, 8 << 39
        at_fault
        mov     eax, [rax]
        endtrap
        mov     qword [pml4 + 8 * 8], 0
        ret

accessed_and_dirty:
        mov     qword [test_pd], test_pt + (PRESENT | WRITABLE | USER)
        mov     eax, FRAME_A | PRESENT | WRITABLE
        call    set_entry
        mov     eax, [TEST_OFFSET]
        check   "a read sets A", [test_pt], FRAME_A | PRESENT | WRITABLE | ACCESSED
        check   "and A of the page directory", [test_pd], test_pt + (PRESENT | WRITABLE | USER | ACCESSED)
        mov     [TEST_OFFSET], eax
        check   "a write sets D", [test_pt], FRAME_A | PRESENT | WRITABLE | ACCESSED | DIRTY
        check   "there is no D above the leaf", [test_pd], test_pt + (PRESENT | WRITABLE | USER | ACCESSED)
        mov     qword [test_pd + 24], PRESENT | WRITABLE | LARGE
        mov     eax, [TEST_PAGE + 0x600000]
        check   "A of a 2 MiB page", [test_pd + 24], PRESENT | WRITABLE | LARGE | ACCESSED
        mov     [TEST_PAGE + 0x600000], eax
        check   "D of a 2 MiB page", [test_pd + 24], PRESENT | WRITABLE | LARGE | ACCESSED | DIRTY
        ; A write that faults for its rights sets no D.
        mov     rax, cr0
        or      rax, CR0_WP
        mov     cr0, rax
        mov     eax, FRAME_A | PRESENT
        call    set_entry
        trap    "write that faults", PF, ERROR_P | ERROR_W
        mov     [TEST_OFFSET], eax
        endtrap
        mov     rax, [test_pt]
        and     eax, DIRTY
        check   "it sets no D", rax, 0
        mov     rax, cr0
        and     rax, ~CR0_WP
        mov     cr0, rax
        ret

stale_translations:
        mov     eax, FRAME_A | PRESENT | WRITABLE
        call    set_entry
        mov     dword [FRAME_A + 0x123], 0xAAAAAAAA
        mov     eax, [TEST_OFFSET]
        mov     dword [test_pt], FRAME_B | PRESENT | WRITABLE
        invlpg  [TEST_PAGE]
        mov     eax, [TEST_OFFSET]
        check   "INVLPG", rax, 0xBBBBBBBB
        mov     dword [test_pt], FRAME_A | PRESENT | WRITABLE
        mov     rax, cr3
        mov     cr3, rax
        mov     eax, [TEST_OFFSET]
        check   "MOV to CR3", rax, 0xAAAAAAAA
        ; A right is added: the stale entry is not allowed to fault for ever.
        mov     eax, FRAME_A | PRESENT | USER
        call    set_entry
        mov     rax, cr0
        or      rax, CR0_WP
        mov     cr0, rax
        mov     eax, [TEST_OFFSET]
        trap    "write before the right is there", PF, ERROR_P | ERROR_W
        mov     [TEST_OFFSET], eax
        endtrap
        mov     dword [test_pt], FRAME_A | PRESENT | WRITABLE | USER
        mov     dword [TEST_OFFSET], 5          ; the page fault dropped the entry
        mov     eax, [FRAME_A + 0x123]
        check   "a page fault invalidates its translation", rax, 5
        mov     rax, cr0
        and     rax, ~CR0_WP
        mov     cr0, rax
        ret

global_pages:
        mov     rax, cr4
        or      rax, CR4_PGE
        mov     cr4, rax
        mov     dword [FRAME_A + 0x123], 0xAAAAAAAA
        mov     eax, FRAME_A | PRESENT | WRITABLE | PAGE_GLOBAL
        call    set_entry
        mov     eax, [TEST_OFFSET]
        mov     dword [test_pt], FRAME_B | PRESENT | WRITABLE | PAGE_GLOBAL
        mov     rax, cr4
        and     rax, ~CR4_PGE
        mov     cr4, rax
        mov     eax, [TEST_OFFSET]
        check   "a change of CR4.PGE flushes global pages", rax, 0xBBBBBBBB
        mov     eax, FRAME_A | PRESENT | WRITABLE | PAGE_GLOBAL
        call    set_entry
        mov     eax, [TEST_OFFSET]
        mov     dword [test_pt], FRAME_B | PRESENT | WRITABLE
        mov     rax, cr3
        mov     cr3, rax
        mov     eax, [TEST_OFFSET]
        check   "without CR4.PGE the G flag is ignored", rax, 0xBBBBBBBB
        ret

; An access over the border of two pages.
straddling:
        mov     qword [test_pt], FRAME_B | PRESENT | WRITABLE
        mov     qword [test_pt + 8], FRAME_A | PRESENT | WRITABLE
        invlpg  [TEST_PAGE]
        invlpg  [TEST_PAGE + 0x1000]
        mov     rax, 0x1122334455667788
        mov     [TEST_PAGE + 0xFFD], rax
        mov     rax, [TEST_PAGE + 0xFFD]
        check   "write and read over two pages", rax, 0x1122334455667788
        mov     rax, [FRAME_B + 0xFF8]
        shr     rax, 40
        check   "lower bytes in the first page", rax, 0x667788
        mov     rax, [FRAME_A]
        mov     ecx, 1
        shl     rcx, 40
        dec     rcx
        and     rax, rcx
        check   "upper bytes in the second", rax, 0x1122334455
        mov     qword [test_pt + 8], 0
        invlpg  [TEST_PAGE + 0x1000]
        trap    "write over the border to a page that is not present", PF, ERROR_W
        mov     rax, -1
        at_fault
        mov     [TEST_PAGE + 0xFFD], rax
        endtrap
        check   "CR2 is the second page", [saved.cr2], TEST_PAGE + 0x1000
        mov     rax, [FRAME_B + 0xFF8]
        shr     rax, 40
        check   "and nothing was written to the first", rax, 0x667788
        ret

        %include "end.inc"
