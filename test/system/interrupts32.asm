; External interrupts: 8259, 8254, local APIC timer, RFLAGS.IF, STI and MOV SS shadows, HLT.
; SDM volume 3A, "Advanced Programmable Interrupt Controller"; volume 2, STI, HLT, MOV; 8259A and 8254 data sheets.
        %include "kernel.inc"

PIC1            equ 0x20
PIC2            equ 0xA0
PIC_VECTOR      equ 0x20
TIMER_VECTOR    equ PIC_VECTOR + 0      ; the 8254's channel 0 is IRQ 0
PIT_CHANNEL_0   equ 0x40
PIT_MODE        equ 0x43
APIC            equ 0xFEE00000
APIC_EOI        equ APIC + 0xB0
APIC_SPURIOUS   equ APIC + 0xF0
APIC_TPR        equ APIC + 0x80
APIC_LVT_TIMER  equ APIC + 0x320
APIC_INITIAL    equ APIC + 0x380
APIC_CURRENT    equ APIC + 0x390
APIC_DIVIDE     equ APIC + 0x3E0
APIC_IRR        equ APIC + 0x200
APIC_ISR        equ APIC + 0x100
APIC_VECTOR     equ 0x51
SPURIOUS_VECTOR equ 0xFF

        bits    32
main:
        call    set_handlers
        call    set_up_pics
        call    pit
        call    halt
        call    shadows
        call    apic_timer
        ret

; %1: vector, %2: address.
%macro set_handler 2
        mov     eax, %2
        mov     [idt32 + 8 * %1], ax
        shr     eax, 16
        mov     [idt32 + 8 * %1 + 6], ax
%endmacro

set_handlers:
        set_handler TIMER_VECTOR, timer_handler
        set_handler APIC_VECTOR, apic_handler
        ret

timer_handler:
        push    eax
        inc     dword [timer_count]
        mov     eax, [esp + 4]
        mov     [timer_eip], eax
        mov     al, 0x0B                ; read the in-service register
        out     PIC1, al
        in      al, PIC1
        mov     [timer_isr], al
        mov     al, 0x20                ; end of interrupt
        out     PIC1, al
        pop     eax
        iretd

apic_handler:
        inc     dword [apic_count]
        push    eax
        mov     eax, [APIC_ISR + 0x20]  ; vectors 40h…5Fh
        mov     [apic_isr], eax
        mov     dword [APIC_EOI], 0
        pop     eax
        iretd

        section .data
        align   4
timer_count:    dd      0
timer_eip:      dd      0
timer_isr:      dd      0
apic_count:     dd      0
apic_isr:       dd      0
        section .text

set_up_pics:
        mov     al, 0x11                ; ICW1: edge-triggered, cascade, ICW4 follows
        out     PIC1, al
        out     PIC2, al
        mov     al, PIC_VECTOR
        out     PIC1 + 1, al
        mov     al, PIC_VECTOR + 8
        out     PIC2 + 1, al
        mov     al, 4                   ; the second is at IRQ 2
        out     PIC1 + 1, al
        mov     al, 2
        out     PIC2 + 1, al
        mov     al, 1                   ; 8086 mode
        out     PIC1 + 1, al
        out     PIC2 + 1, al
        mov     al, 0xFF
        out     PIC2 + 1, al
        mov     al, 0xFE                ; IRQ 0 only
        out     PIC1 + 1, al
        in      al, PIC1 + 1
        movzx   eax, al
        check   "the mask can be read back", eax, 0xFE
        ret

; Channel 0 in mode %1 with the count %2.
%macro start_pit 2
        mov     al, 0x30 | %1 << 1
        out     PIT_MODE, al
        mov     al, (%2) & 0xFF
        out     PIT_CHANNEL_0, al
        mov     al, (%2) >> 8
        out     PIT_CHANNEL_0, al
%endmacro

; Waits until dword [%1] is at least %2, with a limit.
%macro await 2
        mov     ecx, 50000000
%%wait: cmp     dword [%1], %2
        jae     %%end
        dec     ecx
        jnz     %%wait
%%end:
%endmacro

pit:
        start_pit 2, 2000               ; rate generator: 1.19318 MHz / 2000
        sti
        await   timer_count, 5
        cli
        mov     eax, [timer_count]
        cmp     eax, 5
        setae   al
        movzx   eax, al
        check   "8254 mode 2 interrupts again and again", eax, 1
        movzx   eax, byte [timer_isr]
        check   "IRQ 0 is in service in its handler", eax, 1

        ; With IF = 0 the request waits in the 8259.
        start_pit 0, 100                ; one-shot
        mov     ecx, 100000
.wait:  mov     al, 0x0A                ; read the interrupt request register
        out     PIC1, al
        in      al, PIC1
        test    al, 1
        jnz     .pending
        loop    .wait
.pending:
        and     eax, 1
        check   "with IF = 0 the request is pending", eax, 1
        mov     dword [timer_count], 0
        sti
        nop
        nop
        cli
        check   "and delivered after STI", [timer_count], 1
        ; Masked in the 8259.
        mov     al, 0xFF
        out     PIC1 + 1, al
        start_pit 0, 100
        mov     dword [timer_count], 0
        sti
        mov     ecx, 100000
.spin:  loop    .spin
        cli
        check   "a masked request is not delivered", [timer_count], 0
        mov     al, 0xFE
        out     PIC1 + 1, al
        sti
        nop
        nop
        cli
        check   "it is when the mask goes", [timer_count], 1
        ; Channel 0 counts down.
        start_pit 0, 0xFFFF
        mov     al, 0                   ; latch
        out     PIT_MODE, al
        in      al, PIT_CHANNEL_0
        mov     bl, al
        in      al, PIT_CHANNEL_0
        mov     bh, al
        mov     ecx, 10000
.count: loop    .count
        mov     al, 0
        out     PIT_MODE, al
        in      al, PIT_CHANNEL_0
        mov     dl, al
        in      al, PIT_CHANNEL_0
        mov     dh, al
        cmp     dx, bx
        setb    al
        movzx   eax, al
        check   "the counter counts down", eax, 1
        ret

halt:
        mov     dword [timer_count], 0
        start_pit 0, 1000
        sti
        hlt
.after: cli
        check   "HLT waits for an interrupt", [timer_count], 1
        check   "the saved address is behind HLT", [timer_eip], .after
        ret

; The request is pending, and the instruction after STI or MOV SS still comes first.
shadows:
        call    make_pending
        mov     dword [timer_eip], 0
        sti
        nop
.after_sti:
        nop
        cli
        check   "STI: one more instruction", [timer_eip], .after_sti
        call    make_pending
        mov     dword [timer_count], 0
        sti
        cli
        check   "STI, CLI: no interrupt between", [timer_count], 0
        ; MOV SS blocks for one instruction as well; here IF is 1 already for POPF, which has no shadow.
        mov     eax, ss
        push    2 | FLAG_IF
        popfd
.after_popf:
        nop
        cli
        check   "POPF: at once", [timer_eip], .after_popf
        call    make_pending
        mov     eax, ss
        sti
        mov     ss, eax                 ; in the shadow of STI
        nop
.after_ss:
        nop
        cli
        check   "MOV SS: one more instruction", [timer_eip], .after_ss
        ; A second STI does not begin another shadow.
        call    make_pending
        sti
        sti
.after_second:
        nop
        cli
        check   "STI twice: only the first has a shadow", [timer_eip], .after_second
        call    make_pending
        sti
        hlt
.after_hlt:
        cli
        check   "STI, HLT: a pending interrupt wakes it", [timer_eip], .after_hlt
        ret

; Leaves IRQ 0 requested, with IF = 0.
make_pending:
        start_pit 0, 100
        mov     ecx, 100000
.wait:  mov     al, 0x0A
        out     PIC1, al
        in      al, PIC1
        test    al, 1
        jnz     .end
        loop    .wait
.end:   ret

apic_timer:
        mov     al, 0xFF
        out     PIC1 + 1, al
        mov     eax, 1
        cpuid
        shr     edx, 9
        and     edx, 1
        check   "CPUID says that there is a local APIC", edx, 1
        mov     dword [APIC_SPURIOUS], 0x100 | SPURIOUS_VECTOR
        mov     dword [APIC_TPR], 0
        mov     dword [APIC_DIVIDE], 0x3        ; by 16
        mov     dword [APIC_LVT_TIMER], APIC_VECTOR
        mov     dword [APIC_INITIAL], 10000
        mov     eax, [APIC_CURRENT]
        cmp     eax, 10000
        setbe   al
        movzx   eax, al
        check   "the current count begins at the initial one", eax, 1
        sti
        await   apic_count, 1
        mov     ecx, 1000000
.spin:  loop    .spin
        cli
        check   "one-shot: one interrupt", [apic_count], 1
        mov     eax, [apic_isr]
        check   "its vector is in service", eax, 1 << (APIC_VECTOR & 31)
        check   "the count stays 0", [APIC_CURRENT], 0
        mov     dword [apic_count], 0
        mov     dword [APIC_LVT_TIMER], APIC_VECTOR | 1 << 17
        mov     dword [APIC_INITIAL], 10000
        sti
        await   apic_count, 3
        cli
        mov     eax, [apic_count]
        cmp     eax, 3
        setae   al
        movzx   eax, al
        check   "periodic: again and again", eax, 1
        mov     dword [APIC_INITIAL], 0         ; stops it
        sti
        nop
        nop
        cli
        ; A task priority at the vector's class holds it back.
        mov     dword [apic_count], 0
        mov     dword [APIC_TPR], APIC_VECTOR & 0xF0
        mov     dword [APIC_LVT_TIMER], APIC_VECTOR
        mov     dword [APIC_INITIAL], 1000
        sti
        mov     ecx, 1000000
.spin2: loop    .spin2
        cli
        check   "the task priority holds an interrupt back", [apic_count], 0
        mov     eax, [APIC_IRR + 0x20]
        check   "it is requested", eax, 1 << (APIC_VECTOR & 31)
        mov     dword [APIC_TPR], 0
        sti
        nop
        nop
        cli
        check   "and comes when the priority allows", [apic_count], 1
        mov     dword [apic_count], 0
        mov     dword [APIC_LVT_TIMER], APIC_VECTOR | 1 << 16
        mov     dword [APIC_INITIAL], 1000
        sti
        mov     ecx, 1000000
.spin3: loop    .spin3
        cli
        check   "a masked entry does not interrupt", [apic_count], 0
        ret

        %include "end.inc"
