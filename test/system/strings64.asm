; REP string instructions: results, direction, address size, and what is left in the registers at a fault in the middle.
; SDM volume 2, "REP/REPE/REPZ/REPNE/REPNZ"; volume 1, "Fast-String Operation": the registers are those of the iteration
; that faulted, and the instruction can be restarted.
        %include "kernel.inc"

SOURCE          equ 0x00800000
TARGET          equ 0x00900000
HOLE            equ 0x40002000          ; linear: two pages, then nothing
WINDOW          equ 0x40000000

        section .bss
        alignb  4096
test_pd:        resb    4096
test_pt:        resb    4096
        section .text

        bits    32
main:
        call    enter_long_mode
        bits    64
        mov     qword [pdpt + 8], test_pd + (PRESENT | WRITABLE)
        mov     qword [test_pd], test_pt + (PRESENT | WRITABLE)
        mov     qword [test_pt], 0x00A00000 | PRESENT | WRITABLE
        mov     qword [test_pt + 8], 0x00A01000 | PRESENT | WRITABLE
        xor     ecx, ecx
.fill:  mov     [SOURCE + rcx], cl
        inc     ecx
        cmp     ecx, 0x4000
        jne     .fill
        call    moves
        call    stores
        call    compares
        call    faults
        call    port_strings
        jmp     finish64

moves:
        mov     esi, SOURCE
        mov     edi, TARGET
        mov     ecx, 1000
        rep     movsb
        check   "REP MOVSB: RSI", rsi, SOURCE + 1000
        check   "REP MOVSB: RDI", rdi, TARGET + 1000
        check   "REP MOVSB: RCX", rcx, 0
        mov     rax, [TARGET + 992]
        check   "REP MOVSB: data", rax, 0xE7E6E5E4E3E2E1E0
        mov     esi, SOURCE
        mov     edi, TARGET
        mov     ecx, 100
        rep     movsq
        check   "REP MOVSQ: RDI", rdi, TARGET + 800
        std
        mov     esi, SOURCE + 16
        mov     edi, TARGET + 16
        mov     ecx, 3
        rep     movsd
        cld
        check   "DF = 1 counts down", rsi, SOURCE + 4
        ; Overlapping: byte by byte, so that a pattern spreads.
        mov     dword [TARGET], 0x44332211
        mov     esi, TARGET
        mov     edi, TARGET + 4
        mov     ecx, 12
        rep     movsb
        mov     rax, [TARGET + 8]
        check   "overlapping REP MOVSB spreads a pattern", rax, 0x4433221144332211
        mov     byte [TARGET], 0xAB
        mov     esi, TARGET
        mov     edi, TARGET + 1
        mov     ecx, 15
        rep     movsb
        mov     rax, [TARGET + 8]
        check   "with a distance of one byte too", rax, 0xABABABABABABABAB
        xor     ecx, ecx
        mov     edi, TARGET
        rep     movsb
        check   "RCX = 0 does nothing", rdi, TARGET
        ; Address size 32: ECX, ESI, EDI, and the upper halves are zero afterwards.
        mov     rcx, 0x100000002
        mov     rsi, 0x100000000 | SOURCE
        mov     rdi, 0x100000000 | TARGET
        a32 rep movsb
        check   "32-bit address size: RCX", rcx, 0
        check   "32-bit address size: RSI", rsi, SOURCE + 2
        ret

stores:
        mov     edi, TARGET
        mov     ecx, 100
        mov     rax, 0x0123456789ABCDEF
        rep     stosq
        mov     rbx, [TARGET + 792]
        check   "REP STOSQ", rbx, 0x0123456789ABCDEF
        mov     edi, TARGET + 1
        mov     ecx, 4
        mov     ax, 0x5566
        rep     stosw
        mov     rbx, [TARGET + 1]
        check   "REP STOSW at an odd address", rbx, 0x5566556655665566
        mov     esi, SOURCE + 5
        mov     ecx, 3
        rep     lodsb
        check   "REP LODSB leaves the last", rax, 0x0123456789AB5507
        ret

compares:
        mov     edi, SOURCE
        mov     al, 9
        mov     ecx, 100
        repne   scasb
        check   "REPNE SCASB stops behind the match", rdi, SOURCE + 10
        check   "REPNE SCASB: RCX", rcx, 90
        mov     esi, SOURCE
        mov     edi, SOURCE + 256               ; the same bytes again
        mov     byte [SOURCE + 256 + 20], 0xFF
        mov     ecx, 100
        repe    cmpsb
        setb    al
        movzx   eax, al
        check   "REPE CMPSB stops behind the difference", rsi, SOURCE + 21
        check   "REPE CMPSB: flags of source minus destination", rax, 1
        mov     byte [SOURCE + 256 + 20], 20
        xor     ecx, ecx
        cmp     eax, eax                        ; ZF = 1
        repne   scasb
        setz    al
        movzx   eax, al
        check   "RCX = 0 leaves the flags", rax, 1
        ret

faults:
        trap    "REP STOSB into a missing page", PF, 2
        mov     edi, HOLE - 10
        mov     ecx, 100
        mov     al, 0x77
        at_fault
        rep     stosb
        endtrap
        check   "RDI is at the missing page", [saved.rdi], HOLE
        check   "RCX is what is left", [saved.rcx], 90
        check   "CR2 is the first missing byte", [saved.cr2], HOLE
        mov     rax, [HOLE - 8]
        check   "the bytes before are written", rax, 0x7777777777777777
        trap    "REP MOVSQ into a missing page, an element over the border", PF, 2
        mov     esi, SOURCE
        mov     edi, HOLE - 20
        mov     ecx, 10
        at_fault
        rep     movsq
        endtrap
        check   "RDI is at the element", [saved.rdi], HOLE - 4
        check   "RSI too", [saved.rsi], SOURCE + 16
        check   "RCX: two are done", [saved.rcx], 8
        trap    "REP MOVSB from a missing page", PF, 0
        mov     esi, HOLE - 3
        mov     edi, TARGET
        mov     ecx, 10
        at_fault
        rep     movsb
        endtrap
        check   "RSI is at the missing page", [saved.rsi], HOLE
        check   "RDI is as far", [saved.rdi], TARGET + 3
        trap    "REPE CMPSB into a missing page", PF, 0
        mov     esi, WINDOW
        mov     edi, WINDOW
        mov     ecx, 0x3000
        at_fault
        repe    cmpsb
        endtrap
        check   "it came two pages far", [saved.rcx], 0x1000
        trap    "REP STOSB downwards into a missing page", PF, 2
        std
        mov     edi, WINDOW + 4
        mov     ecx, 10
        mov     qword [pd + 511 * 8], 0
        at_fault
        rep     stosb
        endtrap
        cld
        check   "RDI is below the window", [saved.rdi], WINDOW - 1
        check   "RCX: five are done", [saved.rcx], 5
        ; The instruction goes on when the handler brings the page.
        mov     byte [idt64 + 16 * PF + 5], 0x8E
        mov     eax, .bring
        mov     [idt64 + 16 * PF], ax
        shr     eax, 16
        mov     [idt64 + 16 * PF + 6], ax
        mov     edi, HOLE - 100
        mov     ecx, 200
        mov     al, 0x55
        rep     stosb
        check   "a restarted REP STOSB comes to its end", rdi, HOLE + 100
        mov     rax, [HOLE + 92]
        check   "and has written all", rax, 0x5555555555555555
        check   "after one page fault", [.faults], 1
        mov     eax, stubs64 + 16 * PF
        mov     [idt64 + 16 * PF], ax
        ret
.bring: mov     qword [test_pt + 16], 0x00A02000 | PRESENT | WRITABLE
        inc     qword [.faults]
        add     rsp, 8
        iretq
        section .data
        align   8
.faults: dq     0
        section .text

; INS and OUTS with a port that answers: the scratch register of the UART.
port_strings:
        mov     edx, COM1 + 7
        mov     byte [TARGET], 0x5A
        mov     esi, TARGET
        mov     ecx, 1
        rep     outsb
        mov     edi, TARGET + 16
        mov     ecx, 2
        rep     insb
        movzx   eax, word [TARGET + 16]
        check   "REP OUTSB and REP INSB", rax, 0x5A5A
        check   "REP INSB: RDI", rdi, TARGET + 18
        ret

        %include "end.inc"
