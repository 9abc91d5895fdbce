import type { DebugProtocol } from '@vscode/debugprotocol';
import { errors } from '../errors.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { LoadedProgram } from '../running/target.ts';
import { hex } from '../worlds/memory-reference.ts';
import { describeWhen } from '../worlds/symbol-context.ts';
import { sourceOf } from './stack.ts';

/** A program in the list of modules; its version says where its symbols hold. */
export function moduleOf(loaded: LoadedProgram): DebugProtocol.Module {
  const { program, when, isMissing } = loaded;
  const known = program.files.length > 0 ? 'Symbols and lines loaded' : 'Symbols loaded, no line information';
  return {
    id: program.name,
    name: program.name,
    path: program.path,
    symbolStatus: isMissing ? 'Not found in memory yet' : known,
    addressRange: hex((program.elf.segments[0]?.address ?? 0n) + program.offset),
    version: describeWhen(when),
  };
}

export const sourceRequests: HandlerTable = {
  loadedSources: handler({}, (session, _args, command) => {
    const files = session.target(command).programs.flatMap(({ program }) => program.files);
    return { sources: [...new Set(files)].map(sourceOf) };
  }),

  modules: handler(
    { startModule: 'number?', moduleCount: 'number?' },
    (session, { startModule = 0, moduleCount = 0 }, command) => {
      const all = session.target(command).programs.map(moduleOf);
      const end = moduleCount > 0 ? startModule + moduleCount : all.length;
      return { modules: all.slice(startModule, end), totalModules: all.length };
    },
  ),

  // Sources are files: nothing has a source reference.
  source: () => {
    throw errors.unknownSource();
  },
};
