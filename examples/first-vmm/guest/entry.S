/*
 * The guest's first instructions, its page tables and its descriptor tables.
 *
 * VM entry puts the processor here in 64-bit mode with the page tables below, interrupts off and no stack.
 */

LINEAR_BASE             = 0x40000000    /* where guest.ld links the guest; guest-physical 0 is mapped there */
EXCEPTION_GP            = 13
GATE_SIZE               = 16
GATE_INTERRUPT          = 0x8E00        /* present, DPL 0, 64-bit interrupt gate */

        .cfi_sections .debug_frame

        .text
        .globl  guest_start
        .type   guest_start, @function
guest_start:
        .cfi_startproc
        .cfi_undefined %rip             /* Nobody called: the stack's oldest frame. */
        lea     stack_top(%rip), %rsp
        xor     %ebp, %ebp
        call    load_descriptor_tables
        call    guest_main
        hlt                             /* A VM exit that the VMM does not come back from. */
        ud2
        .cfi_endproc
        .size   guest_start, . - guest_start

/* Until here the segment registers hold what the VMM put into the VMCS. From here on they are the guest's own. */
        .type   load_descriptor_tables, @function
load_descriptor_tables:
        .cfi_startproc
        lgdt    gdt_register(%rip)
        mov     $DATA_SELECTOR, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        /* One gate: an address is stored in three pieces of 16, 16 and 32 bits. */
        lea     general_protection_handler(%rip), %rax
        lea     idt + GATE_SIZE * EXCEPTION_GP(%rip), %rdi
        mov     %ax, (%rdi)
        movw    $CODE_SELECTOR, 2(%rdi)
        movw    $GATE_INTERRUPT, 4(%rdi)
        shr     $16, %rax
        mov     %ax, 6(%rdi)
        shr     $16, %rax
        mov     %eax, 8(%rdi)
        lidt    idt_register(%rip)
        ret
        .cfi_endproc
        .size   load_descriptor_tables, . - load_descriptor_tables

/* Comes at RDMSR and WRMSR of MSRs that the VMM does not offer: counts, and goes on behind the instruction. */
        .type   general_protection_handler, @function
general_protection_handler:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa %rsp, 48           /* error code, RIP, CS, RFLAGS, RSP, SS */
        .cfi_offset %rip, -40
        .cfi_offset %rsp, -16
        add     $8, %rsp                /* the error code */
        .cfi_adjust_cfa_offset -8
        addq    $2, (%rsp)              /* the saved RIP: RDMSR and WRMSR are two bytes long */
        incl    general_protection_count(%rip)
        iretq
        .cfi_endproc
        .size   general_protection_handler, . - general_protection_handler

/*
 * uint32_t mmio_read32(uint64_t address); void mmio_write32(uint64_t address, uint32_t value)
 * In assembly, because the VMM emulates just these two forms of MOV.
 */
        .globl  mmio_read32
        .type   mmio_read32, @function
mmio_read32:
        .cfi_startproc
        mov     (%rdi), %eax
        ret
        .cfi_endproc
        .size   mmio_read32, . - mmio_read32

        .globl  mmio_write32
        .type   mmio_write32, @function
mmio_write32:
        .cfi_startproc
        mov     %esi, (%rdi)
        ret
        .cfi_endproc
        .size   mmio_write32, . - mmio_write32

        .data
        .align  8
gdt:            .quad   0
gdt_code:       .quad   0x00AF9B000000FFFF      /* 64-bit code */
gdt_data:       .quad   0x00CF93000000FFFF      /* data */
gdt_register:   .word   . - gdt - 1
                .quad   gdt
idt_register:   .word   GATE_SIZE * (EXCEPTION_GP + 1) - 1
                .quad   idt
CODE_SELECTOR = gdt_code - gdt
DATA_SELECTOR = gdt_data - gdt

        .bss
        .align  16
idt:            .skip   GATE_SIZE * (EXCEPTION_GP + 1)
        .align  16
stack:          .skip   8192
stack_top:

/*
 * Linear 1 GiB … 1 GiB + 2 MiB → guest-physical 0 … 2 MiB, in pages of 4 KiB, by four tables. An entry holds a
 * guest-physical address: the linear address less LINEAR_BASE.
 */
PAGE_PRESENT_WRITABLE   = 3
        .section .pagetables, "aw", @progbits
pml4:                           .quad   page_directory_pointers - LINEAR_BASE + PAGE_PRESENT_WRITABLE
                                .fill   511, 8, 0
page_directory_pointers:        .quad   0
                                .quad   page_directory - LINEAR_BASE + PAGE_PRESENT_WRITABLE    /* entry 1: 1 GiB */
                                .fill   510, 8, 0
page_directory:                 .quad   page_table - LINEAR_BASE + PAGE_PRESENT_WRITABLE
                                .fill   511, 8, 0
page_table:
        page = 0
        .rept   512
                                .quad   page + PAGE_PRESENT_WRITABLE
        page = page + 4096
        .endr

        .section .note.GNU-stack, "", @progbits
