; VM exits: reason, exit qualification, instruction length and information, and what the guest's state is then.
; SDM volume 3C, "VMX Non-Root Operation" and "VM Exits".
        %include "kernel.inc"
        %include "vmx.inc"

REASON_EXCEPTION        equ 0
REASON_INTERRUPT        equ 1
REASON_TRIPLE_FAULT     equ 2
REASON_INTERRUPT_WINDOW equ 7
REASON_CPUID            equ 10
REASON_HLT              equ 12
REASON_INVLPG           equ 14
REASON_RDTSC            equ 16
REASON_VMCALL           equ 18
REASON_VMCLEAR          equ 19
REASON_VMLAUNCH         equ 20
REASON_VMPTRLD          equ 21
REASON_VMREAD           equ 23
REASON_VMWRITE          equ 25
REASON_VMXOFF           equ 26
REASON_CR               equ 28
REASON_DR               equ 29
REASON_IO               equ 30
REASON_RDMSR            equ 31
REASON_WRMSR            equ 32
REASON_EPT_VIOLATION    equ 48
REASON_EPT_MISCONFIGURATION equ 49
REASON_INVEPT           equ 50
REASON_PREEMPTION_TIMER equ 52

VALID                   equ 1 << 31
HAS_ERROR_CODE          equ 1 << 11
TYPE_EXTERNAL           equ 0 << 8
TYPE_EXCEPTION          equ 3 << 8
TYPE_SOFTWARE_INTERRUPT equ 4 << 8
TYPE_SOFTWARE_EXCEPTION equ 6 << 8

BLOCKING_BY_STI         equ 1
BLOCKING_BY_MOV_SS      equ 2

APIC                    equ 0xFEE00000
APIC_VECTOR             equ 0x51
GUEST_VECTOR            equ 0x30
MISSING                 equ 0x40000000          ; guest-physical and linear: our tables end there
SPLIT                   equ 0x00C00000          ; guest-physical: a 2 MiB page of EPT that is split into 4 KiB

        section .bss
        alignb  4096
io_bitmaps:     resb    8192
msr_bitmap:     resb    4096
guest_idt:      resb    4096
msr_area:       resb    64
        section .data
        align   8
scratch:        dq      0
        section .text

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        mov     eax, APIC | PRESENT | WRITABLE | LARGE
        mov     [pd + 511 * 8], rax             ; linear APIC_AT(0), for us and for the guest
        call    start_vmx
        call    make_guest_idt
        call    unconditional
        call    conditional
        call    input_output
        call    msrs
        call    cr_accesses
        call    dr_accesses
        call    vmx_instructions
        call    exceptions
        call    interrupts
        call    preemption
        call    ept
        call    injection
        call    vectoring
        call    msr_areas
        vmxoff
        jmp     finish64

%define APIC_AT(offset) (0x3FE00000 + (offset))

%macro set_bits 2                               ; of a control field
        mov     eax, %1
        vmread  rbx, rax
        or      ebx, %2
        vmwrite rax, rbx
%endmacro
%macro clear_bits 2
        mov     eax, %1
        vmread  rbx, rax
        and     ebx, ~(%2)
        vmwrite rax, rbx
%endmacro

; Gates to a VMCALL, so that every event the guest takes is seen as a VM exit with the guest's stack in GUEST_RSP.
make_guest_idt:
        xor     ecx, ecx
.next:  mov     edx, ecx
        shl     edx, 4
        mov     eax, guest_handler
        mov     [guest_idt + rdx], ax
        mov     word [guest_idt + rdx + 2], CODE64
        mov     word [guest_idt + rdx + 4], 0x8E00
        shr     eax, 16
        mov     [guest_idt + rdx + 6], ax
        inc     ecx
        cmp     ecx, 256
        jne     .next
        put     GUEST_IDTR_BASE, guest_idt
        ret
guest_handler:
        vmcall
        iretq

; ---- Instructions ----

unconditional:
        run_guest .cpuid
        check_field "CPUID: reason", EXIT_REASON, REASON_CPUID
        check_field "CPUID: qualification", EXIT_QUALIFICATION, 0
        check_field "CPUID: length", EXIT_INSTRUCTION_LENGTH, 2
        check_field "CPUID: RIP is at the instruction", GUEST_RIP, .cpuid_at
        check_field "flags are as in the guest", GUEST_RFLAGS, 2 | FLAG_CF
        check_field "RSP is as in the guest", GUEST_RSP, guest_stack_top - 8
        check   "a register is as in the guest", [guest.rbx], 0x1234
        skip_instruction
        call    enter_guest
        check_field "VMCALL: reason", EXIT_REASON, REASON_VMCALL
        check_field "VMCALL: length", EXIT_INSTRUCTION_LENGTH, 3
        run_guest .prefixed
        check_field "CPUID with prefixes: length", EXIT_INSTRUCTION_LENGTH, 4
        run_guest .sti
        check_field "behind STI: blocking by STI", GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI
        put     GUEST_INTERRUPTIBILITY, 0
        put     GUEST_RFLAGS, 2
        run_guest .mov_ss
        check_field "behind MOV SS: blocking by MOV SS", GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS
        put     GUEST_INTERRUPTIBILITY, 0
        ret
.cpuid: push    rax
        mov     ebx, 0x1234
        stc
.cpuid_at:
        cpuid
        vmcall
.prefixed:
        db      0x66, 0x2E
        cpuid
.sti:   sti
        cpuid
.mov_ss:
        mov     eax, ss
        mov     ss, eax
        cpuid

conditional:
        run_guest .rdtsc
        check_field "RDTSC without exiting", EXIT_REASON, REASON_VMCALL
        set_bits PRIMARY_CONTROLS, PRIMARY_RDTSC
        run_guest .rdtsc
        check_field "RDTSC with exiting", EXIT_REASON, REASON_RDTSC
        check_field "RDTSC: length", EXIT_INSTRUCTION_LENGTH, 2
        clear_bits PRIMARY_CONTROLS, PRIMARY_RDTSC
        set_bits PRIMARY_CONTROLS, PRIMARY_TSC_OFFSETTING
        mov     ecx, 0x10
        xor     eax, eax
        xor     edx, edx
        wrmsr
        put     TSC_OFFSET, 0x500000000000
        run_guest .rdtsc
        check   "TSC offsetting", [guest.rdx], 0x5000
        clear_bits PRIMARY_CONTROLS, PRIMARY_TSC_OFFSETTING

        set_bits PRIMARY_CONTROLS, PRIMARY_HLT
        run_guest .hlt
        check_field "HLT: reason", EXIT_REASON, REASON_HLT
        check_field "HLT: length", EXIT_INSTRUCTION_LENGTH, 1
        check_field "HLT: the activity state is active", GUEST_ACTIVITY, 0
        run_guest .invlpg
        check_field "INVLPG without exiting", EXIT_REASON, REASON_VMCALL
        set_bits PRIMARY_CONTROLS, PRIMARY_INVLPG
        run_guest .invlpg
        check_field "INVLPG: reason", EXIT_REASON, REASON_INVLPG
        check_field "INVLPG: qualification is the address", EXIT_QUALIFICATION, 0x123456
        clear_bits PRIMARY_CONTROLS, PRIMARY_INVLPG
        ret
.rdtsc: rdtsc
        vmcall
.hlt:   hlt
.invlpg: invlpg [0x123456]
        vmcall

SIZE_1          equ 0                           ; I/O qualification
SIZE_2          equ 1
SIZE_4          equ 3
IN_             equ 1 << 3
STRING_         equ 1 << 4
REP_            equ 1 << 5
IMMEDIATE       equ 1 << 6

input_output:
        run_guest .out
        check_field "OUT without exiting", EXIT_REASON, REASON_VMCALL
        set_bits PRIMARY_CONTROLS, PRIMARY_UNCONDITIONAL_IO
        run_guest .out
        check_field "OUT: reason", EXIT_REASON, REASON_IO
        check_field "OUT DX, AL", EXIT_QUALIFICATION, 0x0080 << 16 | SIZE_1
        run_guest .in_imm
        check_field "IN EAX, imm8", EXIT_QUALIFICATION, 0x84 << 16 | SIZE_4 | IN_ | IMMEDIATE
        check_field "IN EAX, imm8: length", EXIT_INSTRUCTION_LENGTH, 2
        run_guest .outsw
        check_field "REP OUTSW", EXIT_QUALIFICATION, 0x80 << 16 | SIZE_2 | STRING_ | REP_
        check_field "REP OUTSW: linear address", GUEST_LINEAR_ADDRESS, scratch
        mov     ecx, EXIT_INSTRUCTION_INFORMATION
        vmread  rdx, rcx
        and     edx, 7 << 7 | 7 << 15
        check   "REP OUTSW: 64-bit addresses, segment DS", rdx, 2 << 7 | 3 << 15
        run_guest .insb
        check_field "INSB", EXIT_QUALIFICATION, 0x80 << 16 | SIZE_1 | STRING_ | IN_
        check_field "INSB: linear address", GUEST_LINEAR_ADDRESS, scratch
        clear_bits PRIMARY_CONTROLS, PRIMARY_UNCONDITIONAL_IO

        put     IO_BITMAP_A, io_bitmaps
        put     IO_BITMAP_B, io_bitmaps + 4096
        set_bits PRIMARY_CONTROLS, PRIMARY_IO_BITMAPS
        run_guest .out
        check_field "I/O bitmap with 0", EXIT_REASON, REASON_VMCALL
        mov     byte [io_bitmaps + 0x80 / 8], 1
        run_guest .out
        check_field "I/O bitmap with 1", EXIT_REASON, REASON_IO
        mov     byte [io_bitmaps + 0x80 / 8], 0
        mov     byte [io_bitmaps + 0x80 / 8], 8         ; port 83h
        run_guest .out32
        check_field "a dword access looks at four bits", EXIT_REASON, REASON_IO
        mov     byte [io_bitmaps + 0x80 / 8], 0
        mov     byte [io_bitmaps + 4096], 1             ; port 8000h
        run_guest .out8000
        check_field "I/O bitmap B", EXIT_REASON, REASON_IO
        mov     byte [io_bitmaps + 4096], 0
        run_guest .wrap
        check_field "an access that wraps around port FFFFh always exits", EXIT_REASON, REASON_IO
        clear_bits PRIMARY_CONTROLS, PRIMARY_IO_BITMAPS
        ret
.out:   mov     edx, 0x80
        out     dx, al
        vmcall
.in_imm: in     eax, 0x84
.outsw: mov     edx, 0x80
        mov     esi, scratch
        mov     ecx, 5
        rep     outsw
.insb:  mov     edx, 0x80
        mov     edi, scratch
        insb
.out32: mov     edx, 0x80
        out     dx, eax
        vmcall
.out8000:
        mov     edx, 0x8000
        out     dx, al
        vmcall
.wrap:  mov     edx, 0xFFFF
        in      ax, dx
        vmcall

msrs:
        run_guest .rdmsr
        check_field "RDMSR: reason", EXIT_REASON, REASON_RDMSR
        check_field "RDMSR: length", EXIT_INSTRUCTION_LENGTH, 2
        run_guest .wrmsr
        check_field "WRMSR: reason", EXIT_REASON, REASON_WRMSR
        put     MSR_BITMAP, msr_bitmap
        set_bits PRIMARY_CONTROLS, PRIMARY_MSR_BITMAPS
        run_guest .rdmsr
        check_field "MSR bitmap: read low, 0", EXIT_REASON, REASON_VMCALL
        mov     byte [msr_bitmap + 0x174 / 8], 1 << (0x174 & 7)
        run_guest .rdmsr
        check_field "MSR bitmap: read low, 1", EXIT_REASON, REASON_RDMSR
        run_guest .wrmsr
        check_field "MSR bitmap: write low, 0", EXIT_REASON, REASON_VMCALL
        mov     byte [msr_bitmap + 2048 + 0x174 / 8], 1 << (0x174 & 7)
        run_guest .wrmsr
        check_field "MSR bitmap: write low, 1", EXIT_REASON, REASON_WRMSR
        run_guest .rdmsr_high
        check_field "MSR bitmap: read high, 0", EXIT_REASON, REASON_VMCALL
        mov     byte [msr_bitmap + 1024 + 0x82 / 8], 1 << (0x82 & 7)
        run_guest .rdmsr_high
        check_field "MSR bitmap: read high, 1", EXIT_REASON, REASON_RDMSR
        run_guest .rdmsr_other
        check_field "an MSR outside both ranges always exits", EXIT_REASON, REASON_RDMSR
        clear_bits PRIMARY_CONTROLS, PRIMARY_MSR_BITMAPS
        ret
.rdmsr: mov     ecx, 0x174
        rdmsr
        vmcall
.wrmsr: mov     ecx, 0x174
        xor     eax, eax
        xor     edx, edx
        wrmsr
        vmcall
.rdmsr_high:
        mov     ecx, 0xC0000082
        rdmsr
        vmcall
.rdmsr_other:
        mov     ecx, 0x40000000
        rdmsr
        vmcall

TYPE_MOV_TO     equ 0 << 4                      ; CR qualification
TYPE_MOV_FROM   equ 1 << 4
TYPE_CLTS       equ 2 << 4
TYPE_LMSW       equ 3 << 4
R_RCX           equ 1 << 8
R_R9            equ 9 << 8
CR0_TS          equ 8

cr_accesses:
        ; CR0: TS belongs to the host, and reads as 1.
        put     CR0_MASK, CR0_TS
        put     CR0_SHADOW, CR0_TS
        run_guest .read0
        mov     rax, [guest.rax]
        and     eax, CR0_TS
        check   "the read shadow of CR0", rax, CR0_TS
        run_guest .same0
        check_field "MOV to CR0 with the shadow's value does not exit", EXIT_REASON, REASON_VMCALL
        run_guest .other0
        check_field "MOV to CR0: reason", EXIT_REASON, REASON_CR
        check_field "MOV to CR0: qualification", EXIT_QUALIFICATION, 0 | TYPE_MOV_TO | R_RCX
        check_field "MOV to CR0: length", EXIT_INSTRUCTION_LENGTH, 3
        run_guest .clts
        check_field "CLTS: qualification", EXIT_QUALIFICATION, 0 | TYPE_CLTS
        run_guest .lmsw
        check_field "LMSW: qualification", EXIT_QUALIFICATION, 0 | TYPE_LMSW | 0x0001 << 16
        put     CR0_SHADOW, 0
        run_guest .clts
        check_field "CLTS with TS = 0 in the shadow does not exit", EXIT_REASON, REASON_VMCALL
        put     CR0_MASK, 0

        put     CR4_MASK, CR4_VMXE
        put     CR4_SHADOW, 0
        run_guest .read4
        mov     rax, [guest.rax]
        and     eax, CR4_VMXE
        check   "the read shadow of CR4", rax, 0
        run_guest .other4
        check_field "MOV to CR4: qualification", EXIT_QUALIFICATION, 4 | TYPE_MOV_TO | R_R9
        put     CR4_MASK, 0

        run_guest .load3
        check_field "MOV to CR3 without exiting", EXIT_REASON, REASON_VMCALL
        set_bits PRIMARY_CONTROLS, PRIMARY_CR3_LOAD | PRIMARY_CR3_STORE
        run_guest .load3
        check_field "MOV to CR3: qualification", EXIT_QUALIFICATION, 3 | TYPE_MOV_TO | R_RCX
        run_guest .store3
        check_field "MOV from CR3: qualification", EXIT_QUALIFICATION, 3 | TYPE_MOV_FROM | R_R9
        put     CR3_TARGET_0, pml4
        put     CR3_TARGET_COUNT, 1
        run_guest .load3
        check_field "MOV to CR3 of a CR3-target value", EXIT_REASON, REASON_VMCALL
        put     CR3_TARGET_COUNT, 0
        clear_bits PRIMARY_CONTROLS, PRIMARY_CR3_LOAD | PRIMARY_CR3_STORE
        ret
.read0: mov     rax, cr0
        vmcall
.same0: mov     rcx, cr0
        mov     cr0, rcx
        vmcall
.other0: mov    rcx, cr0
        and     rcx, ~CR0_TS
        mov     cr0, rcx
        vmcall
.clts:  clts
        vmcall
.lmsw:  mov     ecx, 1
        lmsw    cx
        vmcall
.read4: mov     rax, cr4
        vmcall
.other4: mov    r9, cr4
        or      r9, CR4_VMXE
        mov     cr4, r9
        vmcall
.load3: mov     ecx, pml4
        mov     cr3, rcx
        vmcall
.store3: mov    r9, cr3
        vmcall

dr_accesses:
        run_guest .to
        check_field "MOV to DR without exiting", EXIT_REASON, REASON_VMCALL
        set_bits PRIMARY_CONTROLS, PRIMARY_MOV_DR
        run_guest .to
        check_field "MOV to DR: reason", EXIT_REASON, REASON_DR
        check_field "MOV to DR: qualification", EXIT_QUALIFICATION, 3 | R_RCX
        run_guest .from
        check_field "MOV from DR: qualification", EXIT_QUALIFICATION, 7 | 1 << 4 | R_R9
        clear_bits PRIMARY_CONTROLS, PRIMARY_MOV_DR
        ret
.to:    xor     ecx, ecx
        mov     dr3, rcx
        vmcall
.from:  mov     r9, dr7
        vmcall

; Instruction information: scaling 1:0, first register 6:3, address size 9:7, register form 10, segment 17:15, index
; 21:18 (22: none), base 26:23 (27: none), second register 31:28.
MEMORY_BITS     equ 3 | 7 << 7 | 1 << 10 | 7 << 15 | 15 << 18 | 1 << 22 | 15 << 23 | 1 << 27
SIZE_64         equ 2 << 7
SEGMENT_DS      equ 3 << 15
SEGMENT_SS      equ 2 << 15
NO_INDEX        equ 1 << 22
NO_BASE         equ 1 << 27

%macro check_information 3                      ; name, bits that count, value
        mov     ecx, EXIT_INSTRUCTION_INFORMATION
        vmread  rdx, rcx
        and     edx, %2
        check   %1, rdx, %3
%endmacro

vmx_instructions:
        run_guest .vmptrld
        check_field "VMPTRLD: reason", EXIT_REASON, REASON_VMPTRLD
        check_field "VMPTRLD: qualification is the displacement", EXIT_QUALIFICATION, 0x1234
        ; Index RCX times 4, base RBX.
        check_information "VMPTRLD: information", MEMORY_BITS & ~((1 << 22) | (1 << 27)), \
                2 | SIZE_64 | SEGMENT_DS | 1 << 18 | 3 << 23
        run_guest .vmclear
        check_field "VMCLEAR: reason", EXIT_REASON, REASON_VMCLEAR
        check_field "VMCLEAR: negative displacement", EXIT_QUALIFICATION, -8
        check_information "VMCLEAR: base RSP, no index", MEMORY_BITS & ~(3 | 15 << 18), \
                SIZE_64 | SEGMENT_SS | NO_INDEX | 4 << 23
        run_guest .vmread
        check_field "VMREAD: reason", EXIT_REASON, REASON_VMREAD
        check_information "VMREAD of a register: information", 15 << 3 | 1 << 10 | 15 << 28, 10 << 3 | 1 << 10 | 3 << 28
        run_guest .vmwrite
        check_field "VMWRITE: reason", EXIT_REASON, REASON_VMWRITE
        check_field "VMWRITE: RIP-relative address", EXIT_QUALIFICATION, scratch
        check_information "VMWRITE: no base, no index", NO_INDEX | NO_BASE | 15 << 28, NO_INDEX | NO_BASE | 8 << 28
        run_guest .vmlaunch
        check_field "VMLAUNCH: reason", EXIT_REASON, REASON_VMLAUNCH
        run_guest .vmxoff
        check_field "VMXOFF: reason", EXIT_REASON, REASON_VMXOFF
        run_guest .invept
        check_field "INVEPT: reason", EXIT_REASON, REASON_INVEPT
        check_information "INVEPT: second register", 15 << 28, 2 << 28
        ret
.vmptrld: vmptrld [rbx + rcx * 4 + 0x1234]
.vmclear: vmclear [rsp - 8]
.vmread: vmread r10, rbx
.vmwrite: vmwrite r8, [rel scratch]
.vmlaunch: vmlaunch
.vmxoff: vmxoff
.invept: invept rdx, [scratch]

; ---- Events ----

exceptions:
        run_guest .ud
        check_field "exception bitmap 0: the guest's handler", EXIT_REASON, REASON_VMCALL
        check_field "its own stack", GUEST_RSP, guest_stack_top - 40
        put     EXCEPTION_BITMAP, 1 << UD | 1 << GP | 1 << PF | 1 << BP_ | 1 << DE
        put     GUEST_RFLAGS, 2
        run_guest .ud
        check_field "#UD: reason", EXIT_REASON, REASON_EXCEPTION
        check_field "#UD: interruption information", EXIT_INTERRUPTION_INFORMATION, VALID | TYPE_EXCEPTION | UD
        check_field "#UD: RIP is at the instruction", GUEST_RIP, .ud
        run_guest .gp
        check_field "#GP: interruption information", EXIT_INTERRUPTION_INFORMATION, \
                VALID | HAS_ERROR_CODE | TYPE_EXCEPTION | GP
        check_field "#GP: error code", EXIT_INTERRUPTION_ERROR_CODE, 0xFFF0
        run_guest .pf
        check_field "#PF: interruption information", EXIT_INTERRUPTION_INFORMATION, \
                VALID | HAS_ERROR_CODE | TYPE_EXCEPTION | PF
        check_field "#PF: qualification is the address", EXIT_QUALIFICATION, MISSING + 0x123
        check_field "#PF: error code", EXIT_INTERRUPTION_ERROR_CODE, 2
        run_guest .bp
        check_field "INT3: interruption information", EXIT_INTERRUPTION_INFORMATION, \
                VALID | TYPE_SOFTWARE_EXCEPTION | BP_
        check_field "INT3: length", EXIT_INSTRUCTION_LENGTH, 1
        check_field "INT3: RIP is at the instruction", GUEST_RIP, .bp
        ; Page faults exit when (error code AND mask) = match, turned round by the bitmap's bit 14.
        put     PAGE_FAULT_MASK, 2
        put     PAGE_FAULT_MATCH, 0
        run_guest .pf
        check_field "#PF that does not match", EXIT_REASON, REASON_VMCALL
        put     PAGE_FAULT_MATCH, 2
        run_guest .pf
        check_field "#PF that matches", EXIT_REASON, REASON_EXCEPTION
        put     PAGE_FAULT_MASK, 0
        put     PAGE_FAULT_MATCH, 0
        put     EXCEPTION_BITMAP, 0
        put     GUEST_IDTR_LIMIT, 0
        run_guest .ud
        check_field "triple fault: reason", EXIT_REASON, REASON_TRIPLE_FAULT
        check_field "triple fault: qualification", EXIT_QUALIFICATION, 0
        put     GUEST_IDTR_LIMIT, 4095
        ret
.ud:    ud2
.gp:    mov     eax, 0xFFF3
        mov     fs, eax
.pf:    mov     [MISSING + 0x123], al
.bp:    int3

; A one-shot of the local APIC's timer in the guest, at linear APIC_AT(0).
interrupts:
        mov     dword [APIC_AT(0xF0)], 0x1FF
        mov     dword [APIC_AT(0x3E0)], 3
        mov     dword [APIC_AT(0x320)], APIC_VECTOR
        mov     eax, .host_handler
        mov     [idt64 + 16 * APIC_VECTOR], ax
        shr     eax, 16
        mov     [idt64 + 16 * APIC_VECTOR + 6], ax
        set_bits PIN_BASED_CONTROLS, PIN_EXTERNAL_INTERRUPT
        mov     dword [APIC_AT(0x380)], 1000
        put     GUEST_RFLAGS, 2 | FLAG_IF
        run_guest .spin
        check_field "external interrupt: reason", EXIT_REASON, REASON_INTERRUPT
        mov     ecx, EXIT_INTERRUPTION_INFORMATION
        vmread  rdx, rcx
        shr     edx, 31
        check   "without acknowledging there is no information", rdx, 0
        mov     eax, [APIC_AT(0x220)]
        check   "and the interrupt stays requested", rax, 1 << (APIC_VECTOR & 31)
        set_bits EXIT_CONTROLS, EXIT_ACKNOWLEDGE_INTERRUPT
        run_guest .spin
        check_field "acknowledged: interruption information", EXIT_INTERRUPTION_INFORMATION, \
                VALID | TYPE_EXTERNAL | APIC_VECTOR
        mov     eax, [APIC_AT(0x120)]
        check   "and the interrupt is in service", rax, 1 << (APIC_VECTOR & 31)
        mov     dword [APIC_AT(0xB0)], 0
        clear_bits EXIT_CONTROLS, EXIT_ACKNOWLEDGE_INTERRUPT
        ; RFLAGS.IF does not hold it back. The preemption timer ends the guest where it does.
        mov     dword [APIC_AT(0x380)], 1000
        put     GUEST_RFLAGS, 2
        set_bits PIN_BASED_CONTROLS, PIN_PREEMPTION_TIMER
        put     PREEMPTION_TIMER, 1000000
        run_guest .spin
        check_field "external interrupt with IF = 0", EXIT_REASON, REASON_INTERRUPT
        clear_bits PIN_BASED_CONTROLS, PIN_PREEMPTION_TIMER | PIN_EXTERNAL_INTERRUPT
        sti                                     ; let our own handler have it
        nop
        nop
        cli
        ; Without exiting the guest's own handler has it.
        mov     dword [APIC_AT(0x380)], 1000
        put     GUEST_RFLAGS, 2 | FLAG_IF
        run_guest .spin
        check_field "without exiting the guest takes it", EXIT_REASON, REASON_VMCALL
        mov     dword [APIC_AT(0xB0)], 0

        set_bits PRIMARY_CONTROLS, PRIMARY_INTERRUPT_WINDOW
        put     GUEST_RFLAGS, 2
        run_guest .window
        check_field "interrupt window: reason", EXIT_REASON, REASON_INTERRUPT_WINDOW
        check_field "interrupt window: behind the shadow of STI", GUEST_RIP, .window_at
        put     GUEST_RFLAGS, 2 | FLAG_IF
        run_guest .spin
        check_field "an open window exits before the first instruction", GUEST_RIP, .spin
        clear_bits PRIMARY_CONTROLS, PRIMARY_INTERRUPT_WINDOW
        put     GUEST_RFLAGS, 2
        ret
.host_handler:
        mov     dword [APIC_AT(0xB0)], 0
        iretq
.spin:  jmp     .spin
.window: sti
        nop
.window_at:
        nop
        vmcall

preemption:
        set_bits PIN_BASED_CONTROLS, PIN_PREEMPTION_TIMER
        put     PREEMPTION_TIMER, 1000
        run_guest interrupts.spin
        check_field "VMX-preemption timer: reason", EXIT_REASON, REASON_PREEMPTION_TIMER
        check_field "VMX-preemption timer: qualification", EXIT_QUALIFICATION, 0
        put     PREEMPTION_TIMER, 0
        run_guest interrupts.spin
        check_field "a timer of 0 exits before the first instruction", GUEST_RIP, interrupts.spin
        clear_bits PIN_BASED_CONTROLS, PIN_PREEMPTION_TIMER
        ret

; ---- EPT ----

EPT_READ        equ 1
EPT_WRITE       equ 2
EPT_EXECUTE     equ 4
EPT_WB          equ 6 << 3
EPT_RIGHTS      equ 3                           ; qualification: bits 5:3 are the rights found
LINEAR_VALID    equ 1 << 7
NOT_A_WALK      equ 1 << 8
QUALIFICATION_BITS equ 0x1BF

%macro set_ept_page 1                           ; the first 4 KiB of SPLIT
        mov     rax, %1
        mov     [ept_pt], rax
        mov     eax, 2
        invept  rax, [null_descriptor]
%endmacro

%macro check_qualification 2
        mov     ecx, EXIT_QUALIFICATION
        vmread  rdx, rcx
        and     edx, QUALIFICATION_BITS
        check   %1, rdx, %2
%endmacro

        section .data
        align   16
null_descriptor: dq     0, 0
        section .text

ept:
        mov     rax, SPLIT | EPT_READ | EPT_WRITE | EPT_EXECUTE | EPT_WB
        xor     ecx, ecx
.fill:  mov     [ept_pt + rcx * 8], rax
        add     rax, 4096
        inc     ecx
        cmp     ecx, 512
        jne     .fill
        mov     qword [ept_pd + 8 * (SPLIT >> 21)], ept_pt + 7
        mov     dword [SPLIT + 0x123], 0xAAAAAAAA

        set_ept_page 0
        run_guest .read
        check_field "EPT violation: reason", EXIT_REASON, REASON_EPT_VIOLATION
        check_qualification "read of a page that is not there", 1 | LINEAR_VALID | NOT_A_WALK
        check_field "guest-physical address", GUEST_PHYSICAL_ADDRESS, SPLIT + 0x123
        check_field "guest-linear address", GUEST_LINEAR_ADDRESS, SPLIT + 0x123
        check_field "RIP is at the instruction", GUEST_RIP, .read
        set_ept_page SPLIT | EPT_READ | EPT_WB
        run_guest .read
        check   "a page with the right to read", [guest.rax], 0xAAAAAAAA
        run_guest .write
        check_qualification "write to a page with R", 2 | EPT_READ << EPT_RIGHTS | LINEAR_VALID | NOT_A_WALK
        run_guest SPLIT + 0x123
        check_qualification "fetch from a page with R", 4 | EPT_READ << EPT_RIGHTS | LINEAR_VALID | NOT_A_WALK
        set_ept_page SPLIT | EPT_READ | EPT_WRITE | EPT_WB
        run_guest .write
        check_field "a page with the right to write", EXIT_REASON, REASON_VMCALL
        ; The whole region of the page directory's entry.
        mov     qword [ept_pd + 8 * (SPLIT >> 21)], ept_pt + EPT_READ
        set_ept_page SPLIT | EPT_READ | EPT_WRITE | EPT_EXECUTE | EPT_WB
        run_guest .write
        check_qualification "rights are the and of all levels", 2 | EPT_READ << EPT_RIGHTS | LINEAR_VALID | NOT_A_WALK
        mov     qword [ept_pd + 8 * (SPLIT >> 21)], ept_pt + 7

        ; A page walk of the guest into a page that is not there: not the final address.
        set_ept_page 0
        mov     qword [pdpt + 16], SPLIT + (PRESENT | WRITABLE)
        run_guest .walk
        check_qualification "guest page walk", 1 | LINEAR_VALID
        check_field "guest page walk: guest-physical address of the entry", GUEST_PHYSICAL_ADDRESS, SPLIT + 8
        check_field "guest page walk: guest-linear address", GUEST_LINEAR_ADDRESS, 0x80200123
        mov     qword [pdpt + 16], 0

        set_ept_page SPLIT | EPT_WRITE | EPT_WB
        run_guest .read
        check_field "write without read is a misconfiguration", EXIT_REASON, REASON_EPT_MISCONFIGURATION
        check_field "misconfiguration: guest-physical address", GUEST_PHYSICAL_ADDRESS, SPLIT + 0x123
        set_ept_page SPLIT | EPT_READ | 2 << 3
        run_guest .read
        check_field "a reserved memory type is one", EXIT_REASON, REASON_EPT_MISCONFIGURATION
        set_ept_page SPLIT | EPT_READ | EPT_WB | 1 << 51
        run_guest .read
        check_field "an address bit beyond the width is one", EXIT_REASON, REASON_EPT_MISCONFIGURATION
        set_ept_page SPLIT | EPT_READ | EPT_WRITE | EPT_EXECUTE | EPT_WB
        run_guest .read
        check_field "and all is well again", EXIT_REASON, REASON_VMCALL
        ret
.read:  mov     eax, [SPLIT + 0x123]
        vmcall
.write: mov     dword [SPLIT + 0x123], 0xAAAAAAAA
        vmcall
.walk:  mov     eax, 0x80200123
        mov     eax, [rax]
        vmcall

; ---- Event injection ----

injection:
        put     ENTRY_INTERRUPTION_INFORMATION, VALID | TYPE_EXTERNAL | GUEST_VECTOR
        put     GUEST_RFLAGS, 2 | FLAG_IF
        run_guest .spin
        check_field "external interrupt: in the guest's handler", GUEST_RIP, guest_handler
        check   "external interrupt: the saved RIP", [guest_stack_top - 40], .spin
        check_field "external interrupt: IF is cleared", GUEST_RFLAGS, 2
        check_field "VM exit clears the valid bit", ENTRY_INTERRUPTION_INFORMATION, TYPE_EXTERNAL | GUEST_VECTOR
        put     GUEST_RFLAGS, 2
        put     ENTRY_INTERRUPTION_INFORMATION, VALID | TYPE_EXCEPTION | HAS_ERROR_CODE | GP
        put     ENTRY_ERROR_CODE, 0x5678
        run_guest .spin
        check   "exception: the error code", [guest_stack_top - 48], 0x5678
        check   "exception: the saved RIP", [guest_stack_top - 40], .spin
        put     ENTRY_INTERRUPTION_INFORMATION, VALID | TYPE_SOFTWARE_INTERRUPT | GUEST_VECTOR
        put     ENTRY_INSTRUCTION_LENGTH, 2
        run_guest .spin
        check   "software interrupt: the saved RIP is behind the instruction", [guest_stack_top - 40], .spin + 2
        ; The injected event does not exit, even though its vector is in the exception bitmap.
        put     EXCEPTION_BITMAP, 1 << UD
        put     ENTRY_INTERRUPTION_INFORMATION, VALID | TYPE_EXCEPTION | UD
        run_guest .spin
        check_field "an injected exception is not intercepted", EXIT_REASON, REASON_VMCALL
        put     EXCEPTION_BITMAP, 0
        ret
.spin:  jmp     .spin

; An event that cannot be delivered: what the VMM must inject again.
vectoring:
        put     GUEST_IDTR_BASE, SPLIT
        set_ept_page 0
        put     ENTRY_INTERRUPTION_INFORMATION, VALID | TYPE_EXTERNAL | GUEST_VECTOR
        put     GUEST_RFLAGS, 2 | FLAG_IF
        run_guest injection.spin
        check_field "EPT violation in event delivery", EXIT_REASON, REASON_EPT_VIOLATION
        check_field "at the gate", GUEST_PHYSICAL_ADDRESS, SPLIT + 16 * GUEST_VECTOR
        check_field "IDT-vectoring information of an external interrupt", IDT_VECTORING_INFORMATION, \
                VALID | TYPE_EXTERNAL | GUEST_VECTOR
        put     GUEST_RFLAGS, 2
        run_guest .int
        check_field "IDT-vectoring information of INT n", IDT_VECTORING_INFORMATION, \
                VALID | TYPE_SOFTWARE_INTERRUPT | GUEST_VECTOR
        check_field "INT n: length", EXIT_INSTRUCTION_LENGTH, 2
        check_field "INT n: RIP is at the instruction", GUEST_RIP, .int
        run_guest .gp
        check_field "IDT-vectoring information of #GP", IDT_VECTORING_INFORMATION, \
                VALID | TYPE_EXCEPTION | HAS_ERROR_CODE | GP
        check_field "IDT-vectoring error code", IDT_VECTORING_ERROR_CODE, 0xFFF0
        put     GUEST_IDTR_BASE, guest_idt
        set_ept_page SPLIT | EPT_READ | EPT_WRITE | EPT_EXECUTE | EPT_WB
        run_guest unconditional.cpuid
        mov     ecx, IDT_VECTORING_INFORMATION
        vmread  rdx, rcx
        shr     edx, 31
        check   "no IDT-vectoring information otherwise", rdx, 0
        ret
.int:   int     GUEST_VECTOR
.gp:    mov     eax, 0xFFF3
        mov     fs, eax

; An entry has the MSR's index in 4 bytes, 4 bytes of zeros and the value. IA32_KERNEL_GS_BASE is in no VMCS field.
KERNEL_GS_BASE  equ 0xC0000102

msr_areas:
        mov     ecx, KERNEL_GS_BASE
        mov     eax, 0x1111
        xor     edx, edx
        wrmsr
        mov     dword [msr_area], KERNEL_GS_BASE
        mov     qword [msr_area + 8], 0x2222    ; for the guest
        mov     dword [msr_area + 16], KERNEL_GS_BASE
        mov     qword [msr_area + 24], 0        ; stored at the exit
        mov     dword [msr_area + 32], KERNEL_GS_BASE
        mov     qword [msr_area + 40], 0x3333   ; for the host
        put     ENTRY_MSR_LOAD_ADDRESS, msr_area
        put     ENTRY_MSR_LOAD_COUNT, 1
        put     EXIT_MSR_STORE_ADDRESS, msr_area + 16
        put     EXIT_MSR_STORE_COUNT, 1
        put     EXIT_MSR_LOAD_ADDRESS, msr_area + 32
        put     EXIT_MSR_LOAD_COUNT, 1
        put     MSR_BITMAP, msr_bitmap
        set_bits PRIMARY_CONTROLS, PRIMARY_MSR_BITMAPS
        run_guest .guest
        check   "VM entry loads MSRs", [guest.rax], 0x2222
        check   "VM exit stores MSRs", [msr_area + 24], 0x4444
        mov     ecx, KERNEL_GS_BASE
        rdmsr
        check   "VM exit loads MSRs", rax, 0x3333
        put     ENTRY_MSR_LOAD_COUNT, 0
        put     EXIT_MSR_STORE_COUNT, 0
        put     EXIT_MSR_LOAD_COUNT, 0
        clear_bits PRIMARY_CONTROLS, PRIMARY_MSR_BITMAPS
        ret
.guest: mov     ecx, KERNEL_GS_BASE
        rdmsr
        mov     ebx, eax
        mov     eax, 0x4444
        wrmsr
        mov     eax, ebx
        vmcall

        %include "end.inc"
