/** Labels, constants and macros as document symbols. Pure. */

import type { Definition, Outline } from './asm/outline.ts';

export interface OutlineSymbol extends Definition {
  /** Last line that belongs to it. */
  readonly endLine: number;
  readonly children: readonly OutlineSymbol[];
}

/** Local labels are children of the label before them; a label reaches to the next one. */
export function symbolTree({ definitions }: Outline, lastLine: number): OutlineSymbol[] {
  const tree: (OutlineSymbol & { children: OutlineSymbol[] })[] = [];
  for (const [index, one] of definitions.entries()) {
    const own = one.kind === 'local' || one.kind === 'number';
    const parent = tree.findLast(({ kind }) => kind === 'label');
    if (own && parent) {
      const next = definitions[index + 1];
      parent.children.push({ ...one, endLine: Math.max(one.line, (next?.line ?? lastLine + 1) - 1), children: [] });
    } else tree.push({ ...one, endLine: one.line, children: [] });
  }
  return tree.map((one, index) => {
    if (one.kind !== 'label') return one;
    const next = tree.slice(index + 1).find(({ kind }) => kind === 'label');
    return { ...one, endLine: Math.max(one.line, (next?.line ?? lastLine + 1) - 1) };
  });
}
