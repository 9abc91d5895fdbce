import { RequestError } from './errors.ts';
import { type Environment, evaluate, renderTemplate } from './expressions/evaluate.ts';
import { type Node, parseExpression, parseTemplate, type TemplatePart } from './expressions/parser.ts';

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

/** The condition, hit count and log message of a breakpoint or filter. */
export class Trigger {
  /** How often it was reached: `hits` in its condition. */
  private reached = 0;
  /** How often its condition held: what the hit count counts. */
  private held = 0;
  /** Why it can never trigger as written; undefined when it is well-formed. */
  readonly problem: string | undefined;
  private readonly condition: Node | undefined;
  private readonly hitTest: HitTest | undefined;
  private readonly log: readonly TemplatePart[] | undefined;

  constructor(options: TriggerOptions) {
    try {
      this.condition = options.condition?.trim() ? parseExpression(options.condition) : undefined;
      this.hitTest = options.hitCondition?.trim() ? parseHitCondition(options.hitCondition) : undefined;
      this.log = options.logMessage ? parseTemplate(options.logMessage) : undefined;
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
  }

  /**
   * Counts a hit and judges it. A condition that cannot be evaluated stops: silence would hide the mistake.
   * @param environment makes the names of its expressions, given `hits`.
   */
  judge(environment: (extra: Readonly<Record<string, bigint>>) => Environment): Verdict {
    if (this.problem !== undefined) return { stop: false };
    const names = environment({ hits: BigInt(++this.reached) });
    try {
      if (this.condition && evaluate(this.condition, names).number === 0n) return { stop: false };
      this.held++;
      if (this.hitTest && !this.hitTest(this.held)) return { stop: false };
      return this.log ? { stop: false, output: `${renderTemplate(this.log, names)}\n` } : { stop: true };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return { stop: true, output: `A breakpoint's condition or message cannot be evaluated: ${error.message}\n` };
    }
  }
}
