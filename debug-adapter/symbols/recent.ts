/** Results that are asked for again and again, stop after stop: a bounded number of them is kept. */
export class Recent<Key, Value> {
  private readonly limit: number;
  private readonly known = new Map<Key, Value>();

  /** @param limit results that are kept at most: when there are more, all are forgotten. */
  constructor(limit: number) {
    this.limit = limit;
  }

  /** What is known for a key, or what `make` gives; what it throws is not remembered. */
  get(key: Key, make: () => Value): Value {
    const known = this.known.get(key);
    if (known !== undefined || this.known.has(key)) return known as Value;
    const made = make();
    if (this.known.size >= this.limit) this.known.clear();
    this.known.set(key, made);
    return made;
  }
}
