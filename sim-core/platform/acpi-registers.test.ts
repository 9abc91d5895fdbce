// Expected values: ACPI specification, "PM1 Event Grouping", "PM1 Control Grouping", "Power Management Timer".
import assert from 'node:assert/strict';
import { AcpiRegisters } from './acpi-registers.ts';

const FREQUENCY = 1_000_000_000;

function makeRegisters() {
  const time = { now: 0 };
  const seen = { sci: false, off: 0 };
  const registers = new AcpiRegisters({
    clock: { cycles: () => time.now },
    frequency: FREQUENCY,
    sci: (asserted) => {
      seen.sci = asserted;
    },
    onPowerOff: () => {
      seen.off++;
    },
  });
  return { registers, time, seen };
}

describe('ACPI registers', () => {
  it('have a timer of 3.579545 MHz and 32 bits', () => {
    const { registers, time } = makeRegisters();
    time.now = FREQUENCY;
    assert.equal(registers.read(0x608, 4), 3_579_545);
    time.now = 1200 * FREQUENCY;
    assert.equal(registers.read(0x608, 4), (1200 * 3_579_545) % 2 ** 32);
  });

  it('raise the SCI when the timer’s highest bit changes, if enabled', () => {
    const { registers, time, seen } = makeRegisters();
    registers.write(0x602, 2, 1);
    time.now = registers.nextDeadline();
    assert.equal(registers.read(0x608, 4), 2 ** 31);
    registers.service(time.now);
    assert.deepEqual([seen.sci, registers.read(0x600, 2)], [true, 1]);
    registers.write(0x600, 2, 1);
    assert.deepEqual([seen.sci, registers.read(0x600, 2)], [false, 0]);
  });

  it('are always in ACPI mode, and power off for sleep type 0 only', () => {
    const { registers, seen } = makeRegisters();
    assert.equal(registers.read(0x604, 2), 1);
    registers.write(0x604, 2, 0x2000 | (5 << 10));
    assert.equal(seen.off, 0);
    registers.write(0x604, 2, 0x2001);
    assert.deepEqual([seen.off, registers.read(0x604, 2)], [1, 1]);
  });

  it('go on from a snapshot', () => {
    const { registers, time, seen } = makeRegisters();
    const initial = structuredClone(registers.snapshot());
    registers.write(0x602, 2, 1);
    const saved = structuredClone(registers.snapshot());
    registers.restore(initial);
    assert.equal(registers.nextDeadline(), Number.POSITIVE_INFINITY);
    registers.restore(saved);
    time.now = registers.nextDeadline();
    registers.service(time.now);
    assert.equal(seen.sci, true);
  });
});
