import { spawnSync } from 'node:child_process';

/** Whether a program is installed here: one that answers `--version`. */
export const isThere = (program: string): boolean => spawnSync(program, ['--version']).status === 0;
