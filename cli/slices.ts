/** How many instructions a machine is given at once, so that the process can look after other things in between. */

const FIRST = 200_000;
const LEAST = 1000;
const MOST = 2 ** 30;

export class Slices {
  private length = FIRST;
  private readonly milliseconds: number;

  /** @param milliseconds that a slice should take */
  constructor(milliseconds: number) {
    this.milliseconds = milliseconds;
  }

  /** Gives `run` a number of instructions, and fits the next one to the time that this one took, if all of it ran. */
  run<Outcome extends { readonly kind: string }>(
    run: (instructions: number) => Outcome,
    most = Number.POSITIVE_INFINITY,
  ): Outcome {
    const instructions = Math.min(this.length, most);
    const before = performance.now();
    const outcome = run(instructions);
    const taken = Math.max(performance.now() - before, 0.1);
    if (instructions === this.length && outcome.kind === 'limit') {
      const factor = Math.min(2, Math.max(0.25, this.milliseconds / taken));
      this.length = Math.round(Math.min(MOST, Math.max(LEAST, this.length * factor)));
    }
    return outcome;
  }
}

/** Lets the process take input and timers in. */
export const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(resolve);
  });
