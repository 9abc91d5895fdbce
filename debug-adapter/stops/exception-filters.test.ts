import assert from 'node:assert/strict';
import { EXIT, EXIT_GROUPS, EXIT_REASONS } from '../../sim-core/vmx/exit-reasons.ts';
import type { VmExitRecord } from '../../sim-core/vmx/records.ts';
import { RequestError } from '../errors.ts';
import type { Environment } from '../expressions/evaluate.ts';
import { EXCEPTION_FILTERS, ExceptionFilters } from './exception-filters.ts';

const exit = (reason: number): VmExitRecord => ({ reason }) as VmExitRecord;
const environment = (extra: Readonly<Record<string, bigint>>): Environment => ({
  wordBytes: 8,
  lookup: (name) => ({ qualification: 0x82n, ...extra })[name],
  assign: () => undefined,
  readMemory: () => new Uint8Array(8),
  writeMemory: () => {},
});
let now = 0;
const stops = (filters: ExceptionFilters, reason: number): boolean =>
  filters.judgeExit(exit(reason), environment, ++now).stop;

describe('exception filters', () => {
  it('are one for each exit reason and group, all exits, and four for failures; each once', () => {
    const ids = EXCEPTION_FILTERS.map(({ filter }) => filter);
    assert.equal(new Set(ids).size, ids.length);
    assert.equal(ids.length, EXIT_REASONS.length + Object.keys(EXIT_GROUPS).length + 5);
    assert.ok(EXCEPTION_FILTERS.every((filter) => filter.supportsCondition && filter.conditionDescription));
  });

  it('by default stop for what went wrong, and for no exit', () => {
    const filters = new ExceptionFilters();
    assert.ok(filters.has('vmEntryFailure') && filters.has('tripleFault'));
    assert.ok(EXIT_REASONS.every(({ number }) => !stops(filters, number)));
  });

  it('stop for a reason, a group or every exit', () => {
    const filters = new ExceptionFilters();
    filters.replace([{ filter: 'exit:CPUID' }]);
    assert.deepEqual([stops(filters, EXIT.CPUID), stops(filters, EXIT.HLT)], [true, false]);
    filters.replace([{ filter: 'exits:memory' }]);
    assert.deepEqual([stops(filters, EXIT.EPT_VIOLATION), stops(filters, EXIT.CPUID)], [true, false]);
    filters.replace([{ filter: 'exits:' }]);
    assert.ok(EXIT_REASONS.every(({ number }) => stops(filters, number)));
  });

  it('ask their condition', () => {
    const filters = new ExceptionFilters();
    filters.replace([{ filter: 'exit:EPT_VIOLATION', condition: 'qualification & 0x80 && hits == 2' }]);
    const verdicts = [1, 2, 3].map(() => stops(filters, EXIT.EPT_VIOLATION));
    assert.deepEqual(verdicts, [false, true, false]);
  });

  it('are independent of the stops in the tree', () => {
    const filters = new ExceptionFilters();
    filters.setStopsByName(['HLT', 'EPT violation']);
    filters.replace([{ filter: 'exit:CPUID' }]);
    const stopping = EXIT_REASONS.filter(({ number }) => stops(filters, number)).map(({ name }) => name);
    assert.deepEqual(stopping, ['CPUID', 'HLT', 'EPT_VIOLATION']);
  });

  it('stay as they were when one is unknown', () => {
    const filters = new ExceptionFilters();
    assert.throws(() => filters.replace([{ filter: 'exit:CPUID' }, { filter: 'exit:MOON' }]), RequestError);
    assert.equal(stops(filters, EXIT.CPUID), false);
  });
});
