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
  it('number hits from where they were set: forwards, and backwards those before', () => {
    const trigger = new Trigger({ hitCondition: '2' }, 100);
    const stopsAmong = (moments: readonly number[]): number[] =>
      moments.filter((moment) => trigger.judge(environment(), moment).stop);
    assert.deepEqual(stopsAmong([110, 120, 130]), [120]);
    assert.equal(trigger.takeLearnt(), false);
    // In the order of time, as a search meets them: only once all are known their numbers are.
    stopsAmong([70, 80, 90, 100]);
    assert.equal(trigger.takeLearnt(), true);
    assert.deepEqual(stopsAmong([70, 80, 90, 100]), [80]);
    assert.equal(trigger.takeLearnt(), false);
    trigger.countFrom(75);
    assert.deepEqual(stopsAmong([70, 80, 90, 100, 110]), [90]);
  });
  it('forget hits of a future that does not come, and all of them', () => {
    const trigger = new Trigger({ hitCondition: '2' });
    const stopsAt = (moment: number): boolean => trigger.judge(environment(), moment).stop;
    assert.deepEqual([10, 20].map(stopsAt), [false, true]);
    trigger.forgetAfter(10);
    assert.deepEqual([25, 30].map(stopsAt), [true, false]);
    trigger.countAnew(40);
    assert.deepEqual([50, 60].map(stopsAt), [false, true]);
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
