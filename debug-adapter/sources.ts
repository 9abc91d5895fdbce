import { errors } from './errors.ts';
import { type HandlerTable, handler } from './handler.ts';
import { hex } from './memory-reference.ts';
import { sourceOf } from './stack.ts';

export const sourceRequests: HandlerTable = {
  loadedSources: handler({}, (session, _args, command) => {
    const files = session.target(command).programs.flatMap(({ program }) => program.files);
    return { sources: [...new Set(files)].map(sourceOf) };
  }),

  modules: handler(
    { startModule: 'number?', moduleCount: 'number?' },
    (session, { startModule = 0, moduleCount = 0 }, command) => {
      const all = session.target(command).programs.map(({ program, world }) => ({
        id: program.name,
        name: program.name,
        path: program.path,
        symbolStatus: program.files.length > 0 ? 'Symbols and lines loaded' : 'Symbols loaded, no line information',
        addressRange: hex((program.elf.segments[0]?.address ?? 0n) + program.offset),
        version: world === 'guest' ? 'guest' : 'VMM',
      }));
      const end = moduleCount > 0 ? startModule + moduleCount : all.length;
      return { modules: all.slice(startModule, end), totalModules: all.length };
    },
  ),

  // Sources are files: nothing has a source reference.
  source: () => {
    throw errors.unknownSource();
  },
};
