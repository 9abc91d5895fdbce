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
  '%': (limit) => (hits) => limit > 0 && hits > 0 && hits % limit === 0,
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

  /** How many are before a moment. */
  private before(moment: number): number {
    const { known } = this;
    if ((known.at(-1) ?? Number.NEGATIVE_INFINITY) < moment) return known.length;
    let [low, high] = [0, known.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((known[middle] as number) < moment) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @returns whether that changed anything */
  set(moment: number, isKnown: boolean): boolean {
    const index = this.before(moment);
    const wasKnown = this.known[index] === moment;
    if (isKnown && !wasKnown) this.known.splice(index, 0, moment);
    if (!isKnown && wasKnown) this.known.splice(index, 1);
    return isKnown !== wasKnown;
  }

  /** The number of a moment, counted from 1 away from the origin, which is 0. */
  number(moment: number, origin: number): number {
    return moment > origin
      ? this.before(moment + 1) - this.before(origin + 1)
      : this.before(origin) - this.before(moment);
  }

  forgetAfter(moment: number): void {
    this.known.length = this.before(moment + 1);
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

/** Before anything can be reached. */
const BEGINNING = -1;

/**
 * The condition, hit count and log message of a breakpoint or filter. Moments are in cycles. Hits are counted from the
 * place where the breakpoint was set, or from an earlier one that the machine has run on from since: forwards in the
 * order of time, and those before it backwards, the nearest first. So a hit that is met again has the number that it
 * had. One at that place itself has the number 0.
 */
export class Trigger {
  readonly options: TriggerOptions;
  /** When it was reached: `hits` in its condition is how often, up to the moment that is judged. */
  private readonly reached = new Moments();
  /** When its condition held: what the hit count counts. */
  private readonly held = new Moments();
  /** Why it can never trigger as written; undefined when it is well-formed. */
  readonly problem: string | undefined;
  private readonly condition: Node | undefined;
  private readonly hitTest: HitTest | undefined;
  private readonly log: readonly TemplatePart[] | undefined;
  private readonly counts: boolean;
  private origin = BEGINNING;
  private hasLearnt = false;

  /** @param now when it is set */
  constructor(options: TriggerOptions, now = 0) {
    this.options = options;
    this.counts = options.hitCondition !== undefined || /\bhits\b/.test(options.condition ?? '');
    this.countAnew(now);
    try {
      const { condition, message = options.logMessage, messageAt } = splitLog(options.condition);
      this.condition = condition?.trim() ? parseExpression(condition) : undefined;
      this.hitTest = options.hitCondition?.trim() ? parseHitCondition(options.hitCondition) : undefined;
      this.log = message ? parseTemplate(message, messageAt) : undefined;
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
  }

  /** Forgets all hits. */
  countAnew(now: number): void {
    this.origin = now === 0 ? BEGINNING : now;
    this.forgetAfter(BEGINNING);
  }

  /** The machine runs on from here. */
  countFrom(now: number): void {
    this.origin = Math.min(this.origin, now);
  }

  /** What came afterwards has not happened. */
  forgetAfter(now: number): void {
    this.reached.forgetAfter(now);
    this.held.forgetAfter(now);
  }

  /**
   * Whether, since this was last asked, hits have become known that give others, which were judged before, other
   * numbers: a search backwards meets the hits of a stretch in the order of time.
   */
  takeLearnt(): boolean {
    const { hasLearnt } = this;
    this.hasLearnt = false;
    return hasLearnt;
  }

  private number(moments: Moments, now: number, isHit: boolean): number {
    const isNews = moments.set(now, isHit) && now < this.origin;
    this.hasLearnt ||= isNews && this.counts;
    return moments.number(now, this.origin);
  }

  /**
   * Counts a hit and judges it. A condition that cannot be evaluated stops: silence would hide the mistake.
   * @param environment makes the names of its expressions, given `hits`.
   */
  judge(environment: (extra: Readonly<Record<string, bigint>>) => Environment, now: number): Verdict {
    if (this.problem !== undefined) return { stop: false };
    const names = environment({ hits: BigInt(this.number(this.reached, now, true)) });
    try {
      const holds = !this.condition || isTrue(evaluate(this.condition, names));
      const number = this.number(this.held, now, holds);
      if (!holds || (this.hitTest && !this.hitTest(number))) return { stop: false };
      return this.log ? { stop: false, output: `${renderTemplate(this.log, names)}\n` } : { stop: true };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return { stop: true, output: `A breakpoint's condition or message cannot be evaluated: ${error.message}\n` };
    }
  }
}
