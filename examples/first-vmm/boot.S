/*
 * The way from the boot loader to C. A multiboot loader starts us in 32-bit protected mode without paging, with a magic
 * number in EAX and the address of its information in EBX. VMX needs more: paging, and long mode for a 64-bit host.
 */

MULTIBOOT_MAGIC         = 0x1BADB002
MULTIBOOT_FLAGS         = 0x00010000    /* the addresses below are valid: loaders need not understand ELF64 */

CR4_PAE                 = 1 << 5
CR0_PE                  = 1 << 0
CR0_PG                  = 1 << 31
MSR_IA32_EFER           = 0xC0000080
EFER_LME                = 1 << 8

PAGE_PRESENT_WRITABLE   = 0x003
PAGE_LARGE              = 0x080
LARGE_PAGE_SIZE         = 0x200000
IDENTITY_MAPPED_GIB     = 4

        .section .multiboot, "a"
        .align  4
multiboot_header:
        .long   MULTIBOOT_MAGIC
        .long   MULTIBOOT_FLAGS
        .long   -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
        .long   multiboot_header
        .long   image_start
        .long   image_data_end
        .long   image_end
        .long   start

        .text
        .code32
        .globl  start
start:
        cli
        cld
        mov     $boot_stack_top, %esp
        mov     %eax, %edi              /* C's first argument: the magic number. Nothing below uses EDI or ESI. */
        mov     %ebx, %esi              /* C's second: the multiboot information. */

        /* Page tables: PML4[0] → PDPT, PDPT[0…3] → four page directories, each with 512 pages of 2 MiB. */
        movl    $page_directory_pointers + PAGE_PRESENT_WRITABLE, pml4
        mov     $page_directories + PAGE_PRESENT_WRITABLE, %eax
        xor     %ecx, %ecx
1:      mov     %eax, page_directory_pointers(, %ecx, 8)
        add     $4096, %eax
        inc     %ecx
        cmp     $IDENTITY_MAPPED_GIB, %ecx
        jne     1b
        mov     $PAGE_PRESENT_WRITABLE + PAGE_LARGE, %eax
        xor     %ecx, %ecx
2:      mov     %eax, page_directories(, %ecx, 8)
        add     $LARGE_PAGE_SIZE, %eax
        inc     %ecx
        cmp     $512 * IDENTITY_MAPPED_GIB, %ecx
        jne     2b

        /* Long mode: PAE, page tables, EFER.LME, then paging. */
        mov     %cr4, %eax
        or      $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     $MSR_IA32_EFER, %ecx
        rdmsr
        or      $EFER_LME, %eax
        wrmsr
        mov     %cr0, %eax
        or      $CR0_PG | CR0_PE, %eax
        mov     %eax, %cr0

        /* Until CS names a 64-bit segment this is compatibility mode. */
        lgdt    gdt_register
        ljmp    $HOST_CS, $start_64

        .code64
start_64:
        mov     $HOST_DS, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        /* A VM exit loads TR, so the host must have a task-state segment. Its address goes in by pieces. */
        mov     $host_tss, %eax
        mov     %ax, gdt_tss + 2
        shr     $16, %eax
        mov     %al, gdt_tss + 4
        mov     %ah, gdt_tss + 7
        mov     $HOST_TR, %eax
        ltr     %ax
        xor     %ebp, %ebp              /* The chain of stack frames ends here. */
        call    vmm_main                /* Never returns. */
        ud2

/* Selectors: vmcs.c gives the same to the processor as the host's. */
        .globl  HOST_CS, HOST_DS, HOST_TR
HOST_CS = gdt_code - gdt
HOST_DS = gdt_data - gdt
HOST_TR = gdt_tss - gdt

        .data
        .align  8
gdt:            .quad   0
gdt_code:       .quad   0x00AF9B000000FFFF      /* 64-bit code, DPL 0 */
gdt_data:       .quad   0x00CF93000000FFFF      /* data, DPL 0 */
gdt_tss:        .quad   0x0000890000000067      /* 64-bit TSS, 104 bytes; 16 bytes long in long mode */
                .quad   0
gdt_end:
gdt_register:   .word   gdt_end - gdt - 1
                .quad   gdt

        .bss
        .align  4096
pml4:                           .skip   4096
page_directory_pointers:        .skip   4096
page_directories:               .skip   4096 * IDENTITY_MAPPED_GIB
boot_stack:                     .skip   16384
boot_stack_top:
        .globl  host_tss
host_tss:                       .skip   104

        .section .note.GNU-stack, "", @progbits
