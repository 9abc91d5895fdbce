import assert from 'node:assert/strict';
import type { MemoryFault } from '../mmu/fault.ts';
import type { Access, Translation } from '../mmu/translation.ts';
import { EXIT } from './exit-reasons.ts';
import { forecastAccesses, type OperandGuest, type OperandIntercepts } from './explain-operands.ts';

const REGISTERS: Readonly<Record<string, bigint>> = {
  rsp: 0x7000n,
  rbx: 0x2000n,
  rsi: 0x3000n,
  rdi: 0x4000n,
  ebx: 0x2000n,
  'fs.base': 0x10_0000n,
  'ss.base': 0x20_0000n,
  'ds.base': 0x30_0000n,
};

const NOTHING: OperandIntercepts = { whyEvent: () => undefined, apicExit: () => undefined };

/** A guest whose next instruction is at 1000h; `refuse` says what its tables do not allow. */
function guestOf(
  code: readonly number[],
  refuse: (linear: bigint, access: Access) => MemoryFault | undefined = () => undefined,
  bitness: 32 | 64 = 64,
): { guest: OperandGuest; asked: string[] } {
  const asked: string[] = [];
  const translate = (linear: bigint, access: Access): Translation => {
    asked.push(`${access} 0x${linear.toString(16)}`);
    const fault = refuse(linear, access);
    const step = { table: 'EPT PTE', level: 'ept', entryAddress: 0x500, value: 0n } as const;
    return fault
      ? { steps: [{ ...step, problem: 'not present' }], fault }
      : { steps: [step], physical: Number(linear) };
  };
  const register = (name: string): bigint | undefined => REGISTERS[name];
  return { guest: { pc: 0x1000n, rip: 0x1000n, bitness, code: Uint8Array.from(code), register, translate }, asked };
}

const VIOLATION: MemoryFault = { kind: 'eptViolation', qualification: 1n, guestPhysicalAddress: 0x2000n };

/** What each instruction accesses, by its description in the SDM's Vol. 2. */
const ACCESSES: readonly (readonly [name: string, code: readonly number[], accesses: readonly string[]])[] = [
  ['nop', [0x90], []],
  ['mov rax, [rbx + 8]', [0x48, 0x8b, 0x43, 0x08], ['read 0x2008']],
  ['add [rbx], eax', [0x01, 0x03], ['read 0x2000', 'write 0x2000']],
  ['mov rax, [rip + 100h]', [0x48, 0x8b, 0x05, 0, 1, 0, 0], ['read 0x1107']],
  ['mov al, fs:[rbx]', [0x64, 0x8a, 0x03], ['read 0x102000']],
  ['push rax', [0x50], ['write 0x6ff8']],
  ['pop rax', [0x58], ['read 0x7000']],
  ['movsb', [0xa4], ['read 0x3000', 'write 0x4000']],
  ['lea rax, [rbx]', [0x48, 0x8d, 0x03], []],
];

describe('Operands that exit or fault', () => {
  for (const [name, code, accesses] of ACCESSES) {
    it(`are looked for where ${name} accesses memory`, () => {
      const { guest, asked } = guestOf(code);
      assert.equal(forecastAccesses(guest, NOTHING), undefined);
      assert.deepEqual(asked[0], 'execute 0x1000');
      assert.deepEqual(asked.slice(1).sort(), [...accesses].sort());
    });
  }

  it('lie at a segment’s base outside 64-bit mode', () => {
    const { guest, asked } = guestOf([0x8b, 0x03], undefined, 32);
    forecastAccesses(guest, NOTHING);
    assert.deepEqual(asked.slice(1), ['read 0x302000']);
  });

  it('may be in two pages', () => {
    const { guest, asked } = guestOf([0x48, 0x8b, 0x83, 0xfc, 0x0f, 0, 0]);
    forecastAccesses(guest, NOTHING);
    assert.deepEqual(asked.slice(1), ['read 0x2ffc', 'read 0x3000']);
  });

  it('that EPT refuses cause EPT violations and misconfigurations', () => {
    const { guest } = guestOf([0x01, 0x03], (_, access) => (access === 'write' ? VIOLATION : undefined));
    assert.deepEqual(forecastAccesses(guest, NOTHING), {
      kind: 'exits',
      reason: EXIT.EPT_VIOLATION,
      cause: 'the write of 0x2000 (EPT PTE at 0x500: not present)',
    });
    const misconfigured = guestOf([0x90], () => ({ kind: 'eptMisconfiguration', guestPhysicalAddress: 0n }));
    const forecast = forecastAccesses(misconfigured.guest, NOTHING);
    assert.ok(forecast?.kind === 'exits' && forecast.reason === EXIT.EPT_MISCONFIGURATION);
    assert.match(forecast.cause, /^the fetch of 0x1000/);
  });

  it('that fault exit when the exception bitmap says so', () => {
    const fault: MemoryFault = { kind: 'exception', vector: 14, errorCode: 2, linearAddress: 0x2000n };
    const { guest } = guestOf([0x89, 0x03], (_, access) => (access === 'write' ? fault : undefined));
    const asked: unknown[] = [];
    const whyEvent = (event: object): string => {
      asked.push(event);
      return 'bit 14 is 1';
    };
    const forecast = forecastAccesses(guest, { ...NOTHING, whyEvent });
    assert.deepEqual(asked, [{ vector: 14, type: 3, errorCode: 2, linearAddress: 0x2000n }]);
    assert.ok(forecast?.kind === 'exits' && forecast.reason === EXIT.EXCEPTION_OR_NMI);
    assert.match(forecast.cause, /raises #PF, and bit 14 is 1$/);
    assert.equal(forecastAccesses(guest, NOTHING)?.kind, 'faults');
  });

  it('in the APIC-access page cause APIC-access VM exits', () => {
    const { guest } = guestOf([0x8b, 0x43, 0x30]);
    const apicExit: OperandIntercepts['apicExit'] = (physical, size, access) =>
      physical === 0x2030 && size === 4 && access === 'read'
        ? { kind: 'vmExit', reason: EXIT.APIC_ACCESS, qualification: 0x30n, cause: 'not virtualized' }
        : undefined;
    assert.deepEqual(forecastAccesses(guest, { ...NOTHING, apicExit }), {
      kind: 'exits',
      reason: EXIT.APIC_ACCESS,
      cause: 'not virtualized',
    });
  });

  it('are not guessed when a register is not known', () => {
    const { guest, asked } = guestOf([0x8b, 0x01]);
    assert.equal(forecastAccesses(guest, NOTHING), undefined);
    assert.deepEqual(asked, ['execute 0x1000']);
  });
});
