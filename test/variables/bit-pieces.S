# Variables in pieces that are not whole bytes (DW_OP_bit_piece), which compilers write for bit fields they have taken
# apart: a program with debug information written by hand.
        .globl _start
        .text
_start: mov     $0x12345678, %eax
        mov     $0xfedcba98, %edx
begun:  jmp     begun
end_of_code:
        .data
word:   .quad   0x0123456789abcdef

        .section .debug_abbrev, "", @progbits
        .uleb128 1, 0x11                # DW_TAG_compile_unit
        .byte   1
        .uleb128 0x03, 0x08             # DW_AT_name, DW_FORM_string
        .uleb128 0x11, 0x01             # DW_AT_low_pc, DW_FORM_addr
        .uleb128 0x12, 0x06             # DW_AT_high_pc, DW_FORM_data4
        .uleb128 0x13, 0x0b             # DW_AT_language, DW_FORM_data1
        .uleb128 0, 0
        .uleb128 2, 0x24                # DW_TAG_base_type
        .byte   0
        .uleb128 0x03, 0x08
        .uleb128 0x0b, 0x0b             # DW_AT_byte_size
        .uleb128 0x3e, 0x0b             # DW_AT_encoding
        .uleb128 0, 0
        .uleb128 3, 0x34                # DW_TAG_variable
        .byte   0
        .uleb128 0x03, 0x08
        .uleb128 0x49, 0x13             # DW_AT_type, DW_FORM_ref4
        .uleb128 0x02, 0x18             # DW_AT_location, DW_FORM_exprloc
        .uleb128 0, 0
        .uleb128 4, 0x2e                # DW_TAG_subprogram
        .byte   1
        .uleb128 0x03, 0x08
        .uleb128 0x11, 0x01
        .uleb128 0x12, 0x06
        .uleb128 0, 0
        .uleb128 0

        .section .debug_info, "", @progbits
unit:   .long   unit_end - unit_begin
unit_begin:
        .value  4
        .long   0
        .byte   8
        .uleb128 1
        .string "bit-pieces"
        .quad   _start
        .long   end_of_code - _start
        .byte   1
number: .uleb128 2
        .string "unsigned int"
        .byte   4, 7
signed: .uleb128 2
        .string "long"
        .byte   8, 5

# Bits 4 to 15 of the word, 10101, and the word's lowest 15 bits.
        .uleb128 3
        .string "mixed"
        .long   number - unit
        .uleb128 2f - 1f
1:      .byte   0x03
        .quad   word
        .byte   0x9d, 12, 4             # DW_OP_bit_piece
        .byte   0x45, 0x9f, 0x9d, 5, 0  # DW_OP_lit21, DW_OP_stack_value
        .byte   0x03
        .quad   word
        .byte   0x9d, 15, 0
2:
# Across bytes: three bits of one, then whole bytes, then the rest.
        .uleb128 3
        .string "shifted"
        .long   signed - unit
        .uleb128 2f - 1f
1:      .byte   0x03
        .quad   word
        .byte   0x9d, 3, 21
        .byte   0x03
        .quad   word + 2
        .byte   0x93, 4                 # DW_OP_piece
        .byte   0x03
        .quad   word
        .byte   0x9d, 29, 33
2:
        .uleb128 4
        .string "_start"
        .quad   _start
        .long   end_of_code - _start
# Parts of registers.
        .uleb128 3
        .string "registers"
        .long   number - unit
        .uleb128 2f - 1f
1:      .byte   0x50, 0x9d, 9, 7        # bits 7 to 15 of RAX
        .byte   0x51, 0x9d, 14, 18      # RDX
        .byte   0x50, 0x9d, 9, 16       # bits 16 to 24 of RAX
2:      .uleb128 0
        .uleb128 0
unit_end:
        .section .note.GNU-stack, "", @progbits
