; The modes of the processor: 16-bit protected, 32-bit, 64-bit and compatibility mode, and the ways between them.
; SDM volume 3A, "Processor Management and Initialization"; volume 1, "Operand-Size and Address-Size Attributes".
        %include "kernel.inc"

BUFFER          equ 0x00800000
%define NEAR16(label) ((label) - LOAD_ADDRESS)  ; as an offset into gdt_code16 and gdt_data16
        [warning -number-overflow]              ; nasm cannot know that these offsets are small

        section .data
        align   8
result:         times 16 dq 0
        section .text

        bits    32
main:
        call    in_16_bits
        call    in_32_bits
        call    enter_long_mode
        bits    64
        call    in_64_bits
        call    in_compatibility_mode
        call    leave_long_mode
        jmp     finish64

; ---- 16-bit protected mode: default operand and address size 16, a stack addressed by SP ----

        bits    32
in_16_bits:
        mov     [.stack], esp
        mov     eax, DATA16
        mov     ds, eax
        mov     ss, eax
        mov     esp, NEAR16(.stack16_top)
        jmp     CODE16:NEAR16(.start)
        bits    16
.start: mov     eax, 0x11112222
        mov     ax, 0x3333
        mov     [NEAR16(result)], eax                   ; an operation on AX leaves the upper half of EAX
        mov     bx, sp
        push    ax
        sub     bx, sp
        mov     [NEAR16(result) + 8], bx                ; PUSH of 2 bytes
        pop     ax
        push    eax
        pop     dword [NEAR16(result) + 16]             ; operand-size prefix
        mov     bx, NEAR16(result)
        mov     si, 24
        mov     word [bx + si], 0x4444                  ; 16-bit addressing
        mov     ebx, NEAR16(result) + 32
        mov     word [ebx], 0x5555                      ; address-size prefix
        mov     bx, 0xFFF0
        mov     al, [bx + NEAR16(result) + 24 + 0x10]   ; offsets wrap at 64 KiB
        mov     [NEAR16(result) + 40], al
        mov     cx, 3
        xor     dx, dx
.loop:  inc     dx
        loop    .loop                                   ; CX
        mov     [NEAR16(result) + 48], dx
        call    .near
        mov     [NEAR16(result) + 56], ax
        mov     ax, 0xFFFF
        inc     ax
        setz    al
        mov     [NEAR16(result) + 64], al
        jmp     dword CODE32:.back
.near:  pop     ax                                      ; the return address is 2 bytes
        push    ax
        ret
        bits    32
.back:  mov     eax, DATA
        mov     ds, eax
        mov     ss, eax
        mov     esp, [.stack]
        check   "16-bit: AX is the lower half of EAX", [result], 0x11113333
        check   "16-bit: PUSH is of 2 bytes", [result + 8], 2
        check   "16-bit: operand-size prefix", [result + 16], 0x11113333
        check   "16-bit: [BX + SI]", [result + 24], 0x4444
        check   "16-bit: address-size prefix", [result + 32], 0x5555
        check   "16-bit: offsets wrap", [result + 40], 0x44
        check   "16-bit: LOOP counts CX", [result + 48], 3
        check   "16-bit: zero flag of AX", [result + 64], 1
        ret
        section .data
        align   8
.stack: dd      0
        times   256 db 0
.stack16_top:
        section .text

in_32_bits:
        mov     eax, 0x12345678
        mov     ax, 0x9ABC
        check   "32-bit: AX is the lower half of EAX", eax, 0x12349ABC
        mov     ebx, esp
        push    word 5
        sub     ebx, esp
        add     esp, 2
        check   "32-bit: PUSH with an operand-size prefix is of 2 bytes", ebx, 2
        mov     eax, 5
        db      0x40                    ; INC EAX, not a REX prefix
        check   "32-bit: 40h is INC EAX", eax, 6
        mov     al, 0x15
        add     al, 0x27
        daa
        movzx   eax, al
        check   "32-bit: DAA", eax, 0x42
        mov     dword [BUFFER], 0xCAFE
        mov     ebx, BUFFER >> 4
        mov     eax, [ebx * 8 + BUFFER / 2]
        check   "32-bit: scaled index", eax, 0xCAFE
        push    0x11
        pushad
        popad
        pop     eax
        check   "32-bit: PUSHAD and POPAD", eax, 0x11
        mov     eax, cr0
        shr     eax, 31
        check   "32-bit: without paging", eax, 0
        ret

        bits    64
in_64_bits:
        mov     rax, -1
        mov     eax, 1
        check   "64-bit: a 32-bit result clears the upper half", rax, 1
        mov     rax, -1
        mov     ax, 1
        check   "64-bit: a 16-bit result does not", rax, 0xFFFFFFFFFFFF0001
        mov     rax, -1
        mov     al, 1
        check   "64-bit: nor does an 8-bit result", rax, 0xFFFFFFFFFFFFFF01
        mov     eax, 0x1234
        mov     sil, 0x56
        mov     bh, ah
        movzx   ecx, bh
        check   "64-bit: BH without REX", rcx, 0x12
        movzx   ecx, sil
        check   "64-bit: SIL with REX", rcx, 0x56
        mov     r15, 0x123456789
        lea     r8, [r15 + r15 * 2]
        check   "64-bit: R8 to R15", r8, 0x369D0369B
        lea     rax, [rel .here]
.here:  check   "64-bit: RIP-relative address", rax, .here
        mov     rbx, rsp
        push    rax
        sub     rbx, rsp
        pop     rax
        check   "64-bit: PUSH is of 8 bytes", rbx, 8
        mov     rax, 0x80000000
        movsxd  rbx, eax
        check   "64-bit: MOVSXD", rbx, 0xFFFFFFFF80000000
        trap    "64-bit: PUSH ES does not exist", UD
        db      0x06
        endtrap
        trap    "64-bit: DAA does not exist", UD
        db      0x27
        endtrap
        trap    "64-bit: PUSHAD does not exist", UD
        db      0x60
        endtrap
        trap    "64-bit: far JMP with an immediate does not exist", UD
        db      0xEA, 0, 0, 0, 0, 8, 0
        endtrap
        trap    "64-bit: INTO does not exist", UD
        db      0xCE
        endtrap
        mov     rcx, 0x100000000
        jecxz   .zero
        jmp     .not_zero
.zero:  mov     ecx, 1
.not_zero:
        check   "64-bit: JECXZ looks at ECX", rcx, 1
        xor     eax, eax
        xchg    eax, eax                ; 90h is NOP: it does not clear the upper half
        mov     rax, 0x1111111122222222
        nop
        check   "64-bit: NOP", rax, 0x1111111122222222
        ret

; Compatibility mode: a segment with L = 0 while EFER.LMA = 1 runs 32-bit code on the page tables of long mode.
in_compatibility_mode:
        mov     [.stack], rsp
        push    CODE32
        push    .start
        retfq
        bits    32
.start: mov     eax, 5
        db      0x40                    ; INC EAX again
        mov     [result], eax
        mov     ecx, IA32_EFER
        rdmsr
        mov     [result + 8], eax
        mov     ebx, esp
        push    eax
        sub     ebx, esp
        pop     eax
        mov     [result + 16], ebx
        check   "compatibility mode: 40h is INC EAX", [result], 6
        shr     dword [result + 8], 10
        and     dword [result + 8], 1
        check   "compatibility mode: EFER.LMA stays", [result + 8], 1
        check   "compatibility mode: PUSH is of 4 bytes", [result + 16], 4
        ; Exceptions are still delivered by 64-bit gates to 64-bit code, which sees CS.
        mov     dword [saved.vector], NOTHING_RAISED
        mov     dword [trap_stack], stack_top - 2048
        mov     dword [trap_resume], .after
        mov     eax, [0x7FFFFFF0]       ; not mapped
.after:
        bits    64
        check   "compatibility mode: page fault", [saved.vector], PF
        check   "compatibility mode: the saved CS", [saved.cs], CODE32
        mov     rax, 0x1111111111111111
        push    CODE32
        push    .again
        retfq
        bits    32
.again: mov     eax, [BUFFER]
        jmp     CODE64:.back
        bits    64
.back:  mov     rsp, [.stack]
        check   "the upper half after 32-bit operations in compatibility mode", rax, 0xCAFE
        ; 16-bit compatibility mode.
        push    CODE16
        push    NEAR16(.start16)
        retfq
        bits    16
.start16:
        mov     ecx, 0xAAAA0000
        dec     cx
        mov     edx, esp
        push    cx
        sub     edx, esp
        add     esp, 2
        jmp     dword CODE64:.back16
        bits    64
.back16:
        check   "16-bit compatibility mode: CX", rcx, 0xAAAAFFFF
        check   "16-bit compatibility mode: PUSH is of 2 bytes", rdx, 2
        ret
        section .data
        align   8
.stack: dq      0
        section .text

; Back to 32-bit mode without paging: through compatibility mode, then CR0.PG = 0, which clears EFER.LMA.
leave_long_mode:
        push    CODE32
        push    .compatibility
        retfq
        bits    32
.compatibility:
        mov     eax, cr0
        btr     eax, 31
        mov     cr0, eax
        mov     ecx, IA32_EFER
        rdmsr
        shr     eax, 10
        and     eax, 1
        mov     [result], eax
        and     dword [saved.rip + 4], 0
        lidt    [idt32_register]
        check   "CR0.PG = 0 clears EFER.LMA", [result], 0
        trap    "exceptions go through the 32-bit IDT again", UD
        ud2
        endtrap
        jmp     finish32

        %include "end.inc"
