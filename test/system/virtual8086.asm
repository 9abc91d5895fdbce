; Virtual-8086 mode without VME. SDM volume 3B, "8086 Emulation".
        %include "kernel.inc"

FLAG_VM         equ 1 << 17
IOPL_3          equ 3 << 12
V86_BASE        equ 0x20000             ; where the 16-bit code is copied to
V86_CS          equ V86_BASE >> 4
V86_STACK       equ 0x3000
V86_SP          equ 0x0FFE

; Ends a trap block's code: enters virtual-8086 mode at `%1` of the copied code with more flags %2.
%macro enter_v86 2
        push    0x2600                  ; GS
        push    0x2500                  ; FS
        push    V86_CS                  ; DS
        push    0x2400                  ; ES
        push    V86_STACK
        push    V86_SP
        push    2 | FLAG_VM | (%2)
        push    V86_CS
        push    %1 - v86_code
        iretd
%endmacro

; Virtual-8086 code at %4 with flags %5 raises %2 with error code %3 at address %6.
%macro expect_v86 6
        trap    %1, %2, %3
        enter_v86 %4, %5
        endtrap_at %6 - v86_code
%endmacro

        bits    32
main:
        mov     esi, v86_code
        mov     edi, V86_BASE
        mov     ecx, v86_code_end - v86_code
        cld
        rep     movsb
        call    load_tss32
        mov     byte [idt32 + 8 * BP_ + 5], 0xEE
        call    entry_and_events
        call    sensitive_instructions
        call    other_instructions
        call    handlers
        ret

entry_and_events:
        expect_v86 "INT3 in virtual-8086 mode", BP_, NO_ERROR_CODE, v86_int3, 0, v86_int3.after
        check   "saved CS", [saved.cs], V86_CS
        mov     eax, [saved.flags]
        and     eax, FLAG_VM
        check   "the saved flags have VM", eax, FLAG_VM
        mov     ebx, [saved.frame]
        check   "saved ESP", [ebx + 12], V86_SP
        check   "saved SS", [ebx + 16], V86_STACK
        check   "saved ES", [ebx + 20], 0x2400
        check   "saved DS", [ebx + 24], V86_CS
        check   "saved FS", [ebx + 28], 0x2500
        check   "saved GS", [ebx + 32], 0x2600
        mov     eax, fs
        check   "FS is null in the handler", eax, 0
        mov     eax, gs
        check   "GS is null in the handler", eax, 0
        pushfd
        pop     eax
        and     eax, FLAG_VM
        check   "the handler runs in protected mode", eax, 0
        expect_v86 "#UD in virtual-8086 mode", UD, NO_ERROR_CODE, v86_ud2, 0, v86_ud2
        trap    "IRETD to a 32-bit EIP beyond the limit", GP, 0
        push    0
        push    0
        push    0
        push    0
        push    V86_STACK
        push    V86_SP
        push    2 | FLAG_VM
        push    V86_CS
        push    0x10000
        at_fault
        iretd
        endtrap
        ret

sensitive_instructions:
        expect_v86 "CLI with IOPL 0", GP, 0, v86_cli, 0, v86_cli
        expect_v86 "STI with IOPL 0", GP, 0, v86_sti, 0, v86_sti
        expect_v86 "PUSHF with IOPL 0", GP, 0, v86_pushf, 0, v86_pushf
        expect_v86 "POPF with IOPL 0", GP, 0, v86_popf, 0, v86_popf
        expect_v86 "INT n with IOPL 0", GP, 0, v86_int, 0, v86_int
        expect_v86 "IRET with IOPL 0", GP, 0, v86_iret, 0, v86_iret
        expect_v86 "INT n with IOPL 3", LEAVE_USER_MODE, NO_ERROR_CODE, v86_int, IOPL_3, v86_int.after
        expect_v86 "PUSHFD with IOPL 3", BP_, NO_ERROR_CODE, v86_pushfd, IOPL_3, v86_pushfd.after
        mov     eax, [saved.rax]
        and     eax, FLAG_VM | IOPL_3 | FLAG_IF
        check   "pushes IOPL, but VM as 0", eax, IOPL_3
        expect_v86 "STI with IOPL 3", BP_, NO_ERROR_CODE, v86_sti, IOPL_3, v86_sti.after
        mov     eax, [saved.flags]
        and     eax, FLAG_IF
        check   "sets IF", eax, FLAG_IF
        expect_v86 "IRET with IOPL 3", BP_, NO_ERROR_CODE, v86_iret_frame, IOPL_3, v86_int3.after
        mov     eax, [saved.flags]
        and     eax, IOPL_3 | FLAG_IF | FLAG_CF
        check   "does not change IOPL, but IF and CF", eax, IOPL_3 | FLAG_IF | FLAG_CF
        ret

other_instructions:
        expect_v86 "HLT", GP, 0, v86_hlt, IOPL_3, v86_hlt
        expect_v86 "MOV from CR0", GP, 0, v86_cr0, IOPL_3, v86_cr0
        expect_v86 "SLDT", UD, NO_ERROR_CODE, v86_sldt, IOPL_3, v86_sldt
        expect_v86 "LAR", UD, NO_ERROR_CODE, v86_lar, IOPL_3, v86_lar
        expect_v86 "IN looks at the bitmap at every IOPL", GP, 0, v86_in, IOPL_3, v86_in
        expect_v86 "segment loads", BP_, NO_ERROR_CODE, v86_segments, 0, v86_segments.after
        mov     eax, [saved.rax]
        check   "base is 16 times the selector", eax, 0x31323334
        expect_v86 "access beyond 64 KiB", GP, 0, v86_limit, 0, v86_limit
        expect_v86 "far call and return", BP_, NO_ERROR_CODE, v86_far, 0, v86_far.after
        mov     eax, [saved.rax]
        check   "the called code has run", eax, 0x5678
        expect_v86 "write through CS", BP_, NO_ERROR_CODE, v86_write_cs, 0, v86_write_cs.after
        ret

handlers:
        ; The handler must run at CPL 0.
        mov     word [idt32 + 8 * UD + 2], USER32
        expect_v86 "handler of CPL 3", GP, USER32 & ~3 | 1, v86_ud2, 0, v86_ud2
        mov     word [idt32 + 8 * UD + 2], CODE32
        ret

        section .data
        align   16
        bits    16
v86_code:
v86_int3:
        int3
.after:
v86_ud2:
        ud2
v86_cli:
        cli
v86_sti:
        sti
        int3
.after:
v86_pushf:
        pushf
v86_pushfd:
        pushfd
        pop     eax
        int3
.after:
v86_popf:
        popf
v86_int:
        int     LEAVE_USER_MODE
.after:
v86_iret:
        iret
v86_iret_frame:
        push    word FLAG_IF | FLAG_CF
        push    cs
        push    word v86_int3 - v86_code
        iret
v86_hlt:
        hlt
v86_cr0:
        mov     eax, cr0
v86_sldt:
        sldt    ax
v86_lar:
        lar     ax, cx
v86_in:
        in      al, 0x80
v86_segments:
        mov     ax, V86_CS + 1
        mov     ds, ax
        mov     eax, [v86_text - v86_code - 16]
        int3
.after:
v86_limit:
        mov     eax, [0xFFFD]
v86_far:
        call    V86_CS:v86_called - v86_code
        int3
.after:
v86_called:
        mov     eax, 0x5678
        retf
v86_write_cs:
        mov     [cs:v86_text - v86_code], ax
        int3
.after:
v86_text:
        db      "4321"
v86_code_end:
        bits    32
        section .text

        %include "end.inc"
