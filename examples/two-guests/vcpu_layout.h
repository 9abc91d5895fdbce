/* Where run.S finds what it needs in a struct vcpu. A check in vcpu.c compares. */
#pragma once

#define VCPU_REGISTER(number) (8 * (number))
#define VCPU_LAUNCHED 128
