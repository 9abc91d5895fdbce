/* What a multiboot loader leaves for us: the start of its information, and one entry of its list of modules. */
#pragma once
#include "cpu.h"

#define MULTIBOOT_LOADER_MAGIC 0x2BADB002
#define MULTIBOOT_INFO_MODULES BIT(3)

struct multiboot_information {
	uint32_t flags, memory_lower, memory_upper, boot_device, command_line;
	uint32_t module_count, modules;
};

struct multiboot_module {
	uint32_t start, end, command_line, reserved;
};
