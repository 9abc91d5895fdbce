import assert from 'node:assert/strict';
import { State } from '../state/state.ts';
import { HandlerTable } from './handlers.ts';

describe('the handlers’ table', () => {
  it('grows when a guest uses more forms than it had places for', () => {
    const handlers = new HandlerTable(new State(1 << 20));
    const places = handlers.table.length;
    const form = { mnemonic: 0 } as never;
    const indices = Array.from({ length: places }, () => handlers.add({ form, meaning: 0, semantics: () => {} }));
    assert.equal(new Set(indices).size, places);
    assert(Math.max(...indices) < handlers.table.length);
    assert(handlers.table.length > places);
  });
});
