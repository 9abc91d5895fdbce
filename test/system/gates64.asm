; Event delivery in 64-bit mode: gates, stack switches, IST, error codes, double fault, IRETQ.
; SDM volume 3A, "Exception and Interrupt Handling in 64-bit Mode".
        %include "kernel.inc"

GATE_IST        equ 4                   ; offsets in a gate
GATE_RIGHTS     equ 5
INTERRUPT_GATE  equ 0x8E                ; present, DPL 0
TRAP_GATE       equ 0x8F
DPL_3           equ 0x60
NOT_PRESENT     equ 0x0E
CODE_GATE_16    equ 0x86                ; a type that long mode does not know
VECTOR          equ 0x40
GATE            equ idt64 + 16 * VECTOR
ERROR_IDT       equ 2                   ; error code: the index is one of the IDT
ERROR_EXTERNAL  equ 1

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    same_level
        call    gate_checks
        call    from_ring_3
        call    stack_table
        call    double_fault
        call    iret_forms
        jmp     finish64

same_level:
        trap    "INT n saves the address behind it", VECTOR
        int     VECTOR
        at_fault
        endtrap
        check   "CS is saved", [saved.cs], CODE64
        check   "SS is saved even without a change of level", [saved.ss], DATA

        ; The frame has five values of 8 bytes; RSP is aligned down to 16 first.
        mov     rbx, rsp
        mov     rsp, stack_top - 1024 + 8
        mov     [trap_stack], rbx
        trap    "INT n on a stack that is not aligned", VECTOR
        int     VECTOR
        at_fault
        endtrap
        mov     rsp, rbx
        check   "the old RSP is saved", [saved.rsp], stack_top - 1024 + 8
        check   "the frame is aligned to 16", [saved.frame], stack_top - 1024 - 40

        pushfq
        or      qword [rsp], FLAG_IF
        popfq                                   ; the 8259s are masked
        trap    "interrupt gate", VECTOR
        int     VECTOR
        at_fault
        endtrap
        pushfq
        pop     rax
        and     eax, FLAG_IF
        check   "an interrupt gate clears IF", rax, 0
        mov     rax, [saved.flags]
        and     eax, FLAG_IF
        check   "IF is saved before", rax, FLAG_IF

        mov     byte [GATE + GATE_RIGHTS], TRAP_GATE
        sti
        trap    "trap gate", VECTOR
        int     VECTOR
        at_fault
        endtrap
        pushfq
        pop     rax
        cli
        and     eax, FLAG_IF
        check   "a trap gate leaves IF alone", rax, FLAG_IF
        mov     byte [GATE + GATE_RIGHTS], INTERRUPT_GATE

        trap    "INT3 is a trap", BP_
        int3
        at_fault
        endtrap
        trap    "UD2 is a fault", UD
        ud2
        endtrap
        trap    "DIV by zero is a fault", DE
        xor     ecx, ecx
        at_fault
        div     ecx
        endtrap
        ; A stub that expects no error code takes the place of #GP's.
        mov     word [idt64 + 16 * GP], (stubs64 + 16 * VECTOR - LOAD_ADDRESS)
        trap    "INT 13 pushes no error code", VECTOR
        int     GP
        at_fault
        endtrap
        mov     word [idt64 + 16 * GP], (stubs64 + 16 * GP - LOAD_ADDRESS)
        ret

gate_checks:
        mov     byte [GATE + GATE_RIGHTS], NOT_PRESENT
        trap    "gate that is not present", NP, VECTOR * 8 + ERROR_IDT
        int     VECTOR
        endtrap
        mov     byte [GATE + GATE_RIGHTS], CODE_GATE_16
        trap    "gate of a 16-bit type", GP, VECTOR * 8 + ERROR_IDT
        int     VECTOR
        endtrap
        mov     byte [GATE + GATE_RIGHTS], INTERRUPT_GATE

        mov     word [GATE + 2], CODE32
        trap    "gate to a segment that is not 64-bit", GP, CODE32
        int     VECTOR
        endtrap
        mov     word [GATE + 2], DATA
        trap    "gate to a data segment", GP, DATA
        int     VECTOR
        endtrap
        mov     word [GATE + 2], 0
        trap    "gate with a null selector", GP, 0
        int     VECTOR
        endtrap
        mov     word [GATE + 2], 0xFFF8
        trap    "gate to a selector beyond the GDT", GP, 0xFFF8
        int     VECTOR
        endtrap
        mov     word [GATE + 2], CODE64

        mov     dword [GATE + 8], 0x12345678
        trap    "gate with an offset that is not canonical", GP, 0
        int     VECTOR
        endtrap
        mov     dword [GATE + 8], 0

        lidt    [.short_idt]
        trap    "vector beyond the IDT's limit", GP, VECTOR * 8 + ERROR_IDT
        int     VECTOR
        endtrap
        lidt    [idt64_register]
        ret
.short_idt:
        dw      16 * VECTOR - 1
        dq      idt64

from_ring_3:
        trap    "user code ends by INT through a gate of DPL 3", LEAVE_USER_MODE
        mov     rdi, .end
        call    enter_user64
.end:   int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "CS of ring 3 is saved", [saved.cs], USER64
        check   "SS of ring 3 is saved", [saved.ss], USER_DATA
        check   "RSP of ring 3 is saved", [saved.rsp], user_stack_top
        check   "the frame is on the stack of RSP0", [saved.frame], fault_stack_top - 40

        trap    "INT from ring 3 through a gate of DPL 0", GP, VECTOR * 8 + ERROR_IDT
        mov     rdi, .int
        call    enter_user64
.int:   at_fault
        int     VECTOR
        endtrap
        trap    "UD2 from ring 3 does not look at the DPL", UD
        mov     rdi, .ud
        call    enter_user64
.ud:    at_fault
        ud2
        endtrap
        trap    "INT3 from ring 3 does look at it", GP, BP_ * 8 + ERROR_IDT
        mov     rdi, .bp
        call    enter_user64
.bp:    at_fault
        int3
        endtrap
        trap    "INT1 from ring 3 does not", DB_
        mov     rdi, .icebp
        call    enter_user64
.icebp: db      0xF1
        at_fault
        endtrap
        trap    "CLI from ring 3 with IOPL 0", GP, 0
        mov     rdi, .cli
        call    enter_user64
.cli:   at_fault
        cli
        endtrap
        trap    "HLT from ring 3", GP, 0
        mov     rdi, .hlt
        call    enter_user64
.hlt:   at_fault
        hlt
        endtrap
        trap    "IN from ring 3 without a permission bitmap", GP, 0
        mov     rdi, .in
        call    enter_user64
.in:    at_fault
        in      al, 0x80
        endtrap

        ; The handler at CPL 0 gets a null SS.
        mov     rax, .see_ss
        call    point_vector_at_rax
        mov     byte [GATE + GATE_RIGHTS], INTERRUPT_GATE | DPL_3
        trap    "handler that looks at its SS", LEAVE_USER_MODE
        mov     rdi, .call
        call    enter_user64
.call:  int     VECTOR
        int     LEAVE_USER_MODE
        at_fault
        endtrap
        check   "SS is null after a change of level", [.ss], 0
        mov     byte [GATE + GATE_RIGHTS], INTERRUPT_GATE
        jmp     point_vector_at_stub
.see_ss:
        mov     eax, ss
        mov     [.ss], rax
        iretq
.ss:    dq      -1

point_vector_at_rax:
        mov     [GATE], ax
        shr     rax, 16
        mov     [GATE + 6], ax
        ret
point_vector_at_stub:
        mov     eax, stubs64 + 16 * VECTOR
        jmp     point_vector_at_rax

stack_table:
        mov     byte [GATE + GATE_IST], 1
        trap    "interrupt stack table", VECTOR
        int     VECTOR
        at_fault
        endtrap
        check   "IST1 is the stack", [saved.frame], ist_stack_top - 40
        mov     byte [GATE + GATE_IST], 2
        mov     rax, 0x8000000000000000
        mov     [tss + 44], rax
        trap    "IST2 that is not canonical", SS_, 0
        int     VECTOR
        endtrap
        mov     byte [GATE + GATE_IST], 0
        ret

; A fault while a fault is delivered: contributory after contributory, or #PF after #PF.
double_fault:
        mov     byte [idt64 + 16 * DF + GATE_IST], 1
        mov     byte [idt64 + 16 * GP + GATE_RIGHTS], NOT_PRESENT
        mov     rax, 0x8000000000000000
        trap    "#NP at the delivery of #GP", DF, 0
        mov     [rax], al
        endtrap
        check   "the double fault has its own stack", [saved.frame], ist_stack_top - 48
        mov     byte [idt64 + 16 * GP + GATE_RIGHTS], INTERRUPT_GATE

        mov     byte [idt64 + 16 * UD + GATE_RIGHTS], NOT_PRESENT
        trap    "#NP at the delivery of #UD is no double fault", NP, UD * 8 + ERROR_IDT + ERROR_EXTERNAL
        ud2
        endtrap
        mov     byte [idt64 + 16 * UD + GATE_RIGHTS], INTERRUPT_GATE

        mov     byte [idt64 + 16 * PF + GATE_RIGHTS], NOT_PRESENT
        trap    "#NP at the delivery of #PF", DF, 0
        mov     [0x7FFFFFF0], al                ; beyond the page tables' first gigabyte
        endtrap
        mov     byte [idt64 + 16 * PF + GATE_RIGHTS], INTERRUPT_GATE

        trap    "#PF pushing the frame of #PF", DF, 0
        mov     rsp, 0x60000000
        at_fault
        mov     [0x7FFFFFF0], al
        endtrap
        mov     byte [idt64 + 16 * DF + GATE_IST], 0
        ret

iret_forms:
        ; To the same level IRETQ loads SS:RSP too.
        mov     rbx, rsp
        push    DATA
        push    rbx
        push    FLAG_CF | 2
        push    CODE64
        push    .back
        iretq
.back:  setc    al
        movzx   eax, al
        check   "IRETQ loads RFLAGS", rax, 1
        mov     rcx, rsp
        check   "IRETQ loads RSP", rcx, rbx

        ; IRETD pops 32-bit values, in 64-bit mode also ESP and SS.
        mov     rbx, rsp
        sub     rsp, 20
        mov     dword [rsp], .back32
        mov     dword [rsp + 4], CODE64
        mov     dword [rsp + 8], 2
        mov     [rsp + 12], ebx
        mov     dword [rsp + 16], DATA
        iretd
.back32:
        mov     rcx, rsp
        mov     rsp, rbx
        check   "IRETD in 64-bit mode pops ESP and SS", rcx, rbx

        trap    "IRETQ to a RIP that is not canonical", GP, 0
        push    DATA
        push    rbx
        push    2
        push    CODE64
        mov     rax, 0x8000000000000000
        push    rax
        at_fault
        iretq
        endtrap
        trap    "IRETQ to a null CS", GP, 0
        push    DATA
        push    rbx
        push    2
        push    0
        push    .back
        at_fault
        iretq
        endtrap
        trap    "IRETQ to a CS beyond the GDT", GP, 0xFFF8
        push    DATA
        push    rbx
        push    2
        push    0xFFF8
        push    .back
        at_fault
        iretq
        endtrap
        trap    "IRETQ to ring 3 with a null SS", GP, 0
        push    0
        push    rbx
        push    2
        push    USER64
        push    .back
        at_fault
        iretq
        endtrap
        trap    "IRETQ to ring 3 with the SS of ring 0", GP, DATA
        push    DATA
        push    rbx
        push    2
        push    USER64
        push    .back
        at_fault
        iretq
        endtrap
        trap    "IRETQ with NT in long mode", GP, 0
        pushfq
        or      dword [rsp], 1 << 14
        popfq
        push    DATA
        push    rbx
        push    2
        push    CODE64
        push    .back
        at_fault
        iretq
        endtrap
        pushfq
        and     dword [rsp], ~(1 << 14)
        popfq

        ; A null SS at CPL 0 is fine in 64-bit mode.
        mov     rbx, rsp
        push    0
        push    rbx
        push    2
        push    CODE64
        push    .null
        iretq
.null:  mov     eax, ss
        mov     ecx, DATA
        mov     ss, ecx
        check   "IRETQ to ring 0 with a null SS", rax, 0
        ret

        %include "end.inc"
