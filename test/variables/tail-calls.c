/* Functions that end by calling another one: what optimised code does by a jump, so that their frames are gone. */
#define FUNCTION __attribute__((noinline)) static
volatile int sink;

FUNCTION void leaf(int x)
{
  sink = x;
  sink = x + 1;
  sink = x + 2;
}
FUNCTION void middle(int x) { sink = 10; leaf(x * 2); }
FUNCTION void outer(int x) { sink = 20; middle(x + 1); }

/* Two ways lead from here to the leaf. */
FUNCTION void one(int x) { sink = 1; leaf(x); }
FUNCTION void two(int x) { sink = 2; leaf(x + 1); }
FUNCTION void either(int x) { sink = 3; if (x & 1) one(x); else two(x); }
FUNCTION void before(int x) { sink = 4; either(x); }

/* Which function is called, nothing tells. */
void (*volatile pointer)(int) = leaf;
FUNCTION void indirect(int x) { sink = 5; pointer(x); }

/* In circles. */
FUNCTION void even(int x);
FUNCTION void odd(int x) { sink = 6; if (x <= 0) leaf(x); else even(x - 1); }
FUNCTION void even(int x) { sink = 7; if (x <= 0) leaf(x); else odd(x - 1); }

FUNCTION int work(int x)
{
  outer(x);
  either(x);
  before(x + 1);
  indirect(x);
  odd(x & 3);
  leaf(x);
  return sink;
}

int main(void)
{
  int sum = 0;
  for (int i = 0; i < 60; i++) sum += work(i);
  return sum;
}
