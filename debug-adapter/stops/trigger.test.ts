import assert from 'node:assert/strict';
import type { Environment } from '../expressions/evaluate.ts';
import { Trigger, type TriggerOptions } from './trigger.ts';

/** Knows the names given, and `hits`. */
const environment =
  (names: Readonly<Record<string, bigint>> = {}) =>
  (extra: Readonly<Record<string, bigint>>): Environment => ({
    wordBytes: 8,
    lookup: (name) => ({ ...names, ...extra })[name],
    assign: () => undefined,
    readMemory: () => new Uint8Array(8),
    writeMemory: () => {},
  });

/** Numbers of the hits, counted from 1, at which the trigger stops within ten. */
function stops(options: TriggerOptions): number[] {
  const trigger = new Trigger(options);
  assert.equal(trigger.problem, undefined);
  let now = 0;
  return Array.from({ length: 10 }, (_, index) => index + 1).filter(() => trigger.judge(environment(), ++now).stop);
}

describe('breakpoint conditions and hit counts', () => {
  it('stop always without any', () => assert.equal(stops({}).length, 10));
  it('count hits', () => {
    assert.deepEqual(stops({ hitCondition: '3' }), [3]);
    assert.deepEqual(stops({ hitCondition: '== 3' }), [3]);
    assert.deepEqual(stops({ hitCondition: '>= 8' }), [8, 9, 10]);
    assert.deepEqual(stops({ hitCondition: '> 8' }), [9, 10]);
    assert.deepEqual(stops({ hitCondition: '< 3' }), [1, 2]);
    assert.deepEqual(stops({ hitCondition: '% 4' }), [4, 8]);
  });
  it('know how often they were reached', () => assert.deepEqual(stops({ condition: 'hits % 5 == 0' }), [5, 10]));
  it('count only the hits whose condition holds', () => {
    assert.deepEqual(stops({ condition: 'hits % 2 == 0', hitCondition: '>= 4' }), [8, 10]);
  });
  it('print log messages instead of stopping', () => {
    const trigger = new Trigger({ logMessage: 'rax is {rax}' });
    assert.deepEqual(trigger.judge(environment({ rax: 0x20n }), 1), { stop: false, output: 'rax is 0x20\n' });
  });
  it('stop and say so when the condition cannot be evaluated', () => {
    const verdict = new Trigger({ condition: 'rbx == 1' }).judge(environment(), 1);
    assert.equal(verdict.stop, true);
    assert.match(verdict.output ?? '', /'rbx' is no register/);
  });
  it('tell what is wrong with them', () => {
    assert.match(new Trigger({ hitCondition: 'often' }).problem ?? '', /'often' is no hit count/);
    assert.match(new Trigger({ condition: '(' }).problem ?? '', /value is expected/);
    assert.match(new Trigger({ logMessage: '{' }).problem ?? '', /no partner/);
  });
});
