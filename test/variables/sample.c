/* Every kind of type and variable, in functions that a compiler inlines, takes apart and keeps in registers. */

typedef unsigned long u64;
typedef unsigned char u8;

enum state { IDLE, RUNNING = 5, FAILED = -2 };
enum rights { READ = 1, WRITE = 2, EXECUTE = 4 };

struct point {
  int x, y;
};

struct flags {
  unsigned ready : 1;
  unsigned mode : 3;
  int delta : 6;
  u64 wide : 37;
  enum state state : 4;
};

union word {
  u64 whole;
  unsigned half[2];
  u8 bytes[8];
  struct point point;
};

struct vcpu {
  const char *name;
  enum state state;
  u64 registers[4];
  struct flags flags;
  union word word;
  struct vcpu *next;
  int (*handler)(struct vcpu *, int);
  double weight;
  float ratio;
  _Bool valid;
  struct {
    short low;
    long high;
  };
};

static struct vcpu vcpus[3];
static int total;
u64 shared = 0x123456789abcdef0;
volatile int sink;
short matrix[3][4];
const char greeting[] = "hello";

static u64 mix(u64 a, u64 b) {
  u64 x = a ^ (b << 7);
  u64 y = x * 0x9e3779b97f4a7c15;
  return y ^ (y >> 29);
}

static inline int clamp(int value, int low, int high) {
  int result = value;
  if (result < low) result = low;
  if (result > high) result = high;
  return result;
}

__attribute__((noinline)) static int weigh(struct vcpu *vcpu, int depth) {
  struct point corner = {depth, -depth};
  struct point *at = &corner;
  long sum = 0;
  for (int i = 0; i < 4; i++) {
    u64 value = vcpu->registers[i];
    struct point moved = *at;
    moved.x += clamp((int)(value & 0xff), -20, 100);
    moved.y -= i;
    sum += moved.x * moved.y;
    vcpu->registers[i] = mix(value, (u64)sum);
  }
  sink = (int)sum;
  return (int)sum + at->x;
}

__attribute__((noinline)) static int wait(struct vcpu *vcpu, int depth) {
  enum rights rights = (enum rights)(depth & 7);
  vcpu->flags.delta = depth;
  vcpu->flags.wide += 3;
  vcpu->flags.mode = (unsigned)rights;
  if (depth <= 0) return vcpu->flags.delta;
  int below = wait(vcpu, depth - 1);
  sink = below;
  return below + (int)rights;
}

__attribute__((noinline)) double average(const double *values, int count, float scale) {
  double sum = 0;
  for (int i = 0; i < count; i++) sum += values[i] * scale;
  double result = sum / count;
  return result;
}

__attribute__((noinline)) static struct point add(struct point a, struct point b, char letter) {
  struct point sum = {a.x + b.x, a.y + b.y};
  u8 code = (u8)(letter + 1);
  sink = code;
  return sum;
}

__attribute__((noinline)) static int many(int a, long b, short c, char d, u8 e, unsigned f, int g, long h) {
  static int calls;
  calls++;
  long sum = a + b + c + d + e + f + g + h;
  for (int row = 0; row < 3; row++) {
    for (int column = 0; column < 4; column++) {
      short *cell = &matrix[row][column];
      *cell = (short)(*cell + sum + row * column);
    }
  }
  return (int)sum + calls;
}

static void prepare(struct vcpu *list, int count) {
  for (int i = 0; i < count; i++) {
    struct vcpu *vcpu = &list[i];
    vcpu->name = greeting + i;
    vcpu->state = i == 1 ? RUNNING : FAILED;
    vcpu->next = &list[(i + 1) % count];
    vcpu->handler = i & 1 ? wait : weigh;
    vcpu->weight = 1.5 * i;
    vcpu->ratio = 0.1f * (float)i;
    vcpu->valid = i > 0;
    vcpu->flags.state = IDLE;
    vcpu->low = (short)-i;
    vcpu->high = -1L << i;
    vcpu->registers[i] = mix(shared, (u64)i);
  }
}

int main(void) {
  union word word = {.whole = shared};
  double values[3] = {1.25, -3.5, 1e10};
  prepare(vcpus, 3);
  struct vcpu *vcpu = vcpus;
  for (int round = 0; round < 40; round++) {
    int result = vcpu->handler(vcpu, round % 6);
    struct point sum = add((struct point){round, result}, (struct point){1, 2}, (char)('a' + round % 26));
    values[round % 3] += average(values, 3, vcpu->ratio);
    word.half[round & 1] += (unsigned)sum.x;
    total += many(round, result, (short)round, (char)-round, word.bytes[1], word.half[0], sum.y, total);
    vcpu->word.whole = mix(word.whole, (u64)total);
    vcpu = vcpu->next;
  }
  return total;
}
