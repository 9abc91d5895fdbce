/* Runs a guest of 16-bit code through /dev/kvm: it adds the numbers 1 to 10, sends the sum to a port, and halts. */

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { GUEST_BASE = 0x1000, GUEST_SIZE = 0x1000, PORT = 0x80 };

static const uint8_t guest_code[] = {
    0x31, 0xc0,       /* xor ax, ax */
    0xb9, 0x0a, 0x00, /* mov cx, 10 */
    0x01, 0xc8,       /* next: add ax, cx */
    0xe2, 0xfc,       /* loop next */
    0xe6, PORT,       /* out PORT, al */
    0xf4,             /* hlt */
};

static int check(int result, const char *what) {
  if (result >= 0) return result;
  perror(what);
  exit(1);
}

int main(void) {
  int kvm = check(open("/dev/kvm", O_RDWR), "/dev/kvm");
  int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  uint8_t *memory = mmap(0, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memcpy(memory, guest_code, sizeof guest_code);
  struct kvm_userspace_memory_region region = {
      .guest_phys_addr = GUEST_BASE, .memory_size = GUEST_SIZE, .userspace_addr = (uintptr_t)memory};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");

  int cpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  int run_size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  struct kvm_run *run = mmap(0, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
  struct kvm_sregs segments;
  check(ioctl(cpu, KVM_GET_SREGS, &segments), "KVM_GET_SREGS");
  segments.cs.base = 0;
  segments.cs.selector = 0;
  check(ioctl(cpu, KVM_SET_SREGS, &segments), "KVM_SET_SREGS");
  struct kvm_regs registers = {.rip = GUEST_BASE, .rflags = 2};
  check(ioctl(cpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");

  for (;;) {
    check(ioctl(cpu, KVM_RUN, 0), "KVM_RUN");
    if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT) {
      printf("guest sent %d\n", ((uint8_t *)run)[run->io.data_offset]);
    } else if (run->exit_reason == KVM_EXIT_HLT) {
      puts("guest halted");
      return 0;
    } else {
      printf("unexpected exit %u\n", run->exit_reason);
      return 1;
    }
  }
}
