import { writeFileSync } from 'node:fs';
import Mocha from 'mocha';

/** How many tests of a step passed, failed and were skipped. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Mocha's own reporter for people, which also writes the counts as JSON into the file that VMXRAY_COUNTS names. */
export default class CountingReporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const file = process.env.VMXRAY_COUNTS;
    runner.once(Mocha.Runner.constants.EVENT_RUN_END, () => {
      const { passes, failures, pending } = this.stats;
      const counts: Counts = { passed: passes, failed: failures, skipped: pending };
      if (file) writeFileSync(file, JSON.stringify(counts));
    });
  }
}
