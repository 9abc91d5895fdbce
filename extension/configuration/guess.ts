/** Launch configurations guessed from the images that lie in a folder. Pure. */

import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import type { ImageKind } from './image-kind.ts';

export interface FoundImage {
  /** As launch.json shall have it: with ${workspaceFolder}, or a whole path or URI. */
  readonly path: string;
  /** Relative to the folder, with slashes. */
  readonly name: string;
  readonly image: ImageKind;
}

export type GuessedConfiguration = {
  readonly type: 'vmxray';
  readonly request: 'launch';
  readonly name: string;
} & Pick<LaunchArguments, 'program' | 'modules' | 'guests' | 'stopOn'>;

const GUEST_NAME = /(guest|payload)[^/]*$/i;
const HYPERVISOR_NAME = /(vmm|hypervisor|kernel)[^/]*$/i;

/** Images that can boot, the most likely first: hypervisors' and kernels' names, then multiboot headers, then names. */
export function bootable(found: readonly FoundImage[]): FoundImage[] {
  return found
    .filter(({ image, name }) => image.kind === 'elf' && image.role === 'bare' && !isGuest(name))
    .sort((a, b) => rank(b) - rank(a) || a.name.localeCompare(b.name));
}

/** One configuration for each image that can boot, with the guests that lie in its folder or below. */
export function guessConfigurations(found: readonly FoundImage[]): GuessedConfiguration[] {
  const images = bootable(found);
  // Somebody who calls every image a guest still wants to boot one.
  const programs =
    images.length > 0 ? images : found.filter(({ image }) => image.kind === 'elf' && image.role === 'bare');
  return programs.map((program) => {
    const guests = found
      .filter((other) => other !== program && isGuest(other.name) && other.name.startsWith(folderOf(program.name)))
      .filter(({ image }) => image.kind === 'elf' && image.role !== 'object')
      .map((guest) => ({ name: stem(guest.name), program: guest.path }));
    return {
      type: 'vmxray',
      request: 'launch',
      name: `VMXray: ${program.name}`,
      program: program.path,
      // A hypervisor that a multiboot loader boots gets its guests from the loader.
      ...(guests.length > 0 && isMultiboot(program)
        ? { modules: guests.map((guest) => moduleFor(guest.program)) }
        : {}),
      ...(guests.length > 0 ? { guests } : {}),
      stopOn: 'entry',
    };
  });
}

const isMultiboot = ({ image }: Pick<FoundImage, 'image'>): boolean => image.kind === 'elf' && image.multiboot === 1;
const moduleFor = (path: string): string => (path.includes(' ') ? `"${path}"` : path);
const isGuest = (name: string): boolean => GUEST_NAME.test(name);

function rank({ name, image }: FoundImage): number {
  return (isMultiboot({ image }) ? 1 : 0) + (HYPERVISOR_NAME.test(name) ? 2 : 0);
}

const folderOf = (name: string): string => name.slice(0, name.lastIndexOf('/') + 1);
const stem = (name: string): string => name.slice(name.lastIndexOf('/') + 1).replace(/\.[^.]*$/, '');
