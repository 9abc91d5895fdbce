; Every kind of instruction and event that the debugger can stop at, twice: once in each round. Each place has a label
; at_…, which the test reads from nasm's map; kinds-of-stops.test.ts says which kinds stop where.
        %include "kernel.inc"
        %include "vmx.inc"

ROUNDS                  equ 2
IA32_SYSENTER_CS        equ 0x174
IA32_SYSENTER_ESP       equ 0x175
IA32_SYSENTER_EIP       equ 0x176
IA32_STAR               equ 0xC0000081
IA32_LSTAR              equ 0xC0000082
IA32_FMASK              equ 0xC0000084
CR4_OSXSAVE             equ 1 << 18
POST_PORT               equ 0x80
KERNEL_VECTOR           equ 0x81
USER_VECTOR             equ 0x82
UD_BIT                  equ 1 << UD

WINDOW                  equ 0x40000000          ; linear: pages of 4 KiB
TABLE_WINDOW            equ WINDOW + 0x1000     ; the window's own page table
EPT_WINDOW              equ WINDOW + 0x2000     ; EPT's page directory
EPT_PAGE                equ 6                   ; guest-physical C00000h, 2 MiB

        section .bss
        alignb  4096
other_pml4:     resb    4096
window_pd:      resb    4096
window_pt:      resb    4096
shown_page:     resb    4096
        section .data
        align   8
scratch:        dq      0
kernel_stack:   dq      0
all_contexts:   dq      0, 0                    ; descriptor of INVEPT, INVVPID and INVPCID for all there is
software_bit:   dq      1 << 52
        section .text

%macro place 1
at_%1:
%endmacro

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    prepare_kernel
        call    prepare_window
        call    prepare_vmx
        mov     r12d, ROUNDS
round:
        mov     [kernel_stack], rsp
kinds_begin:
        xor     eax, eax
        place   cpuid
        cpuid
        place   rdtsc
        rdtsc
        place   rdtscp
        rdtscp
        mov     ecx, IA32_EFER
        place   rdmsr
        rdmsr
        place   wrmsr
        wrmsr
        place   swapgs
        swapgs
        xor     ecx, ecx
        xor     edx, edx
        mov     eax, 3
        place   xsetbv
        xsetbv
        place   invd
        invd
        place   invlpg
        invlpg  [WINDOW]
        mov     eax, 2
        place   invpcid
        invpcid rax, [all_contexts]
        place   int
        int     KERNEL_VECTOR

; Ports
        mov     edx, POST_PORT
        place   out
        out     dx, al
        place   in
        in      al, dx
        mov     edi, scratch
        place   insb
        insb
        mov     edi, scratch
        place   insw
        insw
        mov     edi, scratch
        place   insd
        insd
        mov     esi, scratch
        place   outsb
        outsb
        mov     esi, scratch
        place   outsw
        outsw
        mov     esi, scratch
        place   outsd
        outsd

; Control registers and address spaces
        mov     rax, cr0
        place   cr0_write
        mov     cr0, rax
        place   clts
        clts
        mov     rax, cr4
        place   cr4_write
        mov     cr4, rax
        place   cr3_read
        mov     rbx, cr3
        mov     eax, other_pml4
        place   cr3_other
        mov     cr3, rax
        place   space_other
        nop
        place   cr3_own
        mov     cr3, rbx
        place   space_own
        nop

; Ring 3 and back, in three ways
        mov     ecx, user_syscall
        mov     r11d, 2
        place   sysret
        o64 sysret
user_syscall:
        place   ring3_by_sysret
        nop
        place   syscall
        syscall
syscall_entry:
        mov     rsp, [kernel_stack]
        mov     edx, user_sysenter
        mov     ecx, user_stack_top
        place   sysexit
        o64 sysexit
user_sysenter:
        place   ring3_by_sysexit
        nop
        place   sysenter
        sysenter
sysenter_entry:
        mov     rsp, [kernel_stack]
        push    USER_DATA
        push    user_stack_top
        push    2
        push    USER64
        push    user_interrupt
        place   iret_to_user
        iretq
user_interrupt:
        place   ring3_by_iret
        nop
        place   int_by_user
        int     USER_VECTOR
kernel_handler:
        place   iret_in_kernel
        iretq
user_handler:
        mov     rsp, [kernel_stack]

; VMX
        place   vmxon
        vmxon   [vmxon_pointer]
        place   vmclear
        vmclear [vmcs_pointer]
        place   vmptrld
        vmptrld [vmcs_pointer]
        call    fill_vmcs
        call    fill_own_fields
        place   vmptrst
        vmptrst [scratch]
        mov     eax, 2
        place   invept
        invept  rax, [all_contexts]
        place   invvpid
        invvpid rax, [all_contexts]
        mov     eax, GUEST_RSP
        place   vmread
        vmread  rbx, rax
        place   vmwrite
        vmwrite rax, rbx

; Table entries, by the VMM
        place   pte_write
        or      qword [window_pt], 0x200
        place   pte_write_elsewhere
        or      qword [TABLE_WINDOW], 0x800
        place   pte_walk
        mov     al, [WINDOW]
        place   pte_read
        mov     rax, [window_pt]
        mov     rdx, [software_bit]
        place   epte_write
        or      [ept_pd + 8 * EPT_PAGE], rdx
        add     rdx, rdx
        place   epte_write_elsewhere
        or      [EPT_WINDOW + 8 * EPT_PAGE], rdx

        place   vmlaunch
        vmlaunch
exited:
        call    advance_guest
        je      last_exit
        place   vmresume
        vmresume
last_exit:
        mov     rsp, [kernel_stack]
        place   pte_restore
        mov     qword [window_pt], shown_page + (PRESENT | WRITABLE)
        place   vmxoff
        vmxoff
        dec     r12d
        jnz     round
        place   done
        nop
        jmp     finish64

guest_code:
        xor     eax, eax
        place   guest_cpuid
        cpuid
        place   guest_hlt
        hlt
        place   pte_write_by_guest
        or      qword [window_pt], 0x400
        mov     rdx, [software_bit]
        shl     rdx, 2
        place   epte_write_by_guest
        or      [ept_pd + 8 * EPT_PAGE], rdx
        place   guest_cr3_read
        mov     rax, cr3
        place   guest_cr3_write
        mov     cr3, rax
        xor     eax, eax
        xor     ecx, ecx
        place   vmfunc
        vmfunc                                  ; #UD, as VM functions are off
        place   vmcall
        vmcall
kinds_end:

; Past the guest's instruction. @returns ZF: it was its last one
advance_guest:
        mov     eax, EXIT_REASON
        vmread  rdi, rax
        mov     ecx, EXIT_INSTRUCTION_LENGTH
        vmread  rcx, rcx
        test    edi, edi                        ; an exception: no length
        jnz     .known
        mov     ecx, 3
.known: mov     eax, GUEST_RIP
        vmread  rbx, rax
        add     rbx, rcx
        vmwrite rax, rbx
        cmp     edi, 18                         ; VMCALL
        ret

fill_own_fields:
        put     HOST_RIP, exited
        mov     rdx, [kernel_stack]
        put     HOST_RSP, rdx
        put     HOST_SYSENTER_CS, CODE64
        put     HOST_SYSENTER_ESP, stack_top
        put     HOST_SYSENTER_EIP, sysenter_entry
        put     GUEST_RIP, guest_code
        put     EXCEPTION_BITMAP, UD_BIT
        mov     eax, PRIMARY_CONTROLS
        vmread  rbx, rax
        or      ebx, PRIMARY_HLT
        vmwrite rax, rbx
        ret

; WRMSR: %1 the MSR, %2 the value.
%macro write_msr 2
        mov     ecx, %1
        mov     rax, %2
        mov     rdx, rax
        shr     rdx, 32
        wrmsr
%endmacro

prepare_kernel:
        mov     ecx, IA32_EFER
        rdmsr
        or      eax, EFER_SCE
        wrmsr
        write_msr IA32_STAR, (CODE64 << 32) | ((USER32 & ~3) << 48)
        write_msr IA32_LSTAR, syscall_entry
        write_msr IA32_FMASK, 0
        write_msr IA32_SYSENTER_CS, CODE64
        write_msr IA32_SYSENTER_ESP, stack_top
        write_msr IA32_SYSENTER_EIP, sysenter_entry
        mov     rax, cr4
        or      eax, CR4_OSXSAVE
        mov     cr4, rax
        mov     edi, idt64 + 16 * KERNEL_VECTOR
        mov     eax, kernel_handler
        call    .gate
        mov     edi, idt64 + 16 * USER_VECTOR
        mov     eax, user_handler
.gate:  mov     [rdi], ax
        shr     eax, 16
        mov     [rdi + 6], ax
        mov     byte [rdi + 5], 0xEE            ; ring 3 may use it
        ret

; The window's tables, and another root with the same contents.
prepare_window:
        mov     qword [pdpt + 8], window_pd + (PRESENT | WRITABLE)
        mov     qword [window_pd], window_pt + (PRESENT | WRITABLE)
        mov     qword [window_pt], shown_page + (PRESENT | WRITABLE)
        mov     qword [window_pt + 8], window_pt + (PRESENT | WRITABLE)
        mov     qword [window_pt + 16], ept_pd + (PRESENT | WRITABLE)
        mov     rax, [pml4]
        mov     [other_pml4], rax
        ret

        %include "end.inc"
