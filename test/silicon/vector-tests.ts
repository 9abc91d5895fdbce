import assert from 'node:assert/strict';
import { CPU_INSTRUCTIONS } from '../../sim-core/cpu/instructions.ts';
import type { TestMode } from './layout.ts';
import { Simulated } from './simulated.ts';
import { allForms, compareForm, keyOf, readVectors } from './vectors.ts';

/** Mismatches that a failing test tells; one cause usually shows in many forms. */
const MOST_TOLD = 10;

/** Tests that the simulator does what the processor of the committed vectors did. */
export function vectorsAgree(modes: readonly TestMode[]): void {
  const vectors = readVectors();
  describe(`the recorded processor, ${vectors.processor},`, () => {
    for (const mode of modes) {
      it(`and the simulator do the same in ${mode}`, () => {
        const simulated = new Simulated(CPU_INSTRUCTIONS);
        const forms = [...allForms().keys()].filter((form) => form.mode === mode);
        const problems = forms.flatMap(
          (form) => compareForm(form, vectors.forms.get(keyOf(form)), vectors.seed, simulated) ?? [],
        );
        console.log(`      ${forms.length} forms, ${forms.reduce((sum, form) => sum + casesOf(form), 0)} cases`);
        assert.equal(problems.length, 0, `${problems.length} forms: ${problems.slice(0, MOST_TOLD).join('\n\n')}`);
      }).timeout(300_000);
    }
  });

  const casesOf = (form: Parameters<typeof keyOf>[0]): number => vectors.forms.get(keyOf(form))?.outcomes.length ?? 0;
}
