// Expected values: 82093AA data sheet; SDM Vol. 3A, "Message Address Register Format" and "Message Data Register Format".
import assert from 'node:assert/strict';
import { IoApic } from './io-apic.ts';

const MASKED = 0x1_0000;
const LEVEL = 0x8000;

function makeIoApic() {
  const sent: [address: number, data: number][] = [];
  const accepts = { now: true };
  const ioApic = new IoApic((address, data) => {
    sent.push([Number(address), data]);
    return accepts.now;
  });
  const write = (register: number, value: number): void => {
    ioApic.write(0x00, 4, register);
    ioApic.write(0x10, 4, value);
  };
  const read = (register: number): number => {
    ioApic.write(0x00, 4, register);
    return ioApic.read(0x10, 4);
  };
  const program = (pin: number, low: number, high = 0): void => {
    write(0x11 + 2 * pin, high);
    write(0x10 + 2 * pin, low);
  };
  return { ioApic, sent, accepts, write, read, program };
}

describe('I/O APIC', () => {
  it('has 24 inputs, all masked, and an identification that can be written', () => {
    const { read, write } = makeIoApic();
    assert.equal(read(1), 0x0017_0020);
    assert.deepEqual([read(0x10), read(0x3e), read(0x3f)], [MASKED, MASKED, 0]);
    write(0, 0x0500_0000);
    assert.deepEqual([read(0), read(2)], [0x0500_0000, 0x0500_0000]);
  });

  it('sends an edge once, to the destination with the vector', () => {
    const { ioApic, sent, program } = makeIoApic();
    program(4, 0x31, 0x0200_0000);
    ioApic.setPin(4, true);
    ioApic.setPin(4, true);
    assert.deepEqual(sent, [[0xfee0_2000, 0x31]]);
    ioApic.setPin(4, false);
    ioApic.setPin(4, true);
    assert.equal(sent.length, 2);
  });

  it('marks logical destinations and the delivery mode', () => {
    const { ioApic, sent, program } = makeIoApic();
    program(1, 0x941, 0x0300_0000);
    ioApic.setPin(1, true);
    // Lowest priority (1) and logical: redirection hint and destination mode are set.
    assert.deepEqual(sent, [[0xfee0_300c, 0x141]]);
  });

  it('passes the handle of the remappable format on', () => {
    const { ioApic, sent, program } = makeIoApic();
    // Bits 63:49 handle 5, bit 48 remappable, bit 11 the handle's bit 15.
    program(2, 0x30, 0x000b_0000);
    ioApic.setPin(2, true);
    // VT-d, "Interrupt Requests in Remappable Format": handle in bits 19:5, format in bit 4.
    assert.deepEqual(sent, [[0xfee0_00b0, 0x30]]);
  });

  it('loses edges while masked', () => {
    const { ioApic, sent, program } = makeIoApic();
    ioApic.setPin(3, true);
    program(3, 0x33);
    assert.deepEqual(sent, []);
    assert.ok(ioApic.isMasked(5) && !ioApic.isMasked(3));
  });

  it('sends a level again after its end, until it goes away', () => {
    const { ioApic, sent, read, program } = makeIoApic();
    program(9, LEVEL | 0x39);
    ioApic.setPin(9, true);
    assert.equal(read(0x22) & 0x4000, 0x4000);
    ioApic.endOfInterrupt(0x38);
    assert.equal(sent.length, 1, 'the end of another vector');
    ioApic.endOfInterrupt(0x39);
    assert.deepEqual(sent, [
      [0xfee0_0000, 0x8039],
      [0xfee0_0000, 0x8039],
    ]);
    ioApic.setPin(9, false);
    ioApic.write(0x40, 4, 0x39);
    assert.deepEqual([sent.length, read(0x22) & 0x4000], [2, 0]);
  });

  it('sends a level when it is unmasked, and keeps trying while no processor accepts it', () => {
    const { ioApic, sent, accepts, read, program } = makeIoApic();
    ioApic.setPin(16, true);
    accepts.now = false;
    program(16, LEVEL | 0x50);
    assert.deepEqual([sent.length, read(0x30) & 0x4000], [1, 0]);
    accepts.now = true;
    program(16, LEVEL | 0x50);
    assert.deepEqual([sent.length, read(0x30) & 0x4000], [2, 0x4000]);
  });

  it('goes on from a snapshot', () => {
    const { ioApic, sent, program } = makeIoApic();
    const initial = structuredClone(ioApic.snapshot());
    program(9, LEVEL | 0x39);
    ioApic.setPin(9, true);
    const saved = structuredClone(ioApic.snapshot());
    ioApic.restore(initial);
    ioApic.endOfInterrupt(0x39);
    assert.equal(sent.length, 1);
    ioApic.restore(saved);
    ioApic.endOfInterrupt(0x39);
    assert.equal(sent.length, 2);
  });
});
