/** For developers: node test/fuzz/run.ts [--instructions N] [--seed S]. Ends with status 1 when something was wrong. */

import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';

const { values } = parseArgs({
  options: { instructions: { type: 'string', default: '1000000' }, seed: { type: 'string', default: '1' } },
});
const seed = Number(values.seed);
console.log(`seed ${seed}`);
const result = fuzz(Number(values.instructions), seed, (line) => console.log(`PROBLEM ${line}`));
const endings = [...result.endings].sort(([, a], [, b]) => b - a);
for (const [ending, count] of endings) console.log(`${String(count).padStart(8)}  ${ending}`);
console.log(`${result.instructions} instructions in ${result.cases} cases, ${result.problems.length} problems`);
process.exitCode = result.problems.length === 0 ? 0 : 1;
