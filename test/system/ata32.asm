; An ATA disk of 8 MiB (device 0) and an ATAPI CD-ROM drive with a disc of 1 MiB (device 1), both full of zeros, on the
; first channel of a PIIX3's IDE controller.
; ATA8-ACS, ATA8-APT; MMC-6 and SPC-3 for packets; "Programming Interface for Bus Master IDE Controller".
        %include "kernel.inc"

DATA_PORT       equ 0x1F0
ERROR_PORT      equ 0x1F1
COUNT_PORT      equ 0x1F2
LOW_PORT        equ 0x1F3
MID_PORT        equ 0x1F4
HIGH_PORT       equ 0x1F5
DEVICE_PORT     equ 0x1F6
STATUS_PORT     equ 0x1F7
CONTROL_PORT    equ 0x3F6
NO_INTERRUPT    equ 2
RESET           equ 4
PREVIOUS        equ 0x80

DISK            equ 0xE0                ; LBA addressing
DISC            equ 0xB0
BUSY            equ 0x80
READY           equ 0x50                ; ready, seek complete
REQUEST         equ 0x58                ; and data request
FAILED          equ 0x41                ; ready and error; what bit 4 is then depends on the command
SECTORS         equ 8 * 1024 * 2
BLOCKS          equ 512

        bits    32
; %2 to port %1.
%macro put 2
        mov     dx, %1
        mov     al, %2
        out     dx, al
%endmacro

; EAX = the byte at port %1.
%macro get 1
        mov     dx, %1
        xor     eax, eax
        in      al, dx
%endmacro

; EAX = status, once the drive is not busy.
await:  mov     ecx, 10_000_000
.again: get     STATUS_PORT
        test    al, BUSY
        jz      .end
        loop    .again
.end:   ret

; Command %1 to drive %2 with sector count %3 and LBA %4 (24 bits). EAX = status.
%macro command 4
        put     DEVICE_PORT, %2
        put     COUNT_PORT, %3
        put     LOW_PORT, (%4) & 0xFF
        put     MID_PORT, (%4) >> 8 & 0xFF
        put     HIGH_PORT, (%4) >> 16 & 0xFF
        put     STATUS_PORT, %1
        call    await
%endmacro

; %1 words between the data register and [%2]. EAX = status behind them.
%macro receive 2
        mov     edi, %2
        mov     ecx, %1
        mov     dx, DATA_PORT
        rep     insw
        call    await
%endmacro
%macro send 2
        mov     esi, %2
        mov     ecx, %1
        mov     dx, DATA_PORT
        rep     outsw
        call    await
%endmacro

; Sends the packet at [%1], with room for %2 bytes at a time. EAX = status.
%macro packet 2
        put     DEVICE_PORT, DISC
        put     ERROR_PORT, 0
        put     MID_PORT, (%2) & 0xFF
        put     HIGH_PORT, (%2) >> 8
        put     STATUS_PORT, 0xA0
        call    await
        send    6, %1
%endmacro

; EAX = byte count of the part that the drive offers.
%macro part_size 0
        get     HIGH_PORT
        mov     ebx, eax
        get     MID_PORT
        shl     ebx, 8
        or      eax, ebx
%endmacro

; EAX = sense key and additional codes of the last packet: 0x00KKCCQQ.
sense:  packet  request_sense, 18
        receive 9, buffer
        movzx   eax, byte [buffer + 2]
        shl     eax, 16
        mov     ah, [buffer + 12]
        mov     al, [buffer + 13]
        ret

main:   put     CONTROL_PORT, NO_INTERRUPT
        call    resets
        call    disk_identity
        call    disk_transfers
        call    disk_errors
        call    disc_identity
        call    disc_packets
        call    disc_reads
        call    disc_errors
        call    dma
        ret

resets:
        put     CONTROL_PORT, NO_INTERRUPT | RESET
        mov     ecx, 1000
.hold:  loop    .hold
        put     CONTROL_PORT, NO_INTERRUPT
        put     DEVICE_PORT, 0
        call    await
        check   "a disk is ready after a reset", eax, READY
        get     ERROR_PORT
        check   "the error register then says that it is good", eax, 1
        get     COUNT_PORT
        check   "a disk's signature: count", eax, 1
        get     LOW_PORT
        check   "a disk's signature: low", eax, 1
        get     MID_PORT
        check   "a disk's signature: mid", eax, 0
        get     HIGH_PORT
        check   "a disk's signature: high", eax, 0
        put     DEVICE_PORT, DISC
        get     MID_PORT
        check   "a packet drive's signature: mid", eax, 0x14
        get     HIGH_PORT
        check   "a packet drive's signature: high", eax, 0xEB
        call    await
        check   "a packet drive is not ready after a reset", eax, 0
        put     COUNT_PORT, 0x55
        put     LOW_PORT, 0xAA
        get     COUNT_PORT
        check   "registers keep what is written", eax, 0x55
        put     DEVICE_PORT, DISK
        get     LOW_PORT
        check   "registers of both drives are written at once", eax, 0xAA
        get     DEVICE_PORT
        check   "the device register, too", eax, DISK
        ret

disk_identity:
        command 0xEC, DISK, 0, 0
        check   "IDENTIFY DEVICE has data", eax, REQUEST
        receive 256, buffer
        check   "which end behind 256 words", eax, READY
        movzx   eax, word [buffer]
        shr     eax, 15
        check   "word 0: an ATA device", eax, 0
        mov     eax, [buffer + 2 * 60]
        check   "words 60 and 61: sectors", eax, SECTORS
        mov     eax, [buffer + 2 * 100]
        check   "words 100 and 101: sectors by 48-bit addresses", eax, SECTORS
        movzx   eax, word [buffer + 2 * 49]
        and     eax, 0x300
        check   "word 49: LBA and DMA", eax, 0x300
        movzx   eax, word [buffer + 2 * 83]
        and     eax, 0x7400
        check   "word 83: 48-bit addresses, FLUSH CACHE EXT", eax, 0x7400
        ret

disk_transfers:
        command 0x20, DISK, 2, 0
        check   "READ SECTOR(S) has a sector", eax, REQUEST
        receive 256, buffer
        check   "and another one", eax, REQUEST
        receive 256, buffer
        check   "and no third", eax, READY
        mov     ecx, 512
        mov     edi, written
.fill:  mov     [edi], cx
        add     edi, 2
        loop    .fill
        command 0x30, DISK, 2, 1000
        check   "WRITE SECTOR(S) asks for a sector", eax, REQUEST
        send    256, written
        check   "and another one to write", eax, REQUEST
        send    256, written + 512
        check   "and then has written", eax, READY
        command 0xE7, DISK, 0, 0
        check   "FLUSH CACHE", eax, READY
        command 0xC6, DISK, 4, 0
        check   "SET MULTIPLE MODE", eax, READY
        command 0xC4, DISK, 2, 1000
        check   "READ MULTIPLE has data", eax, REQUEST
        receive 512, buffer
        check   "in one block", eax, READY
        mov     esi, buffer
        mov     edi, written
        mov     ecx, 256
        repe    cmpsd
        check   "which are what was written", ecx, 0
        ; 48-bit addresses: upper bytes first.
        put     DEVICE_PORT, DISK
        put     COUNT_PORT, 0
        put     LOW_PORT, 0
        put     MID_PORT, 0x12
        put     MID_PORT, 0x34
        put     CONTROL_PORT, NO_INTERRUPT | PREVIOUS
        get     MID_PORT
        check   "device control lets previous bytes be read", eax, 0x12
        put     CONTROL_PORT, NO_INTERRUPT
        get     MID_PORT
        check   "or the last ones", eax, 0x34
        put     MID_PORT, 0
        put     HIGH_PORT, 0
        command 0x24, DISK, 1, 1001
        check   "READ SECTOR(S) EXT has data", eax, REQUEST
        receive 256, buffer
        mov     eax, [buffer]
        check   "of the sector that the registers name", eax, [written + 512]
        ; Cylinder 1, head 0, sector 1 is behind 16 tracks of 63 sectors; cylinder 0, head 15, sector 56 is 1000.
        command 0x20, 0xAF, 1, 56
        receive 256, buffer
        mov     eax, [buffer]
        check   "sectors can be named by cylinder, head and sector", eax, [written]
        ret

disk_errors:
        command 0x20, DISK, 1, SECTORS
        and     eax, ~0x10
        check   "reading behind the last sector fails", eax, FAILED
        get     ERROR_PORT
        and     eax, 0x14                       ; the standard lets a drive set either
        cmp     eax, 1
        sbb     eax, eax
        check   "with ABRT or IDNF", eax, 0
        command 0x30, DISK, 2, SECTORS - 1
        mov     ebx, eax
        and     ebx, 1
        jnz     .done
        send    256, written
        send    256, written
.done:  and     eax, ~0x10
        check   "so does writing beyond it", eax, FAILED
        command 0xFF, DISK, 1, 0
        and     eax, ~0x10
        check   "a command that does not exist fails", eax, FAILED
        get     ERROR_PORT
        check   "with ABRT", eax, 4
        command 0xA0, DISK, 1, 0
        and     eax, ~0x10
        check   "a disk takes no packets", eax, FAILED
        command 0xE5, DISK, 0, 0
        get     COUNT_PORT
        check   "CHECK POWER MODE: it is active", eax, 0xFF
        get     CONTROL_PORT
        check   "alternate status is the status", eax, READY
        ret

disc_identity:
        command 0xEC, DISC, 0, 0
        and     eax, 9
        check   "a packet drive refuses IDENTIFY DEVICE", eax, 1
        get     ERROR_PORT
        check   "with ABRT, too", eax, 4
        get     HIGH_PORT
        check   "and shows its signature", eax, 0xEB
        command 0xA1, DISC, 0, 0
        check   "IDENTIFY PACKET DEVICE has data", eax, REQUEST
        receive 256, buffer
        movzx   eax, word [buffer]
        check   "word 0: a removable CD-ROM, 12 bytes, 50 us", eax, 0x85C0
        ret

disc_packets:
        put     DEVICE_PORT, DISC
        put     STATUS_PORT, 0xA0
        call    await
        and     eax, 0x89
        check   "PACKET asks for the packet", eax, 8
        get     COUNT_PORT
        and     eax, 7
        check   "which the interrupt reason calls a command from the host", eax, 1
        send    6, test_unit_ready
        and     eax, 0x89
        check   "TEST UNIT READY", eax, 0
        get     COUNT_PORT
        and     eax, 7
        check   "whose end is a message to the host", eax, 3
        packet  inquiry, 36
        and     eax, 0x89
        check   "INQUIRY has data", eax, 8
        get     COUNT_PORT
        and     eax, 7
        check   "which go to the host", eax, 2
        part_size
        check   "36 bytes", eax, 36
        receive 18, buffer
        mov     eax, [buffer]
        check   "a CD-ROM, removable, with ATAPI's data", eax, 0x21008005
        movzx   eax, byte [buffer + 4]
        check   "of 5 + 31 bytes", eax, 31
        packet  inquiry_short, 36
        part_size
        check   "the allocation length cuts data", eax, 8
        receive 4, buffer
        packet  read_capacity, 8
        receive 4, buffer
        mov     eax, [buffer]
        bswap   eax
        check   "READ CAPACITY: the last block", eax, BLOCKS - 1
        mov     eax, [buffer + 4]
        bswap   eax
        check   "READ CAPACITY: bytes of a block", eax, 2048
        packet  read_toc, 100
        part_size
        check   "READ TOC: a track and the lead-out", eax, 20
        receive 10, buffer
        mov     eax, [buffer]
        check   "READ TOC: length, first and last track", eax, 0x01011200
        mov     eax, [buffer + 4]
        check   "READ TOC: track 1 has data", eax, 0x00011400
        mov     eax, [buffer + 12]
        check   "READ TOC: the lead-out", eax, 0x00AA1600
        mov     eax, [buffer + 16]
        bswap   eax
        check   "READ TOC: the lead-out's block", eax, BLOCKS
        packet  read_toc_time, 100
        receive 10, buffer
        mov     eax, [buffer + 16]
        bswap   eax
        check   "READ TOC: the lead-out's time", eax, 0x0000083E      ; (512 + 150) / 75 = 8 s, 62 frames
        packet  read_session, 100
        receive 6, buffer
        mov     eax, [buffer]
        check   "READ TOC: sessions", eax, 0x01010A00
        packet  get_event, 8
        receive 4, buffer
        mov     eax, [buffer]
        and     eax, 0x07FFFF
        check   "GET EVENT STATUS NOTIFICATION: a medium event of 4 bytes", eax, 0x040600
        movzx   eax, byte [buffer + 5]
        check   "GET EVENT STATUS NOTIFICATION: a disc is there", eax, 2
        packet  mode_sense, 100
        part_size
        shr     eax, 1
        receive eax, buffer
        movzx   eax, byte [buffer + 8]
        check   "MODE SENSE: the page that is asked for", eax, 0x2A
        ret

disc_reads:
        mov     edi, buffer
        mov     ecx, 1024
        mov     eax, -1
        rep     stosd
        packet  read_two, 2048
        part_size
        check   "READ(10): no more bytes at a time than the host wants", eax, 2048
        receive 1024, buffer
        and     eax, 0x89
        check   "READ(10): a second part", eax, 8
        receive 1024, buffer + 2048
        and     eax, 0x89
        check   "READ(10): no third", eax, 0
        mov     edi, buffer
        mov     ecx, 1024
        xor     eax, eax
        repe    scasd
        check   "READ(10): what is on the disc", ecx, 0
        packet  read_twelve, 0xFFFE
        part_size
        check   "READ(12): one part when there is room", eax, 4096
        receive 2048, buffer
        and     eax, 0x89
        check   "READ(12): its end", eax, 0
        packet  read_none, 2048
        and     eax, 0x89
        check   "READ(10) of no block does nothing", eax, 0
        ret

disc_errors:
        packet  read_beyond, 2048
        and     eax, 0x89
        check   "READ(10) behind the last block fails", eax, 1
        get     ERROR_PORT
        shr     eax, 4
        check   "the error register holds the sense key: illegal request", eax, 5
        call    sense
        check   "REQUEST SENSE: block address out of range", eax, 0x052100
        call    sense
        check   "REQUEST SENSE: telling it ends it", eax, 0
        packet  unknown, 2048
        call    sense
        check   "a packet that does not exist: invalid operation code", eax, 0x052000
        packet  mode_sense_absent, 100
        call    sense
        check   "MODE SENSE of a page that is not there: invalid field", eax, 0x052400
        put     DEVICE_PORT, DISC
        put     STATUS_PORT, 8
        call    await
        check   "DEVICE RESET leaves a packet drive as after power-on", eax, 0
        get     HIGH_PORT
        check   "with its signature", eax, 0xEB
        ret

; EAX = configuration register BL of the function at BDF << 8 in [ide].
configuration:
        mov     eax, [ide]
        mov     al, bl
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        in      eax, dx
        ret

; ESI = port of the bus master's first register.
dma:    mov     dword [ide], 0x80000000
.find:  mov     bl, 8
        call    configuration
        shr     eax, 16
        cmp     ax, 0x0101
        je      .found
        add     dword [ide], 0x100
        cmp     dword [ide], 0x80010000
        jb      .find
.found: cmp     dword [ide], 0x80010000
        sbb     eax, eax
        check   "an IDE controller is on the PCI bus", eax, -1
        mov     bl, 8
        call    configuration
        shr     eax, 8
        and     eax, 0x85
        check   "it is a bus master, at the compatible ports", eax, 0x80
        mov     bl, 4
        call    configuration
        or      eax, 5
        out     dx, eax
        mov     bl, 0x20
        call    configuration
        and     eax, 0xFFF0
        mov     ebp, eax
        lea     edx, [ebp + 4]
        mov     eax, regions
        out     dx, eax
        put     bp, 8                           ; to memory
        lea     edx, [ebp + 2]
        mov     al, 6
        out     dx, al                          ; clear error and interrupt
        mov     edi, buffer
        mov     ecx, 1024
        mov     eax, -1
        rep     stosd
        put     DEVICE_PORT, DISK
        put     COUNT_PORT, 2
        put     LOW_PORT, 1000 & 0xFF
        put     MID_PORT, 1000 >> 8
        put     HIGH_PORT, 0
        put     CONTROL_PORT, 0                 ; its status tells of interrupts that the host lets through
        put     STATUS_PORT, 0xC8
        put     bp, 9
        call    finish
        check   "READ DMA: interrupt, and no longer active", eax, 4
        call    await
        check   "READ DMA: the drive is done", eax, READY
        mov     esi, buffer
        mov     edi, written
        mov     ecx, 25
        repe    cmpsd
        check   "READ DMA: the first region", ecx, 0
        mov     eax, [buffer + 100]
        check   "READ DMA: nothing behind it", eax, -1
        mov     esi, buffer + 2048
        mov     edi, written + 100
        mov     ecx, (1024 - 100) / 4
        repe    cmpsd
        check   "READ DMA: the second region", ecx, 0
        mov     eax, [buffer + 2048 + 924]
        check   "READ DMA: nothing behind that", eax, -1
        ret

; Waits for the bus master's interrupt. EAX = its status: active, error, interrupt. Stops it.
finish: mov     ecx, 10_000_000
        lea     edx, [ebp + 2]
.again: xor     eax, eax
        in      al, dx
        test    al, 4
        jnz     .end
        loop    .again
.end:   and     eax, 7
        push    eax
        put     bp, 8
        pop     eax
        ret

        section .data
        align   4
ide:            dd      0
test_unit_ready: times 12 db 0
request_sense:  db      0x03, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0
inquiry:        db      0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0
inquiry_short:  db      0x12, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0
read_capacity:  db      0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
read_toc:       db      0x43, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0
read_toc_time:  db      0x43, 2, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0
read_session:   db      0x43, 0, 1, 0, 0, 0, 0, 0, 100, 0x40, 0, 0      ; the format as MMC has it, and as SFF-8020i
get_event:      db      0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0
mode_sense:     db      0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 100, 0, 0, 0
mode_sense_absent: db   0x5A, 0, 0x11, 0, 0, 0, 0, 0, 100, 0, 0, 0
read_two:       db      0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0, 0, 0
read_none:      db      0x28, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0
read_twelve:    db      0xA8, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0
read_beyond:    db      0x28, 0, 0, 0, (BLOCKS - 1) >> 8, (BLOCKS - 1) & 0xFF, 0, 0, 2, 0, 0, 0
unknown:        db      0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        align   8
regions:        dd      buffer, 100
                dd      buffer + 2048, (1024 - 100) | 1 << 31
        section .bss
        alignb  4096
buffer:         resb    4096
written:        resb    1024
        section .text

        %include "end.inc"
