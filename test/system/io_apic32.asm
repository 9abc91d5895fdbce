; The I/O APIC, with lines driven by QEMU's pc-testdev.
; Intel 82093AA data sheet, "I/O Redirection Table Registers"; SDM volume 3A, "EOI Register" and "Logical Destination".
        %include "kernel.inc"
        %include "interrupts.inc"

LINES           equ 0x2000
LINE            equ 5
EDGE_VECTOR     equ 0x51
LEVEL_VECTOR    equ 0x52
OTHER_VECTOR    equ 0x63

        bits    32
main:
        mov     dword [APIC_SPURIOUS], 0x100 | SPURIOUS_VECTOR
        set_handler EDGE_VECTOR, edge_count_handler
        set_handler LEVEL_VECTOR, level_handler
        set_handler OTHER_VECTOR, other_count_handler
        set_handler 2, nmi_handler
        set_handler SPURIOUS_VECTOR, ignore
        call    registers
        call    edges
        call    levels
        call    destinations
        route   LINE, MASKED, 0
        ret

        counting_handler edge_count
        counting_handler other_count
nmi_handler:
        inc     dword [nmi_count]
ignore: iretd

; Lowers the line when it has been called [lower_at] times.
level_handler:
        push    eax
        push    edx
        inc     dword [level_count]
        read_route LINE
        mov     [entry_inside], eax
        mov     eax, [level_count]
        cmp     eax, [lower_at]
        jb      .end
        mov     dx, LINES + LINE
        xor     eax, eax
        out     dx, al
.end:   cmp     dword [leaves_open], 0
        jne     .open
        mov     dword [APIC_EOI], 0
.open:  pop     edx
        pop     eax
        iretd

        section .data
        align   4
edge_count:     dd      0
level_count:    dd      0
other_count:    dd      0
nmi_count:      dd      0
entry_inside:   dd      0
lower_at:       dd      0
leaves_open:    dd      0
        section .text

; Drives the line to %1: 1 or 0.
%macro line 1
        mov     dx, LINES + LINE
        mov     al, %1
        out     dx, al
%endmacro

registers:
        mov     dword [IO_APIC_SELECT], 1
        mov     eax, [IO_APIC_DATA]
        shr     eax, 16
        and     eax, 0xFF
        check   "24 inputs: the last entry is 23", eax, 23
        mov     dword [IO_APIC_SELECT], 0
        mov     dword [IO_APIC_DATA], 0xFFFFFFFF
        mov     eax, [IO_APIC_DATA]
        check   "the ID is in bits 27:24", eax, 0x0F000000
        mov     dword [IO_APIC_SELECT], 2
        mov     eax, [IO_APIC_DATA]
        check   "the arbitration ID is that of the last write of the ID", eax, 0x0F000000
        mov     dword [IO_APIC_SELECT], 0
        mov     dword [IO_APIC_DATA], 0
        route   LINE, MASKED | LEVEL | ACTIVE_LOW | LOGICAL | EDGE_VECTOR | REMOTE_IRR | 1 << 12, 0
        read_route LINE
        check   "remote IRR and delivery status are for reading", eax, MASKED | LEVEL | ACTIVE_LOW | LOGICAL | EDGE_VECTOR
        route   LINE, MASKED, 0xFF000000
        mov     dword [IO_APIC_SELECT], 0x11 + 2 * LINE
        mov     eax, [IO_APIC_DATA]
        check   "the destination is in bits 63:56", eax, 0xFF000000
        ret

edges:
        line    0
        route   LINE, EDGE_VECTOR, 0
        line    1
        let_in
        check   "edge: a rising line interrupts", [edge_count], 1
        let_in
        check   "edge: a line that stays up does not again", [edge_count], 1
        line    0
        let_in
        check   "edge: nor does a falling one", [edge_count], 1
        line    1
        line    0
        line    1
        let_in
        check   "edge: two edges before the interrupt is taken are one", [edge_count], 2
        read_route LINE
        check   "edge: there is no remote IRR", eax, EDGE_VECTOR
        line    0
        route   LINE, EDGE_VECTOR | MASKED, 0
        line    1
        route   LINE, EDGE_VECTOR, 0
        let_in
        check   "edge: while the entry is masked it is lost", [edge_count], 2
        line    0
        line    1
        let_in
        check   "edge: the next one is not", [edge_count], 3
        line    0
        ret

levels:
        mov     dword [lower_at], 3
        route   LINE, LEVEL_VECTOR | LEVEL, 0
        line    1
        let_in
        check   "level: again and again until the line falls", [level_count], 3
        check   "level: remote IRR is set until the end of the interrupt", [entry_inside], LEVEL_VECTOR | LEVEL | REMOTE_IRR
        read_route LINE
        check   "level: and clear behind it", eax, LEVEL_VECTOR | LEVEL
        ; Masked.
        mov     dword [level_count], 0
        mov     dword [lower_at], 1
        route   LINE, LEVEL_VECTOR | LEVEL | MASKED, 0
        line    1
        let_in
        check   "level: masked, it does not interrupt", [level_count], 0
        route   LINE, LEVEL_VECTOR | LEVEL, 0
        let_in
        check   "level: it does when the mask goes", [level_count], 1
        mov     dword [level_count], 0
        route   LINE, LEVEL_VECTOR | LEVEL | MASKED, 0
        line    1
        line    0
        route   LINE, LEVEL_VECTOR | LEVEL, 0
        let_in
        check   "level: a line that fell in the meantime does not", [level_count], 0
        ; Not ended yet.
        mov     dword [leaves_open], 1
        mov     dword [lower_at], 100
        line    1
        let_in
        line    0
        line    1
        let_in
        check   "level: no second message before the end of the interrupt", [level_count], 1
        mov     dword [leaves_open], 0
        mov     dword [lower_at], 2
        mov     dword [APIC_EOI], 0
        let_in
        check   "level: the line is looked at again at the end", [level_count], 2
        ; The end of another interrupt, while this one is in service: that of the highest vector ends first.
        mov     dword [level_count], 0
        mov     dword [leaves_open], 1
        mov     dword [lower_at], 1
        line    1
        let_in
        int     OTHER_VECTOR                    ; its end, without a request, is that of the level's
        read_route LINE
        check   "level: an EOI reaches the entry by the vector that was in service", eax, LEVEL_VECTOR | LEVEL
        mov     dword [leaves_open], 0
        ret

destinations:
        mov     dword [APIC_DFR], 0xFFFFFFFF    ; flat model
        mov     dword [APIC_LDR], 1 << 24
        mov     dword [edge_count], 0
        route   LINE, EDGE_VECTOR | LOGICAL, 3 << 24
        line    1
        let_in
        check   "logical destination: one of its bits is the processor's", [edge_count], 1
        line    0
        route   LINE, EDGE_VECTOR | LOGICAL, 2 << 24
        line    1
        let_in
        check   "logical destination: none is", [edge_count], 1
        line    0
        route   LINE, EDGE_VECTOR, 0xFF << 24
        line    1
        let_in
        check   "physical destination FFh: every processor", [edge_count], 2
        line    0
        route   LINE, EDGE_VECTOR, 7 << 24
        line    1
        let_in
        check   "physical destination: a processor that is not there", [edge_count], 2
        line    0
        route   LINE, EDGE_VECTOR | LOGICAL | DELIVER_LOWEST, 1 << 24
        line    1
        let_in
        check   "lowest priority", [edge_count], 3
        line    0
        route   LINE, EDGE_VECTOR | DELIVER_NMI, 0
        line    1
        mov     ecx, 2000
.wait:  loop    .wait
        check   "an NMI comes with IF = 0, whatever its vector", [nmi_count], 1
        check   "and is no interrupt of the APIC", [edge_count], 3
        line    0
        ret

        %include "end.inc"
