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

/*
 * Parts of that, in the current VMCS. Controls: the wanted ones and those that the processor insists on; dies when it
 * does not have them all. Host state: what a VM exit loads, where the VMM goes on, but for HOST_RSP. Guest state: what
 * VM entry loads, where the guest begins.
 */
uint64_t adjust_controls(const char *name, uint32_t old_msr, uint32_t true_msr, uint64_t wanted);
void set_up_host_state(void);
void set_up_guest_state(struct guest_image image);

/* VMWRITE that dies with the VM-instruction error. */
void vmwrite(enum vmcs_field field, uint64_t value);

/* From vmexit.S. */
void launch_guest(void);
void vm_exit_entry(void);
