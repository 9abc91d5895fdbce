; Real-address mode. SDM volume 3B, "8086 Emulation"; volume 3A, "Switching Back to Real-Address Mode".
        %include "kernel.inc"

BASE            equ 0x20000             ; where the 16-bit code is copied to
PARAGRAPH         equ BASE >> 4
IVT             equ 0x30000
REAL_STACK      equ 0x4000
FLAT16_CODE     equ SPARE
FLAT16_DATA     equ SPARE + 8

        bits    32
main:
        mov     esi, real_code
        mov     edi, BASE
        mov     ecx, real_code_end - real_code
        cld
        rep     movsb
        ; Segments of 64 KiB for the way back to real-address mode.
        mov     dword [gdt + FLAT16_CODE], 0x0000FFFF
        mov     dword [gdt + FLAT16_CODE + 4], 0x00009B02
        mov     dword [gdt + FLAT16_DATA], 0x0000FFFF
        mov     dword [gdt + FLAT16_DATA + 4], 0x00009302
        ; Interrupt vectors 0…15 and 60h lead to one handler.
        xor     ecx, ecx
.vector: mov    word [IVT + ecx * 4], real_handler - real_code
        mov     word [IVT + ecx * 4 + 2], PARAGRAPH
        inc     ecx
        cmp     ecx, 0x61
        jne     .vector
        mov     [saved_esp], esp
        mov     ax, FLAT16_DATA
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     ss, ax
        jmp     FLAT16_CODE:real_entry - real_code
back_in_protected_mode:
        mov     eax, DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, [saved_esp]
        xor     eax, eax
        mov     fs, eax
        lidt    [idt32_register]

%define result(x) [BASE + (x - real_code)]
        movzx   eax, word result(r_cs)
        check   "far JMP: CS", eax, PARAGRAPH
        movzx   eax, word result(r_segment)
        check   "a selector is a paragraph", eax, 0x4321
        movzx   eax, word result(r_cs_write)
        check   "CS can be written through", eax, 0x7777
        movzx   eax, word result(r_int_ip)
        check   "INT n pushes the next IP", eax, real_entry.after_int - real_code
        movzx   eax, word result(r_int_flags)
        and     eax, FLAG_IF | FLAG_CF
        check   "INT n pushes FLAGS", eax, FLAG_IF | FLAG_CF
        movzx   eax, word result(r_handler_flags)
        and     eax, FLAG_IF
        check   "and clears IF", eax, 0
        movzx   eax, word result(r_after_flags)
        and     eax, FLAG_IF | FLAG_CF
        check   "IRET restores them", eax, FLAG_IF | FLAG_CF
        movzx   eax, word result(r_ud_ip)
        check   "#UD pushes its own IP, and no error code", eax, real_entry.ud - real_code
        movzx   eax, word result(r_gp_ip)
        check   "#GP: an access beyond 64 KiB", eax, real_entry.gp - real_code
        movzx   eax, word result(r_de_ip)
        check   "#DE", eax, real_entry.de - real_code
        movzx   eax, word result(r_sldt_ip)
        check   "SLDT is #UD", eax, real_entry.sldt - real_code
        movzx   eax, word result(r_pointer)
        check   "PUSH at SP = 2 wraps to 0", eax, 0
        mov     eax, result(r_big)
        check   "a limit of protected mode stays", eax, 0x1BADB002
        ret

        section .data
saved_esp: dd   0
        align   16
        bits    16
real_code:
real_entry:
        mov     eax, cr0
        and     al, 0xFE
        mov     cr0, eax
        jmp     PARAGRAPH:.real - real_code
.real:  mov     ax, cs
        mov     ds, ax
        mov     [r_cs - real_code], ax
        mov     es, ax
        xor     bx, bx
        mov     ss, bx
        mov     sp, REAL_STACK
        o32 lidt [r_idt - real_code]
        mov     bx, PARAGRAPH + 1
        mov     es, bx
        mov     bx, [es:r_word - real_code - 16]
        mov     [r_segment - real_code], bx
        mov     word [cs:r_cs_write - real_code], 0x7777
        mov     si, r_int_ip - real_code
        sti
        stc
        int     0x60
.after_int:
        pushf
        pop     word [r_after_flags - real_code]
        cli
        mov     si, r_ud_ip - real_code
        mov     word [r_skip - real_code], 2
.ud:    ud2
        mov     si, r_gp_ip - real_code
        mov     word [r_skip - real_code], 4
.gp:    mov     eax, [0xFFFE]
        mov     si, r_de_ip - real_code
        mov     word [r_skip - real_code], 2
        xor     dl, dl
.de:    div     dl
        mov     si, r_sldt_ip - real_code
        mov     word [r_skip - real_code], 3
.sldt:  sldt    ax
        mov     sp, 2
        push    ax
        mov     [r_pointer - real_code], sp
        mov     sp, REAL_STACK
        ; "Unreal" mode: a data segment of 4 GiB, loaded in protected mode.
        o32 lgdt [r_gdt - real_code]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     bx, DATA
        mov     fs, bx
        and     al, 0xFE
        mov     cr0, eax
        jmp     PARAGRAPH:.unreal - real_code
.unreal: xor    bx, bx
        mov     fs, bx
        mov     ebx, beyond_64k
        mov     eax, [fs:ebx]
        mov     [r_big - real_code], eax
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword CODE32:back_in_protected_mode

; SI: where the saved IP goes. Skips faulting instructions.
real_handler:
        push    bp
        mov     bp, sp
        push    ax
        mov     ax, [bp + 2]
        mov     [si], ax
        cmp     si, r_int_ip - real_code
        jne     .fault
        mov     ax, [bp + 6]
        mov     [r_int_flags - real_code], ax
        pushf
        pop     word [r_handler_flags - real_code]
        jmp     .end
.fault: mov     ax, [r_skip - real_code]
        add     [bp + 2], ax
.end:   pop     ax
        pop     bp
        iret
        align   4
r_idt:  dw      0x3FF
        dd      IVT
r_gdt:  dw      gdt_end - gdt - 1
        dd      gdt
r_word: dw      0x4321
r_cs:   dw      0
r_segment: dw   0
r_cs_write: dw  0
r_int_ip: dw    0
r_int_flags: dw 0
r_handler_flags: dw 0
r_after_flags: dw 0
r_ud_ip: dw     0
r_gp_ip: dw     0
r_de_ip: dw     0
r_sldt_ip: dw   0
r_skip: dw      0
r_pointer: dw   0
        align   4
r_big:  dd      0
real_code_end:
        align   4

beyond_64k: dd 0x1BADB002
        bits    32
        section .text

        %include "end.inc"
