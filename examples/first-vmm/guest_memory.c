#include "guest_memory.h"
#include "console.h"
#include "elf.h"
#include "vmx.h"

__attribute__((section(".guest_memory"), aligned(LARGE_PAGE_SIZE))) uint8_t guest_memory[GUEST_MEMORY_SIZE];

static void load_segment(const uint8_t *file, uint64_t size, const struct elf_program_header *segment)
{
	if (segment->offset > size || segment->file_size > size - segment->offset)
		die("guest: a segment lies outside the file");
	if (segment->physical > GUEST_MEMORY_SIZE || segment->memory_size > GUEST_MEMORY_SIZE - segment->physical)
		die("guest: a segment does not fit into guest memory");
	uint8_t *to = guest_memory + segment->physical;
	for (uint64_t i = 0; i < segment->memory_size; i++)
		to[i] = i < segment->file_size ? file[segment->offset + i] : 0;
	print("guest segment: linear %lx, guest-physical %lx, %lx bytes\n", segment->linear, segment->physical,
	      segment->memory_size);
}

struct guest_image load_guest(const uint8_t *file, uint64_t size)
{
	const struct elf_header *header = (const struct elf_header *)file;
	if (size < sizeof *header || header->magic != ELF_MAGIC || header->class != ELF_CLASS_64 ||
	    header->machine != ELF_MACHINE_X86_64)
		die("guest: not an ELF file for x86-64");
	struct guest_image image = {header->entry, GUEST_MEMORY_SIZE};
	for (unsigned i = 0; i < header->program_header_count; i++) {
		uint64_t offset = header->program_headers + i * sizeof(struct elf_program_header);
		if (offset > size - sizeof(struct elf_program_header))
			die("guest: truncated program headers");
		const struct elf_program_header *segment = (const struct elf_program_header *)(file + offset);
		if (segment->type != ELF_SEGMENT_LOAD || segment->memory_size == 0)
			continue;
		load_segment(file, size, segment);
		if (segment->physical < image.page_table_root)
			image.page_table_root = segment->physical;
	}
	return image;
}

#define PAGE_PRESENT BIT(0)
#define PAGE_LARGE BIT(7)
#define PAGE_ADDRESS 0x000FFFFFFFFFF000ull

const uint8_t *guest_linear_to_host(uint64_t linear)
{
	uint64_t table = vmread(GUEST_CR3) & PAGE_ADDRESS;
	/* Each level indexes its table with nine bits of the address: 47:39, 38:30, 29:21, 20:12. */
	for (int shift = 39; shift >= 12; shift -= 9) {
		if (table > GUEST_MEMORY_SIZE - PAGE_SIZE)
			return 0;
		uint64_t entry = ((const uint64_t *)(guest_memory + table))[linear >> shift & 511];
		if (!(entry & PAGE_PRESENT))
			return 0;
		table = entry & PAGE_ADDRESS;
		if (shift == 12 || (shift <= 30 && entry & PAGE_LARGE)) {
			uint64_t offset_mask = BIT(shift) - 1;
			uint64_t guest_physical = (table & ~offset_mask) | (linear & offset_mask);
			return guest_physical < GUEST_MEMORY_SIZE ? guest_memory + guest_physical : 0;
		}
	}
	return 0;
}
