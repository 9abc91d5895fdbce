/** What a CD-ROM drive answers about itself and its disc: data of MMC and SPC commands. Numbers are big-endian. */

export const BLOCK = 2048;
/** Blocks of a CD of 80 minutes: what is larger is a DVD. */
const CD_BLOCKS = 80 * 60 * 75;
const PROFILE = { cdRom: 0x0008, dvdRom: 0x0010 } as const;
const LEAD_OUT = 0xaa;
/** Q subchannel with the position, and a data track that may be copied. */
const DATA_TRACK = 0x14;
const LEAD_OUT_CONTROL = 0x16;
const FRAMES_PER_SECOND = 75;
/** The two seconds in front of block 0. */
const LEAD_IN_FRAMES = 2 * FRAMES_PER_SECOND;

const be16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value)];
const text = (characters: string, length: number): number[] =>
  Array.from({ length }, (_, i) => (i < characters.length ? characters.charCodeAt(i) : 0x20));

/** SPC INQUIRY: a removable CD-ROM device with ATAPI's format of data. */
export const inquiry = (): number[] => [
  ...[0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0],
  ...text('VMXRAY', 8),
  ...text('CD-ROM', 16),
  ...text('1.0', 4),
];

/** SPC REQUEST SENSE, fixed format. */
export const senseData = (key: number, code: number): number[] => [
  ...[0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0],
  ...be16(code),
  ...[0, 0, 0, 0],
];

/** MMC READ CAPACITY. */
export const capacity = (blocks: number): number[] => [...be32(blocks - 1), ...be32(BLOCK)];

/** A block's number, or the minute, second and frame at which it passes. */
function position(block: number, byTime: boolean): number[] {
  if (!byTime) return be32(block);
  const frames = block + LEAD_IN_FRAMES;
  const seconds = Math.floor(frames / FRAMES_PER_SECOND);
  return [0, Math.floor(seconds / 60), seconds % 60, frames % FRAMES_PER_SECOND];
}

/**
 * MMC READ TOC/PMA/ATIP of a disc with one session of one data track.
 * @param format 0: tracks from `first` on; 1: where the last session begins
 * @returns undefined for what such a disc cannot answer
 */
export function tableOfContents(
  format: number,
  first: number,
  byTime: boolean,
  blocks: number,
): readonly number[] | undefined {
  const track = [0, DATA_TRACK, 1, 0, ...position(0, byTime)];
  if (format === 1) return [...be16(10), 1, 1, ...track];
  if (format !== 0 || (first > 1 && first !== LEAD_OUT)) return undefined;
  const leadOut = [0, LEAD_OUT_CONTROL, LEAD_OUT, 0, ...position(blocks, byTime)];
  const tracks = first <= 1 ? [...track, ...leadOut] : leadOut;
  return [...be16(2 + tracks.length), 1, 1, ...tracks];
}

/** Read error recovery, and what the drive can do: it reads what is in it, and neither plays nor ejects. */
const PAGES: ReadonlyMap<number, readonly number[]> = new Map([
  [0x01, [0x01, 6, 0, 5, 0, 0, 0, 0]],
  [0x2a, [0x2a, 18, 0, 0, 0x70, 0x60, 0x21, 0, ...be16(706), ...be16(0), ...be16(512), ...be16(706), 0, 0, 0, 0]],
]);
const ALL_PAGES = 0x3f;

/** MMC MODE SENSE(10). @returns undefined for a page that is not there */
export function modePages(page: number): readonly number[] | undefined {
  const pages = page === ALL_PAGES ? [...PAGES.values()].flat() : PAGES.get(page);
  return pages && [...be16(6 + pages.length), 0x01, 0, 0, 0, 0, 0, ...pages];
}

/** MMC GET EVENT STATUS NOTIFICATION: of the classes that are asked for there is only news of the medium: none. */
export function eventStatus(classes: number): number[] {
  const medium = 1 << 4;
  return classes & medium ? [...be16(6), 0x04, medium, 0, 0x02, 0, 0] : [...be16(2), 0x80, medium];
}

/**
 * MMC GET CONFIGURATION.
 * @param type 0: all features; 1: those that are current; 2: one
 * @param first feature number
 */
export function configuration(type: number, first: number, blocks: number): number[] {
  const current = blocks > CD_BLOCKS ? PROFILE.dvdRom : PROFILE.cdRom;
  const profile = (number: number): number[] => [...be16(number), Number(number === current), 0];
  const features: readonly (readonly [number, readonly number[]])[] = [
    [0x0000, [0x03, 8, ...profile(PROFILE.dvdRom), ...profile(PROFILE.cdRom)]],
    // Core: ATAPI. Removable medium: a tray, locked. Random access in blocks of 2 KiB.
    [0x0001, [0x0b, 8, ...be32(2), 1, 0, 0, 0]],
    [0x0003, [0x03, 4, 0x21, 0, 0, 0]],
    [0x0010, [0x01, 8, ...be32(BLOCK), ...be16(1), 0, 0]],
  ];
  const wanted = features.filter(([number]) => (type === 2 ? number === first : number >= first));
  const bytes = wanted.flatMap(([number, rest]) => [...be16(number), ...rest]);
  return [...be32(4 + bytes.length), 0, 0, ...be16(current), ...bytes];
}

/** MMC READ DISC INFORMATION: finalized, one session of one track. */
export const discInformation = (): number[] => [...be16(32), 0x0e, 1, 1, 1, 1, 0x20, ...Array<number>(26).fill(0)];
