/* What both guests need. */
#pragma once
#include "guest/print.h"

/* Counted by the handler in first-vmm's entry.S, which these guests have no need of. */
volatile uint32_t general_protection_count;
