; VM-entry checks: one wrong field at a time. SDM volume 3C, "VM Entries".
        %include "kernel.inc"
        %include "vmx.inc"

CONTROLS        equ 7                           ; VM-instruction errors
HOST_STATE      equ 8
GUEST_STATE     equ 0x80000021                  ; exit reasons
MSR_LOADING     equ 0x80000022
VALID           equ 1 << 31
TYPE_NMI        equ 2 << 8
TYPE_EXCEPTION  equ 3 << 8
TYPE_SOFTWARE_INTERRUPT equ 4 << 8
HAS_ERROR_CODE  equ 1 << 11
NOT_CANONICAL   equ 1 << 47                     ; makes a low address so
TOO_WIDE        equ 1 << 60                     ; beyond any physical-address width

        section .bss
        alignb  4096
bitmap:         resb    4096
msr_area:       resb    64
        section .data
        align   8
field:          dq      0
old_value:      dq      0
result:         dq      0
        section .text

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    start_vmx
        put     GUEST_IDTR_LIMIT, 0             ; an exception in a guest that should not run is then a VM exit
        call    good
        call    execution_controls
        call    exit_and_entry_controls
        call    event_injection
        call    host_state
        call    guest_registers
        call    guest_segments
        call    guest_rest
        call    msr_loading
        call    good_again
        vmxoff
        jmp     finish64

; Turns the bits RBX of field RAX round, tries to enter, and puts them back. result: flags and VM-instruction error for
; a VM entry that failed early, else the exit reason and, in bits 63:32, the exit qualification.
try_entry:
        mov     [field], rax
        vmread  rcx, rax
        mov     [old_value], rcx
        xor     rbx, rcx
        vmwrite rax, rbx
        vmclear [vmcs_pointer]
        vmptrld [vmcs_pointer]
        mov     qword [launched], 0
        call    enter_guest
        cmp     qword [vm_flags], 0
        jne     .early
        mov     eax, EXIT_QUALIFICATION
        vmread  rbx, rax
        shl     rbx, 32
        mov     eax, EXIT_REASON
        vmread  rax, rax
        or      rax, rbx
        jmp     .end
.early: mov     eax, VM_INSTRUCTION_ERROR
        vmread  rax, rax
        shl     rax, 16
        or      rax, [vm_flags]
.end:   mov     [result], rax
        mov     rax, [field]
        mov     rbx, [old_value]
        vmwrite rax, rbx
        ret

; name, field, bits to turn round, VM-instruction error
%macro expect_error 4
        mov     eax, %2
        mov     rbx, %3
        call    try_entry
        check   %1, [result], (%4) << 16 | FLAG_ZF
%endmacro

; name, field, bits, exit reason [, exit qualification]
%macro expect_exit 4-5 0
        mov     eax, %2
        mov     rbx, %3
        call    try_entry
        check   %1, [result], (%5) << 32 | (%4)
%endmacro

good:
        expect_exit "the VMCS as it is enters", GUEST_RFLAGS, 0, 18
        ret
good_again:
        expect_exit "and enters still", GUEST_RFLAGS, 0, 18
        ret

execution_controls:
        expect_error "pin-based: a bit that must be 1", PIN_BASED_CONTROLS, 1 << 1, CONTROLS
        expect_error "pin-based: a bit that must be 0", PIN_BASED_CONTROLS, 1 << 31, CONTROLS
        expect_error "primary: a bit that must be 1", PRIMARY_CONTROLS, 1 << 1, CONTROLS
        expect_error "primary: a bit that must be 0", PRIMARY_CONTROLS, 1 << 0, CONTROLS
        expect_error "secondary: a bit that must be 0", SECONDARY_CONTROLS, 1 << 31, CONTROLS
        expect_error "CR3-target count above 4", CR3_TARGET_COUNT, 5, CONTROLS
        expect_error "virtual NMIs without NMI exiting", PIN_BASED_CONTROLS, PIN_VIRTUAL_NMIS, CONTROLS
        expect_error "NMI-window exiting without virtual NMIs", PRIMARY_CONTROLS, PRIMARY_NMI_WINDOW, CONTROLS
        expect_error "EPT pointer: memory type", EPT_POINTER, 2, CONTROLS
        expect_error "EPT pointer: page-walk length", EPT_POINTER, 1 << 3, CONTROLS
        expect_error "EPT pointer: reserved bit", EPT_POINTER, 1 << 11, CONTROLS
        expect_error "EPT pointer: beyond the physical-address width", EPT_POINTER, TOO_WIDE, CONTROLS
        expect_error "VPID 0", VPID, 1, CONTROLS
        put     IO_BITMAP_A, bitmap
        put     IO_BITMAP_B, bitmap
        put     MSR_BITMAP, bitmap
        mov     eax, PRIMARY_CONTROLS
        vmread  rbx, rax
        or      ebx, PRIMARY_IO_BITMAPS | PRIMARY_MSR_BITMAPS
        vmwrite rax, rbx
        expect_error "I/O bitmap A not aligned", IO_BITMAP_A, 8, CONTROLS
        expect_error "I/O bitmap B beyond the physical-address width", IO_BITMAP_B, TOO_WIDE, CONTROLS
        expect_error "MSR bitmap not aligned", MSR_BITMAP, 8, CONTROLS
        ret

exit_and_entry_controls:
        expect_error "VM-exit: a bit that must be 1", EXIT_CONTROLS, 1 << 0, CONTROLS
        expect_error "VM-exit: saving a preemption timer that is off", EXIT_CONTROLS, EXIT_SAVE_TIMER, CONTROLS
        expect_error "VM-entry: a bit that must be 1", ENTRY_CONTROLS, 1 << 0, CONTROLS
        expect_error "VM-entry: entry to SMM outside SMM", ENTRY_CONTROLS, 1 << 10, CONTROLS
        put     EXIT_MSR_STORE_ADDRESS, msr_area
        put     EXIT_MSR_LOAD_ADDRESS, msr_area
        put     ENTRY_MSR_LOAD_ADDRESS, msr_area + 8
        expect_error "VM-entry MSR-load address not aligned", ENTRY_MSR_LOAD_COUNT, 1, CONTROLS
        put     ENTRY_MSR_LOAD_ADDRESS, msr_area
        put     EXIT_MSR_STORE_ADDRESS, msr_area + 8
        expect_error "VM-exit MSR-store address not aligned", EXIT_MSR_STORE_COUNT, 1, CONTROLS
        mov     rdx, TOO_WIDE
        put     EXIT_MSR_LOAD_ADDRESS, rdx
        expect_error "VM-exit MSR-load address beyond the width", EXIT_MSR_LOAD_COUNT, 1, CONTROLS
        ret

event_injection:
        expect_error "type 1 is reserved", ENTRY_INTERRUPTION_INFORMATION, VALID | 1 << 8 | 0x30, CONTROLS
        expect_error "NMI with another vector than 2", ENTRY_INTERRUPTION_INFORMATION, VALID | TYPE_NMI | 3, CONTROLS
        expect_error "hardware exception above 31", ENTRY_INTERRUPTION_INFORMATION, \
                VALID | TYPE_EXCEPTION | 32, CONTROLS
        expect_error "error code for #UD", ENTRY_INTERRUPTION_INFORMATION, \
                VALID | TYPE_EXCEPTION | HAS_ERROR_CODE | UD, CONTROLS
        expect_error "no error code for #GP", ENTRY_INTERRUPTION_INFORMATION, VALID | TYPE_EXCEPTION | GP, CONTROLS
        expect_error "reserved bits", ENTRY_INTERRUPTION_INFORMATION, VALID | 1 << 12 | 0x30, CONTROLS
        put     ENTRY_INSTRUCTION_LENGTH, 16
        expect_error "software interrupt of length 16", ENTRY_INTERRUPTION_INFORMATION, \
                VALID | TYPE_SOFTWARE_INTERRUPT | 0x30, CONTROLS
        put     ENTRY_INSTRUCTION_LENGTH, 0
        put     ENTRY_ERROR_CODE, 1 << 31
        expect_error "error code above bit 15", ENTRY_INTERRUPTION_INFORMATION, \
                VALID | TYPE_EXCEPTION | HAS_ERROR_CODE | GP, CONTROLS
        put     ENTRY_ERROR_CODE, 0
        ret

host_state:
        expect_error "host CR0: NE must be 1", HOST_CR0, CR0_NE, HOST_STATE
        expect_error "host CR4: VMXE must be 1", HOST_CR4, CR4_VMXE, HOST_STATE
        expect_error "host CR4: PAE in 64-bit mode", HOST_CR4, CR4_PAE, HOST_STATE
        expect_error "host CR3 beyond the width", HOST_CR3, TOO_WIDE, HOST_STATE
        expect_error "host IA32_SYSENTER_ESP not canonical", HOST_SYSENTER_ESP, NOT_CANONICAL, HOST_STATE
        expect_error "host IA32_SYSENTER_EIP not canonical", HOST_SYSENTER_EIP, NOT_CANONICAL, HOST_STATE
        expect_error "host EFER: reserved bit", HOST_IA32_EFER, 1 << 1, HOST_STATE
        expect_error "host EFER: LMA is the address-space size", HOST_IA32_EFER, 1 << 10, HOST_STATE
        expect_error "host EFER: LME too", HOST_IA32_EFER, 1 << 8, HOST_STATE
        expect_error "host ES: RPL", HOST_ES_SELECTOR, 3, HOST_STATE
        expect_error "host CS: RPL", HOST_CS_SELECTOR, 3, HOST_STATE
        expect_error "host SS: RPL", HOST_SS_SELECTOR, 3, HOST_STATE
        expect_error "host DS: TI", HOST_DS_SELECTOR, 4, HOST_STATE
        expect_error "host FS: RPL", HOST_FS_SELECTOR, 1, HOST_STATE
        expect_error "host GS: TI", HOST_GS_SELECTOR, 4, HOST_STATE
        expect_error "host TR: TI", HOST_TR_SELECTOR, 4, HOST_STATE
        expect_error "host CS: null", HOST_CS_SELECTOR, CODE64, HOST_STATE
        expect_error "host TR: null", HOST_TR_SELECTOR, TSS, HOST_STATE
        expect_error "host FS base not canonical", HOST_FS_BASE, NOT_CANONICAL, HOST_STATE
        expect_error "host GS base not canonical", HOST_GS_BASE, NOT_CANONICAL, HOST_STATE
        expect_error "host TR base not canonical", HOST_TR_BASE, NOT_CANONICAL, HOST_STATE
        expect_error "host GDTR base not canonical", HOST_GDTR_BASE, NOT_CANONICAL, HOST_STATE
        expect_error "host IDTR base not canonical", HOST_IDTR_BASE, NOT_CANONICAL, HOST_STATE
        expect_error "host RIP not canonical", HOST_RIP, NOT_CANONICAL, HOST_STATE
        ret

guest_registers:
        expect_exit "guest CR0: NE must be 1", GUEST_CR0, CR0_NE, GUEST_STATE
        expect_exit "guest CR0: PE must be 1", GUEST_CR0, CR0_PE, GUEST_STATE
        expect_exit "guest CR4: VMXE must be 1", GUEST_CR4, CR4_VMXE, GUEST_STATE
        expect_exit "guest CR4: PAE in IA-32e mode", GUEST_CR4, CR4_PAE, GUEST_STATE
        expect_exit "guest CR3 beyond the width", GUEST_CR3, TOO_WIDE, GUEST_STATE
        expect_exit "guest IA32_SYSENTER_ESP not canonical", GUEST_SYSENTER_ESP, NOT_CANONICAL, GUEST_STATE
        expect_exit "guest IA32_SYSENTER_EIP not canonical", GUEST_SYSENTER_EIP, NOT_CANONICAL, GUEST_STATE
        expect_exit "guest EFER: reserved bit", GUEST_IA32_EFER, 1 << 1, GUEST_STATE
        expect_exit "guest EFER: LMA is the IA-32e mode control", GUEST_IA32_EFER, 1 << 10, GUEST_STATE
        expect_exit "guest EFER: LME is LMA while paging", GUEST_IA32_EFER, 1 << 8, GUEST_STATE
        ret

guest_segments:
        expect_exit "guest TR: TI", GUEST_TR_SELECTOR, 4, GUEST_STATE
        expect_exit "guest SS: RPL is that of CS", GUEST_SS_SELECTOR, 3, GUEST_STATE
        expect_exit "guest TR base not canonical", GUEST_TR_BASE, NOT_CANONICAL, GUEST_STATE
        expect_exit "guest FS base not canonical", GUEST_FS_BASE, NOT_CANONICAL, GUEST_STATE
        expect_exit "guest CS base above 32 bits", GUEST_CS_BASE, 1 << 32, GUEST_STATE
        expect_exit "guest ES base above 32 bits", GUEST_ES_BASE, 1 << 32, GUEST_STATE
        expect_exit "guest CS: type", GUEST_CS_RIGHTS, 8, GUEST_STATE
        expect_exit "guest CS: not accessed", GUEST_CS_RIGHTS, 1, GUEST_STATE
        expect_exit "guest CS: S", GUEST_CS_RIGHTS, 1 << 4, GUEST_STATE
        expect_exit "guest CS: DPL is that of SS", GUEST_CS_RIGHTS, 3 << 5, GUEST_STATE
        expect_exit "guest CS: P", GUEST_CS_RIGHTS, 1 << 7, GUEST_STATE
        expect_exit "guest CS: reserved bits 11:8", GUEST_CS_RIGHTS, 1 << 8, GUEST_STATE
        expect_exit "guest CS: L and D", GUEST_CS_RIGHTS, 1 << 14, GUEST_STATE
        expect_exit "guest CS: limit above 1 MiB with G = 0", GUEST_CS_RIGHTS, 1 << 15, GUEST_STATE
        expect_exit "guest CS: reserved bits 31:17", GUEST_CS_RIGHTS, 1 << 17, GUEST_STATE
        expect_exit "guest CS: limit whose low bits are not ones with G = 1", GUEST_CS_LIMIT, 1, GUEST_STATE
        expect_exit "guest SS: read-only", GUEST_SS_RIGHTS, 2, GUEST_STATE
        expect_exit "guest SS: DPL is its RPL", GUEST_SS_RIGHTS, 3 << 5, GUEST_STATE
        expect_exit "guest DS: not accessed", GUEST_DS_RIGHTS, 1, GUEST_STATE
        expect_exit "guest DS: execute-only code", GUEST_DS_RIGHTS, 3 ^ 9, GUEST_STATE
        expect_exit "guest DS: DPL below its RPL", GUEST_DS_SELECTOR, 3, GUEST_STATE
        expect_exit "guest TR: unusable", GUEST_TR_RIGHTS, 1 << 16, GUEST_STATE
        expect_exit "guest TR: not busy", GUEST_TR_RIGHTS, 2, GUEST_STATE
        expect_exit "guest TR: S", GUEST_TR_RIGHTS, 1 << 4, GUEST_STATE
        expect_exit "guest TR: P", GUEST_TR_RIGHTS, 1 << 7, GUEST_STATE
        expect_exit "guest TR: G with a small limit", GUEST_TR_RIGHTS, 1 << 15, GUEST_STATE
        expect_exit "guest GDTR base not canonical", GUEST_GDTR_BASE, NOT_CANONICAL, GUEST_STATE
        expect_exit "guest IDTR base not canonical", GUEST_IDTR_BASE, NOT_CANONICAL, GUEST_STATE
        expect_exit "guest GDTR limit above 16 bits", GUEST_GDTR_LIMIT, 1 << 16, GUEST_STATE
        expect_exit "guest IDTR limit above 16 bits", GUEST_IDTR_LIMIT, 1 << 16, GUEST_STATE
        ret

guest_rest:
        ; Bits 63:48 must be the same; bit 47 may differ, and then the guest's first fetch faults.
        expect_exit "guest RIP: bits 63:48", GUEST_RIP, 1 << 48, GUEST_STATE
        expect_exit "guest RFLAGS: bit 1", GUEST_RFLAGS, 2, GUEST_STATE
        expect_exit "guest RFLAGS: reserved bit", GUEST_RFLAGS, 1 << 15, GUEST_STATE
        expect_exit "guest RFLAGS: VM in IA-32e mode", GUEST_RFLAGS, 1 << 17, GUEST_STATE
        expect_exit "external interrupt with IF = 0", ENTRY_INTERRUPTION_INFORMATION, VALID | 0x30, GUEST_STATE
        expect_exit "activity state that does not exist", GUEST_ACTIVITY, 4, GUEST_STATE
        expect_exit "interruptibility: reserved bit", GUEST_INTERRUPTIBILITY, 1 << 5, GUEST_STATE
        expect_exit "interruptibility: blocking by STI with IF = 0", GUEST_INTERRUPTIBILITY, 1, GUEST_STATE
        put     GUEST_RFLAGS, 2 | FLAG_IF
        expect_exit "interruptibility: blocking by STI and by MOV SS", GUEST_INTERRUPTIBILITY, 3, GUEST_STATE
        put     GUEST_INTERRUPTIBILITY, 1
        expect_exit "external interrupt in the shadow of STI", ENTRY_INTERRUPTION_INFORMATION, VALID | 0x30, GUEST_STATE
        expect_exit "activity state HLT in the shadow of STI", GUEST_ACTIVITY, 1, GUEST_STATE
        put     GUEST_INTERRUPTIBILITY, 0
        put     GUEST_RFLAGS, 2
        expect_exit "pending debug exceptions: reserved bit", GUEST_PENDING_DEBUG, 1 << 4, GUEST_STATE
        expect_exit "VMCS link pointer not aligned", VMCS_LINK_POINTER, 1, GUEST_STATE, 4
        mov     dword [0x00800000], 0x7FFFFFFF
        expect_exit "VMCS link pointer to another revision", VMCS_LINK_POINTER, ~(0x00800000), GUEST_STATE, 4
        ret

; The index of the entry that cannot be loaded is the qualification, counted from 1.
msr_loading:
        mov     dword [msr_area], 0xC0000102
        mov     dword [msr_area + 16], 0xC0000100       ; IA32_FS_BASE must not be here
        put     ENTRY_MSR_LOAD_ADDRESS, msr_area
        expect_exit "IA32_FS_BASE in the MSR-load area", ENTRY_MSR_LOAD_COUNT, 2, MSR_LOADING, 2
        mov     dword [msr_area + 4], 1
        expect_exit "reserved bits of an entry", ENTRY_MSR_LOAD_COUNT, 1, MSR_LOADING, 1
        mov     dword [msr_area + 4], 0
        mov     dword [msr_area], 0x12345678
        expect_exit "an MSR that does not exist", ENTRY_MSR_LOAD_COUNT, 1, MSR_LOADING, 1
        ret

        %include "end.inc"
