// Expected values: IBM PC/AT technical reference, "Keyboard Controller" and "Keyboard".
import assert from 'node:assert/strict';
import { KeyboardController } from './i8042.ts';

function makeController() {
  const seen = { irq: false, resets: 0 };
  const controller = new KeyboardController(
    (asserted) => {
      seen.irq = asserted;
    },
    () => {
      seen.resets++;
    },
  );
  const command = (...bytes: number[]): void => {
    for (const byte of bytes) controller.write(0x64, 1, byte);
  };
  const data = (...bytes: number[]): void => {
    for (const byte of bytes) controller.write(0x60, 1, byte);
  };
  /** All that is in the output buffer. */
  const answers = (): number[] => {
    const out: number[] = [];
    while (controller.read(0x64) & 1) out.push(controller.read(0x60));
    return out;
  };
  return { controller, seen, command, data, answers };
}

describe('8042', () => {
  it('tests itself and its keyboard interface', () => {
    const { command, answers } = makeController();
    command(0xaa);
    assert.deepEqual(answers(), [0x55]);
    command(0xab);
    assert.deepEqual(answers(), [0]);
  });

  it('reads and writes its command byte', () => {
    const { command, data, answers } = makeController();
    command(0x60);
    data(0x41);
    command(0x20);
    assert.deepEqual(answers(), [0x41]);
    command(0xad, 0x20);
    assert.deepEqual(answers(), [0x51]);
  });

  it('has a keyboard that acknowledges, identifies itself and resets, with an interrupt for each byte', () => {
    const { controller, seen, command, data, answers } = makeController();
    command(0x60);
    data(0x01);
    data(0xf2);
    assert.equal(seen.irq, true);
    assert.equal(controller.read(0x60), 0xfa);
    assert.equal(seen.irq, true);
    assert.deepEqual([answers(), seen.irq], [[0xab, 0x83], false]);
    data(0xff);
    assert.deepEqual(answers(), [0xfa, 0xaa]);
    data(0xed, 0x02, 0xee);
    assert.deepEqual(answers(), [0xfa, 0xfa, 0xee]);
  });

  it('has no auxiliary port', () => {
    const { controller, command, data, answers } = makeController();
    command(0xa9);
    assert.notDeepEqual(answers(), [0]);
    command(0xd3);
    data(0x5a);
    assert.equal(controller.read(0x64) & 0x20, 0, 'the byte is not marked as the auxiliary port’s');
  });

  it('resets the processor by a pulse or by the output port', () => {
    const { seen, command, data } = makeController();
    command(0xff);
    assert.equal(seen.resets, 0);
    command(0xfe, 0xd1);
    data(0x02);
    assert.equal(seen.resets, 2);
  });

  it('goes on from a snapshot', () => {
    const { controller, data, answers } = makeController();
    const initial = structuredClone(controller.snapshot());
    data(0xf2);
    const saved = structuredClone(controller.snapshot());
    controller.restore(initial);
    assert.deepEqual(answers(), []);
    controller.restore(saved);
    assert.deepEqual(answers(), [0xfa, 0xab, 0x83]);
  });
});
