/* Entering VMX operation and filling the VMCS. */
#pragma once
#include "guest_memory.h"
#include "vmx.h"

/* Dies with a reason when the processor lacks something that this VMM uses. */
void check_processor(void);
/* VMXON. */
void enter_vmx_operation(void);
/* Makes a VMCS current and describes the guest in it. */
void set_up_vmcs(struct guest_image image);

/* VMWRITE that dies with the VM-instruction error. */
void vmwrite(enum vmcs_field field, uint64_t value);

/* From vmexit.S. */
void launch_guest(void);
void vm_exit_entry(void);
