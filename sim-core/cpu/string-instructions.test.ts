import assert from 'node:assert/strict';
import { exception, VECTOR } from '../mmu/fault.ts';
import { generator } from '../mmu/test-tables.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import { readRflags, writeRflags } from './rflags.ts';
import { setSegment } from './segments.ts';
import { AT, enter32, enter64, newCpu, run, type TestCpu } from './test-cpu.ts';

const FROM = 0x10_0000;

function setRegisters(cpu: TestCpu, rsi: number, rdi: number, rcx: number): void {
  cpu.state.set64('gpr', BigInt(rsi), GPR.rsi);
  cpu.state.set64('gpr', BigInt(rdi), GPR.rdi);
  cpu.state.set64('gpr', BigInt(rcx), GPR.rcx);
}
const registers = ({ state }: TestCpu): number[] =>
  [GPR.rsi, GPR.rdi, GPR.rcx].map((register) => Number(state.get64('gpr', register)));

/** Repeats the instruction until RIP moves on, as the machine does. */
function finish(cpu: TestCpu, bytes: string) {
  const start = cpu.state.get64('rip');
  for (let i = 0; i < 1000; i++) {
    const fault = run(cpu, bytes);
    if (fault) return fault;
    if (cpu.state.get64('rip') !== start) return undefined;
  }
  throw new Error('the instruction does not end');
}

const MOVS = { 1: 'f3 a4', 2: 'f3 66 a5', 4: 'f3 a5', 8: 'f3 48 a5' } as const;

describe('String instructions', () => {
  const seed = 4711;
  it(`REP MOVS copies as a loop over elements does, whatever overlaps (seed ${seed})`, () => {
    const random = generator(seed);
    const cpu = enter64(newCpu());
    const { bytes } = cpu.state;
    const base = cpu.mmu.physical.host(0);
    for (let round = 0; round < 300; round++) {
      const size = ([1, 2, 4, 8] as const)[random(4)] ?? 1;
      const down = random(2) === 1;
      const count = random(random(4) === 0 ? 3000 : 40);
      const from = FROM + 0x8000 + random(64);
      const to = random(2) === 0 ? from - 40 + random(80) : FROM + 0x2_0000 + random(64);
      for (let i = 0; i < 0x4_0000; i += 4) cpu.state.u32[(base + FROM + i) >>> 2] = random(2 ** 32);
      const expected = bytes.slice(base + FROM, base + FROM + 0x4_0000);
      const step = down ? -size : size;
      for (let i = 0; i < count; i++) {
        const at = from - FROM + i * step;
        expected.set(expected.slice(at, at + size), to - FROM + i * step);
      }
      writeRflags(cpu.state, down ? 0x400 : 0);
      setRegisters(cpu, from, to, count);
      assert.equal(finish(cpu, MOVS[size]), undefined);
      const label = `seed ${seed} round ${round}: ${count} × ${size} from ${from.toString(16)} to ${to.toString(16)}`;
      assert.deepEqual(registers(cpu), [from + count * step, to + count * step, 0], label);
      assert.ok(Buffer.compare(bytes.slice(base + FROM, base + FROM + 0x4_0000), expected) === 0, label);
    }
  });

  it('a fault in the middle leaves the registers at the element that faulted', () => {
    const cpu = enter64(newCpu());
    // The last mapped page ends at 4 MiB.
    setRegisters(cpu, FROM, 0x40_0000 - 16, 100);
    const fault = finish(cpu, 'f3 a4');
    assert.deepEqual(fault, { ...exception(VECTOR.pf, 2), linearAddress: 0x40_0000n });
    assert.deepEqual(registers(cpu), [FROM + 16, 0x40_0000, 84]);
    assert.equal(cpu.state.get64('rip'), BigInt(AT.code));
  });

  it('lets interrupts in during long copies', () => {
    const cpu = enter64(newCpu());
    setRegisters(cpu, FROM, FROM + 0x10_0000, 0x3_0000);
    assert.equal(run(cpu, 'f3 a4'), undefined);
    assert.equal(cpu.state.get64('rip'), BigInt(AT.code));
    assert.deepEqual(registers(cpu), [FROM + 0x1_0000, FROM + 0x11_0000, 0x2_0000]);
  });

  it('does nothing with a count of 0', () => {
    const cpu = enter64(newCpu());
    setRegisters(cpu, 0x9000_0000, 0x9000_0000, 0);
    assert.equal(run(cpu, 'f3 a4'), undefined);
    assert.equal(cpu.state.get64('rip'), BigInt(AT.code + 2));
  });

  it('STOS stores AL, AX, EAX and RAX', () => {
    const cpu = enter64(newCpu());
    cpu.state.set64('gpr', 0x8877_6655_4433_2211n, GPR.rax);
    const store = (bytes: string): bigint[] => {
      setRegisters(cpu, 0, FROM + 4, 3);
      for (let i = 0; i < 8; i++) cpu.mmu.physical.write64(FROM + 8 * i, 0n);
      assert.equal(finish(cpu, bytes), undefined);
      return Array.from({ length: 4 }, (_, i) => cpu.mmu.physical.read64(FROM + 8 * i));
    };
    assert.deepEqual(store('f3 aa'), [0x0011_1111_0000_0000n, 0n, 0n, 0n]);
    assert.deepEqual(store('f3 66 ab'), [0x2211_2211_0000_0000n, 0x2211n, 0n, 0n]);
    assert.deepEqual(store('f3 ab'), [0x4433_2211_0000_0000n, 0x4433_2211_4433_2211n, 0n, 0n]);
    assert.deepEqual(store('f3 48 ab'), [
      0x4433_2211_0000_0000n,
      0x4433_2211_8877_6655n,
      0x4433_2211_8877_6655n,
      0x8877_6655n,
    ]);
  });

  it('LODS loads, with FS as the source segment when it is overridden', () => {
    const cpu = enter64(newCpu());
    cpu.mmu.physical.write64(FROM + 0x10, 0x1122_3344_5566_7788n);
    cpu.state.set64('segmentBase', BigInt(FROM), SEGMENT.fs);
    cpu.state.set64('gpr', 0xffff_ffff_ffff_ffffn, GPR.rax);
    setRegisters(cpu, 0x10, 0, 0);
    assert.equal(run(cpu, '64 ad'), undefined);
    assert.equal(cpu.state.get64('gpr', GPR.rax), 0x5566_7788n);
    setRegisters(cpu, 0x10, 0, 0);
    run(cpu, '64 ac');
    assert.equal(cpu.state.get64('gpr', GPR.rax), 0x5566_7788n);
    assert.equal(registers(cpu)[0], 0x11);
  });

  it('REPNE SCASB finds a byte, REPE CMPSB the first difference; flags are those of the comparison', () => {
    const cpu = enter64(newCpu());
    for (const [i, byte] of [...'hello\0'].entries()) cpu.mmu.physical.write(FROM + i, 1, byte.charCodeAt(0));
    for (const [i, byte] of [...'help!\0'].entries()) cpu.mmu.physical.write(FROM + 0x100 + i, 1, byte.charCodeAt(0));
    cpu.state.set64('gpr', 0n, GPR.rax);
    setRegisters(cpu, 0, FROM, 100);
    assert.equal(finish(cpu, 'f2 ae'), undefined);
    assert.deepEqual(registers(cpu), [0, FROM + 6, 94]);
    assert.equal(readRflags(cpu.state) & 0x8d5, 0x44);
    setRegisters(cpu, FROM, FROM + 0x100, 100);
    assert.equal(finish(cpu, 'f3 a6'), undefined);
    assert.deepEqual(registers(cpu), [FROM + 4, FROM + 0x104, 96]);
    // 'l' (6Ch) - 'p' (70h) = FCh: borrow, even parity, sign.
    assert.equal(readRflags(cpu.state) & 0x8d5, 0x85);
  });

  it('uses 32-bit addresses with an address-size prefix and clears the upper halves', () => {
    const cpu = enter64(newCpu());
    setRegisters(cpu, FROM, FROM + 0x100, 2);
    cpu.state.set64('gpr', 0x5_0000_0000n | BigInt(FROM), GPR.rsi);
    assert.equal(finish(cpu, '67 f3 a4'), undefined);
    assert.equal(cpu.state.get64('gpr', GPR.rsi), BigInt(FROM + 2));
  });

  it('wraps at 16 bits with 16-bit addresses', () => {
    const cpu = enter32(newCpu());
    cpu.state.set64('gpr', 0x1234_ffffn, GPR.rdi);
    cpu.state.set64('gpr', 0x41n, GPR.rax);
    cpu.state.set64('gpr', 0x7777_0002n, GPR.rcx);
    assert.equal(finish(cpu, '67 f3 aa'), undefined);
    assert.equal(cpu.state.get64('gpr', GPR.rdi), 0x1234_0001n);
    assert.equal(cpu.state.get64('gpr', GPR.rcx), 0x7777_0000n);
    assert.deepEqual([cpu.mmu.physical.read(0xffff, 1), cpu.mmu.physical.read(0, 1)], [0x41, 0x41]);
  });

  it('stops at the segment limit with the elements before it done', () => {
    const cpu = enter32(newCpu());
    setSegment(cpu.state, SEGMENT.es, 0x10, BigInt(FROM), 0x1f, 0x4093);
    setRegisters(cpu, 0, 0x10, 100);
    cpu.state.set64('gpr', 0x55n, GPR.rax);
    assert.deepEqual(finish(cpu, 'f3 aa'), exception(VECTOR.gp, 0));
    assert.deepEqual(registers(cpu), [0, 0x20, 84]);
    assert.equal(cpu.mmu.physical.read(FROM + 0x1f, 1), 0x55);
    assert.equal(cpu.mmu.physical.read(FROM + 0x20, 1), 0);
  });

  it('reads and writes devices element by element', () => {
    const cpu = enter32(newCpu());
    const seen: string[] = [];
    cpu.mmu.physical.map(0x1000_0000, 0x1000, {
      name: 'device',
      read: (offset, size) => {
        seen.push(`r${offset}.${size}`);
        return 0x1111 * (offset / 2 + 1);
      },
      write: (offset, size, value) => {
        seen.push(`w${offset}.${size}=${value.toString(16)}`);
      },
    });
    setRegisters(cpu, 0x1000_0000, FROM, 2);
    assert.equal(finish(cpu, '66 f3 a5'), undefined);
    assert.deepEqual(seen, ['r0.2', 'r2.2']);
    assert.equal(cpu.mmu.physical.read(FROM, 4), 0x2222_1111);
    setRegisters(cpu, FROM, 0x1000_0010, 2);
    assert.equal(finish(cpu, '66 f3 a5'), undefined);
    assert.deepEqual(
      seen.filter((entry) => entry.startsWith('w')),
      ['w16.2=1111', 'w18.2=2222'],
    );
  });
});
