// Expected values: SDM Vol. 3A, chapter "Advanced Programmable Interrupt Controller (APIC)".
import assert from 'node:assert/strict';
import { State } from '../state/state.ts';
import { DELIVERY_MODE } from './interrupt-message.ts';
import { LocalApic, SHORTHAND } from './local-apic.ts';

const REG = {
  id: 0x20, version: 0x30, tpr: 0x80, ppr: 0xa0, eoi: 0xb0, ldr: 0xd0, dfr: 0xe0, svr: 0xf0, isr: 0x100, tmr: 0x180,
  irr: 0x200, esr: 0x280, icr: 0x300, icrHigh: 0x310, timer: 0x320, lint0: 0x350, lint1: 0x360, error: 0x370,
  initial: 0x380, current: 0x390, divide: 0x3e0,
} as const; // biome-ignore format: a table reads better in rows

const APIC_BASE = 0x1b;
const TSC_DEADLINE = 0x6e0;
const BSP = 0x100n;

function makeApic() {
  const state = new State(65_536);
  const time = { now: 1000 };
  const seen = { nmi: 0, init: 0, base: undefined as number | undefined };
  const ended: number[] = [];
  const apic: LocalApic = new LocalApic({
    state,
    clock: { cycles: () => time.now },
    physicalAddressBits: 40,
    changed: () => {},
    moved: (base) => {
      seen.base = base;
    },
    nonMaskableInterrupt: () => {
      seen.nmi++;
    },
    number: 0,
    init: () => {
      seen.init++;
    },
    // As the only processor of a machine.
    send: ({ destination, logical, deliveryMode, vector }, shorthand) => {
      const named =
        shorthand === SHORTHAND.none ? apic.isDestination(destination, logical) : shorthand !== SHORTHAND.others;
      if (!named) return;
      if (deliveryMode === DELIVERY_MODE.fixed || deliveryMode === DELIVERY_MODE.lowestPriority) apic.request(vector);
      else if (deliveryMode === DELIVERY_MODE.nmi) seen.nmi++;
      else if (deliveryMode === DELIVERY_MODE.init) seen.init++;
    },
    levelEnded: (vector) => {
      ended.push(vector);
    },
  });
  apic.reset();
  const read = (register: number): number => apic.read(register, 4);
  const write = (register: number, value: number): void => apic.write(register, 4, value);
  const pass = (cycles: number): number[] => {
    const end = time.now + cycles;
    const expiries: number[] = [];
    while (apic.nextDeadline() <= end) {
      time.now = apic.nextDeadline();
      expiries.push(time.now);
      apic.service(time.now);
    }
    time.now = end;
    apic.service(end);
    return expiries;
  };
  /** The word of a 256-bit register that holds a vector. */
  const wordOf = (register: number, vector: number): number => read(register + 16 * (vector >> 5));
  return { state, apic, time, seen, ended, read, write, pass, wordOf };
}

/** x2APIC mode, entered from xAPIC mode. */
function makeX2apic() {
  const parts = makeApic();
  assert.ok(parts.apic.writeMsr(APIC_BASE, 0xfee0_0c00n | BSP));
  return parts;
}

describe('local APIC', () => {
  it('has an integrated version with six LVT entries, and starts as firmware leaves it', () => {
    const { read, seen, apic } = makeApic();
    assert.equal(read(REG.version), 0x0005_0014);
    assert.deepEqual([read(REG.id), read(REG.dfr), read(REG.svr)], [0, 0xffff_ffff, 0x1ff]);
    // Virtual wire mode: LINT0 is ExtINT, LINT1 is NMI; the rest is masked.
    assert.deepEqual([read(REG.lint0), read(REG.lint1), read(REG.timer)], [0x700, 0x400, 0x1_0000]);
    assert.deepEqual([seen.base, apic.readMsr(APIC_BASE)], [0xfee0_0000, 0xfee0_0900n]);
  });

  it('delivers the highest request, which goes from IRR to ISR until EOI', () => {
    const { apic, wordOf, write } = makeApic();
    apic.request(0x31);
    apic.request(0x52);
    assert.equal(apic.asserted, true);
    assert.equal(apic.acknowledge(), 0x52);
    assert.deepEqual([wordOf(REG.isr, 0x52), wordOf(REG.irr, 0x52), wordOf(REG.irr, 0x31)], [1 << 18, 0, 1 << 17]);
    assert.equal(apic.asserted, false);
    write(REG.eoi, 0);
    assert.equal(apic.acknowledge(), 0x31);
  });

  it('lets only a higher priority class interrupt what is in service', () => {
    const { apic } = makeApic();
    apic.request(0x52);
    apic.acknowledge();
    apic.request(0x5f);
    assert.equal(apic.asserted, false);
    apic.request(0x60);
    assert.equal(apic.acknowledge(), 0x60);
  });

  it('holds back classes up to the task priority, and PPR is the higher of the two', () => {
    const { apic, read, write } = makeApic();
    write(REG.tpr, 0x55);
    apic.request(0x5f);
    assert.deepEqual([apic.asserted, read(REG.ppr)], [false, 0x55]);
    apic.request(0x61);
    apic.acknowledge();
    assert.equal(read(REG.ppr), 0x60);
    apic.setTaskPriority(9);
    assert.deepEqual([read(REG.tpr), read(REG.ppr), apic.getTaskPriority()], [0x90, 0x90, 9]);
  });

  it('gives the spurious vector, with nothing in service, when the priority was raised meanwhile', () => {
    const { apic, read, write } = makeApic();
    write(REG.svr, 0x1ef);
    apic.request(0x40);
    write(REG.tpr, 0xf0);
    assert.equal(apic.acknowledge(), 0xef);
    assert.equal(read(REG.isr + 0x70), 0);
  });

  it('accepts nothing and masks its LVT while disabled by software', () => {
    const { apic, read, write } = makeApic();
    write(REG.svr, 0xff);
    apic.request(0x40);
    assert.deepEqual([apic.asserted, read(REG.lint0)], [false, 0x1_0700]);
    write(REG.timer, 0x40);
    assert.equal(read(REG.timer), 0x1_0040);
    assert.equal(apic.passesExternal, false);
  });

  it('records illegal vectors and registers in ESR, readable after a write, and interrupts for them', () => {
    const { apic, read, write } = makeApic();
    write(REG.error, 0x71);
    write(REG.icr, 0x4_0005);
    assert.equal(apic.acknowledge(), 0x71);
    apic.request(3);
    apic.read(0x3f0 - 0x10, 4);
    apic.read(0x40, 4);
    assert.equal(read(REG.esr), 0);
    write(REG.esr, 0);
    assert.equal(read(REG.esr), 0xe0);
    write(REG.esr, 0);
    assert.equal(read(REG.esr), 0);
  });

  it('sends itself interrupts by shorthand, by ID, by logical destination and by broadcast', () => {
    const { apic, write } = makeApic();
    const send = (high: number, low: number): boolean => {
      write(REG.icrHigh, high);
      write(REG.icr, low);
      const arrived = apic.asserted;
      if (arrived) apic.acknowledge();
      write(REG.eoi, 0);
      return arrived;
    };
    assert.equal(send(0, 0x4_0041), true, 'self');
    assert.equal(send(0, 0x8_0041), true, 'all including self');
    assert.equal(send(0, 0xc_0041), false, 'all excluding self');
    assert.equal(send(0, 0x41), true, 'own ID');
    assert.equal(send(0x0100_0000, 0x41), false, 'another ID');
    assert.equal(send(0xff00_0000, 0x41), true, 'broadcast');
    write(REG.ldr, 0x0400_0000);
    assert.equal(send(0x0c00_0000, 0x841), true, 'flat model');
    assert.equal(send(0x0b00_0000, 0x841), false, 'flat model, other bits');
    write(REG.dfr, 0x0fff_ffff);
    write(REG.ldr, 0x2400_0000);
    assert.equal(send(0x2c00_0000, 0x841), true, 'cluster model');
    assert.equal(send(0x1c00_0000, 0x841), false, 'another cluster');
  });

  it('turns NMI and INIT commands into what they are, and ignores INIT de-assert', () => {
    const { seen, write } = makeApic();
    write(REG.icr, 0x4_0400);
    write(REG.icr, 0x8_8500);
    write(REG.icr, 0x8_4500);
    assert.deepEqual(seen, { nmi: 1, init: 1, base: 0xfee0_0000 });
  });

  it('counts the one-shot timer down at the divided rate and interrupts once at zero', () => {
    const { apic, time, read, write, pass } = makeApic();
    write(REG.timer, 0x40);
    write(REG.divide, 0x3);
    write(REG.initial, 100);
    assert.equal(apic.nextDeadline(), time.now + 1600);
    pass(160);
    assert.equal(read(REG.current), 90);
    assert.deepEqual(pass(10_000), [2600]);
    assert.deepEqual([read(REG.current), apic.acknowledge()], [0, 0x40]);
    assert.equal(apic.nextDeadline(), Number.POSITIVE_INFINITY);
  });

  it('divides by 2, 4, 8, 16, 32, 64, 128 and 1', () => {
    const { apic, time, write } = makeApic();
    write(REG.timer, 0x40);
    const periods = [0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa, 0xb].map((divide) => {
      write(REG.divide, divide);
      write(REG.initial, 1);
      return apic.nextDeadline() - time.now;
    });
    assert.deepEqual(periods, [2, 4, 8, 16, 32, 64, 128, 1]);
  });

  it('interrupts every period in periodic mode, and stops at initial count 0', () => {
    const { apic, read, write, pass } = makeApic();
    write(REG.divide, 0xb);
    write(REG.timer, 0x2_0040);
    write(REG.initial, 300);
    assert.deepEqual(pass(1000), [1300, 1600, 1900]);
    assert.equal(read(REG.current), 200);
    write(REG.initial, 0);
    assert.deepEqual([apic.nextDeadline(), read(REG.current)], [Number.POSITIVE_INFINITY, 0]);
  });

  it('loses what expires while the timer is masked', () => {
    const { apic, write, pass } = makeApic();
    write(REG.divide, 0xb);
    write(REG.timer, 0x1_0040);
    write(REG.initial, 10);
    assert.deepEqual(pass(100), []);
    write(REG.timer, 0x40);
    assert.deepEqual([apic.asserted, apic.nextDeadline()], [false, Number.POSITIVE_INFINITY]);
  });

  it('goes on counting when the mode changes, and stays at zero after one-shot mode has ended', () => {
    const { apic, read, write, pass } = makeApic();
    write(REG.divide, 0xb);
    write(REG.timer, 0x2_0040);
    write(REG.initial, 100);
    pass(350);
    write(REG.timer, 0x40);
    assert.equal(read(REG.current), 50);
    assert.deepEqual(pass(1000), [1400]);
    write(REG.timer, 0x2_0040);
    assert.deepEqual([read(REG.current), apic.nextDeadline()], [0, Number.POSITIVE_INFINITY]);
  });

  it('TSC-deadline mode: interrupts when the TSC reaches the MSR, which then reads 0', () => {
    const { apic, state, write, pass } = makeApic();
    state.set64('tscAdjustment', 5000n);
    assert.ok(apic.writeMsr(TSC_DEADLINE, 7000n));
    assert.equal(apic.readMsr(TSC_DEADLINE), 0n, 'ignored in other modes');
    write(REG.timer, 0x4_0040);
    apic.writeMsr(TSC_DEADLINE, 7000n);
    write(REG.initial, 5);
    assert.deepEqual([apic.readMsr(TSC_DEADLINE), apic.nextDeadline()], [7000n, 2000]);
    assert.deepEqual(pass(5000), [2000]);
    assert.deepEqual([apic.acknowledge(), apic.readMsr(TSC_DEADLINE)], [0x40, 0n]);
    apic.writeMsr(TSC_DEADLINE, 99n);
    write(REG.timer, 0x40);
    assert.equal(apic.nextDeadline(), Number.POSITIVE_INFINITY, 'leaving the mode disarms');
  });

  it('takes NMI from LINT1, and a fixed interrupt from LINT0 at its edge', () => {
    const { apic, seen, write } = makeApic();
    apic.setPin(1, true);
    apic.setPin(1, true);
    assert.equal(seen.nmi, 1);
    write(REG.lint0, 0x77);
    apic.setPin(0, true);
    assert.equal(apic.acknowledge(), 0x77);
    assert.equal(apic.passesExternal, false);
  });

  it('survives IA32_APIC_BASE.EN going 1, 0, 1: with power-up contents', () => {
    const { apic, seen, read, write } = makeApic();
    write(REG.tpr, 0x40);
    assert.ok(apic.writeMsr(APIC_BASE, 0xfee0_0000n | BSP));
    assert.deepEqual([apic.enabled, apic.passesExternal, seen.base], [false, true, undefined]);
    assert.ok(apic.writeMsr(APIC_BASE, 0xfee0_0800n | BSP));
    assert.deepEqual([read(REG.tpr), read(REG.svr), read(REG.lint0)], [0, 0xff, 0x1_0000]);
    assert.equal(seen.base, 0xfee0_0000);
    assert.ok(apic.writeMsr(APIC_BASE, 0xd000_0800n | BSP));
    assert.equal(seen.base, 0xd000_0000);
  });

  it('refuses reserved bits and mode changes that do not exist', () => {
    const { apic } = makeApic();
    for (const value of [0xfee0_0901n, 0x100_fee0_0900n, 0xfee0_0500n]) {
      assert.equal(apic.writeMsr(APIC_BASE, value), false, value.toString(16));
    }
    assert.ok(apic.writeMsr(APIC_BASE, 0xfee0_0d00n));
    assert.equal(apic.writeMsr(APIC_BASE, 0xfee0_0900n), false, 'x2APIC to xAPIC');
    assert.ok(apic.writeMsr(APIC_BASE, 0xfee0_0100n));
    assert.equal(apic.writeMsr(APIC_BASE, 0xfee0_0d00n), false, 'disabled to x2APIC');
  });

  it('x2APIC: registers are MSRs, and the page is gone', () => {
    const { apic, seen } = makeX2apic();
    assert.equal(seen.base, undefined);
    assert.deepEqual([apic.readMsr(0x802), apic.readMsr(0x803), apic.readMsr(0x80d)], [0n, 0x0005_0014n, 1n]);
    assert.ok(apic.writeMsr(0x808, 0x20n));
    assert.equal(apic.readMsr(0x80a), 0x20n);
    // One 64-bit command register; logical destination: cluster 0, bit 0.
    assert.ok(apic.writeMsr(0x830, 0x1_0000_0841n));
    assert.deepEqual([apic.readMsr(0x830), apic.acknowledge()], [0x1_0000_0841n, 0x41]);
    assert.ok(apic.writeMsr(0x80b, 0n));
    assert.ok(apic.writeMsr(0x83f, 0x42n));
    assert.equal(apic.acknowledge(), 0x42);
  });

  it('x2APIC: #GP for what is not there, read-only, write-only or reserved', () => {
    const { apic } = makeX2apic();
    for (const index of [0x80e, 0x831, 0x80b, 0x83f, 0x804, 0x8ff]) assert.equal(apic.readMsr(index), undefined);
    for (const [index, value] of [
      [0x802, 0n],
      [0x803, 0n],
      [0x80d, 0n],
      [0x80b, 1n],
      [0x828, 1n],
      [0x83f, 0x100n],
      [0x808, 0x100n],
      [0x808, 0x1_0000_0000n],
      [0x832, 0x8_0000n],
    ] as const) {
      assert.equal(apic.writeMsr(index, value), false, `${index.toString(16)} ← ${value.toString(16)}`);
    }
  });

  it('has no x2APIC MSRs in xAPIC mode', () => {
    const { apic } = makeApic();
    assert.equal(apic.readMsr(0x802), undefined);
    assert.equal(apic.writeMsr(0x808, 0n), false);
  });

  it('goes on from a snapshot', () => {
    const { apic, time, write, pass } = makeApic();
    write(REG.divide, 0xb);
    write(REG.timer, 0x2_0040);
    write(REG.initial, 300);
    pass(100);
    const saved = apic.snapshot();
    pass(1000);
    apic.restore(saved);
    time.now = 1100;
    assert.deepEqual([apic.asserted, pass(300)], [false, [1300]]);
  });
});
