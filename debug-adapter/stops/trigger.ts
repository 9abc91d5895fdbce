import { RequestError } from '../errors.ts';
import { type Environment, evaluate, isTrue, renderTemplate } from '../expressions/evaluate.ts';
import { type Node, parseExpression, parseTemplate, type TemplatePart } from '../expressions/parser.ts';

/** What a breakpoint or filter asks beside its place. */
export interface TriggerOptions {
  readonly condition?: string | undefined;
  readonly hitCondition?: string | undefined;
  readonly logMessage?: string | undefined;
}

export interface Verdict {
  readonly stop: boolean;
  /** Text for the debug console: a log message, or why the condition could not be evaluated. */
  readonly output?: string;
}

type HitTest = (hits: number) => boolean;

const HIT_TESTS: Readonly<Record<string, (limit: number) => HitTest>> = {
  '>=': (limit) => (hits) => hits >= limit,
  '>': (limit) => (hits) => hits > limit,
  '<=': (limit) => (hits) => hits <= limit,
  '<': (limit) => (hits) => hits < limit,
  '==': (limit) => (hits) => hits === limit,
  '=': (limit) => (hits) => hits === limit,
  '': (limit) => (hits) => hits === limit,
  '%': (limit) => (hits) => limit > 0 && hits % limit === 0,
};

/** '>= 3', '> 3', '<= 3', '< 3', '== 3', '3' (the third time), '% 3' (every third time). */
function parseHitCondition(text: string): HitTest {
  const match = /^\s*(>=|>|<=|<|==|=|%)?\s*(\d+)\s*$/.exec(text);
  const test = match && HIT_TESTS[match[1] ?? '']?.(Number(match[2]));
  if (!test) throw new Error(`'${text}' is no hit count: write 3, >= 3, > 3, == 3 or % 3`);
  return test;
}

/** Moments in order; most are new and the last one. */
class Moments {
  private readonly known: number[] = [];

  /** The number of a moment, counted from 1. */
  count(now: number): number {
    const { known } = this;
    if ((known.at(-1) ?? Number.NEGATIVE_INFINITY) < now) return known.push(now);
    let [low, high] = [0, known.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((known[middle] as number) < now) low = middle + 1;
      else high = middle;
    }
    if (known[low] !== now) known.splice(low, 0, now);
    return low + 1;
  }
}

const LOG_CLAUSE = /(?:^|\s)log:\s?(.*)$/s;

/**
 * A condition may end in a log message, for the kinds of breakpoints to which the protocol gives none of their own:
 * `vpid == 1 log: CR3 becomes {new}`.
 */
function splitLog(text: string | undefined): { condition: string | undefined; message?: string; messageAt: number } {
  const found = text === undefined ? undefined : LOG_CLAUSE.exec(text);
  if (text === undefined || !found) return { condition: text, messageAt: 0 };
  const message = found[1] ?? '';
  return { condition: text.slice(0, found.index), message, messageAt: text.length - message.length };
}

/** The condition, hit count and log message of a breakpoint or filter. */
export class Trigger {
  /** When it was reached: `hits` in its condition is how often, up to the moment that is judged. */
  private readonly reached = new Moments();
  /** When its condition held: what the hit count counts. */
  private readonly held = new Moments();
  /** Why it can never trigger as written; undefined when it is well-formed. */
  readonly problem: string | undefined;
  private readonly condition: Node | undefined;
  private readonly hitTest: HitTest | undefined;
  private readonly log: readonly TemplatePart[] | undefined;

  constructor(options: TriggerOptions) {
    try {
      const { condition, message = options.logMessage, messageAt } = splitLog(options.condition);
      this.condition = condition?.trim() ? parseExpression(condition) : undefined;
      this.hitTest = options.hitCondition?.trim() ? parseHitCondition(options.hitCondition) : undefined;
      this.log = message ? parseTemplate(message, messageAt) : undefined;
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
  }

  /**
   * Counts a hit and judges it. A condition that cannot be evaluated stops: silence would hide the mistake.
   * @param environment makes the names of its expressions, given `hits`. @param now in cycles: a hit that is met again,
   * in the past, has the number that it had
   */
  judge(environment: (extra: Readonly<Record<string, bigint>>) => Environment, now: number): Verdict {
    if (this.problem !== undefined) return { stop: false };
    const names = environment({ hits: BigInt(this.reached.count(now)) });
    try {
      if (this.condition && !isTrue(evaluate(this.condition, names))) return { stop: false };
      if (this.hitTest && !this.hitTest(this.held.count(now))) return { stop: false };
      return this.log ? { stop: false, output: `${renderTemplate(this.log, names)}\n` } : { stop: true };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return { stop: true, output: `A breakpoint's condition or message cannot be evaluated: ${error.message}\n` };
    }
  }
}
