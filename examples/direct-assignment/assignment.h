/* What the VMM and the guest agree about: the device, and the two addresses that the guest lets it write to. */
#pragma once
#include <stdint.h>

/* The registers of the assigned device, in the guest's physical address space: one page. */
#define DEVICE_ADDRESS 0x1F0000ull

/* QEMU's edu device: registers, its buffer, commands. */
#define EDU_VENDOR_AND_DEVICE 0x11E81234
#define EDU_IDENTITY 0x00
#define EDU_IDENTITY_VALUE 0x010000ED
#define EDU_DMA_SOURCE 0x80
#define EDU_DMA_DESTINATION 0x88
#define EDU_DMA_COUNT 0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_DMA_START 1
#define EDU_DMA_TO_MEMORY 2
#define EDU_BUFFER 0x40000

/* Inside the guest's memory: what the device copies has to arrive here. */
#define GUEST_BUFFER 0x180000ull
/* Beyond it. In the host's memory the VMM keeps something at both addresses that is none of the guest's business. */
#define HOST_SECRET 0x800000ull
#define SECRET_VALUE 0x5EC2E75EC2E7ull
#define GUEST_VALUE 0x6E57DA7A6E57DA7Aull
