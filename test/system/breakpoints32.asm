; The debug registers: instruction, data and I/O breakpoints, general detect, RF. SDM volume 3B, "Debug Exceptions".
        %include "kernel.inc"

DR7_G0          equ 1 << 1
DR7_G1          equ 1 << 3
DR7_GD          equ 1 << 13
DR7_RW0         equ 16                  ; field of breakpoint 0: R/W, then LEN
DR7_LEN0        equ 18
DR7_RW1         equ 20
ON_WRITE        equ 1
ON_IO           equ 2
ON_ACCESS       equ 3
LENGTH_2        equ 1
LENGTH_4        equ 3
DR6_B0          equ 1 << 0
DR6_B1          equ 1 << 1
DR6_BD          equ 1 << 13
DR6_BS          equ 1 << 14
DR6_FIXED       equ 0xFFFF0FF0
CR4_DE          equ 1 << 3
FLAG_RF         equ 1 << 16

%macro set_dr6 1
        mov     eax, %1
        mov     dr6, eax
%endmacro
%macro breakpoint0 2                    ; address, DR7
        mov     eax, %1
        mov     dr0, eax
        mov     eax, %2
        mov     dr7, eax
%endmacro
%macro check_dr6 2
        mov     eax, dr6
        check   %1, eax, %2
%endmacro
%macro no_breakpoints 0
        xor     eax, eax
        mov     dr7, eax
%endmacro

        bits    32
main:
        call    on_instructions
        call    on_data
        call    on_ports
        call    general_detect
        ret

on_instructions:
        set_dr6 0
        breakpoint0 .first, DR7_G0
        trap    "instruction breakpoint", DB_
        nop
        at_fault
.first: nop
        endtrap
        check_dr6 "it is reported in DR6.B0", DR6_FIXED | DR6_B0
        mov     eax, [saved.flags]
        and     eax, FLAG_RF
        check   "the saved RF is 0: the handler must set it", eax, 0

        ; IRET with RF skips it, for one instruction.
        set_dr6 0
        mov     dword [.times], 0
        breakpoint0 .again, DR7_G0
        trap    "RF of IRET lasts for one instruction", DB_
        pushfd
        or      dword [esp], FLAG_RF
        push    CODE32
        push    .again
        iretd
        at_fault
.again: inc     dword [.times]
        jmp     .again
        endtrap
        check   "which has been executed once", [.times], 1
        mov     eax, cr0
        no_breakpoints

        set_dr6 DR6_BS | DR6_B1
        breakpoint0 .sticky, DR7_G0
        trap    "breakpoint with old bits in DR6", DB_
        at_fault
.sticky: nop
        endtrap
        check_dr6 "the processor clears B1, but not BS", DR6_FIXED | DR6_BS | DR6_B0

        ; MOV SS holds the breakpoint of the next instruction off.
        set_dr6 0
        breakpoint0 .shadow, DR7_G0
        mov     eax, ss
        mov     ss, eax
.shadow: nop
        check_dr6 "no breakpoint behind MOV SS", DR6_FIXED

        ; A string instruction meets it once.
        set_dr6 0
        mov     dword [.times], 0
        breakpoint0 .string, DR7_G0
        mov     edi, 0x00800000
        mov     ecx, 200000
        trap    "breakpoint at REP STOSB", DB_
        cld
        at_fault
.string: rep    stosb
        endtrap
        mov     eax, [saved.rcx]
        check   "before its first iteration", eax, 200000
        trap    "a string instruction with RF", UD
        push    2 | FLAG_RF
        push    CODE32
        push    .string2
        mov     eax, .string2
        mov     dr0, eax
        mov     edi, 0x00800000
        mov     ecx, 200000
        iretd
.string2: rep   stosb
        at_fault
        ud2
        endtrap
        check   "runs to its end", [saved.rcx], 0
        no_breakpoints
        ret

        section .data
        align   4
.times: dd      0
        section .text

on_data:
        set_dr6 0
        breakpoint0 .word, DR7_G0 | ON_WRITE << DR7_RW0 | LENGTH_4 << DR7_LEN0
        mov     eax, [.word]
        check_dr6 "a write breakpoint is not for reads", DR6_FIXED
        trap    "write breakpoint", DB_
        mov     dword [.word], 0x1234
        at_fault
        nop
        endtrap
        check_dr6 "write breakpoint: DR6.B0", DR6_FIXED | DR6_B0
        check   "the trap comes after the write", [.word], 0x1234
        set_dr6 0
        mov     byte [.word + 4], 1
        mov     byte [.word - 1], 1
        check_dr6 "no breakpoint for its neighbours", DR6_FIXED
        trap    "write to one of its bytes", DB_
        mov     byte [.word + 3], 1
        at_fault
        nop
        endtrap
        trap    "write that begins before it", DB_
        mov     dword [.word - 3], 1
        at_fault
        nop
        endtrap
        trap    "read-modify-write", DB_
        inc     dword [.word]
        at_fault
        nop
        endtrap
        trap    "push", DB_
        mov     esp, .word + 4
        push    eax
        at_fault
        nop
        endtrap

        ; LEN aligns the address.
        breakpoint0 .word + 1, DR7_G0 | ON_ACCESS << DR7_RW0 | LENGTH_2 << DR7_LEN0
        set_dr6 0
        trap    "access breakpoint: read of the byte below an odd address of length 2", DB_
        mov     al, [.word]
        at_fault
        nop
        endtrap
        set_dr6 0
        mov     al, [.word + 2]
        check_dr6 "but not of the byte above", DR6_FIXED

        ; Two at once.
        mov     eax, .word
        mov     dr1, eax
        breakpoint0 .word, DR7_G0 | DR7_G1 | ON_ACCESS << DR7_RW0 | ON_WRITE << DR7_RW1
        trap    "two breakpoints", DB_
        mov     byte [.word], 7
        at_fault
        nop
        endtrap
        check_dr6 "DR6.B0 and B1", DR6_FIXED | DR6_B0 | DR6_B1

        ; A string instruction stops behind the iteration.
        breakpoint0 .word, DR7_G0 | ON_WRITE << DR7_RW0
        set_dr6 0
        mov     edi, .word - 16
        mov     ecx, 64
        xor     eax, eax
        trap    "breakpoint in REP STOSB", DB_
        cld
        at_fault
.string: rep    stosb
        endtrap
        check   "iterations that are left", [saved.rcx], 64 - 17
        mov     eax, [saved.flags]
        and     eax, FLAG_RF
        check   "RF is saved set between iterations", eax, FLAG_RF

        ; MOV SS holds it back by one instruction.
        breakpoint0 .selector, DR7_G0 | ON_ACCESS << DR7_RW0
        trap    "MOV SS from memory with a breakpoint", DB_
        mov     ss, [.selector]
        nop
        at_fault
        nop
        endtrap

        ; A fault of the same instruction goes first.
        breakpoint0 .zero, DR7_G0 | ON_ACCESS << DR7_RW0
        set_dr6 0
        trap    "a fault goes before the breakpoint of its instruction", DE
        xor     edx, edx
        at_fault
        div     dword [.zero]
        endtrap
        no_breakpoints
        ret

        section .data
        align   16
        dd      0, 0, 0, 0
.word:  dd      0, 0, 0, 0
.zero:  dd      0
.selector: dw   DATA
        section .text

on_ports:
        mov     eax, cr4
        or      eax, CR4_DE
        mov     cr4, eax
        set_dr6 0
        breakpoint0 0x80, DR7_G0 | ON_IO << DR7_RW0
        trap    "I/O breakpoint: OUT", DB_
        out     0x80, al
        at_fault
        nop
        endtrap
        check_dr6 "I/O breakpoint: DR6.B0", DR6_FIXED | DR6_B0
        trap    "I/O breakpoint: IN", DB_
        in      al, 0x80
        at_fault
        nop
        endtrap
        set_dr6 0
        out     0x84, al
        check_dr6 "no breakpoint at another port", DR6_FIXED
        no_breakpoints
        mov     eax, cr4
        and     eax, ~CR4_DE
        mov     cr4, eax
        ret

general_detect:
        set_dr6 0
        mov     eax, DR7_GD
        mov     dr7, eax
        trap    "DR7.GD: MOV from DR0", DB_
        mov     ecx, dr0
        endtrap
        check_dr6 "general detect: DR6.BD", DR6_FIXED | DR6_BD
        mov     eax, dr7
        check   "delivery of #DB clears GD", eax, 0x400
        set_dr6 0
        ; INT1 reports no condition.
        trap    "INT1", DB_
        int1
        at_fault
        nop
        endtrap
        check_dr6 "INT1: DR6 is as it was", DR6_FIXED
        ret

        %include "end.inc"
