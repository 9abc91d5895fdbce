; Code that changes itself. SDM volume 3A, "Handling Self- and Cross-Modifying Code": a store is seen by the fetches
; after it, through the same linear address at once, through another after a serializing instruction.
        %include "kernel.inc"

OTHER_PAGE      equ 0x00800000          ; memory to put code into
ALIAS           equ 0x00A00000          ; a second linear address of it (in 64-bit mode)
MOV_EAX         equ 0xB8                ; MOV EAX, imm32
RET_            equ 0xC3

        bits    32
main:
        call    same_page
        call    next_instruction
        call    other_page
        call    in_a_loop
        call    by_string_instruction
        call    across_pages
        call    enter_long_mode
        bits    64
        call    through_an_alias
        jmp     finish64

        bits    32
; The immediate of an instruction on this page.
same_page:
        mov     ebx, 0
        mov     ecx, 2
.again:
.patch: mov     eax, 1                  ; the immediate is at .patch + 1
        add     ebx, eax
        mov     dword [.patch + 1], 100
        loop    .again
        check   "same page", ebx, 101
        ret

; The instruction right behind the store.
next_instruction:
        xor     eax, eax
        mov     byte [.patch], 0x40     ; INC EAX
.patch: nop
        check   "the next instruction", eax, 1
        xor     eax, eax
        mov     byte [.patch2 + 2], 7   ; in the middle of the next one
.patch2:
        mov     ax, 5
        check   "bytes in the next instruction", eax, 7
        ret

other_page:
        mov     byte [OTHER_PAGE], MOV_EAX
        mov     dword [OTHER_PAGE + 1], 11
        mov     byte [OTHER_PAGE + 5], RET_
        mov     ebx, OTHER_PAGE
        call    ebx
        check   "other page", eax, 11
        mov     dword [OTHER_PAGE + 1], 22
        call    ebx
        check   "other page, written again", eax, 22
        mov     byte [OTHER_PAGE + 2], 1
        call    ebx
        check   "one byte", eax, 0x116
        ret

; A loop runs so often that a simulator has it compiled, and then it changes.
in_a_loop:
        mov     ecx, 200000
        xor     ebx, ebx
.loop:
.patch: add     ebx, 1
        cmp     ecx, 100000
        jne     .same
        mov     byte [.patch + 2], 2    ; ADD EBX, 2 from now on
.same:  loop    .loop
        check   "hot loop", ebx, 100001 + 2 * 99999
        ret

by_string_instruction:
        mov     edi, OTHER_PAGE
        mov     ecx, 64
        mov     al, 0x90
        rep     stosb
        mov     byte [OTHER_PAGE + 64], RET_
        mov     ebx, OTHER_PAGE
        xor     eax, eax
        call    ebx
        mov     edi, OTHER_PAGE
        mov     ecx, 10
        mov     al, 0x40                ; INC EAX
        rep     stosb
        xor     eax, eax
        call    ebx
        check   "REP STOSB", eax, 10
        mov     esi, OTHER_PAGE
        mov     edi, OTHER_PAGE + 10
        mov     ecx, 10
        rep     movsb
        xor     eax, eax
        call    ebx
        check   "REP MOVSB", eax, 20
        ret

; One instruction, the end of which is on the next page: a write to either page changes it.
across_pages:
        mov     ebx, OTHER_PAGE + 0xFFD
        mov     byte [ebx], MOV_EAX
        mov     dword [ebx + 1], 0x01020304
        mov     byte [ebx + 5], RET_
        call    ebx
        check   "instruction over two pages", eax, 0x01020304
        mov     byte [OTHER_PAGE + 0x1001], 0x7F
        call    ebx
        check   "a write to the second page", eax, 0x7F020304
        mov     byte [OTHER_PAGE + 0xFFE], 0x55
        call    ebx
        check   "a write to the first page", eax, 0x7F020355
        ret

        bits    64
; Another linear address of the same physical memory; CPUID serializes.
through_an_alias:
        mov     qword [pd + 5 * 8], OTHER_PAGE | PRESENT | WRITABLE | LARGE
        invlpg  [ALIAS]
        mov     byte [OTHER_PAGE], MOV_EAX
        mov     dword [OTHER_PAGE + 1], 1
        mov     byte [OTHER_PAGE + 5], RET_
        mov     ebx, OTHER_PAGE
        call    rbx
        mov     dword [ALIAS + 1], 2
        xor     eax, eax
        cpuid
        mov     ebx, OTHER_PAGE
        call    rbx
        check   "written through another linear address", rax, 2
        ; The same linear address, now mapped to other code.
        mov     ebx, ALIAS
        mov     qword [pd + 5 * 8], OTHER_PAGE | PRESENT | WRITABLE | LARGE
        invlpg  [ALIAS]
        call    rbx
        mov     rcx, rax
        mov     qword [pd + 5 * 8], (OTHER_PAGE + 0x400000) | PRESENT | WRITABLE | LARGE
        mov     byte [OTHER_PAGE + 0x400000], MOV_EAX
        mov     dword [OTHER_PAGE + 0x400001], 4
        mov     byte [OTHER_PAGE + 0x400005], RET_
        invlpg  [ALIAS]
        call    rbx
        check   "code before the page is mapped elsewhere", rcx, 2
        check   "and after", rax, 4
        ret

        %include "end.inc"
