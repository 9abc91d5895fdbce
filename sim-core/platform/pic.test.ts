// Expected values: Intel 8259A data sheet (order number 231468).
import assert from 'node:assert/strict';
import { Pic } from './pic.ts';

const MASTER = 0x20;
const SLAVE = 0xa0;

/** Initialised as PC software does: vectors from 20h and 28h, all inputs unmasked. @param word4 ICW4 of both chips */
function makePic(word4 = 0x01) {
  let interrupt = false;
  const pic = new Pic((asserted) => {
    interrupt = asserted;
  });
  const write = (port: number, ...values: number[]): void => {
    for (const value of values) pic.write(port, 1, value);
  };
  for (const [port, base, wiring] of [
    [MASTER, 0x20, 0x04],
    [SLAVE, 0x28, 0x02],
  ] as const) {
    write(port, 0x11);
    write(port + 1, base, wiring, word4, 0x00);
  }
  const raise = (...irqs: number[]): void => {
    for (const irq of irqs) pic.setLine(irq, true);
  };
  const read = (port: number): number => pic.read(port);
  const inService = (port: number): number => {
    write(port, 0x0b);
    return read(port);
  };
  const requests = (port: number): number => {
    write(port, 0x0a);
    return read(port);
  };
  return { pic, write, read, raise, inService, requests, interrupt: () => interrupt };
}

describe('8259A pair', () => {
  it('interrupts for a rising edge and gives the vector of ICW2', () => {
    const { pic, raise, interrupt, inService } = makePic();
    assert.equal(interrupt(), false);
    raise(1);
    assert.equal(interrupt(), true);
    assert.equal(pic.acknowledge(), 0x21);
    assert.deepEqual([interrupt(), inService(MASTER)], [false, 0x02]);
  });

  it('interrupts for nothing before it is initialised', () => {
    let interrupt = false;
    const pic = new Pic((asserted) => {
      interrupt = asserted;
    });
    pic.setLine(0, true);
    assert.equal(interrupt, false);
  });

  it('needs a new edge for a new interrupt', () => {
    const { pic, raise, write, interrupt } = makePic();
    raise(4);
    pic.acknowledge();
    write(MASTER, 0x20);
    assert.equal(interrupt(), false);
    pic.setLine(4, false);
    raise(4);
    assert.equal(interrupt(), true);
  });

  it('serves IR0 before IR7, and lets a higher request interrupt a lower one in service', () => {
    const { pic, raise, interrupt, inService } = makePic();
    raise(5, 3);
    assert.equal(pic.acknowledge(), 0x23);
    assert.equal(interrupt(), false);
    raise(1);
    assert.equal(interrupt(), true);
    assert.equal(pic.acknowledge(), 0x21);
    assert.equal(inService(MASTER), 0x0a);
  });

  it('ends the highest level in service with a non-specific EOI, a named one with a specific EOI', () => {
    const { pic, raise, write, inService } = makePic();
    raise(3);
    pic.acknowledge();
    raise(1);
    pic.acknowledge();
    write(MASTER, 0x20);
    assert.equal(inService(MASTER), 0x08);
    write(MASTER, 0x63);
    assert.equal(inService(MASTER), 0x00);
  });

  it('holds back masked inputs, which interrupt when unmasked', () => {
    const { raise, write, read, interrupt, requests } = makePic();
    write(MASTER + 1, 0x10);
    raise(4);
    assert.deepEqual([interrupt(), requests(MASTER), read(MASTER + 1)], [false, 0x10, 0x10]);
    write(MASTER + 1, 0x00);
    assert.equal(interrupt(), true);
  });

  it('carries slave interrupts through IR2, with both chips in service until each has its EOI', () => {
    const { pic, raise, write, interrupt, inService } = makePic();
    raise(12);
    assert.equal(pic.acknowledge(), 0x2c);
    assert.deepEqual([inService(MASTER), inService(SLAVE)], [0x04, 0x10]);
    raise(14);
    assert.equal(interrupt(), false);
    write(SLAVE, 0x20);
    write(MASTER, 0x20);
    assert.equal(interrupt(), true);
    assert.equal(pic.acknowledge(), 0x2e);
  });

  it('locks a higher slave request out while IR2 is in service, except in special fully nested mode', () => {
    for (const [word4, nested] of [
      [0x01, false],
      [0x11, true],
    ] as const) {
      const { pic, raise, interrupt } = makePic(word4);
      raise(12);
      pic.acknowledge();
      raise(9);
      assert.equal(interrupt(), nested);
    }
  });

  it('gives the vector of IR7, with nothing in service, for a request that has gone', () => {
    const { pic, raise, inService, interrupt } = makePic();
    raise(4);
    pic.setLine(4, false);
    assert.equal(interrupt(), false);
    assert.equal(pic.acknowledge(), 0x27);
    assert.equal(inService(MASTER), 0x00);
  });

  it('keeps nothing in service with automatic EOI', () => {
    const { pic, raise, interrupt, inService } = makePic(0x03);
    raise(3);
    assert.equal(pic.acknowledge(), 0x23);
    assert.equal(inService(MASTER), 0);
    raise(6);
    assert.equal(interrupt(), true);
  });

  it('rotates priorities on EOI, so that the one served is the lowest', () => {
    const { pic, raise, write } = makePic();
    raise(3);
    pic.acknowledge();
    write(MASTER, 0xa0);
    pic.setLine(3, false);
    raise(3, 4);
    assert.equal(pic.acknowledge(), 0x24);
  });

  it('sets the lowest priority by command', () => {
    const { pic, raise, write } = makePic();
    write(MASTER, 0xc5);
    raise(0, 6);
    assert.equal(pic.acknowledge(), 0x26);
  });

  it('in special mask mode lets lower requests through while a masked input is in service', () => {
    const { pic, raise, write, interrupt } = makePic();
    raise(1);
    pic.acknowledge();
    raise(5);
    assert.equal(interrupt(), false);
    write(MASTER + 1, 0x02);
    write(MASTER, 0x68);
    assert.equal(interrupt(), true);
    assert.equal(pic.acknowledge(), 0x25);
    // The non-specific EOI leaves the masked one in service.
    write(MASTER, 0x20);
    write(MASTER, 0x48);
    write(MASTER + 1, 0x00);
    raise(7);
    assert.equal(interrupt(), false);
  });

  it('answers a poll with the input and puts it in service', () => {
    const { raise, write, read, inService } = makePic();
    raise(6);
    write(MASTER, 0x0c);
    assert.equal(read(MASTER), 0x86);
    assert.equal(inService(MASTER), 0x40);
    write(MASTER, 0x0c);
    assert.equal(read(MASTER) & 0x80, 0);
  });

  it('takes level-triggered inputs from ELCR, except those the board fixes to edges', () => {
    const { pic, raise, write, read, interrupt } = makePic();
    write(0x4d0, 0xff);
    write(0x4d1, 0xff);
    assert.deepEqual([read(0x4d0), read(0x4d1)], [0xf8, 0xde]);
    raise(5);
    pic.acknowledge();
    write(MASTER, 0x20);
    assert.equal(interrupt(), true);
    pic.setLine(5, false);
    assert.equal(interrupt(), false);
  });

  it('goes on from a snapshot', () => {
    const { pic, raise, write, interrupt } = makePic();
    raise(3);
    pic.acknowledge();
    raise(4);
    const saved = pic.snapshot();
    write(MASTER, 0x20);
    assert.equal(interrupt(), true);
    pic.restore(saved);
    assert.equal(interrupt(), false);
    write(MASTER, 0x20);
    assert.equal(pic.acknowledge(), 0x24);
  });
});
