/* What moving a guest consists of. */
#pragma once
#include "host.h"

/* Copies all of the guest's memory. Returns how many pages that are. */
unsigned copy_all_pages(struct host *from, struct host *to);

/* Copies the pages that the guest has written since they were copied last. Returns how many. */
unsigned copy_written_pages(struct host *from, struct host *to);

/* Moves the processor's state. VMCS `to` is current then. Returns how many VMCS fields that are. */
unsigned move_processor(struct host *from, struct host *to);

/* Leaves nothing of the guest where it was. */
void forget_guest(struct host *host);
