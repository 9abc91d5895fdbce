; Segmentation in protected mode: limits, rights, selector checks, LDT, far transfers, call gates, VERR and its like.
; SDM volume 3A, "Protection"; volume 2 for the instructions.
        %include "kernel.inc"

; Descriptor at slot %1 of gdt_spare: base, limit (20 bits), access byte, flags (G, B, L in the high nibble).
%macro descriptor 5
        mov     dword [gdt_spare + 8 * %1], ((%3) & 0xFFFF) | ((%2) & 0xFFFF) << 16
        mov     dword [gdt_spare + 8 * %1 + 4], ((%2) >> 16 & 0xFF) | ((%2) & 0xFF000000) | (%4) << 8 | \
                ((%3) & 0xF0000) | (%5) << 20
%endmacro
%define SELECTOR(slot) (SPARE + 8 * (slot))

DATA_RO         equ 0x91                ; present, DPL 0, accessed
DATA_RW         equ 0x93
DATA_DOWN       equ 0x97                ; expand-down
CODE_X          equ 0x99                ; execute-only
CODE_RX         equ 0x9B
CONFORMING      equ 0x9F
NOT_PRESENT     equ 0x13
LDT_TYPE        equ 0x82
CALL_GATE_32    equ 0x8C
CALL_GATE_16    equ 0x84
BYTES           equ 4                   ; B = 1, G = 0
PAGES           equ 0xC
SMALL           equ 0                   ; B = 0, G = 0
BUFFER          equ 0x00800000
local_table     equ 0x00810000

        bits    32
main:
        call    load_tss32
        descriptor 0, BUFFER, 0x0FFF, DATA_RW, BYTES
        descriptor 1, BUFFER, 0x0FFF, DATA_DOWN, BYTES
        descriptor 2, BUFFER, 0x0FFF, DATA_DOWN, SMALL
        descriptor 3, BUFFER, 0x0001, DATA_RW, PAGES
        descriptor 4, BUFFER, 0xFFFF, DATA_RO, BYTES
        descriptor 5, 0, 0xFFFFF, CODE_X, PAGES
        descriptor 6, 0, 0xFFFFF, CODE_RX, PAGES
        descriptor 7, BUFFER, 0xFFFF, NOT_PRESENT, BYTES
        descriptor 8, 0, 0xFFFFF, CONFORMING, PAGES
        descriptor 9, 0, 0xFFFFF, 0x1B, PAGES           ; code, not present
        descriptor 10, local_table, 15, LDT_TYPE, SMALL
        mov     dword [local_table], 0x0000FFFF | (BUFFER & 0xFFFF) << 16
        mov     dword [local_table + 4], 0x0040F300 | BUFFER >> 16      ; LDT entry 0: data, DPL 3
        mov     dword [BUFFER], 0x11223344
        mov     dword [BUFFER + 0x2000], 0x55667788
        call    limits
        call    rights
        call    loads
        call    local
        call    far_transfers
        call    call_gates
        call    inquiries
        call    stack_segments
        xor     eax, eax
        lldt    ax
        trap    "CR0.PG without CR0.PE", GP, 0
        mov     eax, CR0_PG
        at_fault
        mov     cr0, eax
        endtrap
        ret

limits:
        mov     eax, SELECTOR(0)
        mov     fs, eax
        mov     eax, [fs:0]
        check   "base is added", eax, 0x11223344
        mov     al, [fs:0xFFF]
        trap    "byte behind the limit", GP, 0
        mov     al, [fs:0x1000]
        endtrap
        trap    "dword over the limit", GP, 0
        mov     eax, [fs:0xFFD]
        endtrap
        trap    "write over the limit", GP, 0
        mov     [fs:0xFFE], eax
        endtrap
        trap    "dword over the end of the 4 GiB", GP, 0
        mov     eax, [fs:0xFFFFFFFE]
        endtrap

        mov     eax, SELECTOR(1)
        mov     fs, eax
        mov     eax, [fs:0x2000]
        check   "expand-down: above the limit is inside", eax, 0x55667788
        trap    "expand-down: the limit itself is outside", GP, 0
        mov     al, [fs:0xFFF]
        endtrap
        mov     al, [fs:0x1000]
        trap    "expand-down: below is outside", GP, 0
        mov     eax, [fs:0]
        endtrap
        mov     eax, SELECTOR(2)
        mov     fs, eax
        mov     al, [fs:0xFFFF]
        trap    "expand-down with B = 0 ends at FFFFh", GP, 0
        mov     al, [fs:0x10000]
        endtrap

        mov     eax, SELECTOR(3)
        mov     fs, eax
        mov     eax, [fs:0x1FFC]
        trap    "limit in pages: 1 means 2 pages", GP, 0
        mov     eax, [fs:0x1FFD]
        endtrap
        xor     eax, eax
        mov     fs, eax
        ret

rights:
        mov     eax, SELECTOR(4)
        mov     fs, eax
        mov     eax, [fs:0]
        trap    "write to a read-only segment", GP, 0
        mov     [fs:0], eax
        endtrap
        mov     eax, SELECTOR(6)
        mov     fs, eax
        mov     eax, [fs:BUFFER]
        check   "a readable code segment can be read", eax, 0x11223344
        trap    "but not written", GP, 0
        mov     [fs:BUFFER], eax
        endtrap
        trap    "no code segment can be written through CS", GP, 0
        mov     [cs:BUFFER], eax
        endtrap
        trap    "execute-only code cannot be loaded into a data register", GP, SELECTOR(5)
        mov     eax, SELECTOR(5)
        at_fault
        mov     fs, eax
        endtrap
        jmp     SELECTOR(5):.execute_only
.execute_only:
        trap    "nor be read through CS", GP, 0
        mov     eax, [cs:BUFFER]
        endtrap
        jmp     CODE32:.done
.done:  ret

loads:
        xor     eax, eax
        mov     fs, eax
        trap    "access through a null selector", GP, 0
        mov     eax, [fs:0]
        endtrap
        trap    "null selector in SS", GP, 0
        xor     eax, eax
        at_fault
        mov     ss, eax
        endtrap
        trap    "selector beyond the GDT", GP, 0xFFF8
        mov     eax, 0xFFFB
        at_fault
        mov     fs, eax
        endtrap
        trap    "LDT selector without an LDT", GP, 0x0C
        mov     eax, 0x0C
        at_fault
        mov     fs, eax
        endtrap
        trap    "data segment that is not present", NP, SELECTOR(7)
        mov     eax, SELECTOR(7)
        at_fault
        mov     fs, eax
        endtrap
        trap    "stack segment that is not present", SS_, SELECTOR(7)
        mov     eax, SELECTOR(7)
        at_fault
        mov     ss, eax
        endtrap
        trap    "read-only stack segment", GP, SELECTOR(4)
        mov     eax, SELECTOR(4)
        at_fault
        mov     ss, eax
        endtrap
        trap    "stack segment with an RPL that is not CPL", GP, DATA
        mov     eax, DATA | 3
        at_fault
        mov     ss, eax
        endtrap
        trap    "RPL 3 for data of DPL 0", GP, DATA
        mov     eax, DATA | 3
        at_fault
        mov     fs, eax
        endtrap
        trap    "system descriptor in a data register", GP, TSS
        mov     eax, TSS
        at_fault
        mov     fs, eax
        endtrap
        trap    "MOV to CS does not exist", UD
        db      0x8E, 0xC8              ; MOV CS, AX
        endtrap
        mov     byte [gdt_spare + 5], DATA_RW & ~1
        mov     eax, SELECTOR(0)
        mov     fs, eax
        movzx   eax, byte [gdt_spare + 5]
        check   "loading sets the accessed bit in the descriptor", eax, DATA_RW
        trap    "ring 3 loads data of DPL 0", GP, DATA
        mov     edi, .user
        jmp     enter_user32
.user:  mov     eax, DATA
        at_fault
        mov     fs, eax
        endtrap
        ret

local:
        mov     eax, SELECTOR(10)
        lldt    ax
        sldt    ecx
        movzx   ecx, cx
        check   "LLDT and SLDT", ecx, SELECTOR(10)
        mov     eax, 4 | 3
        mov     fs, eax
        mov     eax, [fs:0]
        check   "segment of the LDT", eax, 0x11223344
        trap    "beyond the LDT's limit", GP, 0x14
        mov     eax, 0x14
        at_fault
        mov     fs, eax
        endtrap
        trap    "LLDT of something else", GP, DATA
        mov     eax, DATA
        at_fault
        lldt    ax
        endtrap
        trap    "LTR of a busy TSS", GP, TSS
        mov     eax, TSS
        at_fault
        ltr     ax
        endtrap
        xor     eax, eax
        mov     fs, eax
        ret

far_transfers:
        trap    "far jump to a null selector", GP, 0
        jmp     0:main
        endtrap
        trap    "far jump to data", GP, DATA
        jmp     DATA:main
        endtrap
        trap    "far jump to code that is not present", NP, SELECTOR(9)
        jmp     SELECTOR(9):main
        endtrap
        trap    "far jump to user code", GP, USER32 & ~3
        jmp     USER32:main
        endtrap
        jmp     SELECTOR(8):.conforming
.conforming:
        mov     eax, cs
        check   "conforming code keeps the CPL", eax, SELECTOR(8)
        jmp     CODE32:.back
.back:  mov     ebx, esp
        call    CODE32:.far
        mov     ecx, esp
        check   "RETF n pops n bytes more", ecx, ebx
        trap    "RETF to an inner ring", GP, CODE32
        mov     edi, .user
        jmp     enter_user32
.user:  push    CODE32
        push    main
        at_fault
        retf
        endtrap
        ; To an outer ring RETF pops SS:ESP.
        trap    "RETF to ring 3", LEAVE_USER_MODE
        push    USER_DATA
        push    user_stack_top
        push    USER32
        push    .in_ring_3
        retf
.in_ring_3:
        mov     ebx, ds
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "ESP of ring 3", [saved.rsp], user_stack_top
        check   "DS of ring 0 becomes null", [saved.rbx], 0
        ret
.far:   push    dword [esp + 4]
        push    dword [esp + 4]
        retf    8

; Gate at slot 11 to code of DPL 0, usable by ring 3.
call_gates:
        mov     eax, .target
        mov     [gdt_spare + 8 * 11], ax
        mov     word [gdt_spare + 8 * 11 + 2], CODE32
        mov     word [gdt_spare + 8 * 11 + 4], (CALL_GATE_32 | 0x60) << 8 | 2   ; copies 2 parameters
        shr     eax, 16
        mov     [gdt_spare + 8 * 11 + 6], ax
        trap    "call gate from ring 3", LEAVE_USER_MODE
        mov     edi, .user
        jmp     enter_user32
.user:  push    0x1111
        push    0x2222
        call    SELECTOR(11):0
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "the gate leads to CPL 0", [.cpl], 0
        check   "on the stack of the TSS", [.stack], fault_stack_top - 24
        check   "with the parameters copied", [.parameter], 0x2222
        check   "RETF n releases them on both stacks", [saved.rsp], user_stack_top
        trap    "gate whose DPL is below CPL", GP, SELECTOR(11)
        and     byte [gdt_spare + 8 * 11 + 5], ~0x60
        mov     edi, .user2
        jmp     enter_user32
.user2: at_fault
        call    SELECTOR(11):0
        endtrap
        and     byte [gdt_spare + 8 * 11 + 5], ~0x80
        trap    "gate that is not present", NP, SELECTOR(11)
        call    SELECTOR(11):0
        endtrap
        ret
.target:
        push    eax
        mov     eax, cs
        and     eax, 3
        mov     [ss:.cpl], eax
        lea     eax, [esp + 4]
        mov     [ss:.stack], eax
        mov     eax, [esp + 12]
        mov     [ss:.parameter], eax
        pop     eax
        retf    8
        section .data
        align   4
.cpl:   dd      -1
.stack: dd      0
.parameter: dd  0
        section .text

inquiries:
        mov     eax, DATA
        verw    ax
        setz    al
        movzx   eax, al
        check   "VERW of writable data", eax, 1
        mov     eax, SELECTOR(4)
        verw    ax
        setz    al
        movzx   eax, al
        check   "VERW of read-only data", eax, 0
        mov     eax, SELECTOR(4)
        verr    ax
        setz    al
        movzx   eax, al
        check   "VERR of read-only data", eax, 1
        mov     eax, SELECTOR(5)
        verr    ax
        setz    al
        movzx   eax, al
        check   "VERR of execute-only code", eax, 0
        xor     eax, eax
        verr    ax
        setz    al
        movzx   eax, al
        check   "VERR of a null selector", eax, 0
        mov     ecx, SELECTOR(3)
        lsl     eax, ecx
        check   "LSL scales a limit in pages", eax, 0x1FFF
        lar     eax, ecx
        and     eax, 0x00F0FF00
        check   "LAR", eax, (DATA_RW << 8) | PAGES << 20
        mov     ecx, SELECTOR(11)       ; a call gate has rights but no limit
        lsl     eax, ecx
        setz    al
        movzx   eax, al
        check   "LSL of a gate", eax, 0
        mov     eax, DATA
        mov     ecx, 3
        arpl    ax, cx
        setz    cl
        movzx   ecx, cl
        check   "ARPL raises the RPL", eax, DATA | 3
        check   "and sets ZF", ecx, 1
        ret

stack_segments:
        mov     ebx, esp
        descriptor 12, BUFFER, 0x0FFF, DATA_RW | 0x60, BYTES
        trap    "push beyond the stack segment's limit", SS_, 0
        mov     edi, .user
        jmp     enter_user32            ; in ring 3, so that the handler has a stack
.user:  mov     eax, SELECTOR(12) | 3
        mov     ss, eax
        mov     esp, 0x2000
        at_fault
        push    eax
        endtrap
        check   "ESP is as before", [saved.rsp], 0x2000
        trap    "EBP addresses the stack segment", SS_, 0
        mov     eax, SELECTOR(0)
        mov     ss, eax
        mov     esp, 0x800
        mov     ebp, 0x1000
        at_fault
        mov     eax, [ebp]
        endtrap
        ; A 16-bit stack: SP wraps at 64 KiB, the upper half of ESP stays.
        mov     eax, DATA16
        mov     ss, eax
        mov     esp, 0x12340000
        push    dword [cs:BUFFER]
        mov     ecx, esp
        pop     edx
        mov     eax, DATA
        mov     ss, eax
        mov     esp, ebx
        check   "16-bit stack: SP wraps", ecx, 0x1234FFFC
        check   "and the value is there", edx, 0x11223344
        ret

        %include "end.inc"
