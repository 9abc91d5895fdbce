/**
 * VMXray's own requests and events beside the Debug Adapter Protocol. The extension imports these types, and inline.ts.
 * Numbers that may exceed 2^53 travel as hexadecimal strings with 0x.
 */

import type { DebugProtocol } from '@vscode/debugprotocol';
import type { BootRequest } from '../sim-core/loaders/boot-request.ts';
import type { FileImage, WritableFile } from './symbols/file-image.ts';

export type Hex = string;

/** Id of the error that answers a change in the past: the editor asks, the same request again makes it. */
export const CHANGES_THE_PAST = 1402;

/** What a host posts to the adapter's worker (worker.ts). DAP messages travel as they are. */
export type ToWorker =
  | { type: 'dap'; message: DebugProtocol.ProtocolMessage }
  /** Answers to `readFile`: the bytes, or why there are none. */
  | { type: 'file'; id: number; bytes: Uint8Array }
  | { type: 'fileError'; id: number; message: string };

/** What the worker posts to its host. */
export type FromWorker =
  | { type: 'dap'; message: DebugProtocol.ProtocolMessage }
  | { type: 'readFile'; id: number; path: string };

/** How a host gives files to the adapter: Node's fs, or the editor's file system in a browser. */
export interface FileReader {
  readFile(path: string): Promise<Uint8Array>;
  /** The file to be read where it is needed; undefined where that is not possible, as with files of a browser. */
  openFile?(path: string): Promise<FileImage | undefined>;
  /** The file to be read and written; undefined where that is not possible. @throws when it cannot be opened so */
  openWritable?(path: string): Promise<WritableFile | undefined>;
  /**
   * Makes a file, or empties it, and gives what appends to it at once; undefined where that is not possible.
   * @throws when the file cannot be made
   */
  createFile?(path: string): Promise<((bytes: Uint8Array) => void) | undefined>;
}

/** Requests: name → [arguments, response body]. */
export interface CustomRequests {
  'vmxray/vmcs': [Record<string, never>, VmcsBody];
  'vmxray/setVmcsField': [{ name: string; value: string }, { value: Hex }];
  'vmxray/vmExits': [Record<string, never>, VmExitsBody];
  /** Replaces the set of exit reasons that stop (the tree's checkboxes); independent of setExceptionBreakpoints. */
  'vmxray/setVmExitStops': [{ reasons: number[] }, VmExitsBody];
  'vmxray/translate': [TranslateArguments, TranslateBody];
  /** Entries of one EPT (or paging) table that are not zero: the root when `table` is absent. */
  'vmxray/eptTable': [{ table?: Hex; level?: number; base?: Hex }, EptTableBody];
  'vmxray/tlb': [Record<string, never>, TlbBody];
  'vmxray/iommu': [Record<string, never>, IommuBody];
  /** Bytes for COM1, or for another console by the name that `vmxray/serialOutput` gives it. */
  'vmxray/serialInput': [{ data: string; console?: string }, Record<string, never>];
  /** Continue until the next VM exit or entry. */
  'vmxray/runTo': [{ threadId: number; event: 'vmExit' | 'vmEntry' }, Record<string, never>];
  /** Back to the last VM exit or entry before. */
  'vmxray/runBackTo': [{ threadId: number; event: 'vmExit' | 'vmEntry' }, Record<string, never>];
  /** To a place of the history: 'start', 'present', or instructions since boot with events behind a colon, as '1000:2'. */
  'vmxray/travel': [{ threadId: number; to: string }, Record<string, never>];
  /** To just before the last change of what an expression names, as 'u64(hpa:0x1000)', 'cr3' or 'vmcs.GUEST_RIP'. */
  'vmxray/lastChange': [{ threadId: number; expression: string }, Record<string, never>];
  /** VM exits by number, from `from` up to but without `to`; the last ones when absent. */
  'vmxray/timeline': [{ from?: number; to?: number }, TimelineBody];
  /** The run up to this place as a recording (`*.vmxtrace`). */
  'vmxray/recording': [Record<string, never>, { text: string }];
  /** The machine at this place as a snapshot (docs/snapshots.md): the file in Base64. */
  'vmxray/snapshot': [Record<string, never>, { data: string; instructions: number; hash: string }];
  /** Goes on from a snapshot of this program: the session's past is forgotten. */
  'vmxray/restoreSnapshot': [{ threadId: number; path: string }, Record<string, never>];
  /** In the past: makes this place the present. */
  'vmxray/forgetFuture': [Record<string, never>, Record<string, never>];
  'vmxray/checkVmEntry': [Record<string, never>, { ok: boolean; checks: CheckBody[] }];
}

/** Events: name → body. */
export interface CustomEvents {
  /** Bytes that the guest sent, as Latin-1 text: on COM1, or on the console that is named. */
  'vmxray/serialOutput': { data: string; console?: string };
  /**
   * The session is in the past, or has just left it; sent before `stopped`. `serialBytes`: how many bytes the guest has
   * sent at this place; what the client has got beyond was sent later.
   */
  'vmxray/timeTravel': {
    inPast: boolean;
    instructions: number;
    present: number;
    serialBytes: number;
    /** The same of other consoles, by name. */
    consoleBytes: Record<string, number>;
  };
}

/** Instructions count since boot; VM exits from 0. */
export interface TimelineBody {
  /** Of the history, of the machine, and the latest place that it has reached. */
  start: number;
  here: number;
  present: number;
  inPast: boolean;
  /** VM exits up to the present; the first ones may be known no more: those before number `first`. */
  total: number;
  first: number;
  /** Number of the first VM exit after this place. */
  hereExit: number;
  exits: {
    number: number;
    /** For `vmxray/travel`. */
    to: string;
    instructions: number;
    reason: number;
    name: string;
    processor: number;
    guestRip: Hex;
  }[];
}

export interface VmcsBody {
  /** Absent when there is no current VMCS. */
  address?: Hex;
  launchState?: 'clear' | 'launched';
  groups: VmcsGroup[];
}

export interface VmcsGroup {
  /** The manual's area: 'Guest state', 'Host state', 'VM-execution controls', … */
  name: string;
  fields: VmcsFieldBody[];
}

export interface VmcsBitBody {
  /** 'HLT exiting (7)'. */
  name: string;
  value: Hex;
  set: boolean;
  /** What a control does, in a sentence. */
  documentation?: string;
}

export interface VmcsFieldBody {
  /** As in the SDM's Appendix B in capitals, e.g. GUEST_RIP. */
  name: string;
  encoding: Hex;
  value: Hex;
  /** Width in bits: 16, 32, 64 (natural width is 64). */
  width: number;
  readOnly: boolean;
  /** Changed since the previous stop. */
  changed: boolean;
  /** The value in words where bits have names: 'CPUID', 'PE PG NE'. */
  text?: string;
  bits?: VmcsBitBody[];
  /** VM-entry checks that the field's value fails: told after a VM entry has failed or the checks were asked for. */
  failing?: string[];
  /** What the field is, in a sentence. */
  documentation?: string;
  /** Manual section. */
  section: string;
}

export interface VmExitsBody {
  total: number;
  entries: number;
  /** `cycles`: from these VM exits to the VM entries that followed, together. */
  reasons: { reason: number; name: string; count: number; cycles?: number; stop: boolean }[];
  /** What the TLB counts (sim-core/mmu/tlb.ts). */
  tlb?: Readonly<Record<string, number>>;
  last?: {
    reason: number;
    name: string;
    guestRip: Hex;
    qualification: Hex;
    decoded: string[];
    cause: string;
    why: string[];
  };
}

export interface TranslateArguments {
  address: Hex;
  /**
   * 'linear' of the current world, 'guestLinear' of the current VMCS's guest, 'guestPhysical' of it, or 'iova' of the
   * device with the requester id `requester`.
   */
  space: 'linear' | 'guestLinear' | 'guestPhysical' | 'iova';
  requester?: number;
  access?: 'read' | 'write' | 'execute';
}

export interface TranslateBody {
  steps: { table: string; level: 'linear' | 'ept'; address: Hex; value: Hex; decoded: string; problem?: string }[];
  guestPhysical?: Hex;
  physical?: Hex;
  pageSize?: number;
  fault?: string;
}

export interface EptTableBody {
  /** Host-physical address of the table, or absent when EPT is off. */
  table?: Hex;
  level: number;
  entries: {
    index: number;
    value: Hex;
    base: Hex;
    size: Hex;
    leaf: boolean;
    rights: string;
    memoryType?: string;
    target: Hex;
  }[];
}

export interface TlbBody {
  entries: {
    kind: 'linear' | 'guest-physical' | 'combined';
    vpid: number;
    pcid: number;
    eptRoot: Hex;
    global: boolean;
    page: Hex;
    pageSize: number;
    target: Hex;
    rights: string;
    /** Set when the tables in memory no longer bear the entry out. */
    stale?: StaleBody;
  }[];
}

export interface StaleBody {
  /** First address whose translation differs. */
  address: Hex;
  /** What differs, in words. */
  difference: string;
  /** Which write made it stale, and the first access since: absent where tables are not watched. */
  story?: string[];
  /** What would remove the entry, the narrowest first. */
  invalidations: string[];
}

export interface IommuBody {
  /** False in a machine without an IOMMU; the lists are empty then. */
  present: boolean;
  /** In words: what is on, and the tables. */
  state: { name: string; value: string; tooltip?: string }[];
  registers: { name: string; address: Hex; value: Hex; text: string }[];
  /** Each function on bus 0, with what the tables say of it now. */
  devices: {
    /** 'bus:device.function' */
    name: string;
    requester: number;
    ids: string;
    /** Its domain, or why there is none. */
    summary: string;
    /** Root entry, context entry and so on, a line each. */
    steps: string[];
    /** Second-stage pages of its domain, at most IOMMU_PAGES of them. */
    pages: { address: Hex; target: Hex; size: Hex; rights: string }[];
    /** Set when what the IOMMU remembers of it differs from the tables. */
    stale?: string;
  }[];
  iotlb: { domain: number; page: Hex; size: Hex; target: Hex; rights: string; stale?: string }[];
  /** Interrupt remapping table entries that are remembered. */
  interrupts: { index: number; text: string }[];
  faults: { name: string; kind: string; address: Hex; text: string }[];
}

export interface CheckBody {
  id: string;
  explanation: string;
  section: string;
  fields: { name: string; value: Hex; text?: string }[];
  /** Changes of one field any of which would satisfy the check. */
  remedies: { field: string; value: Hex; text: string }[];
}

/** Where a program's symbols hold: everything that is given must be so. `loadAddress` may be 'auto'. */
export interface When {
  mode?: 'vmm' | 'guest';
  vpid?: number;
  /** Bits 51:12 count. */
  eptp?: Hex;
  /** Bits 51:12 count. */
  cr3?: Hex;
  /** Linear addresses from `from` up to but without `to`. */
  from?: Hex;
  to?: Hex;
}

/** launch request arguments beyond DAP's. Paths are absolute. package.json's schema mirrors this. */
export interface LaunchArguments {
  program: string;
  /** The kernel's command line. */
  args?: string;
  /** How the program is booted. Default 'auto': by the image's own marks; a flat image has none and must be named. */
  format?: NonNullable<BootRequest['format']>;
  /** Boot modules (multiboot), 'path arguments…'. */
  modules?: string[];
  /** Programs that run as guests: their symbols are used in VMX non-root operation. */
  guests?: { name: string; program: string; loadAddress?: string; when?: When }[];
  /** Further files with symbols of the boot image: ELF files, or lists of symbols such as a kernel's System.map. */
  symbols?: (
    | string
    | {
        path: string;
        name?: string;
        loadAddress?: string;
        /** Of an object file, as a Linux kernel's module: where its sections are, by name. */
        sections?: Record<string, Hex>;
        when?: When;
      }
  )[];
  machine?: {
    memory?: string;
    cpus?: number;
    cpuModel?: string;
    vmx?: boolean;
    /** Cycles that a processor runs before the next one's turn. */
    quantum?: number;
    /** What the real-time clock shows at power-up: a date with time, as 2026-01-01T00:00:00Z. */
    startTime?: string;
    /** PCI devices, as in 'edu' or 'virtio-blk,file=/disk.img' (sim-core/platform/device-text.ts). */
    devices?: string[];
    /** VT-d between the devices and memory. */
    iommu?: boolean;
  };
  /**
   * Where to stop first: the program's entry (default), the guest's first instruction behind the first VM entry, or the
   * VMM's first one behind the first VM exit.
   */
  stopOn?: 'entry' | 'vmlaunch' | 'firstExit' | 'none';
  /** Names of exit reasons (vmx/exit-reasons.ts), as in EPT_VIOLATION or 'EPT violation', or '*'. */
  breakOnVmExit?: string[];
  /**
   * Where COM2 and virtio consoles lead, by name: 'COM2', 'virtio-console', 'virtio-console 2' and so on. 'terminal'
   * (default), 'none', or the path of a file for what the guest says.
   */
  consoles?: Record<string, string>;
  /** Stop the session after this many instructions. */
  maxInstructions?: number;
  /** Path prefix substitutions for source files: from → to. */
  sourceMap?: Record<string, string>;
  noDebug?: boolean;
  /** Time travel: checkpoints take up to `maxMemoryMB` MiB (default 256). */
  history?: { enabled?: boolean; maxMemoryMB?: number };
  /** A file that `vmxray run --record` has written, of this program: its run is repeated. */
  replay?: string;
  /**
   * Whether the session stays, for looking and for going back, when the machine ends by itself: `onFailure` (default) when
   * the guest reports an error to the debug-exit port or resets the machine.
   */
  stopAtEnd?: 'always' | 'onFailure' | 'never';
  /** A snapshot of this program (docs/snapshots.md): the machine goes on from there, with its memory and devices. */
  snapshot?: string;
}
