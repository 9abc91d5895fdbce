/** What the client and the server agree on beside the Language Server Protocol. */

/** Languages whose documents are x86 assembly: our own id and those of other extensions. */
export const ASSEMBLY_LANGUAGES = ['vmxray-asm', 'asm', 'nasm', 'gas', 'asm-intel-x86-generic'];
/** Only VMCS encodings are explained there, and only when `vmxray.languageServer.encodingsInC` is set. */
export const C_LANGUAGES = ['c', 'cpp'];
export const ASSEMBLY_GLOB = '**/*.{asm,nasm,s,S,inc}';

/** Requests of the server: it reads no files itself, so that it works the same in a browser. */
export const METHODS = { files: 'vmxray/assemblyFiles', read: 'vmxray/readTextFile' } as const;

/** Answer to `files`: the workspace's assembly files. */
export interface FilesAnswer {
  uris: string[];
}
/** Answer to `read`, whose parameter is `{ uri }`. */
export interface TextAnswer {
  text: string;
}
