/**
 * Random table writes, accesses, invalidations, VM entries and VM exits, against what the manual lets a TLB keep: a
 * translation may be used when the tables gave it at some time since the last invalidation that had to remove it (SDM
 * Vol. 3A, "Invalidation of TLBs and Paging-Structure Caches"; Vol. 3C, "Caching Translation Information"). The model
 * knows no TLB: it keeps what the tables have held, and when what was invalidated.
 */

import assert from 'node:assert/strict';
import { generator, physicalOf } from '../mmu/test-tables.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';
import { VALID_CHANGES } from './test-vmcs.ts';

const PAGE = 4096;
const WINDOW = 0x4000_0000n;
const PAGES = 6;
/** Guest-physical frames that the window's pages are mapped to, and host-physical ones that EPT maps those to. */
const GUEST_FRAMES = 0x30;
const HOST_FRAMES = 0x38;
const FRAMES = 8;
const TABLES = { directory: 0x1_1000, page: 0x1_2000 } as const;
const EPTS = [
  { root: 0x2_0000, pointers: 0x2_1000, directory: 0x2_4000, page: 0x2_5000 },
  { root: 0x2_6000, pointers: 0x2_7000, directory: 0x2_8000, page: 0x2_9000 },
] as const;
const CR4 = { pge: 0x80n, pcide: 0x2_0000n } as const;
const CR4_ALL = 0x2620n | CR4.pge | CR4.pcide;
const INVLPG = [0x0f, 0x01, 0x3b];
const INVPCID = [0x66, 0x0f, 0x38, 0x82, 0x03];
const MOV_CR3_RAX = [0x0f, 0x22, 0xd8];
const MOV_CR4_RAX = [0x0f, 0x22, 0xe0];
const NO_FLUSH = 1n << 63n;

/** Pages of odd number are global. */
const isGlobal = (page: number): boolean => page % 2 === 1;

interface Context {
  readonly vpid: number;
  readonly pcid: number;
  /** Index in EPTS; undefined: EPT is off. */
  readonly ept: number | undefined;
}

interface Written {
  readonly time: number;
  readonly value: number;
}

type Covers = (context: Context, page: number) => boolean;

class Model {
  time = 0;
  private readonly pages: Written[][] = Array.from({ length: PAGES }, () => []);
  private readonly frames: Written[][][] = EPTS.map(() => Array.from({ length: FRAMES }, () => []));
  /** Invalidations of linear and combined mappings, and of guest-physical mappings by EPT. */
  private readonly paged: { time: number; covers: Covers }[] = [];
  private readonly ept: number[] = EPTS.map(() => 0);

  writePage(page: number, frame: number): void {
    this.pages[page]?.push({ time: this.time, value: frame });
  }
  writeFrame(ept: number, frame: number, host: number): void {
    this.frames[ept]?.[frame]?.push({ time: this.time, value: host });
  }
  invalidate(covers: Covers): void {
    this.paged.push({ time: this.time, covers });
  }
  /** INVEPT removes guest-physical mappings, and combined ones of every VPID. */
  invalidateEpt(epts: readonly number[]): void {
    for (const ept of epts) this.ept[ept] = this.time;
    this.invalidate(({ ept }) => ept !== undefined && epts.includes(ept));
  }

  /** Host-physical frames that an access may reach. */
  allowed(context: Context, page: number): Set<number> {
    const since = this.paged.findLast(({ covers }) => covers(context, page))?.time ?? 0;
    const guest = during(this.pages[page] ?? [], since, this.time);
    const { ept } = context;
    if (ept === undefined) return new Set(guest.map(({ value }) => GUEST_FRAMES + value));
    return new Set(
      guest.flatMap(({ value, until }) =>
        // A combined mapping is made of guest-physical ones as old as the last INVEPT, and none younger than itself.
        during(this.frames[ept]?.[value] ?? [], this.ept[ept] ?? 0, until).map((host) => HOST_FRAMES + host.value),
      ),
    );
  }
}

/** What was held at some time in [since, until], each with the end of its time there. */
function during(log: readonly Written[], since: number, until: number): { value: number; until: number }[] {
  return log.flatMap(({ time, value }, i) => {
    const end = Math.min(log[i + 1]?.time ?? until, until);
    return time <= until && end >= since ? [{ value, until: end }] : [];
  });
}

class Run {
  readonly processor = new TestProcessor();
  readonly model = new Model();
  readonly random: (limit: number) => number;
  context: Context = { vpid: 0, pcid: 0, ept: undefined };
  launched = false;
  stale = 0;
  private hostPcid = 0;

  constructor(seed: number) {
    this.random = generator(seed);
    const { physical, state, mmu } = this.processor;
    physical.write64(AT.pdpt + 8, BigInt(TABLES.directory) | 3n);
    physical.write64(TABLES.directory, BigInt(TABLES.page) | 3n);
    for (const { root, pointers, directory, page } of EPTS) {
      physical.write64(root, BigInt(pointers) | 7n);
      physical.write64(pointers, BigInt(directory) | 7n);
      physical.write64(directory, BigInt(page) | 7n);
      for (let i = 0; i < 64; i++) physical.write64(page + 8 * i, BigInt(i * PAGE) | 0x37n);
    }
    for (let page = 0; page < PAGES; page++) this.writePage(page, page);
    for (const ept of EPTS.keys()) for (let i = 0; i < FRAMES; i++) this.writeFrame(ept, i, i);
    state.set64('cr4', CR4_ALL);
    mmu.updateContext();
    this.processor.prepare({ HOST_CR4: CR4_ALL, GUEST_CR4: CR4_ALL });
  }

  get inGuest(): boolean {
    return this.processor.state.get32('nonRoot') !== 0;
  }

  writePage(page: number, frame: number): void {
    const flags = 0x63n | (isGlobal(page) ? 0x100n : 0n);
    this.processor.physical.write64(TABLES.page + 8 * page, BigInt((GUEST_FRAMES + frame) * PAGE) | flags);
    this.model.writePage(page, frame);
  }

  writeFrame(ept: number, frame: number, host: number): void {
    const at = (EPTS[ept]?.page ?? 0) + 8 * (GUEST_FRAMES + frame);
    this.processor.physical.write64(at, BigInt((HOST_FRAMES + host) * PAGE) | 0x37n);
    this.model.writeFrame(ept, frame, host);
  }

  access(page: number, where: string): void {
    const { mmu } = this.processor;
    const low = Number(WINDOW) + page * PAGE;
    const host = this.random(2) === 0 ? mmu.locate(low, 0, 1, false) : mmu.access(low, 0, 1, false);
    assert.notEqual(host, 0, where);
    const frame = physicalOf(this.processor, host) / PAGE;
    const allowed = this.model.allowed(this.context, page);
    const { vpid, pcid, ept } = this.context;
    assert.ok(allowed.has(frame), `${where}: frame ${frame} of page ${page}, VPID ${vpid}, PCID ${pcid}, EPT ${ept}`);
    if (allowed.size > 1) this.stale++;
  }

  /** Executes an instruction whose operand in memory is given; it must neither fault nor exit. */
  instruction(code: readonly number[], rax: bigint, memory: readonly bigint[] = []): void {
    const { processor } = this;
    memory.forEach((word, i) => {
      processor.physical.write64(AT.data + 8 * i, word);
    });
    processor.setGpr('rax', rax);
    assert.equal(processor.execute(code), 'done');
  }

  /** Invalidations that both worlds have: they concern the current VPID, whatever the EPTP. */
  invalidateOwn(page: number): void {
    const { vpid } = this.context;
    const pcid = this.random(2);
    const own = (covers: Covers): void => this.model.invalidate((c, p) => c.vpid === vpid && covers(c, p));
    const linear = WINDOW + BigInt(page * PAGE);
    switch (this.random(7)) {
      case 0:
        this.processor.setGpr('rbx', linear);
        assert.equal(this.processor.execute(INVLPG), 'done');
        this.processor.setGpr('rbx', BigInt(AT.data));
        return own((c, p) => p === page && (c.pcid === this.context.pcid || isGlobal(p)));
      case 1:
        this.instruction(INVPCID, 0n, [BigInt(pcid), linear]);
        return own((c, p) => p === page && c.pcid === pcid && !isGlobal(p));
      case 2:
        this.instruction(INVPCID, 1n, [BigInt(pcid), 0n]);
        return own((c, p) => c.pcid === pcid && !isGlobal(p));
      case 3:
        this.instruction(INVPCID, 2n, [0n, 0n]);
        return own(() => true);
      case 4:
        this.instruction(INVPCID, 3n, [0n, 0n]);
        return own((_, p) => !isGlobal(p));
      case 5:
        this.instruction(MOV_CR4_RAX, CR4_ALL & ~CR4.pge);
        this.instruction(MOV_CR4_RAX, CR4_ALL);
        return own(() => true);
      default:
        return this.loadCr3(pcid, this.random(2) === 0);
    }
  }

  private loadCr3(pcid: number, flush: boolean): void {
    const { vpid } = this.context;
    this.instruction(MOV_CR3_RAX, BigInt(AT.pml4 | pcid) | (flush ? 0n : NO_FLUSH));
    this.context = { ...this.context, pcid };
    if (flush) this.model.invalidate((c, p) => c.vpid === vpid && c.pcid === pcid && !isGlobal(p));
  }

  /** INVVPID and INVEPT, which root operation has. */
  invalidateOthers(page: number): void {
    const vpid = 1 + this.random(2);
    const type = this.random(6);
    const descriptor = [BigInt(vpid), WINDOW + BigInt(page * PAGE)];
    const ept = this.random(EPTS.length);
    if (type < 4) {
      this.instruction(CODE.invvpid, BigInt(type), descriptor);
      this.model.invalidate((c, p) => {
        if (type === 2) return c.vpid !== 0;
        if (c.vpid !== vpid) return false;
        return type === 1 || (type === 0 ? p === page : !isGlobal(p));
      });
    } else {
      const pointer = BigInt(EPTS[ept]?.root ?? 0) | 0x1en;
      this.instruction(CODE.invept, type === 4 ? 1n : 2n, [pointer, 0n]);
      this.model.invalidateEpt(type === 4 ? [ept] : [...EPTS.keys()]);
    }
    assert.equal(this.processor.status(), 'ok');
  }

  /** VM entries and VM exits without VPIDs invalidate what VPID 0 has. */
  private transition(vpid: number): void {
    if (vpid === 0) this.model.invalidate((c) => c.vpid === 0);
  }

  enter(): void {
    const { processor } = this;
    const vpid = this.random(3);
    const pcid = this.random(2);
    const choice = this.random(3);
    const ept = choice < EPTS.length ? choice : undefined;
    this.hostPcid = this.context.pcid;
    const secondary =
      SECONDARY.ENABLE_INVPCID |
      (vpid > 0 ? SECONDARY.ENABLE_VPID : 0) |
      (ept === undefined ? 0 : SECONDARY.ENABLE_EPT);
    const primary = VALID_CHANGES.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS ?? 0;
    processor.change({
      PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS:
        primary & ~(PRIMARY.INVLPG_EXITING | PRIMARY.CR3_LOAD_EXITING | PRIMARY.CR3_STORE_EXITING),
      SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: secondary,
      VIRTUAL_PROCESSOR_ID: vpid,
      EPT_POINTER: ept === undefined ? 0n : BigInt(EPTS[ept]?.root ?? 0) | 0x1en,
      GUEST_CR3: BigInt(AT.pml4 | pcid),
      HOST_CR3: BigInt(AT.pml4 | this.hostPcid),
    });
    processor.execute(this.launched ? CODE.vmresume : CODE.vmlaunch);
    assert.ok(this.inGuest, processor.failures.at(-1)?.checks[0]?.explanation);
    this.launched = true;
    this.context = { vpid, pcid, ept };
    this.transition(vpid);
    processor.setGpr('rbx', BigInt(AT.data));
  }

  exit(): void {
    const { vpid } = this.context;
    this.processor.execute(CODE.cpuid);
    assert.ok(!this.inGuest);
    this.context = { vpid: 0, pcid: this.hostPcid, ept: undefined };
    this.transition(vpid);
  }
}

const STEPS = 6000;

describe('The TLB under VMX', () => {
  for (const seed of [20_261_122, 7, 1_000_003]) {
    it(`serves only what the manual lets it keep, whatever is written and invalidated (seed ${seed})`, () => {
      const run = new Run(seed);
      const { random, model } = run;
      for (let step = 0; step < STEPS; step++) {
        model.time++;
        const page = random(PAGES);
        const what = random(16);
        if (what === 0) run.writePage(page, random(FRAMES));
        else if (what === 1) run.writeFrame(random(EPTS.length), random(FRAMES), random(FRAMES));
        else if (what === 2) run.invalidateOwn(page);
        else if (what === 3 && !run.inGuest) run.invalidateOthers(page);
        else if (what === 4 && run.inGuest) run.exit();
        else if (what <= 5 && !run.inGuest) run.enter();
        else run.access(page, `seed ${seed} step ${step}`);
      }
      assert.ok(run.stale > STEPS / 20, `only ${run.stale} accesses had a choice`);
    });
  }
});
