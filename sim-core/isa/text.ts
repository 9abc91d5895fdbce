import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from 'iced-x86';

/** An instruction in Intel syntax; undefined when the bytes are none. @param address its offset in the code segment */
export function instructionText(bytes: Uint8Array, bitness: 16 | 32 | 64, address: bigint): string | undefined {
  if (bytes.length === 0) return undefined;
  const decoder = new Decoder(bitness, bytes, DecoderOptions.None);
  decoder.ip = address;
  const instruction = decoder.decode();
  const formatter = new Formatter(FormatterSyntax.Intel);
  try {
    return instruction.isInvalid ? undefined : formatter.format(instruction);
  } finally {
    for (const owner of [formatter, instruction, decoder]) owner.free();
  }
}
