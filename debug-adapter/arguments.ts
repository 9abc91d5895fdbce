/** Checks the shape of what clients send: a request's arguments are unknown until a shape has accepted them. */

interface Kinds {
  number: number;
  string: string;
  boolean: boolean;
  object: Readonly<Record<string, unknown>>;
  array: readonly unknown[];
  strings: readonly string[];
  numbers: readonly number[];
  any: unknown;
}
type Kind = keyof Kinds;

/** Property → kind; a '?' behind it makes the property optional (absent or null). */
export type Shape = Readonly<Record<string, Kind | `${Kind}?`>>;

export type Shaped<S extends Shape> = {
  readonly [Name in keyof S as S[Name] extends Kind ? Name : never]: S[Name] extends Kind ? Kinds[S[Name]] : never;
} & {
  readonly [Name in keyof S as S[Name] extends Kind ? never : Name]?: S[Name] extends `${infer K extends Kind}?`
    ? Kinds[K] | undefined
    : never;
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const arrayOf =
  (element: (value: unknown) => boolean) =>
  (value: unknown): boolean =>
    Array.isArray(value) && value.every(element);
const isString = (value: unknown): boolean => typeof value === 'string';
const isNumber = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value);

const CHECKS: Readonly<Record<Kind, readonly [(value: unknown) => boolean, string]>> = {
  number: [isNumber, 'a number'],
  string: [isString, 'a string'],
  boolean: [(value) => typeof value === 'boolean', 'true or false'],
  object: [isObject, 'an object'],
  array: [Array.isArray, 'an array'],
  strings: [arrayOf(isString), 'an array of strings'],
  numbers: [arrayOf(isNumber), 'an array of numbers'],
  any: [() => true, 'anything'],
};

/**
 * @param fail makes the error from a description of the first property that does not fit.
 * @param where prefix of property names in that description, e.g. 'source.'.
 */
export function shaped<S extends Shape>(
  value: unknown,
  shape: S,
  fail: (problem: string) => Error,
  where = '',
): Shaped<S> {
  const object = value === undefined || value === null ? {} : value;
  if (!isObject(object)) throw fail(where === '' ? 'its arguments are not an object' : `'${where}' is not an object`);
  for (const [name, kind] of Object.entries(shape)) {
    const optional = kind.endsWith('?');
    const [fits, description] = CHECKS[(optional ? kind.slice(0, -1) : kind) as Kind];
    const property = object[name];
    if (property === undefined || property === null) {
      if (optional) continue;
      throw fail(`'${where}${name}' is missing`);
    }
    if (!fits(property)) throw fail(`'${where}${name}' is not ${description}`);
  }
  return object as Shaped<S>;
}
