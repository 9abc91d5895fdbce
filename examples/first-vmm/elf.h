/* ELF files of 64 bits, as far as loading them needs. */
#pragma once
#include <stdint.h>

#define ELF_MAGIC 0x464C457F
#define ELF_CLASS_64 2
#define ELF_MACHINE_X86_64 62
#define ELF_SEGMENT_LOAD 1

struct elf_header {
	uint32_t magic;
	uint8_t class;
	uint8_t ident[11];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, program_headers, section_headers;
	uint32_t flags;
	uint16_t size, program_header_size, program_header_count;
};

struct elf_program_header {
	uint32_t type, flags;
	uint64_t offset, linear, physical, file_size, memory_size, alignment;
};
