; Instructions that not every processor has: executed where CPUID reports their feature, #UD elsewhere, and LZCNT and
; TZCNT are BSR and BSF there. Whatever the processor, the kernel asks it. SDM volume 2, each instruction's exceptions.
        %include "kernel.inc"

CR4_OSFXSR      equ 1 << 9
CR4_OSXMMEXCPT  equ 1 << 10
CR4_FSGSBASE    equ 1 << 16
CR4_OSXSAVE     equ 1 << 18
BUFFER          equ 0x00800000

        section .data
                align   8
has:            dq      0               ; 1 when the feature in hand is reported
outcome:        dq      0

        section .text
; %1: name; %2: CPUID leaf, %3: subleaf, %4: register, %5: bit; %6: the instruction.
%macro gated 6
        mov     eax, %2
        mov     ecx, %3
        cpuid
        mov     eax, %4
        shr     eax, %5
        and     eax, 1
        mov     [has], rax
        call    prepare
        mov     qword [saved.vector], NOTHING_RAISED
        mov     [trap_stack], rsp
        mov     qword [trap_resume], %%after
        %6
%%after:
        mov     qword [trap_resume], 0
        call    judge_presence
        check   %1, [outcome], [has]
%endmacro

        bits    64
; What the instructions take: numbers, and an address in RSI.
prepare:
        mov     esi, BUFFER
        mov     eax, 1
        xor     ecx, ecx
        xor     edx, edx
        mov     ebx, 0x10
        ret

; outcome: 0 for #UD, 1 for no exception, else 100H + the vector.
judge_presence:
        mov     rax, [saved.vector]
        xor     ecx, ecx
        cmp     rax, UD
        je      .end
        inc     ecx
        cmp     rax, NOTHING_RAISED
        je      .end
        lea     rcx, [rax + 0x100]
.end:   mov     [outcome], rcx
        ret

        bits    32
main:
        call    enter_long_mode
        bits    64
        call    load_tss64
        call    turn_on
        call    presence
        call    other_meanings
        jmp     finish64

; Everything that CR4 and XCR0 can turn on.
turn_on:
        mov     rax, cr4
        or      rax, CR4_OSFXSR | CR4_OSXMMEXCPT
        mov     cr4, rax
        mov     eax, 1
        cpuid
        test    ecx, 1 << 26
        jz      .no_xsave
        mov     rax, cr4
        or      rax, CR4_OSXSAVE
        mov     cr4, rax
        mov     eax, 0xD
        xor     ecx, ecx
        cpuid
        and     eax, 7
        xor     edx, edx
        xor     ecx, ecx
        xsetbv
.no_xsave:
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        test    ebx, 1
        jz      .end
        mov     rax, cr4
        or      rax, CR4_FSGSBASE
        mov     cr4, rax
.end:   ret

presence:
        gated   "PADDB xmm (SSE2)", 1, 0, edx, 26, {paddb xmm0, xmm1}
        gated   "HADDPS (SSE3)", 1, 0, ecx, 0, {haddps xmm0, xmm1}
        gated   "PCLMULQDQ", 1, 0, ecx, 1, {pclmulqdq xmm0, xmm1, 0}
        gated   "PSHUFB (SSSE3)", 1, 0, ecx, 9, {pshufb xmm0, xmm1}
        gated   "VFMADD132PS (FMA)", 1, 0, ecx, 12, {vfmadd132ps xmm0, xmm1, xmm2}
        gated   "CMPXCHG16B", 1, 0, ecx, 13, {cmpxchg16b [rsi]}
        gated   "PMULLD (SSE4.1)", 1, 0, ecx, 19, {pmulld xmm0, xmm1}
        gated   "CRC32 (SSE4.2)", 1, 0, ecx, 20, {crc32 eax, bl}
        gated   "MOVBE", 1, 0, ecx, 22, {movbe eax, [rsi]}
        gated   "POPCNT", 1, 0, ecx, 23, {popcnt eax, ebx}
        gated   "AESENC", 1, 0, ecx, 25, {aesenc xmm0, xmm1}
        gated   "XGETBV (XSAVE)", 1, 0, ecx, 26, {xgetbv}
        gated   "VADDPS (AVX)", 1, 0, ecx, 28, {vaddps ymm0, ymm1, ymm2}
        gated   "VCVTPH2PS (F16C)", 1, 0, ecx, 29, {vcvtph2ps xmm0, xmm1}
        gated   "RDRAND", 1, 0, ecx, 30, {rdrand eax}
        gated   "RDFSBASE", 7, 0, ebx, 0, {rdfsbase rax}
        gated   "ANDN (BMI1)", 7, 0, ebx, 3, {andn eax, ebx, ecx}
        gated   "VPADDB ymm (AVX2)", 7, 0, ebx, 5, {vpaddb ymm0, ymm1, ymm2}
        gated   "PEXT (BMI2)", 7, 0, ebx, 8, {pext eax, ebx, ecx}
        gated   "RORX (BMI2)", 7, 0, ebx, 8, {rorx eax, ebx, 3}
        gated   "RDSEED", 7, 0, ebx, 18, {rdseed eax}
        gated   "ADCX (ADX)", 7, 0, ebx, 19, {adcx eax, ebx}
        gated   "STAC (SMAP)", 7, 0, ebx, 20, {stac}
        gated   "CLFLUSHOPT", 7, 0, ebx, 23, {clflushopt [rsi]}
        gated   "CLWB", 7, 0, ebx, 24, {clwb [rsi]}
        gated   "SHA1NEXTE (SHA)", 7, 0, ebx, 29, {sha1nexte xmm0, xmm1}
        gated   "VAESENC ymm (VAES)", 7, 0, ecx, 9, {vaesenc ymm0, ymm1, ymm2}
        gated   "VPCLMULQDQ ymm", 7, 0, ecx, 10, {vpclmulqdq ymm0, ymm1, ymm2, 0}
        gated   "RDPID", 7, 0, ecx, 22, {rdpid rax}
        gated   "SERIALIZE", 7, 0, edx, 14, {db 0x0F, 0x01, 0xE8}
        gated   "RDTSCP", 0x80000001, 0, edx, 27, {rdtscp}
        gated   "XSAVEOPT", 0xD, 1, eax, 0, {xsaveopt [rsi]}
        gated   "XSAVEC", 0xD, 1, eax, 1, {xsavec [rsi]}
        ret

; 10000H: leading zeros 15 of 32, trailing zeros 16; the highest and the lowest bit that is set is bit 16.
other_meanings:
        mov     eax, 0x80000001
        cpuid
        shr     ecx, 5
        and     ecx, 1
        mov     edx, 15
        mov     r8d, 16
        test    ecx, ecx
        cmovz   edx, r8d
        mov     ebx, 0x10000
        lzcnt   eax, ebx
        mov     r9d, edx
        check   "LZCNT counts, or is BSR", rax, r9
        ; BSR leaves the destination of a zero source alone and sets ZF; LZCNT gives 32 and sets CF.
        mov     edx, 32
        mov     r8d, 0x77
        test    ecx, ecx
        cmovz   edx, r8d
        mov     r9d, edx
        mov     eax, 0x77
        xor     ebx, ebx
        lzcnt   eax, ebx
        check   "LZCNT of 0", rax, r9
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        shr     ebx, 3
        and     ebx, 1
        mov     edx, 32
        mov     r8d, 0x77
        test    ebx, ebx
        cmovz   edx, r8d
        mov     r9d, edx
        mov     eax, 0x77
        xor     ebx, ebx
        tzcnt   eax, ebx
        check   "TZCNT of 0", rax, r9
        mov     ebx, 0x10000
        tzcnt   eax, ebx
        check   "TZCNT and BSF of a number agree", rax, 16
        ; No processor here has shadow stacks: these are NOPs then, as code expects that asks for its own.
        mov     rax, 0x123456789
        db      0xF3, 0x48, 0x0F, 0x1E, 0xC8    ; RDSSPQ RAX
        mov     rbx, 0x123456789
        check   "RDSSPQ without shadow stacks leaves its register alone", rax, rbx
        db      0xF3, 0x0F, 0x1E, 0xC8          ; RDSSPD EAX
        check   "RDSSPD without shadow stacks leaves its register alone", rax, rbx
        ret

        %include "end.inc"
