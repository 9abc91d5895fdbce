// Expected values: National Semiconductor PC16550D data sheet (June 1995).
import assert from 'node:assert/strict';
import { Uart } from './uart.ts';

const [DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 2, 3, 4, 5, 6, 7] as const;

function makeUart() {
  const line = { asserted: false };
  const uart = new Uart('COM1', (asserted) => {
    line.asserted = asserted;
  });
  const sent: number[] = [];
  uart.onOutput = (byte) => sent.push(byte);
  const write = (register: number, value: number): void => uart.write(0x3f8 + register, 1, value);
  const read = (register: number): number => uart.read(0x3f8 + register);
  return { uart, line, sent, read, write };
}

/** The interrupt output reaches a PC's IRQ line only with OUT2 set. */
function withInterrupts(enabled: number) {
  const parts = makeUart();
  parts.write(MCR, 0x08);
  parts.write(IER, enabled);
  return parts;
}

describe('16550 UART', () => {
  it('sends each byte at once and stays empty (THRE and TEMT)', () => {
    const { read, write, sent } = makeUart();
    assert.equal(read(LSR), 0x60);
    for (const byte of [0x48, 0x69]) write(DATA, byte);
    assert.deepEqual(sent, [0x48, 0x69]);
    assert.equal(read(LSR), 0x60);
  });

  it('shows the divisor latch in place of the data and interrupt enable registers while DLAB is set', () => {
    const { read, write, sent } = makeUart();
    write(LCR, 0x83);
    write(DATA, 0x34);
    write(IER, 0x12);
    assert.deepEqual([read(DATA), read(IER)], [0x34, 0x12]);
    write(LCR, 0x03);
    assert.deepEqual([read(IER), read(LCR), sent.length], [0, 0x03, 0]);
  });

  it('has a scratch register and keeps only the defined bits of IER and MCR', () => {
    const { read, write } = makeUart();
    for (const register of [SCR, IER, MCR]) write(register, 0xff);
    assert.deepEqual([read(SCR), read(IER), read(MCR)], [0xff, 0x0f, 0x1f]);
  });

  it('delivers received bytes one by one without FIFO, without losing any', () => {
    const { uart, read } = makeUart();
    uart.receive([1, 2, 3]);
    const got: number[] = [];
    while (read(LSR) & 1) got.push(read(DATA));
    assert.deepEqual(got, [1, 2, 3]);
  });

  it('keeps 16 bytes in its FIFO and lets the rest of the input wait', () => {
    const { uart, read, write } = makeUart();
    write(FCR, 0x01);
    uart.receive(Array.from({ length: 20 }, (_, i) => i));
    const first = Array.from({ length: 20 }, () => read(DATA));
    assert.deepEqual(
      first,
      Array.from({ length: 20 }, (_, i) => i),
    );
    assert.equal(read(LSR) & 1, 0);
  });

  it('clears the receiver FIFO on command, and reports the FIFOs in IIR bits 7:6', () => {
    const { uart, read, write } = makeUart();
    assert.equal(read(IIR), 0x01);
    write(FCR, 0x01);
    assert.equal(read(IIR), 0xc1);
    uart.receive([7]);
    write(FCR, 0x03);
    assert.equal(read(LSR) & 1, 0);
    write(FCR, 0x00);
    assert.equal(read(IIR), 0x01);
  });

  it('interrupts for received data until it is read', () => {
    const { uart, line, read } = withInterrupts(0x01);
    assert.equal(line.asserted, false);
    uart.receive([0x55]);
    assert.equal(line.asserted, true);
    assert.equal(read(IIR), 0x04);
    read(DATA);
    assert.deepEqual([line.asserted, read(IIR)], [false, 0x01]);
  });

  it('reports a character time-out for fewer bytes than the trigger level', () => {
    const { uart, read, write } = withInterrupts(0x01);
    write(FCR, 0x81);
    uart.receive([1, 2, 3, 4, 5, 6, 7]);
    assert.equal(read(IIR), 0xcc);
    uart.receive([8]);
    assert.equal(read(IIR), 0xc4);
  });

  it('interrupts for the empty transmitter when that is enabled, and until IIR reports it', () => {
    const { line, read, write } = withInterrupts(0x02);
    assert.equal(line.asserted, true);
    assert.equal(read(IIR), 0x02);
    assert.equal(line.asserted, false);
    write(DATA, 0x41);
    assert.equal(line.asserted, true);
    assert.deepEqual([read(IIR), read(IIR)], [0x02, 0x01]);
  });

  it('ranks received data above the empty transmitter, whose interrupt stays pending', () => {
    const { uart, read } = withInterrupts(0x03);
    uart.receive([1]);
    assert.equal(read(IIR), 0x04);
    read(DATA);
    assert.equal(read(IIR), 0x02);
  });

  it('keeps the IRQ line quiet without OUT2', () => {
    const { uart, line, write } = makeUart();
    write(IER, 0x01);
    uart.receive([1]);
    assert.equal(line.asserted, false);
    write(MCR, 0x08);
    assert.equal(line.asserted, true);
  });

  it('in loopback receives what it sends, and its outputs are its modem lines', () => {
    const { read, write, sent } = makeUart();
    write(MCR, 0x10);
    write(DATA, 0xae);
    assert.deepEqual([read(LSR) & 1, read(DATA), sent.length], [1, 0xae, 0]);
    // RTS, DTR, OUT1, OUT2 → CTS, DSR, RI, DCD.
    for (const [control, lines] of [
      [0x11, 0x20],
      [0x12, 0x10],
      [0x14, 0x40],
      [0x18, 0x80],
    ] as const) {
      write(MCR, control);
      assert.equal(read(MSR) & 0xf0, lines);
    }
  });

  it('reports changes of modem lines once, RI only when it goes away, and interrupts for them', () => {
    const { read, write, line } = makeUart();
    write(MCR, 0x10);
    read(MSR);
    write(MCR, 0x14);
    assert.equal(read(MSR), 0x40);
    write(MCR, 0x11);
    assert.equal(read(MSR), 0x26);
    assert.equal(read(MSR), 0x20);
    write(IER, 0x08);
    write(MCR, 0x08);
    assert.equal(read(IIR), 0x00);
    assert.equal(line.asserted, true);
    read(MSR);
    assert.equal(line.asserted, false);
  });

  it('goes on from a snapshot', () => {
    const { uart, read, write } = withInterrupts(0x01);
    write(FCR, 0x01);
    uart.receive([1, 2, 3]);
    const saved = uart.snapshot();
    read(DATA);
    write(SCR, 9);
    uart.restore(saved);
    assert.deepEqual([read(DATA), read(DATA), read(DATA), read(SCR)], [1, 2, 3, 0]);
  });
});
