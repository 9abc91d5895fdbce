; HPET, real-time clock, ACPI's power management timer, keyboard controller.
; IA-PC HPET specification 1.0a; MC146818A data sheet; ACPI specification, "Power Management Timer"; IBM PC AT
; Technical Reference, "Keyboard Controller".
        %include "kernel.inc"
        %include "interrupts.inc"

HPET            equ 0xFED00000
PERIOD          equ HPET + 4            ; femtoseconds
CONFIGURATION   equ HPET + 0x10
STATUS          equ HPET + 0x20
COUNTER         equ HPET + 0xF0
TIMER           equ HPET + 0x100        ; of timer 0
COMPARATOR      equ HPET + 0x108
NEXT_TIMER      equ 0x20
ENABLE          equ 1
LEGACY          equ 2
T_LEVEL         equ 1 << 1
T_ENABLE        equ 1 << 2
T_PERIODIC      equ 1 << 3
T_SET           equ 1 << 6
T_32BIT         equ 1 << 8
HPET_INPUT      equ 20                  ; of the I/O APIC
T_ROUTE         equ HPET_INPUT << 9
INTERVAL        equ 5000                ; ticks

RTC_INDEX       equ 0x70
RTC_DATA        equ 0x71
RTC_A           equ 10
RTC_B           equ 11
RTC_C           equ 12
RTC_D           equ 13
UIP             equ 0x80
B_SET           equ 0x80
B_PERIODIC      equ 0x40
B_ALARM         equ 0x20
B_UPDATE        equ 0x10
B_24HOURS       equ 0x02
C_REQUEST       equ 0x80

PM_TIMER        equ 0x608
PM_10_MS        equ 35795

KBC_DATA        equ 0x60
KBC_STATUS      equ 0x64

HPET_VECTOR     equ 0x51
TIMER_VECTOR    equ 0x52
RTC_VECTOR      equ 0x53

        bits    32
main:
        mov     dword [APIC_SPURIOUS], 0x100 | SPURIOUS_VECTOR
        set_handler HPET_VECTOR, hpet_count_handler
        set_handler TIMER_VECTOR, timer_count_handler
        set_handler RTC_VECTOR, rtc_handler
        set_handler SPURIOUS_VECTOR, ignore
        call    counter
        call    one_shot
        call    periodic
        call    level
        call    legacy
        call    power_management
        call    keyboard
        call    clock
        ret

        counting_handler hpet_count
        counting_handler timer_count
rtc_handler:
        push    eax
        inc     dword [rtc_count]
        cmp     dword [rtc_reads], 0
        je      .end
        mov     al, RTC_C
        out     RTC_INDEX, al
        in      al, RTC_DATA
        or      [rtc_flags], al
.end:   mov     dword [APIC_EOI], 0
        pop     eax
ignore: iretd

        section .data
        align   4
hpet_count:     dd      0
timer_count:    dd      0
rtc_count:      dd      0
rtc_reads:      dd      1
rtc_flags:      dd      0
        section .text

; EAX = 1 if the condition %1 holds.
%macro flag 1
        set%1   al
        movzx   eax, al
%endmacro

; Lets interrupts in for %1 ticks of the HPET, which counts.
%macro pass 1
        mov     ebx, [COUNTER]
        sti
%%wait: mov     eax, [COUNTER]
        sub     eax, ebx
        cmp     eax, %1
        jb      %%wait
        cli
%endmacro

; ---- HPET ----

counter:
        mov     dword [CONFIGURATION], 0
        mov     eax, [PERIOD]
        cmp     eax, 100000000
        flag    be
        check   "HPET: a tick is at most 100 ns", eax, 1
        mov     eax, [HPET]
        shr     eax, 8
        and     eax, 0x1F
        cmp     eax, 2
        flag    ae
        check   "HPET: at least three timers", eax, 1
        mov     eax, [COUNTER]
        mov     ecx, 10000
.halted: loop   .halted
        sub     eax, [COUNTER]
        check   "HPET: the counter stands still at first", eax, 0
        mov     dword [COUNTER], 0xFFFFFFFF
        mov     dword [COUNTER + 4], 0x5
        mov     eax, [COUNTER]
        check   "HPET: a counter that stands still can be written", eax, 0xFFFFFFFF
        mov     dword [CONFIGURATION], ENABLE
        mov     ecx, 10000
.again: loop    .again
        mov     eax, [COUNTER + 4]
        check   "HPET: it counts in 64 bits", eax, 6
        mov     dword [CONFIGURATION], 0
        mov     dword [COUNTER], 0
        mov     dword [COUNTER + 4], 0
        mov     eax, [TIMER + 4]
        shr     eax, HPET_INPUT
        and     eax, 1
        check   "HPET: timer 0 can be routed to input 20", eax, 1
        mov     eax, [TIMER]
        and     eax, 0x30
        check   "HPET: it is periodic and has 64 bits", eax, 0x30
        ret

one_shot:
        route   HPET_INPUT, HPET_VECTOR, 0
        mov     dword [hpet_count], 0
        mov     dword [TIMER], T_ENABLE | T_ROUTE
        mov     dword [COMPARATOR], INTERVAL
        mov     dword [COMPARATOR + 4], 0
        mov     dword [CONFIGURATION], ENABLE
        await   hpet_count, 1
        pass    10 * INTERVAL
        check   "HPET: one-shot, one interrupt", [hpet_count], 1
        check   "HPET: the comparator stays", [COMPARATOR], INTERVAL
        mov     eax, [STATUS]
        check   "HPET: an edge leaves no status", eax, 0
        mov     dword [CONFIGURATION], 0
        mov     dword [COUNTER], 0
        mov     dword [TIMER], T_ROUTE          ; not enabled
        mov     dword [CONFIGURATION], ENABLE
        pass    2 * INTERVAL
        check   "HPET: a timer that is not enabled does not interrupt", [hpet_count], 1
        mov     dword [CONFIGURATION], 0
        mov     dword [COUNTER], 0xFFFFFFF0
        mov     dword [COMPARATOR], INTERVAL
        mov     dword [TIMER], T_ENABLE | T_ROUTE | T_32BIT
        mov     dword [COMPARATOR], INTERVAL
        mov     dword [CONFIGURATION], ENABLE
        await   hpet_count, 2
        check   "HPET: with 32 bits the upper half of the counter does not matter", [hpet_count], 2
        mov     dword [CONFIGURATION], 0
        mov     dword [TIMER], 0
        ret

periodic:
        mov     dword [hpet_count], 0
        mov     dword [CONFIGURATION], 0
        mov     dword [COUNTER], 0
        mov     dword [COUNTER + 4], 0
        mov     dword [TIMER], T_ENABLE | T_ROUTE | T_PERIODIC | T_SET | T_32BIT
        mov     dword [COMPARATOR], INTERVAL    ; the first match
        mov     dword [COMPARATOR], INTERVAL    ; the period
        mov     eax, [TIMER]
        and     eax, T_SET
        check   "HPET: value-set clears itself", eax, 0
        mov     dword [CONFIGURATION], ENABLE
        await   hpet_count, 5
        mov     dword [CONFIGURATION], 0
        mov     eax, [hpet_count]
        cmp     eax, 5
        flag    ae
        check   "HPET: periodic, again and again", eax, 1
        mov     eax, [COMPARATOR]
        xor     edx, edx
        mov     ecx, INTERVAL
        div     ecx
        check   "HPET: the comparator goes on by whole periods", edx, 0
        mov     dword [TIMER], 0
        ret

level:
        mov     dword [hpet_count], 0
        mov     dword [COUNTER], 0
        mov     dword [COUNTER + 4], 0
        mov     dword [TIMER], T_ENABLE | T_ROUTE | T_LEVEL
        mov     dword [COMPARATOR], INTERVAL
        mov     dword [COMPARATOR + 4], 0
        mov     dword [CONFIGURATION], ENABLE
        mov     ebx, [COUNTER]
.wait:  mov     eax, [COUNTER]
        sub     eax, ebx
        cmp     eax, 2 * INTERVAL
        jb      .wait
        mov     eax, [STATUS]
        and     eax, 1
        check   "HPET: a level-triggered timer sets its status", eax, 1
        mov     dword [STATUS], 1
        mov     eax, [STATUS]
        and     eax, 1
        check   "HPET: a one clears it", eax, 0
        mov     dword [CONFIGURATION], 0
        mov     dword [TIMER], 0
        let_in
        route   HPET_INPUT, MASKED, 0
        ret

; Timers 0 and 1 in place of the 8254 (input 2) and the real-time clock (input 8).
legacy:
        mov     dword [hpet_count], 0
        mov     dword [timer_count], 0
        mov     al, 0x34                        ; channel 0 of the 8254: rate generator of 1 kHz
        out     0x43, al
        mov     al, 1193 & 0xFF
        out     0x40, al
        mov     al, 1193 >> 8
        out     0x40, al
        route   2, TIMER_VECTOR, 0
        mov     dword [COUNTER], 0
        mov     dword [COUNTER + 4], 0
        mov     dword [CONFIGURATION], ENABLE
        await   timer_count, 2
        mov     eax, [timer_count]
        cmp     eax, 2
        flag    ae
        check   "the 8254 interrupts by input 2 of the I/O APIC", eax, 1
        mov     dword [CONFIGURATION], ENABLE | LEGACY
        let_in
        mov     dword [timer_count], 0
        pass    500000                          ; 5 ms or more
        check   "HPET: legacy replacement keeps the 8254 quiet", [timer_count], 0
        mov     dword [CONFIGURATION], 0
        mov     dword [COUNTER], 0
        mov     dword [COUNTER + 4], 0
        mov     dword [TIMER], T_ENABLE
        mov     dword [COMPARATOR], INTERVAL
        mov     dword [COMPARATOR + 4], 0
        route   8, HPET_VECTOR, 0
        mov     dword [TIMER + NEXT_TIMER], T_ENABLE
        mov     dword [COMPARATOR + NEXT_TIMER], 2 * INTERVAL
        mov     dword [COMPARATOR + NEXT_TIMER + 4], 0
        mov     dword [CONFIGURATION], ENABLE | LEGACY
        await   hpet_count, 1
        check   "HPET: timer 0 interrupts in its place", [timer_count], 1
        check   "HPET: timer 1 in that of the real-time clock", [hpet_count], 1
        route   2, MASKED, 0
        route   8, MASKED, 0
        mov     dword [CONFIGURATION], ENABLE
        mov     dword [TIMER], 0
        mov     dword [TIMER + NEXT_TIMER], 0
        ret

; ---- ACPI ----

power_management:
        mov     dx, PM_TIMER
        in      eax, dx
        mov     ebx, eax
        mov     esi, [COUNTER]
.wait:  in      eax, dx
        sub     eax, ebx
        and     eax, 0xFFFFFF
        cmp     eax, PM_10_MS
        jb      .wait
        mov     eax, [COUNTER]
        sub     eax, esi
        mul     dword [PERIOD]                  ; EDX:EAX femtoseconds
        mov     ecx, 1000000000
        div     ecx                             ; microseconds
        cmp     eax, 9900
        flag    ae
        check   "PM timer: 35795 ticks take 10 ms or more", eax, 1
        ret

; ---- Keyboard controller ----

%macro kbc_command 1
        call    kbc_ready
        mov     al, %1
        out     KBC_STATUS, al
%endmacro

kbc_ready:
        in      al, KBC_STATUS
        test    al, 2
        jnz     kbc_ready
        ret

; EAX = the byte that the controller answers, or 100h.
kbc_answer:
        mov     ecx, 1000000
.wait:  in      al, KBC_STATUS
        test    al, 1
        jnz     .there
        loop    .wait
        mov     eax, 0x100
        ret
.there: in      al, KBC_DATA
        movzx   eax, al
        ret

keyboard:
        kbc_command 0xAD                        ; no bytes from the keyboard meanwhile
.empty: in      al, KBC_STATUS
        test    al, 1
        jz      .test
        in      al, KBC_DATA
        jmp     .empty
.test:  kbc_command 0xAA
        call    kbc_answer
        check   "keyboard controller: the self-test answers 55h", eax, 0x55
        kbc_command 0xAB
        call    kbc_answer
        check   "keyboard controller: the interface test answers 0", eax, 0
        kbc_command 0xD0
        call    kbc_answer
        and     eax, 1
        check   "keyboard controller: the reset line is not asserted", eax, 1
        kbc_command 0x60                        ; write the command byte
        call    kbc_ready
        mov     al, 0x30                        ; both interfaces off, no interrupts
        out     KBC_DATA, al
        kbc_command 0x20
        call    kbc_answer
        check   "keyboard controller: the command byte can be read back", eax, 0x30
        ret

; ---- Real-time clock ----

; AL = cell %1.
%macro read_cell 1
        mov     al, %1
        out     RTC_INDEX, al
        in      al, RTC_DATA
%endmacro

%macro write_cell 2
        mov     al, %1
        out     RTC_INDEX, al
        mov     al, %2
        out     RTC_DATA, al
%endmacro

; Waits in HLT until the handler has run.
%macro await_rtc 0
        mov     dword [rtc_count], 0
        mov     dword [rtc_flags], 0
%%wait: sti
        hlt
        cli
        cmp     dword [rtc_count], 0
        je      %%wait
%endmacro

clock:
        read_cell RTC_D
        movzx   eax, al
        check   "clock: its contents are valid", eax, 0x80
        write_cell RTC_B, B_24HOURS
        read_cell RTC_C                         ; flags go as they are read
        read_cell RTC_C
        and     eax, C_REQUEST
        check   "clock: reading register C clears the request", eax, 0
        route   8, RTC_VECTOR, 0
        ; Stopped, it keeps what is written. 23:59:57 of 31 December 2027, a Friday.
        write_cell RTC_B, B_SET | B_24HOURS
        write_cell 0, 0x57
        write_cell 2, 0x59
        write_cell 4, 0x23
        write_cell 6, 6
        write_cell 7, 0x31
        write_cell 8, 0x12
        write_cell 9, 0x27
        read_cell 0
        movzx   eax, al
        check   "clock: while SET is 1 the time stands still", eax, 0x57
        write_cell RTC_B, B_24HOURS | B_UPDATE
        await_rtc
        movzx   eax, byte [rtc_flags]
        and     eax, C_REQUEST | B_UPDATE
        check   "clock: an interrupt ends each update", eax, C_REQUEST | B_UPDATE
        call    update
        write_cell RTC_B, B_24HOURS
        read_cell RTC_C
        let_in
        ; The alarm at midnight: hours and minutes do not matter.
        write_cell 1, 0x00
        write_cell 3, 0xC0
        write_cell 5, 0xFF
        write_cell RTC_B, B_24HOURS | B_ALARM
        await_rtc
        movzx   eax, byte [rtc_flags]
        and     eax, C_REQUEST | B_ALARM
        check   "clock: an interrupt at the alarm", eax, C_REQUEST | B_ALARM
        read_cell 0
        movzx   eax, al
        check   "clock: when the seconds are the alarm's", eax, 0
        read_cell 9
        movzx   eax, al
        check   "clock: a new year at midnight", eax, 0x28
        read_cell 6
        movzx   eax, al
        check   "clock: the day of the week goes on, too", eax, 7
        call    rates
        write_cell RTC_B, B_24HOURS
        route   8, MASKED, 0
        ret

; An update has just ended. The periodic interrupt of 8192 Hz gives a look at UIP twice in the 244 µs that it is set
; before the next one.
update:
        read_cell 0
        movzx   ebx, al
        write_cell RTC_A, 0x23
        write_cell RTC_B, B_24HOURS | B_PERIODIC
        mov     esi, 20000
.wait:  await_rtc
        read_cell RTC_A
        test    al, UIP
        jnz     .found
        dec     esi
        jnz     .wait
.found: and     eax, UIP
        check   "clock: UIP is set before an update", eax, UIP
.until: read_cell RTC_A
        test    al, UIP
        jnz     .until
        read_cell 0
        cmp     al, bl
        flag    ne
        check   "clock: the seconds change as UIP falls", eax, 1
        ret

rates:
        write_cell RTC_A, 0x26                  ; 1024 Hz
        write_cell RTC_B, B_24HOURS | B_PERIODIC
        read_cell RTC_C
        await_rtc
        await_rtc
        movzx   eax, byte [rtc_flags]
        and     eax, C_REQUEST | B_PERIODIC
        check   "clock: periodic interrupts", eax, C_REQUEST | B_PERIODIC
        mov     dword [rtc_reads], 0
        await_rtc
        mov     dword [rtc_count], 0
        sti
        mov     ecx, 20000000                   ; many periods
.spin:  dec     ecx
        jnz     .spin
        cli
        check   "clock: no further interrupt before register C is read", [rtc_count], 0
        mov     dword [rtc_reads], 1
        read_cell RTC_C
        ret

        %include "end.inc"
