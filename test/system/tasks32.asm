; Hardware task switches. SDM volume 3A, "Task Management".
        %include "kernel.inc"

TASK            equ SPARE               ; TSS of the other task
TASK_GATE       equ SPARE + 8
TASK16          equ SPARE + 16
OTHER_LDT       equ SPARE + 24
CR0_TS          equ 1 << 3
FLAG_NT         equ 1 << 14
BUSY            equ 2

; Offsets in a 32-bit TSS.
T_LINK          equ 0
T_CR3           equ 28
T_EIP           equ 32
T_EFLAGS        equ 36
T_EAX           equ 40
T_ECX           equ 44
T_ESP           equ 56
T_ES            equ 72
T_CS            equ 76
T_SS            equ 80
T_DS            equ 84
T_FS            equ 88
T_GS            equ 92
T_LDT           equ 96
T_TRAP          equ 100

        bits    32
main:
        call    load_tss32
        mov     edx, other
        mov     ecx, gdt + TASK
        mov     eax, 0x67
        call    make_descriptor
        mov     edx, other16
        mov     ecx, gdt + TASK16
        mov     eax, 0x2B
        call    make_descriptor
        mov     byte [gdt + TASK16 + 5], 0x81
        mov     word [gdt + TASK_GATE + 2], TASK
        mov     byte [gdt + TASK_GATE + 5], 0x85
        call    calls
        call    gates
        call    narrow
        call    refusals
        call    faults_in_the_new_task
        ret

; EAX: limit, EDX: base, ECX: where.
make_descriptor:
        mov     [ecx], ax
        mov     [ecx + 2], dx
        shr     edx, 16
        mov     [ecx + 4], dl
        mov     byte [ecx + 5], 0x89
        mov     byte [ecx + 6], 0
        mov     [ecx + 7], dh
        ret

; The other task begins at EAX.
prepare:
        mov     dword [other + T_LINK], 0
        mov     [other + T_EIP], eax
        mov     dword [other + T_EFLAGS], 2
        mov     dword [other + T_EAX], 0x11111111
        mov     dword [other + T_ECX], 0x22222222
        mov     dword [other + T_ESP], ist_stack_top
        mov     dword [other + T_ES], DATA
        mov     dword [other + T_CS], CODE32
        mov     dword [other + T_SS], DATA
        mov     dword [other + T_DS], DATA
        mov     dword [other + T_FS], DATA
        mov     dword [other + T_GS], 0
        mov     dword [other + T_LDT], 0
        mov     dword [other + T_TRAP], 0
        mov     byte [gdt + TASK + 5], 0x89
        ret

calls:
        mov     eax, .task
        call    prepare
        mov     dword [seen.eax], 0
        mov     eax, 0x33333333
        mov     ecx, 0x44444444
        stc
        call    TASK:0
.back:  mov     [seen.returned_eax], eax
        check   "CALL to a TSS: the new task's EAX", [seen.eax], 0x11111111
        check   "its ECX", [seen.ecx], 0x22222222
        check   "its TR", [seen.tr], TASK
        check   "its ESP", [seen.esp], ist_stack_top
        check   "its FS", [seen.fs], DATA
        check   "its NT is set", [seen.nt], FLAG_NT
        check   "its link is the old task", [other + T_LINK], TSS
        check   "CR0.TS is set", [seen.ts], CR0_TS
        check   "the old task stays busy", [seen.old_busy], BUSY
        check   "the new task is busy", [seen.new_busy], BUSY
        check   "the old task's EIP", [tss + T_EIP], .back
        check   "the old task's EAX", [tss + T_EAX], 0x33333333
        mov     eax, [tss + T_EFLAGS]
        and     eax, FLAG_CF
        check   "the old task's flags", eax, FLAG_CF
        movzx   eax, word [tss + T_DS]
        check   "the old task's DS", eax, DATA
        check   "IRET restores EAX", [seen.returned_eax], 0x33333333
        str     eax
        check   "IRET restores TR", eax, TSS
        movzx   eax, byte [gdt + TASK + 5]
        check   "IRET makes the task available", eax, 0x89
        mov     eax, [other + T_EFLAGS]
        and     eax, FLAG_NT
        check   "IRET clears NT in the saved flags", eax, 0
        check   "the next CALL goes on behind IRET", [other + T_EIP], .task_end

        ; JMP does not nest.
        mov     eax, .jumped
        call    prepare
        jmp     TASK:0
.jumped_back:
        check   "JMP to a TSS: NT stays clear", [seen.nt], 0
        check   "JMP makes the old task available", [seen.old_busy], 0
        clts
        ret
.task:  call    look
        iretd
.task_end:
        ud2
.jumped: call   look
        mov     dword [tss + T_EIP], .jumped_back
        jmp     TSS:0

; Writes down what the task sees.
look:
        mov     [seen.eax], eax
        mov     [seen.ecx], ecx
        lea     eax, [esp + 4]
        mov     [seen.esp], eax
        xor     eax, eax
        str     ax
        mov     [seen.tr], eax
        mov     eax, fs
        mov     [seen.fs], eax
        pushfd
        pop     eax
        and     eax, FLAG_NT
        mov     [seen.nt], eax
        mov     eax, cr0
        and     eax, CR0_TS
        mov     [seen.ts], eax
        movzx   eax, byte [gdt_tss + 5]
        and     eax, BUSY
        mov     [seen.old_busy], eax
        movzx   eax, byte [gdt + TASK + 5]
        and     eax, BUSY
        mov     [seen.new_busy], eax
        ret

gates:
        mov     eax, .task
        call    prepare
        mov     dword [seen.tr], 0
        call    TASK_GATE:0
        check   "CALL through a task gate", [seen.tr], TASK

        ; INT n through a task gate in the IDT.
        mov     eax, .task
        call    prepare
        mov     dword [seen.tr], 0
        mov     dword [idt32 + 8 * 0x40], TASK << 16
        mov     dword [idt32 + 8 * 0x40 + 4], 0x8500
        int     0x40
.after_int:
        check   "INT through a task gate", [seen.tr], TASK
        check   "saves the address behind INT", [tss + T_EIP], .after_int

        ; An exception with an error code.
        mov     eax, .fault_task
        call    prepare
        push    dword [idt32 + 8 * NP]
        push    dword [idt32 + 8 * NP + 4]
        mov     dword [idt32 + 8 * NP], TASK << 16
        mov     dword [idt32 + 8 * NP + 4], 0x8500
        mov     eax, gdt + SPARE + 32
        mov     dword [eax], 0x0000FFFF
        mov     dword [eax + 4], 0x00CF1300     ; data, not present
        mov     eax, SPARE + 32
.fault: mov     fs, eax
        check   "exception through a task gate: the error code on the new stack", [seen.error], SPARE + 32
        check   "saves the address of the instruction", [seen.eip], .fault
        pop     dword [idt32 + 8 * NP + 4]
        pop     dword [idt32 + 8 * NP]
        clts
        ret
.task:  call    look
        iretd
.fault_task:
        pop     dword [seen.error]
        mov     eax, [tss + T_EIP]
        mov     [seen.eip], eax
        add     dword [tss + T_EIP], 2
        iretd

narrow:
        mov     word [other16 + 0x0E], .task - CODE16_BASE
        mov     word [other16 + 0x10], 2
        mov     word [other16 + 0x12], 0x5555
        mov     word [other16 + 0x1A], 0x7000
        mov     word [other16 + 0x22], DATA
        mov     word [other16 + 0x24], CODE16
        mov     word [other16 + 0x26], DATA16
        mov     word [other16 + 0x28], DATA
        mov     word [other16 + 0x2A], 0
        mov     eax, 0x66666666
        call    TASK16:0
        check   "16-bit TSS: AX", [seen.eax], 0x5555
        check   "16-bit TSS: the link", [other16], TSS
        clts
        ret
        bits    16
.task:  and     eax, 0xFFFF
        mov     [dword seen.eax], eax
        iret
        bits    32
CODE16_BASE     equ LOAD_ADDRESS

refusals:
        mov     eax, calls.task
        call    prepare
        mov     byte [gdt + TASK + 5], 0x8B
        trap    "CALL to a busy TSS", GP, TASK
        call    TASK:0
        endtrap
        mov     byte [gdt + TASK + 5], 0x09
        trap    "CALL to a TSS that is not present", NP, TASK
        call    TASK:0
        endtrap
        mov     byte [gdt + TASK + 5], 0x89
        mov     byte [gdt + TASK], 0x66
        trap    "TSS with a limit of 66h", TS, TASK
        call    TASK:0
        endtrap
        mov     byte [gdt + TASK], 0x67
        mov     byte [gdt + TASK_GATE + 5], 0x05
        trap    "task gate that is not present", NP, TASK_GATE
        call    TASK_GATE:0
        endtrap
        mov     byte [gdt + TASK_GATE + 5], 0x85
        mov     word [gdt + TASK_GATE + 2], DATA
        trap    "task gate to a data segment", GP, DATA
        call    TASK_GATE:0
        endtrap
        mov     word [gdt + TASK_GATE + 2], TASK
        mov     dword [tss + T_LINK], TASK
        trap    "IRET with NT to a task that is not busy", TS, TASK
        pushfd
        or      dword [esp], FLAG_NT
        popfd
        at_fault
        iretd
        endtrap
        push    2
        popfd
        ret

; The switch is complete when the segments are checked: the exception is the new task's. SS and CS go first, so that its
; handler has a stack.
faults_in_the_new_task:
%macro expect_fault 5                         ; name, vector, error code, offset in the TSS and value there
        mov     eax, calls.task
        call    prepare
        mov     dword [other + %4], %5
        trap    %1, %2, %3
        jmp     TASK:0
        endtrap_at calls.task
        call    back_to_first_task
%endmacro
        mov     dword [gdt + SPARE + 40], 0x0000FFFF
        mov     dword [gdt + SPARE + 44], 0x00CF9900
        expect_fault "new task with code that cannot be read in DS", TS, SPARE + 40, T_DS, SPARE + 40
        expect_fault "new task with a TSS in ES", TS, TSS, T_ES, TSS
        expect_fault "new task with data in FS that is not present", NP, SPARE + 32, T_FS, SPARE + 32
        expect_fault "new task with GS beyond the GDT", TS, 0x4000, T_GS, 0x4000
        ret

; After an exception in the other task: TR is the first task's again.
back_to_first_task:
        mov     byte [gdt_tss + 5], 0x89
        mov     eax, TSS
        ltr     ax
        clts
        ret

        section .data
        align   16
seen:
.eax:   dd      0
.ecx:   dd      0
.esp:   dd      0
.tr:    dd      0
.fs:    dd      0
.nt:    dd      0
.ts:    dd      0
.old_busy: dd   0
.new_busy: dd   0
.error: dd      0
.eip:   dd      0
.returned_eax: dd 0
        section .bss
other:  resb    128
other16: resb   64
        section .text

        %include "end.inc"
