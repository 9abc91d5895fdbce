#include "shadow.h"
#include "console.h"
#include "cpu.h"
#include "guest_memory.h"

#define ENTRY_PRESENT BIT(0)
#define ENTRY_WRITABLE BIT(1)
#define ENTRY_USER BIT(2)
#define ENTRY_ACCESSED BIT(5)
#define ENTRY_DIRTY BIT(6)
#define ENTRY_LARGE BIT(7)
#define ENTRY_ADDRESS 0x000FFFFFFFFFF000ull

/* Each level indexes its table with nine bits of the address: 47:39, 38:30, 29:21, 20:12. */
#define TOP_SHIFT 39
#define PAGE_SHIFT 12
#define INDEX(linear, shift) ((linear) >> (shift) & 511)

typedef uint64_t table[512];

/* Enough for the guest's few regions. When it is not, all is forgotten and filled in again as it is used. */
#define TABLES 16
static table root __attribute__((aligned(PAGE_SIZE)));
static table tables[TABLES] __attribute__((aligned(PAGE_SIZE)));
static unsigned used_tables;

static uint64_t guest_cr3;

static void clear(table t)
{
	for (unsigned i = 0; i < 512; i++)
		t[i] = 0;
}

void shadow_switch(uint64_t cr3)
{
	guest_cr3 = cr3;
	clear(root);
	used_tables = 0;
}

uint64_t shadow_guest_cr3(void)
{
	return guest_cr3;
}

/* Our memory is mapped one to one: a linear address of ours is the physical one, too. */
uint64_t shadow_root(void)
{
	return (uint64_t)root;
}

/* ---- The guest's tables ---- */

struct translation {
	uint64_t guest_physical; /* of the page */
	uint64_t rights;         /* ENTRY_WRITABLE and ENTRY_USER where all levels have them */
	uint64_t *last;          /* the entry that maps the page */
};

static uint64_t *guest_entry(uint64_t guest_table, uint64_t linear, int shift)
{
	if (guest_table > GUEST_MEMORY_SIZE - PAGE_SIZE)
		die("The guest has a page table at %lx, beyond its memory.", guest_table);
	return (uint64_t *)(guest_memory + guest_table) + INDEX(linear, shift);
}

/* Does what the processor would do on its way through the guest's tables, accessed flags included. */
static int walk_guest(uint64_t linear, struct translation *found)
{
	uint64_t guest_table = guest_cr3 & ENTRY_ADDRESS;
	found->rights = ENTRY_WRITABLE | ENTRY_USER;
	for (int shift = TOP_SHIFT;; shift -= 9) {
		uint64_t *entry = guest_entry(guest_table, linear, shift);
		if (!(*entry & ENTRY_PRESENT))
			return 0;
		*entry |= ENTRY_ACCESSED;
		found->rights &= *entry;
		found->last = entry;
		guest_table = *entry & ENTRY_ADDRESS;
		if (shift == PAGE_SHIFT || (shift <= 30 && *entry & ENTRY_LARGE)) {
			uint64_t within = BIT(shift) - 1;
			found->guest_physical = ((guest_table & ~within) | (linear & within)) & ~(PAGE_SIZE - 1);
			return 1;
		}
	}
}

/* ---- The shadow tables ---- */

/* The entry for a page of 4 KiB; 0 when there is no table for it, and none is to be made or left. */
static uint64_t *shadow_entry(uint64_t linear, int make)
{
	uint64_t *at = root;
	for (int shift = TOP_SHIFT; shift > PAGE_SHIFT; shift -= 9) {
		uint64_t *entry = &at[INDEX(linear, shift)];
		if (!(*entry & ENTRY_PRESENT)) {
			if (!make || used_tables == TABLES)
				return 0;
			clear(tables[used_tables]);
			/* The page's own entry says what is permitted. */
			*entry = (uint64_t)tables[used_tables++] | ENTRY_PRESENT | ENTRY_WRITABLE | ENTRY_USER;
		}
		at = (uint64_t *)(*entry & ENTRY_ADDRESS);
	}
	return &at[INDEX(linear, PAGE_SHIFT)];
}

void shadow_forget(uint64_t linear)
{
	uint64_t *entry = shadow_entry(linear, 0);
	if (entry)
		*entry = 0;
}

int shadow_fill(uint64_t linear, uint64_t error_code)
{
	struct translation found;
	uint64_t needed = (error_code & PAGE_FAULT_WRITE ? ENTRY_WRITABLE : 0) |
	                  (error_code & PAGE_FAULT_USER ? ENTRY_USER : 0);
	if (!walk_guest(linear, &found) || (found.rights & needed) != needed)
		return 0;
	if (found.guest_physical >= GUEST_MEMORY_SIZE)
		die("The guest maps guest-physical %lx, beyond its memory.", found.guest_physical);
	if (error_code & PAGE_FAULT_WRITE)
		*found.last |= ENTRY_DIRTY;
	uint64_t *entry = shadow_entry(linear, 1);
	if (!entry) {
		shadow_switch(guest_cr3);
		entry = shadow_entry(linear, 1);
	}
	/* Until the page is dirty it is read-only, so that the first write comes here and sets the guest's dirty flag. */
	uint64_t rights = *found.last & ENTRY_DIRTY ? found.rights : found.rights & ~ENTRY_WRITABLE;
	*entry = (uint64_t)(guest_memory + found.guest_physical) | rights | ENTRY_PRESENT;
	return 1;
}
