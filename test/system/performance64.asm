; Performance counters of architectural version 2, and IA32_TSC_ADJUST.
; SDM volume 3B, "Performance Monitoring": architectural version 1 and 2; "Time-Stamp Counter". Volume 3A: the local vector
; table's entry for performance counters. How many instructions around a WRMSR are counted is the processor's business:
; statements are about differences of two counts.
        %include "kernel.inc"

CR4_PCE         equ 1 << 8
IA32_TSC        equ 0x10
IA32_TSC_ADJUST equ 0x3B
IA32_APIC_BASE  equ 0x1B
IA32_PMC0       equ 0xC1
IA32_PERFEVTSEL0 equ 0x186
IA32_FIXED_CTR0 equ 0x309
IA32_FIXED_CTR_CTRL equ 0x38D
GLOBAL_STATUS   equ 0x38E
GLOBAL_CTRL     equ 0x38F
GLOBAL_OVF_CTRL equ 0x390
X2APIC_EOI      equ 0x80B
X2APIC_LVT_PERFORMANCE equ 0x834
EXTENDED        equ 1 << 10
INSTRUCTIONS    equ 0xC0
CYCLES          equ 0x3C
USR             equ 1 << 16
OS              equ 1 << 17
INT_ENABLE      equ 1 << 20
ENABLE          equ 1 << 22
FIXED           equ 1 << 30             ; of RDPMC's ECX
PMI             equ 0x40

%macro write_msr 2-3 0                  ; number, low half, high half
        mov     ecx, %1
        mov     eax, %2
        mov     edx, %3
        wrmsr
%endmacro
%macro refused 4                        ; statement, number, low half, high half
        trap    %1, GP, 0
        mov     ecx, %2
        mov     eax, %3
        mov     edx, %4
        at_fault
        wrmsr
        endtrap
%endmacro
; RAX: what counter %1 has counted over the instructions %2.
%macro count 2+
        write_msr GLOBAL_CTRL, 0
        write_msr GLOBAL_CTRL, 0xF, 7
        %2
        write_msr GLOBAL_CTRL, 0
        mov     ecx, %1
        rdpmc
        shl     rdx, 32
        or      rax, rdx
%endmacro
%macro zero_counters 0
        write_msr GLOBAL_CTRL, 0
        write_msr IA32_PMC0, 0
        write_msr IA32_PMC0 + 1, 0
        write_msr IA32_FIXED_CTR0, 0
        write_msr IA32_FIXED_CTR0 + 1, 0
%endmacro

        section .data
                align   8
first:          dq      0

        section .text
        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    leaf
        call    counting
        call    rings
        call    access_rules
        call    overflow
        call    reserved
        call    time_stamp_counter
        jmp     finish64

leaf:
        mov     eax, 0xA
        cpuid
        mov     r8d, eax
        and     eax, 0xFF
        check   "version", rax, 2
        shr     r8d, 16
        and     r8d, 0xFF
        check   "width of the general counters", r8, 48
        mov     eax, ebx
        and     eax, 7
        check   "core cycles, instructions and reference cycles are there", rax, 0
        and     edx, 0x1F
        check   "fixed counters", rdx, 3
        ret

counting:
        write_msr IA32_PERFEVTSEL0, INSTRUCTIONS | OS | USR | ENABLE
        write_msr IA32_PERFEVTSEL0 + 1, CYCLES | OS | USR | ENABLE
        write_msr IA32_FIXED_CTR_CTRL, 0x333
        zero_counters
        count   0, times 10 nop
        mov     [first], rax
        zero_counters
        count   0, times 110 nop
        sub     rax, [first]
        check   "100 instructions more", rax, 100
        zero_counters
        count   FIXED, times 10 nop
        mov     [first], rax
        zero_counters
        count   FIXED, times 110 nop
        sub     rax, [first]
        check   "100 instructions more in fixed counter 0", rax, 100
        zero_counters
        mov     r8d, 1000
        count   FIXED, call spin
        mov     [first], rax
        zero_counters
        mov     r8d, 501000
        count   FIXED, call spin
        sub     rax, [first]
        check   "a million instructions more in a loop", rax, 1000000
        zero_counters
        count   1, nop
        xor     ecx, ecx
        test    rax, rax
        setnz   cl
        check   "cycles pass", rcx, 1
        write_msr GLOBAL_CTRL, 0
        mov     ecx, FIXED
        rdpmc
        mov     [first], rax
        mov     ecx, FIXED
        rdpmc
        sub     rax, [first]
        check   "without IA32_PERF_GLOBAL_CTRL counters stand still", rax, 0
        ret

; R8D rounds of 2 instructions.
spin:   dec     r8d
        jnz     spin
        ret

; R8D: rounds of ring 3. RAX: what counter 0 has counted.
%macro user_rounds 1
        zero_counters
        write_msr GLOBAL_CTRL, 0xF, 7
        mov     r8d, %1
        mov     qword [trap_resume], %%after
        mov     [trap_stack], rsp
        mov     edi, user_spin
        jmp     enter_user64
%%after:
        mov     qword [trap_resume], 0
        write_msr GLOBAL_CTRL, 0
        mov     ecx, 0
        rdpmc
%endmacro
user_spin:
        dec     r8d
        jnz     user_spin
        int     LEAVE_USER_MODE

rings:
        write_msr IA32_PERFEVTSEL0, INSTRUCTIONS | USR | ENABLE
        user_rounds 100
        mov     [first], rax
        user_rounds 600
        sub     rax, [first]
        check   "USR: a thousand instructions more in ring 3", rax, 1000
        write_msr IA32_PERFEVTSEL0, INSTRUCTIONS | OS | ENABLE
        user_rounds 100
        mov     [first], rax
        user_rounds 600
        sub     rax, [first]
        check   "OS: no more in ring 0", rax, 0
        ret

access_rules:
        trap    "RDPMC of a counter that does not exist", GP, 0
        mov     ecx, 0x20
        at_fault
        rdpmc
        endtrap
        trap    "RDPMC of a fixed counter that does not exist", GP, 0
        mov     ecx, FIXED | 3
        at_fault
        rdpmc
        endtrap
        trap    "RDPMC in ring 3 without CR4.PCE", GP, 0
        mov     edi, .user
        jmp     enter_user64
        at_fault
.user:  rdpmc
        int     LEAVE_USER_MODE
        endtrap
        mov     rax, cr4
        or      rax, CR4_PCE
        mov     cr4, rax
        trap    "RDPMC in ring 3 with CR4.PCE", LEAVE_USER_MODE
        xor     ecx, ecx
        mov     edi, .user
        jmp     enter_user64
        endtrap_at .user + 4
        ret

overflow:
        write_msr GLOBAL_CTRL, 0
        write_msr IA32_PMC0, -100
        mov     ecx, IA32_PMC0
        rdmsr
        check   "WRMSR of IA32_PMC0 extends the sign, to 48 bits", rdx, 0xFFFF
        write_msr IA32_PERFEVTSEL0, INSTRUCTIONS | OS | ENABLE
        write_msr GLOBAL_CTRL, 1
        mov     r8d, 100
        call    spin
        write_msr GLOBAL_CTRL, 0
        mov     ecx, GLOBAL_STATUS
        rdmsr
        check   "overflow of counter 0", rax, 1
        write_msr GLOBAL_OVF_CTRL, 1
        mov     ecx, GLOBAL_STATUS
        rdmsr
        check   "IA32_PERF_GLOBAL_OVF_CTRL clears it", rax, 0

        mov     ecx, IA32_APIC_BASE
        rdmsr
        or      eax, EXTENDED
        wrmsr
        write_msr X2APIC_LVT_PERFORMANCE, PMI
        write_msr IA32_PMC0, -1000
        write_msr IA32_PERFEVTSEL0, INSTRUCTIONS | OS | ENABLE | INT_ENABLE
        trap    "an overflow interrupts", PMI
        write_msr GLOBAL_CTRL, 1
        sti
        at_fault
        jmp     $
        endtrap
        write_msr GLOBAL_CTRL, 0
        mov     ecx, X2APIC_LVT_PERFORMANCE
        rdmsr
        check   "the entry of the local vector table masks itself", rax, PMI | 1 << 16
        write_msr X2APIC_EOI, 0
        write_msr GLOBAL_OVF_CTRL, 1
        ret

reserved:
        refused "IA32_PERFEVTSEL0 bit 32", IA32_PERFEVTSEL0, 0, 1
        refused "IA32_FIXED_CTR_CTRL bit 12", IA32_FIXED_CTR_CTRL, 1 << 12, 0
        refused "IA32_PERF_GLOBAL_CTRL bit 35", GLOBAL_CTRL, 0, 1 << 3
        refused "IA32_FIXED_CTR0 bit 48", IA32_FIXED_CTR0, 0, 1 << 16
        refused "IA32_PERF_GLOBAL_STATUS is read-only", GLOBAL_STATUS, 0, 0
        ret

time_stamp_counter:
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        shr     ebx, 1
        and     ebx, 1
        check   "CPUID reports IA32_TSC_ADJUST", rbx, 1
        write_msr IA32_TSC_ADJUST, 0, 0
        write_msr IA32_TSC_ADJUST, 0, 0x1000
        rdtsc
        shr     edx, 12
        check   "the TSC is ahead by what is written", rdx, 1
        write_msr IA32_TSC, 0, 0x3000
        mov     ecx, IA32_TSC_ADJUST
        rdmsr
        shr     edx, 12
        check   "a write of the TSC adds the difference to IA32_TSC_ADJUST", rdx, 2
        write_msr IA32_TSC_ADJUST, 0, 0
        rdtsc
        shr     edx, 12
        check   "IA32_TSC_ADJUST = 0 gives the counter as it was", rdx, 0
        ret

        %include "end.inc"
