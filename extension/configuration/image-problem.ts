import type { ImageKind } from './image-kind.ts';

/** @returns why `name` cannot be booted and what to do, or undefined when it can. */
export function imageProblem(name: string, image: ImageKind): string | undefined {
  switch (image.kind) {
    case 'empty':
      return `${name} is empty. Build it again.`;
    case 'truncatedElf':
      return `${name} is an ELF file that ends too early: its headers lie beyond its end. Build or copy it again.`;
    case 'foreignElf':
      return `${name} is an ELF file for ${image.machine}. VMXray's machine is an x86-64: build it for x86-64 or i386.`;
    case 'text':
      return `${name} is a text file, not an image that can boot. Name the ELF or binary file that the build makes.`;
    case 'elf':
      if (image.role === 'object') return `${name} is an object file that is not linked yet. Name the linked ELF file.`;
      if (image.role === 'hosted') {
        return `${name} is a program for an operating system (it asks for a dynamic loader). VMXray boots bare images: link it statically, without a standard library.`;
      }
      return undefined;
    case 'flat':
      return undefined;
    default:
      return assertNever(image);
  }
}

function assertNever(value: never): never {
  throw new Error(`unexpected ${JSON.stringify(value)}`);
}
