// What C++ adds: namespaces, classes with bases, references, templates, methods, enumerations of a type.

namespace machine {

enum class Mode : unsigned char { Real, Protected = 3, Long = 200 };

struct Counter {
  long count = 0;
  int step = 1;
};

template <typename T, int N> class Ring {
public:
  void push(T value) {
    T &slot = slots[next];
    slot = value;
    next = (next + 1) % N;
  }
  T sum() const {
    T total = 0;
    for (const T &slot : slots) total += slot;
    return total;
  }

private:
  T slots[N] = {};
  int next = 0;
};

class Device : public Counter {
public:
  Device(int id, Mode mode) : id(id), mode(mode) {}
  __attribute__((noinline)) long tick(const Counter &other) {
    long before = count;
    count += step + other.count % 7;
    if (mode != Mode::Real) history.push(static_cast<int>(count - before));
    return count;
  }
  Ring<int, 4> history;
  static int made;

private:
  int id;
  Mode mode;
};

int Device::made = 2;

namespace {
int hidden = 7;
}

class Port {
public:
  explicit Port(int number) : number(number) {}
  virtual int read(int shift) const { return number >> shift; }
  int number;
};

class Inverted final : public Port {
public:
  Inverted(int number, int &reads) : Port(number), reads(reads) {}
  __attribute__((noinline)) int read(int shift) const override {
    int plain = Port::read(shift);
    reads++;
    return ~plain;
  }
  int &reads;
};

__attribute__((noinline)) int readAll(const Port *const (&ports)[2], int round) {
  int sum = 0;
  for (const Port *port : ports) sum += port->read(round % 3);
  return sum;
}

__attribute__((noinline)) long run(Device *devices, int rounds, long &result) {
  Device &first = devices[0];
  auto twice = [&result](int value) { return value * 2 + static_cast<int>(result & 1); };
  for (int round = 0; round < rounds; round++) {
    Device &device = devices[round % 2];
    const bool odd = (round & 1) != 0;
    result += device.tick(first) + twice(round);
    char16_t wide = static_cast<char16_t>(0x100 + round);
    hidden += odd ? wide : -1;
    result ^= device.history.sum();
  }
  return result + hidden;
}

} // namespace machine

using machine::Mode;

extern "C" int main() {
  machine::Device devices[2] = {{1, Mode::Protected}, {2, Mode::Real}};
  long result = machine::Device::made;
  int reads = 0;
  machine::Port plain(0x3f8);
  machine::Inverted inverted(0x2f8, reads);
  const machine::Port *const ports[2] = {&plain, &inverted};
  for (int round = 0; round < 9; round++) result += machine::readAll(ports, round);
  return static_cast<int>(machine::run(devices, 60, result));
}
