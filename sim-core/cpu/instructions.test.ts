import assert from 'node:assert/strict';
import { Mnemonic } from 'iced-x86';
import { SEMANTICS } from '../isa/semantics.ts';
import { ARITHMETIC_INSTRUCTIONS } from './arithmetic-instructions.ts';
import { CONTROL_INSTRUCTIONS } from './control-instructions.ts';
import { DESCRIPTOR_INSTRUCTIONS } from './descriptor-instructions.ts';
import { FAR_TRANSFERS } from './far-transfers.ts';
import { FPU_INSTRUCTIONS } from './fpu-instructions.ts';
import { CPU_INSTRUCTIONS } from './instructions.ts';
import { PORT_INSTRUCTIONS } from './port-instructions.ts';
import { STRING_INSTRUCTIONS } from './string-instructions.ts';
import { SYSTEM_CALLS } from './system-calls.ts';
import { SYSTEM_INSTRUCTIONS } from './system-instructions.ts';

describe('The table of slow instructions', () => {
  const files = [
    ARITHMETIC_INSTRUCTIONS,
    CONTROL_INSTRUCTIONS,
    DESCRIPTOR_INSTRUCTIONS,
    FAR_TRANSFERS,
    FPU_INSTRUCTIONS,
    PORT_INSTRUCTIONS,
    STRING_INSTRUCTIONS,
    SYSTEM_CALLS,
    SYSTEM_INSTRUCTIONS,
  ];

  it('has every instruction once', () => {
    const names = files.flatMap((rows) => Object.keys(rows));
    assert.equal(new Set(names).size, names.length);
    assert.equal(CPU_INSTRUCTIONS.size, names.length);
  });

  it('shares a mnemonic with the staged semantics only where forms or widths divide them', () => {
    const shared = [...CPU_INSTRUCTIONS.keys()].filter((mnemonic) => SEMANTICS.has(mnemonic));
    const allowed = ['Call', 'Cmpsd', 'Div', 'Idiv', 'Jmp', 'Mov', 'Movsd', 'Pop', 'Push'];
    for (const mnemonic of shared) assert.ok(allowed.includes(Mnemonic[mnemonic] ?? ''), Mnemonic[mnemonic]);
  });
});
