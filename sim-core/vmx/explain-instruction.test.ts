import assert from 'node:assert/strict';
import type { InterceptQuery } from '../cpu/intercepts.ts';
import { InstructionDecoder } from '../isa/decoder.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import { CODE_MODE, GPR } from '../state/layout.ts';
import { EXIT } from './exit-reasons.ts';
import { forecastExit } from './explain-instruction.ts';

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
const guest = (cpl = 0) => ({ gpr: (number: number) => REGISTER_VALUES[number], cpl });

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
  ['MOV RBX, CR3', [0x0f, 0x20, 0xdb], { kind: 'readCr', cr: 3, gpr: GPR.rbx, value: 0n }],
  ['MOV DR7, RAX', [0x0f, 0x23, 0xf8], { kind: 'movDr', dr: 7, gpr: GPR.rax, read: false }],
];

describe('What would exit', () => {
  for (const [name, bytes, expected] of QUESTIONS) {
    it(`asks VMX for ${name} as executing it would, and tells its answer`, () => {
      const instruction = decode(...bytes);
      const asked: InterceptQuery[] = [];
      const stays = forecastExit(instruction, guest(), (query) => {
        asked.push(query);
        return undefined;
      });
      assert.deepEqual([asked, stays], [[expected], { kind: 'stays' }]);
      const exits = forecastExit(instruction, guest(), () => ({
        kind: 'vmExit',
        reason: EXIT.HLT,
        qualification: 0n,
        cause: 'a control',
      }));
      assert.deepEqual(exits, { kind: 'exits', reason: EXIT.HLT, cause: 'a control' });
    });
  }

  it('knows that VMX instructions always exit, and that privileged ones fault at CPL 3', () => {
    const never = () => assert.fail('asked');
    assert.equal(forecastExit(decode(0x0f, 0x01, 0xc1), guest(), never)?.kind, 'exits');
    assert.equal(forecastExit(decode(0xf4), guest(3), never)?.kind, 'faults');
  });

  it('says nothing of other instructions', () => {
    const never = () => assert.fail('asked');
    assert.equal(forecastExit(decode(0x90), guest(), never), undefined);
    assert.equal(forecastExit(decode(0x48, 0x89, 0xd8), guest(), never), undefined);
  });
});
