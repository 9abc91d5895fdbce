/**
 * What snapshots of devices are made of (plain objects, arrays, maps, sets, bigints, bytes) as JSON with bytes beside
 * it, and back. A value that JSON cannot hold is an object with one key: `$` and what it is.
 */

const { POSITIVE_INFINITY, NEGATIVE_INFINITY, NaN: NOT_A_NUMBER } = Number;
const ODD_NUMBERS: Readonly<Record<string, number>> = {
  Infinity: POSITIVE_INFINITY,
  '-Infinity': NEGATIVE_INFINITY,
  NaN: NOT_A_NUMBER,
  '-0': -0,
};
const oddName = (value: number): string => (Object.is(value, -0) ? '-0' : String(value));

/** Kinds of views that bytes are kept as. */
const VIEWS = { Uint8Array, Uint16Array, Uint32Array, Int32Array, BigUint64Array, Float64Array } as const;
type ViewName = keyof typeof VIEWS;
const isViewName = (name: string): name is ViewName => Object.hasOwn(VIEWS, name);

/** Takes bytes down. @returns where they are */
type Keep = (bytes: Uint8Array) => number;
type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** @throws TypeError for what no snapshot holds: functions, instances of classes */
export function encodePlain(value: unknown, keep: Keep): Json {
  if (value === undefined) return { $undefined: 0 };
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'bigint') return { $bigint: value.toString() };
  if (typeof value === 'number') {
    return Number.isFinite(value) && !Object.is(value, -0) ? value : { $number: oddName(value) };
  }
  if (Array.isArray(value)) return value.map((each) => encodePlain(each, keep));
  if (value instanceof Map) return { $map: [...value].map((entry) => encodePlain(entry, keep)) };
  if (value instanceof Set) return { $set: [...value].map((each) => encodePlain(each, keep)) };
  if (ArrayBuffer.isView(value)) return { [`$${viewName(value)}`]: encodeBytes(value, keep) };
  if (typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, encodePlain(each, keep)]));
  }
  throw new TypeError(`a ${typeof value} cannot be written down`);
}

function viewName(view: ArrayBufferView): ViewName {
  const { name } = view.constructor;
  if (isViewName(name)) return name;
  throw new TypeError(`a ${name} cannot be written down`);
}

const encodeBytes = (view: ArrayBufferView, keep: Keep): Json => [
  keep(new Uint8Array(view.buffer, view.byteOffset, view.byteLength)),
  view.byteLength,
];

/** @param bytes what `keep` was given, one after the other. @throws TypeError, RangeError for what was not encoded */
export function decodePlain(json: unknown, bytes: Uint8Array): unknown {
  if (typeof json !== 'object' || json === null) return json;
  if (Array.isArray(json)) return json.map((each) => decodePlain(each, bytes));
  const entries = Object.entries(json);
  const [[key = '', inside] = []] = entries;
  if (entries.length === 1 && key.startsWith('$')) return decodeMarked(key.slice(1), inside, bytes);
  return Object.fromEntries(entries.map(([name, each]) => [name, decodePlain(each, bytes)]));
}

function decodeMarked(mark: string, inside: unknown, bytes: Uint8Array): unknown {
  if (mark === 'undefined') return undefined;
  if (mark === 'bigint') return BigInt(String(inside));
  if (mark === 'number') return ODD_NUMBERS[String(inside)];
  if (mark === 'map') return new Map(decodePlain(inside, bytes) as [unknown, unknown][]);
  if (mark === 'set') return new Set(decodePlain(inside, bytes) as unknown[]);
  if (!isViewName(mark)) throw new TypeError(`there is no kind of value '${mark}'`);
  const [start = 0, length = 0] = inside as readonly number[];
  if (start + length > bytes.length) throw new RangeError('bytes are missing');
  return new VIEWS[mark](bytes.slice(start, start + length).buffer);
}
