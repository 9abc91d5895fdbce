; Event delivery in 32-bit protected mode without paging: gates, checks, error codes, stack switches, IRET.
; SDM volume 3A, "Interrupt and Exception Handling".
        %include "kernel.inc"

VECTOR          equ 0x40
GATE            equ idt32 + 8 * VECTOR
RIGHTS          equ 5                   ; offset in a gate
INTERRUPT_32    equ 0x8E
TRAP_32         equ 0x8F
INTERRUPT_16    equ 0x86
TRAP_16         equ 0x87
NOT_PRESENT     equ 0x0E
DPL_3           equ 0x60
ERROR_IDT       equ 2
ERROR_EXTERNAL  equ 1

        bits    32
main:
        call    load_tss32
        call    same_level
        call    gates_of_16_bits
        call    gate_checks
        call    software_exceptions
        call    from_ring_3
        call    tss_checks
        call    double_fault
        call    iret_forms
        ret

point_vector_at_eax:
        mov     [GATE], ax
        shr     eax, 16
        mov     [GATE + 6], ax
        ret
point_vector_at_stub:
        mov     eax, stubs32 + 16 * VECTOR
        jmp     point_vector_at_eax

same_level:
        mov     ebx, esp
        trap    "INT n saves the address behind it", VECTOR
        int     VECTOR
        at_fault
        endtrap
        sub     ebx, 12
        check   "three values of 4 bytes are saved", [saved.frame], ebx
        movzx   eax, word [saved.cs]
        check   "CS is saved", eax, CODE32
        sti
        trap    "interrupt gate", VECTOR
        int     VECTOR
        at_fault
        endtrap
        pushfd
        pop     eax
        and     eax, FLAG_IF
        check   "an interrupt gate clears IF", eax, 0
        mov     byte [GATE + RIGHTS], TRAP_32
        sti
        trap    "trap gate", VECTOR
        int     VECTOR
        at_fault
        endtrap
        pushfd
        pop     eax
        cli
        and     eax, FLAG_IF
        check   "a trap gate leaves IF alone", eax, FLAG_IF
        mov     byte [GATE + RIGHTS], INTERRUPT_32
        ret

; A 16-bit gate saves FLAGS, CS and IP in 2 bytes each, and has an offset of 16 bits: into the segment at LOAD_ADDRESS.
gates_of_16_bits:
        mov     word [GATE], .handler - LOAD_ADDRESS
        mov     word [GATE + 2], CODE16
        mov     word [GATE + 6], 0
        mov     byte [GATE + RIGHTS], INTERRUPT_16
        mov     dword [.frame], 0
        mov     ebx, esp
        sub     ebx, 6
.call:  int     VECTOR
        mov     ecx, esp
        add     ebx, 6
        check   "16-bit gate: IRET comes back", ecx, ebx
        sub     ebx, 6
        check   "16-bit gate: three values of 2 bytes", [.frame], ebx
        movzx   eax, word [.ip]
        check   "16-bit gate: IP is saved without its upper half", eax, (.call + 2 - LOAD_ADDRESS)
        mov     word [GATE + 2], CODE32
        mov     byte [GATE + RIGHTS], INTERRUPT_32
        jmp     point_vector_at_stub
        bits    16
.handler:
        mov     [ss:dword .frame], esp
        ; The saved IP has lost the upper half of EIP: put the whole address back by a 32-bit IRET frame.
        pop     ax
        mov     [ss:dword .ip], ax
        pop     cx
        pop     dx
        pushfd
        push    dword CODE32
        push    dword .call + 2
        iretd
        bits    32
        section .data
        align   4
.frame: dd      0
.ip:    dd      0
        section .text

gate_checks:
        mov     byte [GATE + RIGHTS], NOT_PRESENT
        trap    "gate that is not present", NP, VECTOR * 8 + ERROR_IDT
        int     VECTOR
        endtrap
        mov     byte [GATE + RIGHTS], 0x8C      ; a call gate
        trap    "gate of a type that is not for the IDT", GP, VECTOR * 8 + ERROR_IDT
        int     VECTOR
        endtrap
        mov     byte [GATE + RIGHTS], INTERRUPT_32
        mov     word [GATE + 2], 0
        trap    "gate with a null selector", GP, 0
        int     VECTOR
        endtrap
        mov     word [GATE + 2], DATA
        trap    "gate to a data segment", GP, DATA
        int     VECTOR
        endtrap
        mov     word [GATE + 2], USER32
        trap    "gate to an outer ring", GP, USER32 & ~3
        int     VECTOR
        endtrap
        mov     word [GATE + 2], CODE16
        mov     byte [GATE + 7], 0x7F           ; an offset far beyond the segment's limit
        trap    "gate with an offset beyond the segment's limit", GP, 0
        int     VECTOR
        endtrap
        mov     word [GATE + 2], CODE32
        call    point_vector_at_stub
        lidt    [.short_idt]
        trap    "vector beyond the IDT's limit", GP, VECTOR * 8 + ERROR_IDT
        int     VECTOR
        endtrap
        lidt    [idt32_register]
        ret
.short_idt:
        dw      8 * VECTOR + 6
        dd      idt32

software_exceptions:
        trap    "INT3", BP_
        int3
        at_fault
        endtrap
        trap    "INTO with OF = 1", OF_
        mov     al, 0x7F
        inc     al
        into
        at_fault
        endtrap
        xor     eax, eax
        into
        check   "INTO with OF = 0 does nothing", eax, 0
        trap    "BOUND", BR_
        mov     eax, 9
        at_fault
        bound   eax, [.bounds]
        endtrap
        mov     eax, 8
        bound   eax, [.bounds]
        trap    "DIV overflow", DE
        mov     edx, 1
        xor     eax, eax
        mov     ecx, 1
        at_fault
        div     ecx
        endtrap
        trap    "IDIV overflow", DE
        mov     edx, 0xFFFFFFFF
        mov     eax, 0x80000000
        mov     ecx, -1
        at_fault
        idiv    ecx
        endtrap
        trap    "LOCK on an instruction that cannot be locked", UD
        db      0xF0, 0x90              ; LOCK NOP
        endtrap
        trap    "LOCK with a register destination", UD
        db      0xF0, 0x01, 0xC8        ; LOCK ADD EAX, ECX
        endtrap
        trap    "instruction longer than 15 bytes", GP, 0
        times   15 db 0x66
        nop
        endtrap
        ret
.bounds: dd     -3, 8

from_ring_3:
        mov     byte [GATE + RIGHTS], INTERRUPT_32 | DPL_3
        trap    "INT from ring 3", VECTOR
        mov     edi, .user
        jmp     enter_user32
.user:  int     VECTOR
        at_fault
        endtrap
        check   "ESP of ring 3", [saved.rsp], user_stack_top
        movzx   eax, word [saved.ss]
        check   "SS of ring 3", eax, USER_DATA
        movzx   eax, word [saved.cs]
        check   "CS of ring 3", eax, USER32
        check   "five values on the stack of the TSS", [saved.frame], fault_stack_top - 20
        mov     byte [GATE + RIGHTS], INTERRUPT_32
        trap    "INT from ring 3 through a gate of DPL 0", GP, VECTOR * 8 + ERROR_IDT
        mov     edi, .user2
        jmp     enter_user32
.user2: at_fault
        int     VECTOR
        endtrap
        trap    "IN with IOPL 0 and no permission bitmap", GP, 0
        mov     edi, .user3
        jmp     enter_user32
.user3: at_fault
        in      al, 0x80
        endtrap
        trap    "LGDT in ring 3", GP, 0
        mov     edi, .user4
        jmp     enter_user32
.user4: at_fault
        lgdt    [gdt_register]
        endtrap
        ; POPF in ring 3 with IOPL 0 changes neither IF nor IOPL, and does not fault.
        trap    "POPF in ring 3", LEAVE_USER_MODE
        mov     edi, .user5
        jmp     enter_user32
.user5: push    0x3202 | FLAG_CF
        popfd
        pushfd
        pop     ebx
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "POPF in ring 3 leaves IF and IOPL", [saved.rbx], 2 | FLAG_CF
        ; A bitmap that permits one port.
        mov     word [tss + 102], 104
        mov     byte [tss + 104 + 0x80 / 8], 0xFE
        mov     byte [tss + 104 + 0x80 / 8 + 1], 0xFF
        mov     word [gdt_tss], 104 + 0x80 / 8 + 1
        and     byte [gdt_tss + 5], ~2  ; available again
        mov     eax, TSS
        ltr     ax
        trap    "I/O permission bitmap: bit 0 permits", LEAVE_USER_MODE
        mov     edi, .user6
        jmp     enter_user32
.user6: out     0x80, al
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        trap    "I/O permission bitmap: a word needs both bits", GP, 0
        mov     edi, .user7
        jmp     enter_user32
.user7: at_fault
        out     0x80, ax
        endtrap
        trap    "I/O permission bitmap: beyond the TSS's limit", GP, 0
        mov     edi, .user8
        jmp     enter_user32
.user8: mov     edx, 0x3F8
        at_fault
        in      al, dx
        endtrap
        ret

; An inner stack that is no good raises #TS with its selector. The handler of #TS must then do without an inner stack:
; it is reached through a conforming segment and runs in ring 3.
tss_checks:
        mov     byte [GATE + RIGHTS], INTERRUPT_32 | DPL_3
        mov     dword [gdt_spare], 0x0000FFFF
        mov     dword [gdt_spare + 4], 0x00CF9F00       ; conforming code
        mov     eax, .handler
        mov     [idt32 + 8 * TS], ax
        mov     word [idt32 + 8 * TS + 2], SPARE
        shr     eax, 16
        mov     [idt32 + 8 * TS + 6], ax
        mov     dword [tss + 8], USER_DATA              ; SS0 with RPL 3
        trap    "SS0 that is not of ring 0", LEAVE_USER_MODE
        mov     edi, .user
        jmp     enter_user32
.user:  int     VECTOR
.handler:
        pop     ebx                                     ; the error code
        pop     ecx                                     ; the saved EIP
        mov     dword [tss + 8], DATA
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "#TS has the selector as error code", [saved.rbx], USER_DATA & ~3
        check   "#TS is a fault", [saved.rcx], .user
        mov     byte [GATE + RIGHTS], INTERRUPT_32
        ret

double_fault:
        mov     byte [idt32 + 8 * GP + RIGHTS], NOT_PRESENT
        trap    "#NP at the delivery of #GP", DF, 0
        mov     fs, [.bad_selector]
        endtrap
        mov     byte [idt32 + 8 * GP + RIGHTS], INTERRUPT_32
        mov     byte [idt32 + 8 * BP_ + RIGHTS], NOT_PRESENT
        trap    "#NP at the delivery of INT3 is no double fault", NP, BP_ * 8 + ERROR_IDT
        int3
        endtrap
        mov     byte [idt32 + 8 * BP_ + RIGHTS], INTERRUPT_32
        mov     byte [idt32 + 8 * UD + RIGHTS], NOT_PRESENT
        trap    "#NP at the delivery of #UD has the EXT flag", NP, UD * 8 + ERROR_IDT + ERROR_EXTERNAL
        ud2
        endtrap
        mov     byte [idt32 + 8 * UD + RIGHTS], INTERRUPT_32
        ret
.bad_selector: dw 0xFFF8

iret_forms:
        push    2 | FLAG_CF
        push    CODE32
        push    .back
        iretd
.back:  setc    al
        movzx   eax, al
        check   "IRETD loads EFLAGS", eax, 1
        trap    "IRETD to a null CS", GP, 0
        push    2
        push    0
        push    .back
        at_fault
        iretd
        endtrap
        trap    "IRETD to data", GP, DATA
        push    2
        push    DATA
        push    .back
        at_fault
        iretd
        endtrap
        trap    "IRETD to ring 3 with the stack of ring 0", GP, DATA
        push    DATA
        push    user_stack_top
        push    2
        push    USER32
        push    .back
        at_fault
        iretd
        endtrap
        trap    "IRETD to ring 3 with a null SS", GP, 0
        push    0
        push    user_stack_top
        push    2
        push    USER32
        push    .back
        at_fault
        iretd
        endtrap
        ret

        %include "end.inc"
