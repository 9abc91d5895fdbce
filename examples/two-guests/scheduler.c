/* Round robin: each guest runs until its time is up or it has ended; then it is the next one's turn. */
#include "scheduler.h"
#include "console.h"
#include "guest_machine.h"
#include "vmcs.h"

#define VMX_PREEMPTION_TIMER_VALUE ((enum vmcs_field)0x482E)
#define EXIT_REASON_VMX_PREEMPTION_TIMER 52
#define IA32_VMX_MISC 0x485
#define MISC_TIMER_RATE(misc) ((misc) & 31)

/* A turn, in ticks of the time-stamp counter. */
#define TURN 20000

enum verdict { GO_ON, TURN_IS_OVER };

static void write_console(struct vcpu *vcpu, char c)
{
	if (vcpu->written < VCPU_CONSOLE_SIZE - 1)
		vcpu->console[vcpu->written++] = c;
}

/* What a VM exit means for the guest that ran. Its VMCS is current. */
static enum verdict handle_exit(struct vcpu *vcpu)
{
	uint64_t reason = vmread(EXIT_REASON), qualification = vmread(EXIT_QUALIFICATION);
	switch (reason) {
	case EXIT_REASON_VMX_PREEMPTION_TIMER:
		vcpu->preemptions++;
		return TURN_IS_OVER;
	case EXIT_REASON_HLT:
		vcpu->has_ended = 1;
		return TURN_IS_OVER;
	case EXIT_REASON_IO_INSTRUCTION:
		if (IO_QUALIFICATION_PORT(qualification) == GUEST_CONSOLE_PORT)
			write_console(vcpu, (char)vcpu->registers[RAX]);
		vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
		return GO_ON;
	default:
		die("%s: unexpected exit %lx, qualification %lx, RIP %lx.", vcpu->name, reason, qualification,
		    vmread(GUEST_RIP));
	}
}

/* The timer counts in the guest only, once every 2^rate ticks of the time-stamp counter. */
static void start_turn(void)
{
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, TURN >> MISC_TIMER_RATE(rdmsr(IA32_VMX_MISC)));
}

static void take_turn(struct vcpu *vcpu)
{
	vcpu_select(vcpu);
	start_turn();
	do {
		if (!run_vcpu(vcpu))
			die("%s: VM entry failed, VM-instruction error %u.", vcpu->name, (unsigned)vmread(VM_INSTRUCTION_ERROR));
	} while (handle_exit(vcpu) == GO_ON);
}

void schedule(struct vcpu vcpus[VCPU_COUNT])
{
	for (unsigned running = VCPU_COUNT; running > 0;) {
		running = 0;
		for (unsigned i = 0; i < VCPU_COUNT; i++) {
			if (!vcpus[i].has_ended)
				take_turn(&vcpus[i]);
			running += !vcpus[i].has_ended;
		}
	}
}
