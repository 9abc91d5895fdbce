import assert from 'node:assert/strict';
import { entryReport, exitReport, staleReport } from './reports.ts';

describe('exitReport', () => {
  const last = {
    reason: 10,
    name: 'CPUID',
    guestRip: '0x401000',
    qualification: '0x0',
    decoded: ['leaf 0x1'],
    cause: 'CPUID always exits',
    why: ['Instruction: cpuid'],
  };

  it('tells the last exit with its count among all', () => {
    const reasons = [
      { reason: 10, name: 'CPUID', count: 3, stop: false },
      { reason: 12, name: 'HLT', count: 4, stop: false },
    ];
    const report = exitReport({ total: 7, entries: 8, reasons, last });
    assert.match(report, /^# VM exit: CPUID\n\nCPUID always exits\n/);
    assert.match(report, /\| Exits with this reason \| 3 of 7 \|/);
    assert.match(report, /- leaf 0x1/);
    assert.match(report, /^Instruction: cpuid$/m);
  });

  it('does not let a name be read as Markdown', () => {
    const report = exitReport({ total: 1, entries: 1, reasons: [], last: { ...last, cause: 'bit 2 of *a_b*' } });
    assert.match(report, /bit 2 of \\\*a\\_b\\\*/);
  });

  it('says when there was none', () => {
    assert.match(exitReport({ total: 0, entries: 0, reasons: [] }), /^# No VM exit yet/);
  });
});

describe('entryReport', () => {
  it('lists every failing check with its fields and section', () => {
    const check = {
      id: 'guest-rflags-reserved',
      explanation: 'Bit 1 of RFLAGS must be 1',
      section: 'SDM Vol. 3C 27.3.1.4',
      fields: [{ name: 'GUEST_RFLAGS', value: '0x0' }],
      remedies: [{ field: 'GUEST_RFLAGS', value: '0x2', text: 'set bit 1 of GUEST_RFLAGS' }],
    };
    const report = entryReport({ ok: false, checks: [check, { ...check, id: 'other' }] });
    assert.match(report, /2 checks fail\. The processor reports the first one only/);
    assert.match(report, /\| `GUEST_RFLAGS` \| `0x0` \|/);
    assert.match(report, /- set bit 1 of GUEST\\_RFLAGS/);
    assert.match(report, /SDM Vol\. 3C 27\.3\.1\.4 · check `other`/);
  });

  it('says when entry would succeed', () => {
    assert.match(entryReport({ ok: true, checks: [] }), /would succeed/);
  });
});

describe('staleReport', () => {
  const entry = {
    kind: 'combined' as const,
    vpid: 1,
    pcid: 0,
    eptRoot: '0x5000',
    global: false,
    page: '0x400000',
    pageSize: 4096,
    target: '0x9000',
    rights: 'R',
  };

  it('lists the entries that differ, with what would remove them', () => {
    const stale = { address: '0x400000', difference: 'gives 0x9000', invalidations: ['INVEPT type 2 (all contexts)'] };
    const report = staleReport({ entries: [entry, { ...entry, stale }] });
    assert.match(report, /1 of 2 TLB entries/);
    assert.match(report, /## combined mapping of 0x400000.*- INVEPT type 2/s);
  });

  it('says when there is none', () => assert.match(staleReport({ entries: [entry] }), /^# No stale translations/));
});
