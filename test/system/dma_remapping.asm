; PCI configuration, MSI, DMA and VT-d, with QEMU's edu device behind the IOMMU.
; PCI Local Bus Specification 3.0; QEMU's documentation of edu; VT-d specification, "Register Descriptions" and
; "Translation Structure Formats".
        %include "kernel.inc"

CONFIG_ADDRESS  equ 0xCF8
CONFIG_DATA     equ 0xCFC
EDU_ID          equ 0x11E81234
APIC            equ 0xFEE00000
APIC_ID         equ APIC + 0x20
APIC_EOI        equ APIC + 0xB0
APIC_SPURIOUS   equ APIC + 0xF0
MSI_VECTOR      equ 0x51
FAULT_VECTOR    equ 0x52
REMAPPED_VECTOR equ 0x53
WAIT_VECTOR     equ 0x54
SPURIOUS_VECTOR equ 0xFF

EDU_BUFFER      equ 0x40000
IOMMU           equ 0xFED90000
CAP             equ IOMMU + 0x08
GCMD            equ IOMMU + 0x18
GSTS            equ IOMMU + 0x1C
RTADDR          equ IOMMU + 0x20
CCMD            equ IOMMU + 0x28
FSTS            equ IOMMU + 0x34
FECTL           equ IOMMU + 0x38
FEDATA          equ IOMMU + 0x3C
FEADDR          equ IOMMU + 0x40
FEUADDR         equ IOMMU + 0x44
IQH             equ IOMMU + 0x80
IQT             equ IOMMU + 0x88
IQA             equ IOMMU + 0x90
ICS             equ IOMMU + 0x9C
IECTL           equ IOMMU + 0xA0
IEDATA          equ IOMMU + 0xA4
IEADDR          equ IOMMU + 0xA8
IEUADDR         equ IOMMU + 0xAC
IRTA            equ IOMMU + 0xB8
IVA             equ IOMMU + 0xF0
IOTLB           equ IOMMU + 0xF8
FAULT_RECORDS   equ IOMMU + 0x220
TE              equ 1 << 31
SRTP            equ 1 << 30
QIE             equ 1 << 26
IRE             equ 1 << 25
SIRTP           equ 1 << 24
DOMAIN          equ 5
IOVA            equ 0x200000            ; what the tables map: page 0 of their second 2 MiB

        bits    32
main:
        mov     dword [APIC_SPURIOUS], 0x100 | SPURIOUS_VECTOR
        call    set_handlers
        call    configuration
        call    device
        call    direct
        call    message
        call    capabilities
        call    translation
        call    faults
        call    stale
        call    pages
        call    queue
        call    remapping
        ret

; ---- Interrupts ----

; %1: vector, %2: address.
%macro set_handler 2
        mov     eax, %2
        mov     [idt32 + 8 * %1], ax
        shr     eax, 16
        mov     [idt32 + 8 * %1 + 6], ax
%endmacro

; %1: name of a counter.
%macro counting_handler 1
%1_handler:
        inc     dword [%1]
        mov     dword [APIC_EOI], 0
        iretd
%endmacro

        counting_handler msi_count
        counting_handler fault_count
        counting_handler remapped_count
        counting_handler wait_count
ignore: iretd

set_handlers:
        set_handler MSI_VECTOR, msi_count_handler
        set_handler FAULT_VECTOR, fault_count_handler
        set_handler REMAPPED_VECTOR, remapped_count_handler
        set_handler WAIT_VECTOR, wait_count_handler
        set_handler SPURIOUS_VECTOR, ignore
        ret

; Lets interrupts in for a while, until dword [%1] is at least %2.
%macro await 2
        sti
        mov     ecx, 2000000
%%wait: cmp     dword [%1], %2
        jae     %%end
        dec     ecx
        jnz     %%wait
%%end:  cli
%endmacro

        section .data
        align   4
msi_count:      dd      0
fault_count:    dd      0
remapped_count: dd      0
wait_count:     dd      0
bdf:            dd      0               ; bus 15:8, device 7:3, function 2:0
bar:            dd      0
msi:            dd      0               ; offset of the MSI capability
msi_data:       dd      0               ; offset of its data register
        section .text

; ---- Configuration space ----

; EAX: offset. Leaves the address selected.
select: push    edx
        push    ebx
        mov     ebx, [bdf]
        shl     ebx, 8
        lea     eax, [eax + ebx + 0x80000000]
        mov     dx, CONFIG_ADDRESS
        out     dx, eax
        pop     ebx
        pop     edx
        ret

; EAX = the doubleword at offset EAX.
read_config:
        push    edx
        call    select
        mov     dx, CONFIG_DATA
        in      eax, dx
        pop     edx
        ret

; The doubleword at offset EAX = ECX.
write_config:
        push    edx
        call    select
        mov     eax, ecx
        mov     dx, CONFIG_DATA
        out     dx, eax
        pop     edx
        ret

%macro config 2                         ; %1: offset, %2: value
        mov     eax, %1
        mov     ecx, %2
        call    write_config
%endmacro

configuration:
        mov     dword [bdf], 0
.next:  xor     eax, eax
        call    read_config
        cmp     eax, EDU_ID
        je      .found
        add     dword [bdf], 8
        cmp     dword [bdf], 0x100
        jb      .next
        mov     eax, 0
.found: check   "the device is found on bus 0", eax, EDU_ID
        mov     eax, 0x08
        call    read_config
        shr     eax, 8
        check   "class code of an unclassified device", eax, 0x00FF00
        mov     eax, 0x0C
        call    read_config
        shr     eax, 16
        and     eax, 0x7F
        check   "header type 0", eax, 0
        mov     eax, 0x10
        call    read_config
        mov     [bar], eax
        and     eax, 0xF
        check   "its first BAR is 32-bit memory", eax, 0
        config  0x10, 0xFFFFFFFF
        mov     eax, 0x10
        call    read_config
        check   "which has 1 MiB", eax, 0xFFF00000
        config  0x10, [bar]
        config  0x04, 0x406             ; memory, bus master, no INTx
        mov     eax, 0x04
        call    read_config
        and     eax, 0x7
        check   "memory space and bus mastering are on", eax, 6
        mov     eax, 0x34
        call    read_config
        movzx   eax, al
.walk:  mov     [msi], eax
        call    read_config
        cmp     al, 5
        je      .msi
        movzx   eax, ah
        test    eax, eax
        jnz     .walk
.msi:   movzx   ecx, al
        check   "it has the MSI capability", ecx, 5
        mov     eax, [msi]
        call    read_config
        mov     ecx, [msi]
        add     ecx, 12
        mov     [msi_data], ecx
        shr     eax, 23
        and     eax, 1
        check   "with 64-bit addresses", eax, 1
        ret

; ---- The device ----

%macro edu_write 2                      ; %1: register, %2: value
        mov     edx, [bar]
        mov     dword [edx + %1], %2
%endmacro

%macro edu_read 1
        mov     edx, [bar]
        mov     eax, [edx + %1]
%endmacro

device:
        edu_read 0
        check   "identification", eax, 0x010000ED
        edu_write 4, 0x12345678
        edu_read 4
        check   "liveness: the value inverted", eax, 0xEDCBA987
        edu_write 8, 10
.busy:  edu_read 0x20
        test    al, 1
        jnz     .busy
        edu_read 8
        check   "10!", eax, 3628800
        ret

; 16 bytes from EAX to the device's buffer, or back, and waits for the end.
to_device:
        mov     edx, [bar]
        mov     [edx + 0x80], eax
        mov     dword [edx + 0x88], EDU_BUFFER
        mov     dword [edx + 0x90], 16
        mov     dword [edx + 0x98], 1
        jmp     transfer
from_device:
        mov     edx, [bar]
        mov     dword [edx + 0x80], EDU_BUFFER
        mov     [edx + 0x88], eax
        mov     dword [edx + 0x90], 16
        mov     dword [edx + 0x98], 3
transfer:
        test    dword [edx + 0x98], 1
        jnz     transfer
        ret

%macro send 1                           ; memory at %1 to the device
        mov     eax, %1
        call    to_device
%endmacro
%macro fetch 1                          ; the device's buffer to memory at %1
        mov     eax, %1
        call    from_device
%endmacro

direct: mov     dword [page_a], 0xAAAA0001
        send    page_a
        fetch   page_b
        check   "DMA to the device and back", dword [page_b], 0xAAAA0001
        ret

message:
        mov     eax, [APIC_ID]
        shr     eax, 12
        and     eax, 0xFF000
        or      eax, APIC
        mov     [message_address], eax
        mov     ecx, eax
        mov     eax, [msi]
        add     eax, 4
        call    write_config
        mov     eax, [msi]
        add     eax, 8
        xor     ecx, ecx
        call    write_config
        config  [msi_data], MSI_VECTOR
        mov     eax, [msi]
        call    read_config
        mov     ecx, eax
        or      ecx, 1 << 16            ; enable
        mov     eax, [msi]
        call    write_config
        edu_write 0x60, 1
        await   msi_count, 1
        check   "MSI", dword [msi_count], 1
        edu_read 0x24
        check   "interrupt status", eax, 1
        edu_write 0x64, 1
        edu_read 0x24
        check   "acknowledged", eax, 0
        ret

        section .data
        align   4
message_address: dd     0
enabled:        dd      0               ; bits that are to stay set in GCMD
        section .text

; ---- The IOMMU ----

capabilities:
        mov     eax, [IOMMU]
        check   "version 1.0", eax, 0x10
        mov     eax, [CAP]
        shr     eax, 8
        and     eax, 0x04
        check   "48-bit domains", eax, 4
        mov     eax, [CAP]
        shr     eax, 7
        and     eax, 1
        check   "no caching mode", eax, 0
        mov     eax, [CAP + 4]
        shr     eax, 2                  ; bits 37:34
        and     eax, 3
        check   "pages of 2 MiB and 1 GiB", eax, 3
        ret

; Sets a bit of GCMD and waits for its status. %1: bit
%macro command 1
        mov     eax, [enabled]
        or      eax, %1
        mov     [GCMD], eax
%%wait: test    dword [GSTS], %1
        jz      %%wait
%endmacro
%macro turn_on 1
        or      dword [enabled], %1
        command %1
%endmacro

; All context entries and all IOTLB entries, by the registers.
invalidate_all:
        mov     dword [CCMD], 0
        mov     dword [CCMD + 4], 1 << 31 | 1 << 29
.context:
        test    dword [CCMD + 4], 1 << 31
        jnz     .context
        mov     dword [IOTLB], 0
        mov     dword [IOTLB + 4], 1 << 31 | 1 << 28
.iotlb: test    dword [IOTLB + 4], 1 << 31
        jnz     .iotlb
        ret

; The page at IOVA, and its write-back of fault records.
%macro invalidate_page 0
        mov     dword [IVA], IOVA
        mov     dword [IVA + 4], 0
        mov     dword [IOTLB], 0
        mov     dword [IOTLB + 4], 1 << 31 | 3 << 28 | DOMAIN
%%wait: test    dword [IOTLB + 4], 1 << 31
        jnz     %%wait
%endmacro

; ESI = the fault record that FSTS names.
fault_record:
        mov     esi, [FSTS]
        shr     esi, 4
        and     esi, 0xFF0
        add     esi, FAULT_RECORDS
        ret

; EAX = its F and T1 flags and the reason.
fault_reason:
        call    fault_record
        mov     eax, [esi + 12]
        and     eax, 1 << 31 | 1 << 30 | 0xFF
        ret

%macro clear_fault 0
        call    fault_record
        mov     dword [esi + 12], 1 << 31
        mov     dword [FSTS], 1
%endmacro

; A table entry: %1: table, %2: index, %3: low half.
%macro entry 3
        mov     dword [%1 + 8 * (%2)], %3
        mov     dword [%1 + 8 * (%2) + 4], 0
%endmacro

build_tables:
        entry   root_table, 0, context_table + 1
        mov     eax, [bdf]
        shl     eax, 4
        mov     dword [context_table + eax], ss_pml4 + 1
        mov     dword [context_table + eax + 8], DOMAIN << 8 | 2
        entry   ss_pml4, 0, ss_pdpt + 3
        entry   ss_pdpt, 0, ss_pd + 3
        entry   ss_pd, 1, ss_pt + 3
        entry   ss_pt, 0, page_a + 3
        ret

translation:
        call    build_tables
        mov     dword [RTADDR], root_table
        mov     dword [RTADDR + 4], 0
        command SRTP
        call    invalidate_all
        turn_on TE
        mov     dword [page_a], 0xAAAA0002
        send    IOVA
        mov     dword [page_a], 0
        fetch   IOVA
        check   "DMA goes by the tables", dword [page_a], 0xAAAA0002
        check   "and leaves no fault", dword [FSTS], 0
        ret

faults:
        mov     eax, [message_address]
        mov     [FEADDR], eax
        mov     dword [FEUADDR], 0
        mov     dword [FEDATA], FAULT_VECTOR
        mov     dword [FECTL], 0
        mov     dword [page_b], 0xBBBB0001
        fetch   page_b                  ; a physical address: the domain has nothing there
        check   "DMA outside the domain does not reach memory", dword [page_b], 0xBBBB0001
        await   fault_count, 1
        check   "fault event", dword [fault_count], 1
        mov     eax, [FSTS]
        and     eax, 3
        check   "a fault is pending", eax, 2
        call    fault_reason
        check   "write without permission", eax, 1 << 31 | 5
        mov     eax, [esi]
        check   "its page", eax, page_b
        mov     eax, [esi + 8]
        and     eax, 0xFFFF
        check   "its requester", eax, [bdf]
        clear_fault
        mov     eax, [FSTS]
        and     eax, 3
        check   "no fault is pending any more", eax, 0

        send    page_b
        call    fault_reason
        check   "read without permission", eax, 1 << 31 | 1 << 30 | 6
        clear_fault

        entry   ss_pt, 0, page_a + 1
        call    invalidate_all
        fetch   IOVA
        call    fault_reason
        check   "write to a page for reading", eax, 1 << 31 | 5
        clear_fault

        entry   ss_pt, 0, page_a + 3
        mov     eax, [bdf]
        shl     eax, 4
        mov     dword [context_table + eax], 0
        call    invalidate_all
        send    IOVA
        call    fault_reason
        check   "context entry that is not present", eax, 1 << 31 | 1 << 30 | 2
        clear_fault

        mov     eax, [bdf]
        shl     eax, 4
        mov     dword [context_table + eax], ss_pml4 + 0x11
        call    invalidate_all
        send    IOVA
        call    fault_reason
        check   "reserved bit in the context entry", eax, 1 << 31 | 1 << 30 | 0xB
        clear_fault

        call    build_tables
        entry   root_table, 0, 0
        call    invalidate_all
        send    IOVA
        call    fault_reason
        check   "root entry that is not present", eax, 1 << 31 | 1 << 30 | 1
        clear_fault

        call    build_tables
        entry   ss_pd, 1, ss_pt + 3 + 0x800
        call    invalidate_all
        send    IOVA
        call    fault_reason
        check   "reserved bit in a paging entry", eax, 1 << 31 | 1 << 30 | 0xC
        clear_fault
        call    build_tables
        call    invalidate_all
        ret

; What the IOMMU remembers.
stale:
        mov     dword [page_a], 0xAAAA0003
        send    IOVA
        entry   ss_pt, 0, page_b + 3
        mov     dword [page_a], 0
        mov     dword [page_b], 0
        fetch   IOVA
        check   "a changed entry has no effect before invalidation", dword [page_a], 0xAAAA0003
        invalidate_page
        fetch   IOVA
        check   "and has one after", dword [page_b], 0xAAAA0003
        mov     eax, [bdf]
        shl     eax, 4
        mov     dword [context_table + eax], 0
        mov     dword [page_b], 0
        fetch   IOVA
        check   "context entries are remembered, too", dword [page_b], 0xAAAA0003
        call    build_tables
        call    invalidate_all
        ret

pages:
        entry   ss_pd, 1, 0x200000 + 0x83
        call    invalidate_all
        mov     dword [0x2000 + IOVA], 0xAAAA0004
        send    IOVA + 0x2000
        mov     dword [0x2000 + IOVA], 0
        fetch   IOVA + 0x2000
        check   "2-MiB page", dword [0x2000 + IOVA], 0xAAAA0004
        call    build_tables
        mov     eax, [bdf]
        shl     eax, 4
        mov     dword [context_table + eax], 1 | 2 << 2
        call    invalidate_all
        mov     dword [page_b], 0
        fetch   page_b
        check   "pass-through", dword [page_b], 0xAAAA0004
        call    build_tables
        call    invalidate_all
        ret

; ---- Queued invalidation ----

queue:
        mov     dword [IQA], invalidation_queue
        mov     dword [IQA + 4], 0
        mov     dword [IQT], 0
        turn_on QIE
        mov     eax, [message_address]
        mov     [IEADDR], eax
        mov     dword [IEUADDR], 0
        mov     dword [IEDATA], WAIT_VECTOR
        mov     dword [IECTL], 0

        send    IOVA
        entry   ss_pt, 0, page_b + 3
        entry   invalidation_queue, 0, 0x12 ; IOTLB, global
        entry   invalidation_queue, 1, 0
        mov     dword [invalidation_queue + 16], 0x25 ; wait: write status
        mov     dword [invalidation_queue + 20], 0xCAFE
        entry   invalidation_queue, 3, wait_status
        entry   invalidation_queue, 4, 0x15 ; wait: interrupt
        entry   invalidation_queue, 5, 0
        mov     dword [IQT], 48
.wait:  cmp     dword [wait_status], 0xCAFE
        jne     .wait
        check   "the head follows", dword [IQH], 48
        await   wait_count, 1
        check   "invalidation event", dword [wait_count], 1
        check   "the wait descriptor is complete", dword [ICS], 1
        mov     dword [ICS], 1
        check   "which is cleared by writing 1", dword [ICS], 0
        mov     dword [page_b], 0
        fetch   IOVA
        mov     eax, [page_b]
        cmp     eax, 0
        setne   al
        movzx   eax, al
        check   "the new page is in use", eax, 1

        entry   invalidation_queue, 6, 0x0F ; no such type
        entry   invalidation_queue, 7, 0
        mov     dword [IQT], 64
        mov     eax, [FSTS]
        and     eax, 0x10
        check   "garbage in the queue sets IQE", eax, 0x10
        check   "and stops the head", dword [IQH], 48
        entry   invalidation_queue, 6, 0x12
        mov     dword [FSTS], 0x10
        mov     dword [IQT], 64
        check   "the queue goes on when it is repaired", dword [IQH], 64
        ret

; ---- Interrupt remapping ----

remapping:
        ; Entry 3: fixed, edge, physical destination as our APIC id, for our requester only.
        mov     eax, [APIC_ID]
        shr     eax, 16
        mov     dword [interrupt_table + 16 * 3], REMAPPED_VECTOR << 16 | 1
        mov     [interrupt_table + 16 * 3 + 4], eax
        mov     eax, [bdf]
        or      eax, 1 << 18
        mov     [interrupt_table + 16 * 3 + 8], eax
        mov     dword [interrupt_table + 16 * 3 + 12], 0
        mov     dword [IRTA], interrupt_table + 7
        mov     dword [IRTA + 4], 0
        command SIRTP
        entry   invalidation_queue, 8, 0x04 ; interrupt entry cache, global
        entry   invalidation_queue, 9, 0
        mov     dword [IQT], 80
        turn_on IRE
        mov     eax, [msi]
        add     eax, 4
        mov     ecx, APIC | 1 << 4 | 3 << 5
        call    write_config
        config  [msi_data], 0
        edu_write 0x60, 1
        await   remapped_count, 1
        check   "a remapped interrupt", dword [remapped_count], 1
        edu_write 0x64, 1

        mov     dword [interrupt_table + 16 * 4], REMAPPED_VECTOR << 16 | 1
        mov     eax, [interrupt_table + 16 * 3 + 4]
        mov     [interrupt_table + 16 * 4 + 4], eax
        mov     eax, [bdf]
        xor     eax, 8 | 1 << 18        ; another device
        mov     [interrupt_table + 16 * 4 + 8], eax
        mov     eax, [msi]
        add     eax, 4
        mov     ecx, APIC | 1 << 4 | 4 << 5
        call    write_config
        edu_write 0x60, 1
        mov     dword [fault_count], 0
        await   fault_count, 1
        check   "an entry for another requester delivers nothing", dword [remapped_count], 1
        edu_write 0x64, 1
        call    fault_reason
        check   "requester that the entry is not for", eax, 1 << 31 | 0x26
        clear_fault

        mov     eax, [msi]
        add     eax, 4
        mov     ecx, [message_address]
        call    write_config
        config  [msi_data], MSI_VECTOR
        edu_write 0x60, 1
        await   msi_count, 2
        check   "the compatibility format is blocked", dword [msi_count], 1
        edu_write 0x64, 1
        ret

        section .bss
        alignb  4096
root_table:             resb    4096
context_table:          resb    4096
ss_pml4:                resb    4096
ss_pdpt:                resb    4096
ss_pd:                  resb    4096
ss_pt:                  resb    4096
interrupt_table:        resb    4096
invalidation_queue:     resb    4096
page_a:                 resb    4096
page_b:                 resb    4096
wait_status:            resb    4096
        %include "end.inc"
