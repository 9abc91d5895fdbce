; Several processors. SDM volume 3A, "Multiple-Processor (MP) Initialization", "Issuing Interprocessor Interrupts",
; "Bus Locking", "Handling Self- and Cross-Modifying Code". The machine has four, with APIC IDs 0 to 3.
        %include "kernel.inc"

PROCESSORS      equ 4
STARTED         equ PROCESSORS - 1
TRAMPOLINE      equ 0x8000              ; where the others start, by a start-up IPI with vector 8
ROUNDS          equ 10000
APIC            equ 0xFEE00000
APIC_ID         equ APIC + 0x20
APIC_EOI        equ APIC + 0xB0
APIC_LDR        equ APIC + 0xD0
APIC_SVR        equ APIC + 0xF0
APIC_ICR        equ APIC + 0x300
APIC_ICR_HIGH   equ APIC + 0x310
ICR_LOGICAL     equ 0x800
ICR_ASSERT      equ 0x4000
ICR_INIT        equ 0x500
ICR_START_UP    equ 0x600
ICR_NMI         equ 0x400
ICR_SELF        equ 0x40000
ICR_ALL         equ 0x80000
ICR_OTHERS      equ 0xC0000
IPI_VECTOR      equ 0x40
NMI_VECTOR      equ 2
IA32_APIC_BASE  equ 0x1B
APIC_BASE_BSP   equ 0x100
MOV_EAX         equ 0xB8
RET_            equ 0xC3

        bits    32
main:
        mov     dword [APIC_SVR], 0x1FF
        mov     eax, ipi_handler
        mov     [idt32 + 8 * IPI_VECTOR], ax
        mov     ecx, nmi_handler
        mov     [idt32 + 8 * NMI_VECTOR], cx
        shr     eax, 16
        mov     [idt32 + 8 * IPI_VECTOR + 6], ax
        shr     ecx, 16
        mov     [idt32 + 8 * NMI_VECTOR + 6], cx
        call    start_others
        call    count_together
        call    interrupts
        call    modify_code
        call    restart_one
        ret

; Waits until a counter has a value; gives up after a long time. ZF says whether it has.
%macro wait_for_some 3                  ; address, value, rounds
        mov     ecx, %3
%%again:
        pause
        cmp     dword [%1], %2
        loopne  %%again
%endmacro
%macro wait_for 2
        wait_for_some %1, %2, 10000000
%endmacro

; ---- INIT and start-up IPIs ----

start_others:
        mov     esi, trampoline
        mov     edi, TRAMPOLINE
        mov     ecx, trampoline_end - trampoline
        rep     movsb
        mov     ecx, IA32_APIC_BASE
        rdmsr
        and     eax, APIC_BASE_BSP
        check   "the first processor is the bootstrap processor", eax, APIC_BASE_BSP
        mov     dword [APIC_ICR], ICR_OTHERS | ICR_ASSERT | ICR_INIT
        call    delay
        mov     dword [APIC_ICR], ICR_OTHERS | ICR_ASSERT | ICR_START_UP | (TRAMPOLINE >> 12)
        wait_for started, STARTED
        check   "INIT and a start-up IPI start the others", [started], STARTED
        mov     eax, [ids]
        check   "each at its page, with an APIC ID of its own", eax, 0b1110
        check   "in real-address mode", [modes], 0
        check   "CS has the vector in bits 15:8", [selectors], TRAMPOLINE >> 4
        check   "none is the bootstrap processor", [bootstraps], 0
        mov     dword [APIC_ICR], ICR_OTHERS | ICR_ASSERT | ICR_START_UP | (TRAMPOLINE >> 12)
        call    delay
        check   "a start-up IPI does nothing to a processor that runs", [started], STARTED
        ret

delay:  mov     ecx, 20000
.again: pause
        loop    .again
        ret

; What the others execute first; it is copied to TRAMPOLINE.
        align   4
        bits    16
trampoline:
        mov     ax, cs
        cli
        xor     bx, bx
        mov     ds, bx
        mov     ss, bx
        mov     sp, ax                  ; remembered while there is no stack
        o32 lgdt [TRAMPOLINE + .gdt - trampoline]
        mov     ebx, cr0
        mov     ecx, ebx
        and     ecx, CR0_PE
        or      ebx, CR0_PE
        mov     cr0, ebx
        jmp     dword CODE32:ap_start
        align   4
.gdt:   dw      gdt_end - gdt - 1
        dd      gdt
trampoline_end:

        bits    32
; EAX: CS in real-address mode, ECX: CR0.PE then.
ap_start:
        mov     dx, DATA
        mov     ds, dx
        mov     es, dx
        mov     ss, dx
        movzx   eax, ax
        lock or [selectors], eax
        lock or [modes], ecx
        mov     ecx, IA32_APIC_BASE
        rdmsr
        and     eax, APIC_BASE_BSP
        lock or [bootstraps], eax
        mov     ebx, [APIC_ID]
        shr     ebx, 24                 ; stays there
        mov     eax, ebx
        shl     eax, 12
        lea     esp, [eax + stacks]     ; from 1: the end of its own
        lidt    [idt32_register]
        mov     dword [APIC_SVR], 0x1FF
        bts     [ids], ebx
        lock inc dword [started]
; Does what `command` says, once each time it changes; EBP: the last one.
        mov     ebp, [command]
.serve: pause
        mov     eax, [command]
        cmp     eax, ebp
        je      .serve
        mov     ebp, eax
        call    [eax]
        lock inc dword [done]
        jmp     .serve

%macro order 1                          ; the address of a routine's address
        mov     dword [done], 0
        mov     dword [command], %1
%endmacro

; ---- LOCK ----

count_together:
        order   .routine
        call    .add
        wait_for done, STARTED
        check   "LOCK XADD and LOCK INC lose nothing", [counter], 2 * ROUNDS * PROCESSORS
        check   "CMPXCHG with LOCK as a spin lock keeps others out", [guarded], ROUNDS * PROCESSORS
        ret
.routine: dd    .add
.add:   mov     ecx, ROUNDS
.again: mov     eax, 1
        lock xadd [counter], eax
        lock inc dword [counter]
.enter: xor     eax, eax
        mov     edx, 1
        lock cmpxchg [spin_lock], edx
        je      .inside
        pause
        jmp     .enter
.inside:
        mov     eax, [guarded]
        inc     eax
        mov     [guarded], eax
        mov     dword [spin_lock], 0
        loop    .again
        ret

; ---- Interprocessor interrupts ----

; Counts in a word for each processor, by its APIC ID.
ipi_handler:
        push    eax
        mov     eax, [APIC_ID]
        shr     eax, 24
        lock inc dword [ipis + eax * 4]
        mov     dword [APIC_EOI], 0
        pop     eax
        iretd
nmi_handler:
        push    eax
        mov     eax, [APIC_ID]
        shr     eax, 24
        lock inc dword [nmis + eax * 4]
        pop     eax
        iretd

; Enables interrupts and halts until an IPI has come.
halt_until_interrupted:
.again: cli
        cmp     dword [ipis + ebx * 4], 0
        jne     .end
        sti
        hlt
        jmp     .again
.end:   ret
halt_for_nmi:
        cmp     dword [nmis + ebx * 4], 0
        jne     .end
        hlt
        jmp     halt_for_nmi
.end:   ret
name_cluster:                           ; logical APIC ID 2 to the power of the ID
        mov     ecx, ebx
        mov     eax, 0x01000000
        shl     eax, cl
        mov     [APIC_LDR], eax
        ret
enable: sti
        ret
disable:
        cli
        ret
answer:                                 ; an IPI back to the bootstrap processor
        mov     dword [APIC_ICR_HIGH], 0
        mov     dword [APIC_ICR], ICR_ASSERT | IPI_VECTOR
        ret

%macro clear_counts 0
        xor     eax, eax
        mov     edi, ipis
        mov     ecx, 2 * PROCESSORS
        rep     stosd
%endmacro
; All processors' counts as digits of a hexadecimal number, the bootstrap processor's last.
%macro counts 1
        xor     eax, eax
%assign %%i PROCESSORS - 1
%rep PROCESSORS
        shl     eax, 4
        add     eax, [%1 + 4 * %%i]
%assign %%i %%i - 1
%endrep
%endmacro

; Waits until the counts are as expected.
%macro wait_counts 2                    ; ipis or nmis, expected
        mov     ecx, 10000000
%%again:
        pause
        counts  %1
        cmp     eax, %2
        loopne  %%again
%endmacro

interrupts:
        clear_counts
        order   .halt
        call    delay
        mov     dword [APIC_ICR_HIGH], 2 << 24
        mov     dword [APIC_ICR], ICR_ASSERT | IPI_VECTOR
        wait_for done, 1
        counts  ipis
        check   "an IPI to a physical destination wakes that processor", eax, 0x0100
        mov     dword [APIC_ICR], ICR_OTHERS | ICR_ASSERT | IPI_VECTOR
        wait_for done, STARTED
        order   .enable
        wait_for done, STARTED
        wait_counts ipis, 0x1210
        check   "one to all others reaches them but not the sender", eax, 0x1210
        clear_counts
        sti
        mov     dword [APIC_ICR], ICR_ALL | ICR_ASSERT | IPI_VECTOR
        wait_counts ipis, 0x1111
        check   "one to all reaches the sender, too", eax, 0x1111
        mov     dword [APIC_ICR], ICR_SELF | ICR_ASSERT | IPI_VECTOR
        wait_counts ipis, 0x1112
        check   "one to itself", eax, 0x1112
        clear_counts
        order   .name
        xor     ebx, ebx
        call    name_cluster
        wait_for done, STARTED
        mov     dword [APIC_ICR_HIGH], 0b1010 << 24
        mov     dword [APIC_ICR], ICR_LOGICAL | ICR_ASSERT | IPI_VECTOR
        wait_counts ipis, 0x1010
        call    delay
        counts  ipis
        check   "flat logical destinations are a mask", eax, 0x1010
        clear_counts
        mov     dword [APIC_ICR_HIGH], 0xFF << 24
        mov     dword [APIC_ICR], ICR_ASSERT | IPI_VECTOR
        wait_counts ipis, 0x1111
        check   "physical destination FFh is everybody", eax, 0x1111
        clear_counts
        order   .answer
        wait_for ipis, 1
        wait_for done, STARTED
        call    delay
        mov     eax, [ipis]             ; what is pending already is not counted twice
        test    eax, eax
        setnz   al
        movzx   eax, al
        check   "the others' IPIs reach the bootstrap processor", eax, 1
        cli
        order   .disable
        wait_for done, STARTED
        clear_counts
        mov     dword [APIC_ICR], ICR_OTHERS | ICR_ASSERT | IPI_VECTOR
        call    delay
        counts  ipis
        check   "IF = 0 keeps IPIs pending", eax, 0
        order   .enable
        wait_counts ipis, 0x1110
        check   "until IF = 1", eax, 0x1110
        wait_for done, STARTED
        order   .disable
        wait_for done, STARTED
        clear_counts
        order   .halt_for_nmi
; An NMI may come before HLT: it is repeated.
.again: call    delay
        mov     dword [APIC_ICR], ICR_OTHERS | ICR_ASSERT | ICR_NMI
        wait_for_some done, STARTED, 100000
        jne     .again
        check   "NMIs wake processors", [done], STARTED
        ret
.halt:  dd      halt_until_interrupted
.enable: dd     enable
.disable: dd    disable
.name:  dd      name_cluster
.answer: dd     answer
.halt_for_nmi: dd halt_for_nmi

; ---- Cross-modifying code ----

modify_code:
        mov     byte [CODE_PAGE], MOV_EAX
        mov     dword [CODE_PAGE + 1], 1
        mov     byte [CODE_PAGE + 5], RET_
        order   .routine
        wait_for done, STARTED
        check   "others execute what one has written", [results], STARTED
        mov     dword [results], 0
        mov     dword [CODE_PAGE + 1], 100
        order   .again
        wait_for done, STARTED
        check   "and what it has changed, behind a serializing instruction", [results], 100 * STARTED
        ret
.routine: dd    .execute
.again: dd      .execute
.execute:
        push    ebx
        xor     eax, eax
        cpuid
        mov     ecx, 30000              ; often enough to be compiled
.loop:  mov     eax, CODE_PAGE
        call    eax
        loop    .loop
        lock add [results], eax
        pop     ebx
        ret

; ---- INIT to a processor that runs ----

restart_one:
        mov     dword [APIC_ICR_HIGH], 3 << 24
        mov     dword [APIC_ICR], ICR_ASSERT | ICR_INIT
        call    delay
        order   .nothing
        wait_for done, STARTED - 1
        call    delay
        check   "INIT stops a processor", [done], STARTED - 1
        mov     dword [APIC_ICR_HIGH], 3 << 24
        mov     dword [APIC_ICR], ICR_ASSERT | ICR_START_UP | (TRAMPOLINE >> 12)
        wait_for started, STARTED + 1
        check   "a start-up IPI starts it again", [started], STARTED + 1
        order   .nothing2
        wait_for done, STARTED
        check   "as one of them", [done], STARTED
        ret
.nothing: dd    .end
.nothing2: dd   .end
.end:   ret

        section .data
        align   4
started:        dd 0
ids:            dd 0
modes:          dd 0
selectors:      dd 0
bootstraps:     dd 0
command:        dd 0
done:           dd 0
counter:        dd 0
guarded:        dd 0
spin_lock:      dd 0
results:        dd 0
ipis:           times PROCESSORS dd 0
nmis:           times PROCESSORS dd 0
        section .bss
        alignb  4096
stacks:         resb 4096 * PROCESSORS
CODE_PAGE       equ 0x00800000
        section .text

        %include "end.inc"
