/* Who runs, and for how long. */
#pragma once
#include "vcpu.h"

#define VCPU_COUNT 2

/* Runs the virtual processors in turn until all guests have ended. */
void schedule(struct vcpu vcpus[VCPU_COUNT]);
