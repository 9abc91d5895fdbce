import { storyLines } from '../../sim-core/mmu/explain-stale.ts';
import { type Staleness, stalenessOf } from '../../sim-core/mmu/stale.ts';
import { KIND_NAMES } from '../../sim-core/mmu/tlb.ts';
import { citeInFull } from '../../sim-core/sdm.ts';
import type { DecodedBits } from '../../sim-core/vmx/bits.ts';
import { controlDocumentation, decodeField, describeField } from '../../sim-core/vmx/describe.ts';
import { EXIT_REASONS, exitReason, exitTitle } from '../../sim-core/vmx/exit-reasons.ts';
import { FIELD_GROUPS, type FieldName, fieldByName, VMCS_FIELDS } from '../../sim-core/vmx/fields.ts';
import type { FailedCheck, VmExitRecord, VmxView } from '../../sim-core/vmx/records.ts';
import { errors } from '../errors.ts';
import { TargetEnvironment } from '../expressions/environment.ts';
import { evaluate } from '../expressions/evaluate.ts';
import { parseExpression } from '../expressions/parser.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { CheckBody, StaleBody, TlbBody, VmcsBitBody, VmcsBody, VmcsFieldBody, VmExitsBody } from '../protocol.ts';
import { fieldWords, setField } from '../requests/variables.ts';
import type { Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import { causeLines, codeNames, explainStop, qualificationLines } from '../stops/stop-texts.ts';
import { hex } from '../worlds/memory-reference.ts';
import { eptTable, translation } from './translation-views.ts';

function vmcsBody(session: Session, target: Target): VmcsBody {
  const { vmx } = target.machine;
  if (vmx.currentVmcs === undefined) return { groups: [] };
  const failures = failingByField(session, target);
  const groups = Object.entries(FIELD_GROUPS).map(([group, name]) => ({
    name,
    fields: VMCS_FIELDS.filter((field) => field.group === group).flatMap((field): VmcsFieldBody[] => {
      const value = vmx.read(field.encoding);
      if (value === undefined) return [];
      const text = fieldWords(target, field, value);
      const bits = decodeField(field.name, value).map((part) => bitBody(field.name, part));
      const previous = session.previousFields?.(field.encoding);
      const failing = failures.get(field.name);
      return [
        {
          name: field.name,
          encoding: hex(field.encoding),
          value: hex(value),
          width: 8 * field.bytes,
          readOnly: field.area === 'readOnly',
          changed: previous !== undefined && previous !== value,
          ...(text === '' ? {} : { text }),
          ...(bits.length > 0 ? { bits } : {}),
          ...(failing ? { failing } : {}),
          documentation: field.documentation,
          section: citeInFull(field.sdm),
        },
      ];
    }),
  }));
  const { currentVmcs, launchState } = vmx;
  return { address: hex(currentVmcs), ...(launchState ? { launchState } : {}), groups };
}

function bitBody(field: FieldName, { name, bits, value }: DecodedBits): VmcsBitBody {
  const documentation = controlDocumentation(field, name);
  return {
    name: `${name} (${bits})`,
    value: hex(value),
    set: value !== 0n,
    ...(documentation === undefined ? {} : { documentation }),
  };
}

function lastExit(target: Target, exit: VmExitRecord): NonNullable<VmExitsBody['last']> {
  return {
    reason: exit.reason,
    name: exitReason(exit.reason)?.name ?? exitTitle(exit.reason),
    guestRip: hex(exit.guestRip),
    qualification: hex(exit.qualification),
    decoded: [explainStop({ kind: 'vmExit', exit }, target).text, ...qualificationLines(exit)],
    cause: exit.cause,
    why: causeLines(exit, target).slice(1),
  };
}

function exitsBody(session: Session, target: Target): VmExitsBody {
  const { vmx } = target.machine;
  const last = vmx.lastExit;
  return {
    total: [...vmx.exitCounts.values()].reduce((sum, count) => sum + count, 0),
    entries: vmx.entries,
    reasons: EXIT_REASONS.map(({ number, name }) => ({
      reason: number,
      name,
      count: vmx.exitCounts.get(number) ?? 0,
      ...(vmx.exitCycles.has(number) ? { cycles: vmx.exitCycles.get(number) ?? 0 } : {}),
      stop: session.filters.stopsAt(number),
    })),
    tlb: target.machine.mmu.tlb.counters,
    ...(last ? { last: lastExit(target, last) } : {}),
  };
}

function tlbBody(target: Target): TlbBody {
  const { mmu } = target.machine;
  const entries = mmu.tlb.entries().map((entry) => {
    const rights = [entry.readable && 'R', entry.writable && 'W', entry.executable && 'X', entry.user && 'U'];
    const stale = stalenessOf(mmu, entry);
    return {
      kind: KIND_NAMES[entry.kind],
      vpid: entry.vpid,
      pcid: entry.pcid,
      eptRoot: hex(entry.eptRoot),
      global: entry.global,
      page: hex(entry.page),
      pageSize: entry.pageSize,
      target: hex(entry.target),
      rights: [...rights, entry.dirty && 'D'].filter(Boolean).join(''),
      ...(stale ? { stale: staleBody(stale, target) } : {}),
    };
  });
  return { entries };
}

function staleBody({ entry, address, difference, invalidations }: Staleness, target: Target): StaleBody {
  const story = target.machine.mmu.storyOf(entry);
  return {
    address: hex(address),
    difference,
    ...(story ? { story: storyLines(story, codeNames(target)) } : {}),
    invalidations: [...invalidations],
  };
}

function checkBody(vmx: VmxView, check: FailedCheck): CheckBody {
  return {
    id: check.id,
    explanation: check.explanation,
    section: check.section,
    fields: check.fields.map(({ name, value }) => {
      const text = describeField(name as FieldName, value);
      return { name, value: hex(value), ...(text === '' ? {} : { text }) };
    }),
    remedies: vmx.remedies(check).map((remedy) => ({ ...remedy, value: hex(remedy.value) })),
  };
}

/**
 * The checks that the VMCS would fail now, by the fields that one change of each would satisfy them (else by all that
 * they read). Only when the last stop was a failed VM entry or somebody asked: a VMCS in the making fails many.
 */
function failingByField(session: Session, { machine: { vmx } }: Target): ReadonlyMap<string, string[]> {
  const marks = new Map<string, string[]>();
  if (!session.marksEntryChecks) return marks;
  for (const check of vmx.checkEntry()?.checks ?? []) {
    const repairable = vmx.remedies(check).map(({ field }) => field);
    const names = repairable.length > 0 ? repairable : check.fields.map(({ name }) => name);
    for (const name of names) marks.set(name, [...(marks.get(name) ?? []), `${check.explanation} [${check.section}]`]);
  }
  return marks;
}

export const vmxRequests: HandlerTable = {
  'vmxray/vmcs': handler({}, (session, _args, command) => vmcsBody(session, session.stoppedTarget(command))),

  'vmxray/setVmcsField': handler({ name: 'string', value: 'string' }, (session, { name, value }, command) => {
    const target = session.stoppedTarget(command);
    const field = fieldByName(name);
    if (!field) throw errors.unknownField(name);
    const { number } = evaluate(parseExpression(value), new TargetEnvironment(target));
    const now = setField(target, field, number);
    session.afterwards(() => session.changed());
    return { value: hex(now) };
  }),

  'vmxray/vmExits': handler({}, (session, _args, command) => exitsBody(session, session.target(command))),

  'vmxray/setVmExitStops': handler({ reasons: 'numbers' }, (session, { reasons }, command) => {
    session.filters.setStops(reasons);
    return exitsBody(session, session.target(command));
  }),

  'vmxray/translate': handler(
    { address: 'string', space: 'string', access: 'string?', requester: 'number?' },
    (session, args, command) => translation(session.stoppedTarget(command), args, command),
  ),

  'vmxray/eptTable': handler({ table: 'string?', level: 'number?', base: 'string?' }, (session, args, command) =>
    eptTable(session.stoppedTarget(command), args, command),
  ),

  'vmxray/tlb': handler({}, (session, _args, command) => tlbBody(session.stoppedTarget(command))),

  'vmxray/serialInput': handler({ data: 'string', console: 'string?' }, (session, args, command) => {
    const bytes = Uint8Array.from(args.data, (character) => character.charCodeAt(0) & 0xff);
    const target = session.target(command);
    if (target.isTravelling) throw errors.running(command);
    target.apply(args.console === undefined ? { kind: 'input', bytes } : target.consoles.input(args.console, bytes));
    session.rouse();
    return {};
  }),

  'vmxray/checkVmEntry': handler({}, (session, _args, command) => {
    const { vmx } = session.stoppedTarget(command).machine;
    if (vmx.currentVmcs === undefined) throw errors.noVmcs();
    const failure = vmx.checkEntry();
    session.marksEntryChecks = true;
    return { ok: failure === undefined, checks: (failure?.checks ?? []).map((check) => checkBody(vmx, check)) };
  }),
};
