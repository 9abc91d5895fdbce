/** Every way in which an image can be wrong: a sentence, and what to do about it. */
const ADVICE = {
  'empty-file': 'Build the program again; the file has no contents.',
  'compressed-image': 'Unpack it and give the program inside.',
  'boot-protocol': 'Give a Linux bzImage, a multiboot or PVH kernel, or an ELF file.',
  'firmware-boot':
    'Start it by firmware: vmxray run --disk FILE, or --cdrom FILE for an ISO image; in a launch configuration "program": ' +
    '".../bios-256k.bin", "format": "firmware" and the device virtio-blk,file=FILE or ide-cd,file=FILE (Debian has the ' +
    'firmware in the package seabios, in /usr/share/seabios); or give the kernel inside.',
  'not-an-elf':
    'Give a Linux bzImage, a multiboot or PVH kernel, or a statically linked x86 ELF file; for raw machine code say --format flat ' +
    'or "format": "flat" (it is loaded at 1 MiB and starts in 32-bit protected mode).',
  'truncated-header': 'The file is incomplete or damaged: build or copy it again.',
  'malformed-header': 'The file is damaged, or its linker wrote something that no loader accepts: link it again.',
  'wrong-byte-order': 'Build for little-endian x86.',
  'wrong-machine': 'Build for x86 (i386 or x86-64), for instance with gcc -m64 or nasm -f elf64.',
  'relocatable-object': 'Link it: ld -T your-script.ld -o kernel.elf this-file.o',
  'shared-object': 'Link at fixed addresses: gcc -static -no-pie -nostdlib, or ld without -pie and -shared.',
  'core-dump': 'Give the program, not a core dump of it.',
  'dynamic-program': 'There is no operating system in the machine: build freestanding with -static -nostdlib.',
  'no-segments': 'Link it with program headers (ld writes them unless its script says otherwise).',
  'truncated-segment': 'The file is incomplete: build or copy it again.',
  'segment-outside-ram': 'Give the machine more memory (--memory), or link the program lower.',
  'entry-outside': 'Name an entry point inside the program: ENTRY(symbol) in the linker script.',
  'unsupported-request': 'The image asks its boot loader for something that this one does not do.',
  'wrong-format': 'Leave the format to be found out, or give an image of that format.',
  'modules-too-large': 'Give the machine more memory (--memory), or fewer modules.',
} as const;

export type ImageErrorId = keyof typeof ADVICE;

/** An image that cannot be loaded. `message` is complete: which file, where in it, what is wrong, what to do. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly id: ImageErrorId;
  readonly what: string;
  /** The place in the image: 'program header 2', 'offset 0x40'; empty when it is the whole file. */
  readonly where: string;
  readonly advice: string;

  constructor(id: ImageErrorId, image: string, where: string, what: string) {
    const advice = ADVICE[id];
    super(`${image}: ${where ? `${where}: ` : ''}${what}. ${advice}`);
    this.id = id;
    this.what = what;
    this.where = where;
    this.advice = advice;
  }
}
