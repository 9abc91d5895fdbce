/*
 * Runs single instructions on the processor of this machine, in user mode.
 *
 * Standard input holds cases (struct input), standard output receives as many results (struct output). A case is
 * started by returning from a signal handler with its registers in the signal frame, and ends in the next
 * signal: every instruction is followed by INT3, and faults arrive as signals, too. So no assembly code is
 * needed and nothing is lost.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* The compiler is given the addresses of layout.ts as CODE, DATA and so on. */
#define INT3 0xcc
#define BREAKPOINT 3

enum { X87_BYTES = 160 };

struct input {
  uint64_t gpr[16];
  uint64_t rflags;
  uint64_t rip;
  uint32_t mxcsr;
  uint32_t length;
  uint32_t code_segment;
  uint32_t data_segment;
  uint64_t code_base;
  uint8_t code[32];
  uint8_t ymm[16][32];
  uint8_t x87[X87_BYTES];
  uint8_t memory[WINDOW_SIZE];
};

struct output {
  uint64_t gpr[16];
  uint64_t rflags;
  uint64_t rip;
  uint32_t mxcsr;
  uint32_t vector;
  uint8_t ymm[16][32];
  uint8_t x87[X87_BYTES];
  uint8_t memory[WINDOW_SIZE];
};

static const int GREGS[16] = {
  REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
  REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};
static const uint64_t SETTABLE_FLAGS = 0xcd5;

/* The frame's FXSAVE area: x87 control to pointers, MXCSR and its mask, x87 registers, XMM; then the XSAVE header and
   the upper halves of YMM. */
enum { X87_BYTES_BEFORE_MXCSR = 24, X87_REGISTERS = 32, XMM = 160, XSAVE_HEADER = 512, YMM_HIGH = 576 };
enum { AVX = 4, X87_SSE_AVX = 7 };

static struct input *inputs;
static struct output *outputs;
static size_t count;
static size_t started;

static void start(ucontext_t *context) {
  const struct input *in = &inputs[started++];
  greg_t *gregs = context->uc_mcontext.gregs;
  for (int i = 0; i < 16; i++) gregs[GREGS[i]] = (greg_t)in->gpr[i];
  gregs[REG_RIP] = (greg_t)in->rip;
  /* CS lies in bits 15:0, SS in bits 63:48. DS and ES are not in the frame; 64-bit code, as here, ignores them. */
  gregs[REG_CSGSFS] = (greg_t)(((uint64_t)gregs[REG_CSGSFS] & 0x0000ffffffff0000UL) | in->code_segment |
                               (uint64_t)in->data_segment << 48);
  __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(in->data_segment));
  gregs[REG_EFL] = (greg_t)((gregs[REG_EFL] & ~SETTABLE_FLAGS) | (in->rflags & SETTABLE_FLAGS));
  context->uc_mcontext.fpregs->mxcsr = in->mxcsr;
  uint8_t *area = (uint8_t *)context->uc_mcontext.fpregs;
  memcpy(area, in->x87, X87_BYTES_BEFORE_MXCSR);
  memcpy(area + X87_REGISTERS, in->x87 + X87_REGISTERS, X87_BYTES - X87_REGISTERS);
  /* Parts that were in their initial state when the signal came are restored, too. */
  area[XSAVE_HEADER] |= X87_SSE_AVX;
  for (int i = 0; i < 16; i++) {
    memcpy(area + XMM + 16 * i, in->ymm[i], 16);
    memcpy(area + YMM_HIGH + 16 * i, in->ymm[i] + 16, 16);
  }
  memcpy((void *)WINDOW, in->memory, WINDOW_SIZE);
  memcpy((void *)(in->code_base + in->rip), in->code, in->length);
}

static void finish(const ucontext_t *context) {
  const struct input *in = &inputs[started - 1];
  struct output *out = &outputs[started - 1];
  const greg_t *gregs = context->uc_mcontext.gregs;
  for (int i = 0; i < 16; i++) out->gpr[i] = (uint64_t)gregs[GREGS[i]];
  out->rflags = (uint64_t)gregs[REG_EFL];
  out->vector = (uint32_t)gregs[REG_TRAPNO];
  /* The breakpoint trap is reported behind INT3. */
  out->rip = (uint64_t)gregs[REG_RIP] - (out->vector == BREAKPOINT ? 1 : 0);
  const uint8_t *area = (const uint8_t *)context->uc_mcontext.fpregs;
  for (int i = 0; i < 16; i++) {
    memcpy(out->ymm[i], area + XMM + 16 * i, 16);
    if (area[XSAVE_HEADER] & AVX) memcpy(out->ymm[i] + 16, area + YMM_HIGH + 16 * i, 16);
  }
  out->mxcsr = context->uc_mcontext.fpregs->mxcsr;
  memcpy(out->x87, area, X87_BYTES);
  memcpy(out->memory, (void *)WINDOW, WINDOW_SIZE);
  memset((void *)(in->code_base + in->rip), INT3, in->length);
}

static void write_all(const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t written = write(STDOUT_FILENO, at, size);
    if (written <= 0) _exit(1);
    at += written;
    size -= (size_t)written;
  }
}

static void on_signal(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)info;
  if (started > 0) finish(context);
  if (started < count) {
    start(context);
    return;
  }
  write_all(outputs, count * sizeof *outputs);
  _exit(0);
}

static void map(uint64_t address, size_t size, int fill) {
  void *wanted = (void *)address;
  void *at = mmap(wanted, size, PROT_READ | PROT_WRITE | PROT_EXEC,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (at != wanted) {
    perror("mmap");
    exit(2);
  }
  memset(at, fill, size);
}

/* A 16-bit segment. Where the kernel has no LDT, cases that name it end with #GP. */
static void add_segment(unsigned number, unsigned base, unsigned limit, unsigned contents) {
  struct user_desc segment = {.entry_number = number, .base_addr = base, .limit = limit, .contents = contents};
  segment.useable = 1;
  syscall(SYS_modify_ldt, 1, &segment, sizeof segment);
}

static void read_inputs(void) {
  size_t room = 0, size = 0;
  char *data = NULL;
  for (;;) {
    if (size == room) data = realloc(data, room = room * 2 + (1 << 20));
    if (!data) exit(2);
    ssize_t got = read(STDIN_FILENO, data + size, room - size);
    if (got < 0) exit(2);
    if (got == 0) break;
    size += (size_t)got;
  }
  inputs = (struct input *)data;
  count = size / sizeof *inputs;
  outputs = calloc(count + 1, sizeof *outputs);
  if (!outputs) exit(2);
}

int main(void) {
  static char stack[1 << 16];
  const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
  read_inputs();
  if (count == 0) return 0;
  map(CODE, CODE_SIZE, INT3);
  map(DATA, DATA_SIZE, 0);
  if (syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE) != 0) return 2;
  add_segment(0, CODE, CODE_SIZE - 1, MODIFY_LDT_CONTENTS_CODE);
  add_segment(1, DATA16_BASE, DATA16_LIMIT, MODIFY_LDT_CONTENTS_DATA);
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  if (sigaltstack(&alternate, NULL) != 0) return 2;
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
  alarm(120);
  raise(SIGTRAP);
  return 3;
}
