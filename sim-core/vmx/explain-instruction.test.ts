import assert from 'node:assert/strict';
import type { InterceptQuery } from '../cpu/intercepts.ts';
import { InstructionDecoder } from '../isa/decoder.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import { CODE_MODE, GPR } from '../state/layout.ts';
import { EXIT } from './exit-reasons.ts';
import { type AskIntercepts, forecastExit } from './explain-instruction.ts';

function decode(...bytes: number[]): DecodedInstruction {
  const decoder = new InstructionDecoder(CODE_MODE.code64, Uint8Array.from(bytes), 0);
  assert.equal(decoder.next(), 'ok');
  const decoded = decoder.decoded();
  decoder.free();
  return decoded;
}

const REGISTER_VALUES: Readonly<Record<number, bigint>> = {
  [GPR.rcx]: 0xffff_ffff_c000_0080n,
  [GPR.rdx]: 0x12_03f8n,
  [GPR.rax]: 0x8000_0011n,
};
const guest = (cpl = 0, rflags = 2n) => ({ gpr: (number: number) => REGISTER_VALUES[number], cpl, rflags });

/** What VMX answers, where nothing else is said: everything stays in the guest. */
const lets = (more: Partial<AskIntercepts> = {}): AskIntercepts => ({
  whyInstruction: () => undefined,
  whyEvent: () => undefined,
  whyShadow: () => undefined,
  ...more,
});
const never = (): never => assert.fail('asked');

/** What VMX is asked for the instruction; the encodings are the SDM's (Vol. 2). */
const QUESTIONS: readonly (readonly [name: string, bytes: readonly number[], query: InterceptQuery])[] = [
  ['CPUID', [0x0f, 0xa2], { kind: 'cpuid' }],
  ['HLT', [0xf4], { kind: 'hlt' }],
  ['RDMSR of ECX', [0x0f, 0x32], { kind: 'rdmsr', msr: 0xc000_0080 }],
  [
    'OUT DX, AL',
    [0xee],
    { kind: 'io', port: 0x3f8, size: 1, input: false, string: false, rep: false, immediate: false },
  ],
  [
    'IN EAX, 71h',
    [0xe5, 0x71],
    { kind: 'io', port: 0x71, size: 4, input: true, string: false, rep: false, immediate: true },
  ],
  ['MOV CR0, RAX', [0x0f, 0x22, 0xc0], { kind: 'writeCr', cr: 0, gpr: GPR.rax, value: 0x8000_0011n }],
  ['MOV CR8, RAX', [0x44, 0x0f, 0x22, 0xc0], { kind: 'writeCr', cr: 8, gpr: GPR.rax, value: 0x8000_0011n }],
  ['MOV RBX, CR8', [0x44, 0x0f, 0x20, 0xc3], { kind: 'readCr', cr: 8, gpr: GPR.rbx, value: 0n }],
  [
    'OUTSD',
    [0x6f],
    { kind: 'io', port: 0x3f8, size: 4, input: false, string: true, rep: false, immediate: false, addressSize: 8 },
  ],
  [
    'REP INSB',
    [0xf3, 0x6c],
    { kind: 'io', port: 0x3f8, size: 1, input: true, string: true, rep: true, immediate: false, addressSize: 8 },
  ],
  ['MOV RBX, CR3', [0x0f, 0x20, 0xdb], { kind: 'readCr', cr: 3, gpr: GPR.rbx, value: 0n }],
  ['MOV DR7, RAX', [0x0f, 0x23, 0xf8], { kind: 'movDr', dr: 7, gpr: GPR.rax, read: false }],
];

describe('What would exit', () => {
  for (const [name, bytes, expected] of QUESTIONS) {
    it(`asks VMX for ${name} as executing it would, and tells its answer`, () => {
      const instruction = decode(...bytes);
      const asked: InterceptQuery[] = [];
      const whyInstruction = (query: InterceptQuery): undefined => {
        asked.push(query);
      };
      const stays = forecastExit(instruction, guest(), lets({ whyInstruction }));
      assert.deepEqual([asked, stays], [[expected], { kind: 'stays' }]);
      const exit = { kind: 'vmExit', reason: EXIT.HLT, qualification: 0n, cause: 'a control' } as const;
      const exits = forecastExit(instruction, guest(), lets({ whyInstruction: () => exit }));
      assert.deepEqual(exits, { kind: 'exits', reason: EXIT.HLT, cause: 'a control' });
    });
  }

  it('knows that VMX instructions always exit, and that privileged ones fault at CPL 3', () => {
    const ask = lets({ whyInstruction: never });
    assert.equal(forecastExit(decode(0x0f, 0x01, 0xc1), guest(), ask)?.kind, 'exits');
    assert.deepEqual(forecastExit(decode(0xf4), guest(3), ask), {
      kind: 'faults',
      cause: 'its use at CPL 3 raises #GP',
    });
  });

  it('asks for the exceptions that instructions raise whether they exit', () => {
    // INT3 is a software exception (type 6), UD2 raises a hardware exception (3), INT1 is privileged (5).
    for (const [bytes, vector, type] of [
      [[0xcc], 3, 6],
      [[0xf1], 1, 5],
      [[0x0f, 0x0b], 6, 3],
    ] as const) {
      const asked: unknown[] = [];
      const whyEvent = (event: object): string => {
        asked.push(event);
        return 'a bit is 1';
      };
      const forecast = forecastExit(decode(...bytes), guest(), lets({ whyEvent }));
      assert.deepEqual(asked, [{ vector, type }]);
      assert.ok(forecast?.kind === 'exits' && forecast.reason === EXIT.EXCEPTION_OR_NMI);
      assert.match(forecast.cause, /, and a bit is 1$/);
      assert.equal(forecastExit(decode(...bytes), guest(), lets())?.kind, 'faults');
    }
  });

  it('asks the shadow VMCS’s bitmaps for VMREAD and VMWRITE', () => {
    const asked: unknown[] = [];
    const whyShadow = (...question: unknown[]): string => {
      asked.push(question);
      return 'a bit is 1';
    };
    // vmread rax, rcx; vmwrite rcx, rax
    const read = forecastExit(decode(0x0f, 0x78, 0xc8), guest(), lets({ whyShadow }));
    const write = forecastExit(decode(0x0f, 0x79, 0xc8), guest(), lets({ whyShadow }));
    assert.deepEqual(asked, [
      [REGISTER_VALUES[GPR.rcx], false],
      [REGISTER_VALUES[GPR.rcx], true],
    ]);
    assert.deepEqual(
      [read, write],
      [
        { kind: 'exits', reason: EXIT.VMREAD, cause: 'a bit is 1' },
        { kind: 'exits', reason: EXIT.VMWRITE, cause: 'a bit is 1' },
      ],
    );
    assert.deepEqual(forecastExit(decode(0x0f, 0x78, 0xc8), guest(), lets()), { kind: 'stays' });
  });

  it('knows that a REP whose count is 0 accesses no port', () => {
    const empty = { gpr: (number: number) => (number === GPR.rcx ? 0n : 0x3f8n), cpl: 0, rflags: 2n };
    assert.equal(forecastExit(decode(0xf3, 0x6c), empty, lets({ whyInstruction: never })), undefined);
  });

  it('says nothing of other instructions', () => {
    const ask = { whyInstruction: never, whyEvent: never, whyShadow: never };
    assert.equal(forecastExit(decode(0x90), guest(), ask), undefined);
    assert.equal(forecastExit(decode(0x48, 0x89, 0xd8), guest(), ask), undefined);
  });
});
