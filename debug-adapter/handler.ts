import { type Shape, type Shaped, shaped } from './arguments.ts';
import { errors } from './errors.ts';
import type { Session } from './session.ts';

/** Answers one request: returns (a promise of) the response's body, or throws a RequestError. */
export type Handler = (session: Session, args: unknown, command: string) => unknown;
export type HandlerTable = Readonly<Record<string, Handler>>;

/** A handler that gets arguments of the given shape; other arguments are answered with an error. */
export function handler<S extends Shape>(
  shape: S,
  run: (session: Session, args: Shaped<S>, command: string) => unknown,
): Handler {
  return (session, args, command) =>
    run(
      session,
      shaped(args, shape, (problem) => errors.badArguments(command, problem)),
      command,
    );
}

/** Checks one object inside the arguments. */
export const shapedPart = <S extends Shape>(command: string, where: string, value: unknown, shape: S): Shaped<S> =>
  shaped(value, shape, (problem) => errors.badArguments(command, problem), `${where}.`);

/** Each processor is a thread: thread ids count from 1. */
export const threadOfProcessor = (processor: number): number => processor + 1;
export const processorOfThread = (thread: number): number => thread - 1;
