; VMCALL in VMX root operation without dual-monitor treatment of SMIs: a kernel of its own because Bochs stops there.
        %include "kernel.inc"
        %include "vmx.inc"

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    prepare_vmx
        vmxon   [vmxon_pointer]
        vmcall
        expect_fail_invalid "VMCALL in VMX root operation, without a current VMCS"
        vmclear [vmcs_pointer]
        vmptrld [vmcs_pointer]
        vmcall
        expect_fail_valid "VMCALL in VMX root operation", 1
        jmp     finish64

        %include "end.inc"
