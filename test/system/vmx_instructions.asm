; VMX instructions: when they succeed, how they fail. SDM volume 3C, "VMX Instruction Reference" and "VM Instruction
; Error Numbers".
        %include "kernel.inc"
        %include "vmx.inc"

        section .data
        align   8
pointer:        dq      0
odd_pointer:    dq      vmcs_region + 8
high_pointer:   dq      1 << 52
stored:         dq      0
invalidation:   dq      0, 0
        section .text

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    outside_vmx_operation
        call    vmxon_checks
        call    without_current_vmcs
        call    pointers
        call    fields
        call    launch_states
        call    invalidations
        call    in_ring_3
        call    fixed_bits
        call    leaving
        jmp     finish64

outside_vmx_operation:
        mov     rax, cr4
        and     rax, ~CR4_VMXE
        mov     cr4, rax
        trap    "VMXON with CR4.VMXE = 0", UD
        vmxon   [vmxon_pointer]
        endtrap
        call    prepare_vmx
        trap    "VMXOFF outside VMX operation", UD
        vmxoff
        endtrap
        trap    "VMREAD outside VMX operation", UD
        vmread  rax, rax
        endtrap
        trap    "VMLAUNCH outside VMX operation", UD
        vmlaunch
        endtrap
        trap    "VMCALL outside VMX operation", UD
        vmcall
        endtrap
        trap    "VMXON in ring 3", GP, 0
        mov     rdi, .user
        call    enter_user64
.user:  at_fault
        vmxon   [vmxon_pointer]
        endtrap
        ret

vmxon_checks:
        mov     qword [pointer], vmxon_region + 4
        vmxon   [pointer]
        expect_fail_invalid "VMXON: not aligned to 4 KiB"
        vmxon   [high_pointer]
        expect_fail_invalid "VMXON: beyond the physical-address width"
        xor     dword [vmxon_region], 1
        vmxon   [vmxon_pointer]
        expect_fail_invalid "VMXON: wrong revision identifier"
        xor     dword [vmxon_region], 1
        or      dword [vmxon_region], 1 << 31
        vmxon   [vmxon_pointer]
        expect_fail_invalid "VMXON: bit 31 of the revision identifier"
        and     dword [vmxon_region], ~(1 << 31)
        vmxon   [vmxon_pointer]
        expect_succeed "VMXON"
        ret

without_current_vmcs:
        vmxon   [vmxon_pointer]
        expect_fail_invalid "VMXON in VMX root operation, without a current VMCS"
        vmptrst [stored]
        check   "VMPTRST: no current VMCS is all ones", [stored], -1
        mov     eax, GUEST_RIP
        vmread  rbx, rax
        expect_fail_invalid "VMREAD without a current VMCS"
        mov     eax, GUEST_RIP
        vmwrite rax, rbx
        expect_fail_invalid "VMWRITE without a current VMCS"
        vmlaunch
        expect_fail_invalid "VMLAUNCH without a current VMCS"
        vmresume
        expect_fail_invalid "VMRESUME without a current VMCS"
        vmclear [odd_pointer]
        expect_fail_invalid "VMCLEAR: not aligned, without a current VMCS"
        vmptrld [vmxon_pointer]
        expect_fail_invalid "VMPTRLD of the VMXON region, without a current VMCS"
        ret

pointers:
        vmclear [vmcs_pointer]
        expect_succeed "VMCLEAR"
        vmptrld [vmcs_pointer]
        expect_succeed "VMPTRLD"
        vmptrst [stored]
        expect_succeed "VMPTRST"
        check   "VMPTRST stores the pointer", [stored], vmcs_region
        vmclear [odd_pointer]
        expect_fail_valid "VMCLEAR: not aligned", 2
        vmclear [high_pointer]
        expect_fail_valid "VMCLEAR: beyond the physical-address width", 2
        vmclear [vmxon_pointer]
        expect_fail_valid "VMCLEAR of the VMXON region", 3
        vmptrld [odd_pointer]
        expect_fail_valid "VMPTRLD: not aligned", 9
        vmptrld [high_pointer]
        expect_fail_valid "VMPTRLD: beyond the physical-address width", 9
        vmptrld [vmxon_pointer]
        expect_fail_valid "VMPTRLD of the VMXON region", 10
        mov     qword [pointer], ept_pml4       ; a page of zeros
        vmptrld [pointer]
        expect_fail_valid "VMPTRLD: wrong revision identifier", 11
        vmptrst [stored]
        check   "a VMPTRLD that fails leaves the current VMCS", [stored], vmcs_region
        vmxon   [vmxon_pointer]
        expect_fail_valid "VMXON in VMX root operation", 15
        vmclear [vmcs_pointer]
        vmptrst [stored]
        check   "VMCLEAR of the current VMCS leaves none", [stored], -1
        vmptrld [vmcs_pointer]
        trap    "VMPTRLD from an address that is not mapped", PF, 0
        vmptrld [0x7FFFFFF0]
        endtrap
        trap    "VMPTRST to an address that is not mapped", PF, 2
        vmptrst [0x7FFFFFF0]
        endtrap
        ret

fields:
        mov     eax, 0x6FFE
        vmread  rbx, rax
        expect_fail_valid "VMREAD of a field that does not exist", 12
        mov     eax, 0x6FFE
        vmwrite rax, rbx
        expect_fail_valid "VMWRITE of a field that does not exist", 12
        mov     rax, 1 << 32 | GUEST_RIP
        vmread  rbx, rax
        expect_fail_valid "VMREAD: bits 63:32 of the encoding must be 0", 12
        ; Error 13, unless IA32_VMX_MISC says that VMWRITE may write all fields.
        mov     eax, EXIT_QUALIFICATION
        vmwrite rax, rbx
        keep_flags
        mov     ecx, 0x485                      ; IA32_VMX_MISC
        rdmsr
        bt      eax, 29
        jc      .writable
        mov     eax, VM_INSTRUCTION_ERROR
        vmread  rax, rax
        shl     eax, 16
        xor     eax, FLAG_ZF | 13 << 16
        xor     [vm_flags], rax
.writable:
        check   "VMWRITE of a read-only field", [vm_flags], 0
        mov     rbx, 0x1122334455667788
        mov     eax, GUEST_RIP
        vmwrite rax, rbx
        expect_succeed "VMWRITE"
        check_field "natural width: 64 bits", GUEST_RIP, 0x1122334455667788
        mov     eax, GUEST_ES_SELECTOR
        vmwrite rax, rbx
        check_field "16-bit field: VMREAD clears the rest", GUEST_ES_SELECTOR, 0x7788
        mov     eax, GUEST_ES_LIMIT
        vmwrite rax, rbx
        check_field "32-bit field", GUEST_ES_LIMIT, 0x55667788
        mov     eax, TSC_OFFSET
        vmwrite rax, rbx
        check_field "64-bit field", TSC_OFFSET, 0x1122334455667788
        check_field "the high half of a 64-bit field", TSC_OFFSET + 1, 0x11223344
        mov     eax, TSC_OFFSET + 1
        mov     rbx, 0xAAAABBBBCCCCDDDD
        vmwrite rax, rbx
        check_field "writing the high half", TSC_OFFSET, 0xCCCCDDDD55667788
        mov     eax, TSC_OFFSET
        mov     qword [stored], 0
        vmread  [stored], rax
        check   "VMREAD to memory", [stored], 0xCCCCDDDD55667788
        mov     qword [stored], 0x77
        vmwrite rax, [stored]
        check_field "VMWRITE from memory", TSC_OFFSET, 0x77
        ret

launch_states:
        call    fill_vmcs
        call    .resume
        check_error "VMRESUME of a VMCS that is clear", 5
        mov     eax, ss
        put     HOST_RSP, rsp
        mov     eax, DATA
        mov     ss, eax
        vmlaunch
        expect_fail_valid "VMLAUNCH behind MOV SS", 26
        run_guest guest_default
        check_field "the guest runs", EXIT_REASON, 18
        mov     qword [launched], 0
        call    enter_guest
        check_error "VMLAUNCH of a VMCS that is launched", 4
        mov     qword [launched], 1
        call    enter_guest
        check   "VMRESUME of a VMCS that is launched", [vm_flags], 0
        vmclear [vmcs_pointer]
        vmptrld [vmcs_pointer]
        call    enter_guest
        check_error "VMCLEAR makes it clear again", 5
        ret
.resume:
        vmresume
        keep_flags
        ret

invalidations:
        mov     eax, 7
        invept  rax, [invalidation]
        expect_fail_valid "INVEPT of a type that does not exist", 28
        mov     eax, 1
        mov     qword [invalidation], ept_pml4 + 0x1E
        invept  rax, [invalidation]
        expect_succeed "INVEPT, single-context"
        mov     eax, 1
        mov     qword [invalidation], ept_pml4 + 0x1F
        invept  rax, [invalidation]
        expect_fail_valid "INVEPT with a bad EPT pointer", 28
        mov     eax, 2
        invept  rax, [invalidation]
        expect_succeed "INVEPT, global"
        mov     eax, 7
        invvpid rax, [invalidation]
        expect_fail_valid "INVVPID of a type that does not exist", 28
        mov     qword [invalidation], 0
        mov     eax, 1
        invvpid rax, [invalidation]
        expect_fail_valid "INVVPID, single-context, with VPID 0", 28
        mov     qword [invalidation], 1 << 16
        invvpid rax, [invalidation]
        expect_fail_valid "INVVPID with reserved bits of the descriptor", 28
        mov     qword [invalidation], 1
        mov     eax, 1
        invvpid rax, [invalidation]
        expect_succeed "INVVPID, single-context"
        mov     rax, 0x800000000000
        mov     [invalidation + 8], rax
        xor     eax, eax
        invvpid rax, [invalidation]
        expect_fail_valid "INVVPID of an address that is not canonical", 28
        mov     eax, 2
        invvpid rax, [invalidation]
        expect_succeed "INVVPID, all contexts"
        ret

in_ring_3:
        trap    "VMREAD in ring 3", GP, 0
        mov     rdi, .vmread
        call    enter_user64
.vmread:
        at_fault
        vmread  rax, rax
        endtrap
        trap    "VMLAUNCH in ring 3", GP, 0
        mov     rdi, .vmlaunch
        call    enter_user64
.vmlaunch:
        at_fault
        vmlaunch
        endtrap
        trap    "VMCALL in ring 3 of VMX root operation", GP, 0
        mov     rdi, .vmcall
        call    enter_user64
.vmcall:
        at_fault
        vmcall
        endtrap
        trap    "INVEPT in ring 3", GP, 0
        mov     rdi, .invept
        call    enter_user64
.invept:
        at_fault
        invept  rax, [invalidation]
        endtrap
        ret

fixed_bits:
        trap    "CR4.VMXE cannot be cleared in VMX operation", GP, 0
        mov     rax, cr4
        and     rax, ~CR4_VMXE
        at_fault
        mov     cr4, rax
        endtrap
        trap    "CR0.NE cannot be cleared in VMX operation", GP, 0
        mov     rax, cr0
        and     rax, ~CR0_NE
        at_fault
        mov     cr0, rax
        endtrap
        ret

leaving:
        vmxoff
        expect_succeed "VMXOFF"
        trap    "VMREAD after VMXOFF", UD
        vmread  rax, rax
        endtrap
        mov     rax, cr4
        and     rax, ~CR4_VMXE
        mov     cr4, rax
        mov     rax, cr4
        and     eax, CR4_VMXE
        check   "CR4.VMXE can be cleared again", rax, 0
        ret

        %include "end.inc"
