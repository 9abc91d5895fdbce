/** What is asked of a loader, and what it answers. */

export interface BootModule {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** The module's command line (multiboot). */
  readonly commandLine: string;
}

export const IMAGE_FORMATS = [
  'multiboot1',
  'multiboot2',
  'pvh',
  'bzimage',
  'elf64',
  'elf32',
  'flat',
  'firmware',
] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

export interface BootRequest {
  /** For messages; also the first word of the command line that the image receives, as QEMU passes it. */
  readonly name: string;
  readonly image: Uint8Array;
  readonly commandLine: string;
  /** A Linux kernel takes one, as its initrd. */
  readonly modules: readonly BootModule[];
  /** Default 'auto': by the image's own marks. A flat image has none and must be named. */
  readonly format?: 'auto' | ImageFormat;
}

/** Bytes of an image and where they go. */
export interface ImageSegment {
  readonly physical: number;
  /** Offset and length in the file. */
  readonly fileOffset: number;
  readonly fileSize: number;
  /** Bytes in memory; those after `fileSize` are zero. */
  readonly memorySize: number;
}

export interface LoadedImage {
  readonly format: ImageFormat;
  /** Physical (and, at entry, linear) address of the first instruction. */
  readonly entry: number;
  readonly segments: readonly ImageSegment[];
}
