; The trap flag: single-step traps in 32-bit and 64-bit code. SDM volume 3B, "Single-Step Exception Condition".
        %include "kernel.inc"

DR6_BS          equ 1 << 14

        bits    32
main:
        mov     eax, step_handler32
        mov     [idt32 + 8 * DB_], ax
        shr     eax, 16
        mov     [idt32 + 8 * DB_ + 6], ax
        call    in_32_bits
        call    enter_long_mode
        bits    64
        mov     eax, step_handler64
        mov     [idt64 + 16 * DB_], ax
        shr     eax, 16
        mov     [idt64 + 16 * DB_ + 6], ax
        call    load_tss64
        call    in_64_bits
        jmp     finish64

        section .data
        align   8
step_count:     dq      0
steps:          times 32 dq 0           ; addresses saved by the traps
step_dr6:       dq      0
stepped_flags:  dq      0
        section .text

        bits    32
step_handler32:
        push    eax
        push    ecx
        mov     ecx, [step_count]
        mov     eax, [esp + 8]
        mov     [steps + ecx * 8], eax
        inc     dword [step_count]
        mov     eax, dr6
        mov     [step_dr6], eax
        xor     eax, eax
        mov     dr6, eax
        pushfd
        pop     dword [stepped_flags]
        pop     ecx
        pop     eax
        iretd

; Sets TF by POPF: the first trap comes after the instruction behind POPF.
%macro begin_steps_32 0
        mov     dword [step_count], 0
        pushfd
        or      dword [esp], FLAG_TF
        popfd
%endmacro
%macro end_steps_32 0
        pushfd
        and     dword [esp], ~FLAG_TF
        popfd
%endmacro

in_32_bits:
        begin_steps_32
        nop
.first: nop
.second:
        end_steps_32
        check   "the trap is behind the instruction after POPF", [steps], .first
        check   "and behind every one", [steps + 8], .second
        ; nop, nop, PUSHF, AND and POPF: it is on when POPF begins, so POPF still traps.
        check   "five instructions are five traps", [step_count], 5
        mov     eax, [step_dr6]
        and     eax, DR6_BS
        check   "DR6.BS is set", eax, DR6_BS
        mov     eax, [stepped_flags]
        and     eax, FLAG_TF
        check   "the handler runs with TF = 0", eax, 0

        mov     edi, 0x00800000
        mov     ecx, 3
        xor     eax, eax
        begin_steps_32
.rep:   rep     stosb
.after_rep:
        end_steps_32
        check   "REP: a trap after each iteration", [steps + 8], .rep
        check   "and after the last behind it", [steps + 16], .after_rep

        begin_steps_32
        jmp     .target
        nop
.target:
        end_steps_32
        check   "a jump that is taken", [steps], .target

        ; MOV SS holds debug traps back by one instruction.
        mov     eax, ss
        begin_steps_32
        mov     ss, eax
        nop
.after_shadow:
        end_steps_32
        check   "no trap behind MOV SS", [steps], .after_shadow

        ; INT n clears TF before the handler's first instruction, and the trap of INT n itself is lost.
        mov     eax, .handler
        mov     [idt32 + 8 * 0x40], ax
        shr     eax, 16
        mov     [idt32 + 8 * 0x40 + 6], ax
        begin_steps_32
        int     0x40
.after_int:
        nop
.after_nop:
        end_steps_32
        check   "INT n: no trap before the handler nor in it; after IRET one more instruction", [steps], .after_nop
        ret
.handler:
        nop
        iretd

        bits    64
step_handler64:
        push    rax
        push    rcx
        mov     rcx, [step_count]
        mov     rax, [rsp + 16]
        mov     [steps + rcx * 8], rax
        inc     qword [step_count]
        mov     rax, dr6
        mov     [step_dr6], rax
        xor     eax, eax
        mov     dr6, rax
        pop     rcx
        pop     rax
        iretq

%macro begin_steps_64 0
        mov     qword [step_count], 0
        pushfq
        or      qword [rsp], FLAG_TF
        popfq
%endmacro
%macro end_steps_64 0
        pushfq
        and     qword [rsp], ~FLAG_TF
        popfq
%endmacro

in_64_bits:
        begin_steps_64
        nop
.first: nop
.second:
        end_steps_64
        check   "64-bit: behind the instruction after POPF", [steps], .first
        check   "64-bit: behind every one", [steps + 8], .second
        ; A fault comes before the trap of the same instruction, and saves TF.
        trap    "fault while stepping", UD
        pushfq
        or      qword [rsp], FLAG_TF
        popfq
        at_fault
        ud2
        endtrap
        mov     rax, [saved.flags]
        and     eax, FLAG_TF
        check   "the saved flags have TF", rax, FLAG_TF
        ; Into ring 3 by IRETQ with TF: the trap is behind the first instruction there.
        mov     qword [step_count], 0
        trap    "ring 3 is stepped", LEAVE_USER_MODE
        push    USER_DATA
        push    user_stack_top
        push    2 | FLAG_TF
        push    USER64
        push    .user
        iretq
.user:  nop
.user_first:
        nop
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "the first trap in ring 3", [steps], .user_first
        ret

        %include "end.inc"
