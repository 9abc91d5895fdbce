import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Assembles NASM source to a flat binary. @throws with nasm's messages when it does not assemble. */
export function assemble(source: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-nasm-'));
  try {
    writeFileSync(join(folder, 'code.asm'), source);
    execFileSync('nasm', ['-f', 'bin', '-o', join(folder, 'code.bin'), join(folder, 'code.asm')], { stdio: 'pipe' });
    return new Uint8Array(readFileSync(join(folder, 'code.bin')));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
