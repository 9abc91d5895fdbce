/** Names with the namespaces and classes around them, as sources of C++ and Rust write them: `a::B<c::D>::e`. */

/** The last part, behind what is around it: `e`. */
export function lastName(name: string): string {
  let depth = 0;
  let start = 0;
  for (let at = 0; at < name.length; at++) {
    const character = name[at];
    if (character === '<') depth++;
    else if (character === '>') depth--;
    else if (depth === 0 && name.startsWith('::', at)) start = at + 2;
  }
  return name.slice(start).replace(/^:/, '');
}

/**
 * Whether a whole name can be meant by one that a source writes: inside of namespaces and classes it leaves out those
 * around it, and namespaces without a name always.
 */
export function canMean(whole: string, written: string): boolean {
  const named = whole.replaceAll('(anonymous namespace)::', '');
  return [whole, named].some((name) => name === written || name.endsWith(`::${written}`));
}
