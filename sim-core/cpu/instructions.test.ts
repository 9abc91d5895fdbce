import assert from 'node:assert/strict';
import { Mnemonic } from 'iced-x86';
import { SEMANTICS } from '../isa/semantics.ts';
import { ARITHMETIC_INSTRUCTIONS } from './arithmetic-instructions.ts';
import { CONTROL_INSTRUCTIONS } from './control-instructions.ts';
import { DESCRIPTOR_INSTRUCTIONS } from './descriptor-instructions.ts';
import { FAR_TRANSFERS } from './far-transfers.ts';
import { FPU_INSTRUCTIONS } from './fpu-instructions.ts';
import { CPU_INSTRUCTIONS } from './instructions.ts';
import { MMX_INSTRUCTIONS } from './mmx-instructions.ts';
import { PORT_INSTRUCTIONS } from './port-instructions.ts';
import { STRING_INSTRUCTIONS } from './string-instructions.ts';
import { SYSTEM_CALLS } from './system-calls.ts';
import { SYSTEM_INSTRUCTIONS } from './system-instructions.ts';
import { VECTOR_INSTRUCTIONS } from './vector-instructions.ts';
import { WAIT_INSTRUCTIONS } from './wait-instructions.ts';
import { X87_INSTRUCTIONS } from './x87/instructions.ts';
import { XSAVE_INSTRUCTIONS } from './xsave-instructions.ts';

describe('The table of slow instructions', () => {
  const scalar = [
    ARITHMETIC_INSTRUCTIONS,
    CONTROL_INSTRUCTIONS,
    DESCRIPTOR_INSTRUCTIONS,
    FAR_TRANSFERS,
    FPU_INSTRUCTIONS,
    MMX_INSTRUCTIONS,
    PORT_INSTRUCTIONS,
    STRING_INSTRUCTIONS,
    SYSTEM_CALLS,
    SYSTEM_INSTRUCTIONS,
    WAIT_INSTRUCTIONS,
    X87_INSTRUCTIONS,
    XSAVE_INSTRUCTIONS,
  ];

  it('has every instruction once; CMPSD alone names two', () => {
    const names = [...scalar, VECTOR_INSTRUCTIONS].flatMap((rows) => Object.keys(rows));
    const twice = names.filter((name, i) => names.indexOf(name) !== i);
    assert.deepEqual(twice, ['Cmpsd']);
    assert.equal(CPU_INSTRUCTIONS.size, names.length - 1);
  });

  it('shares a mnemonic with the staged semantics only where forms or widths divide them', () => {
    const staged = new Set([...SEMANTICS.keys()].map((mnemonic) => Mnemonic[mnemonic]));
    const shared = scalar.flatMap((rows) => Object.keys(rows)).filter((name) => staged.has(name));
    const allowed = [
      'Call', 'Cmpsd', 'Div', 'Enter', 'Idiv', 'Jmp', 'Mov', 'Pop', 'Push',
      'Movsb', 'Movsw', 'Movsd', 'Movsq', 'Stosb', 'Stosw', 'Stosd', 'Stosq',
    ]; // biome-ignore format: a list reads better in rows
    assert.deepEqual(
      shared.filter((name) => !allowed.includes(name)),
      [],
    );
  });
});
