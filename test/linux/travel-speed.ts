/**
 * Measures steps and searches backwards in a boot of Debian's kernel: `node test/linux/travel-speed.ts [MILLIONS…]`, at
 * so many millions of instructions (default 300 and 1300). Prints rows of a table.
 */

import { History } from '../../sim-core/machine/history/history.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { debianFiles } from './debian.ts';
import { makeInitramfs } from './initramfs.ts';

const MEMORY = 256 * 2 ** 20;
const MILLION = 1e6;
const STEPS = 20;
/** So far back the breakpoint is that is run back to. */
const DISTANCE = 50 * MILLION;

/** @returns milliseconds */
function timed(work: () => void): number {
  const begun = performance.now();
  work();
  return performance.now() - begun;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

const files = debianFiles();
if (typeof files === 'string') throw new Error(files);
const places = process.argv.slice(2).map((text) => Number(text) * MILLION);
const machine = createMachine({ memory: MEMORY });
const modules = [{ name: 'initramfs', bytes: makeInitramfs(files.busybox), commandLine: '' }];
machine.boot({ name: 'vmlinuz', image: files.kernel, commandLine: 'console=ttyS0', modules });
const history = new History(machine.rewindable);

function forwardTo(instructions: number): void {
  while (history.position.instructions < instructions) history.run(instructions - history.position.instructions);
}

console.log(
  '| at | first step back | further steps, median, longest | 50 million back to a breakpoint | checkpoints |',
);
console.log('| --- | --- | --- | --- | --- |');
for (const place of places.length > 0 ? places : [300 * MILLION, 1300 * MILLION]) {
  forwardTo(place - DISTANCE);
  const address = machine.state.get64('rip');
  forwardTo(place);
  const here = history.position;
  const first = timed(() => history.stepBack());
  const further = Array.from({ length: STEPS }, () => timed(() => history.stepBack()));
  history.goTo(here);
  machine.setBreakpoints([{ address, world: 'vmm' }]);
  const search = timed(() => history.findBackwards((reason) => reason.kind === 'breakpoint'));
  const distance = here.instructions - history.position.instructions;
  machine.setBreakpoints([]);
  history.goTo(here);
  const { checkpoints, bytes } = history.usage;
  const cells = [
    `${place / MILLION} million`,
    `${first.toFixed(0)} ms`,
    `${median(further).toFixed(0)} ms, ${Math.max(...further).toFixed(0)} ms`,
    `${search.toFixed(0)} ms (${(distance / MILLION).toFixed(1)} million)`,
    `${checkpoints}, ${(bytes / 2 ** 20).toFixed(0)} MiB`,
  ];
  console.log(`| ${cells.join(' | ')} |`);
}
