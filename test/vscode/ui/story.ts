import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Place, Workbench } from './workbench.ts';

/** The first line of a source file that contains a text. @param file relative to the folder */
export function placeIn(folder: string, file: string, text: string): Place {
  const [before, after] = readFileSync(join(folder, file), 'utf8').split(text, 2);
  assert.notEqual(after, undefined, `${file} contains "${text}"`);
  return { file: basename(file), line: before?.split('\n').length ?? 0 };
}

/**
 * Tests that follow each other in one window. After one that fails, which leaves a screenshot, the others are skipped.
 * @param folder absolute path of the workspace, or what makes it once the story begins
 * @param tell defines the tests; its argument gives the window once they run
 */
export function story(title: string, folder: string | (() => string), tell: (window: () => Workbench) => void): void {
  describe(title, function () {
    this.timeout(180_000);
    let workbench: Workbench | undefined;
    let broken = false;

    before(async () => {
      workbench = await Workbench.open(typeof folder === 'string' ? folder : folder());
    });
    after(() => workbench?.close());
    beforeEach(function () {
      if (broken) this.skip();
    });
    afterEach(async function () {
      if (this.currentTest?.state !== 'failed') return;
      broken = true;
      await workbench?.screenshot(`failed: ${title}`);
    });

    tell(() => {
      if (!workbench) throw new Error('the window is not open');
      return workbench;
    });
  });
}
