/** What a device is to the platform. */

/** Answers I/O ports. Values are unsigned. */
export interface PortDevice {
  readonly name: string;
  read(port: number, size: 1 | 2 | 4): number;
  write(port: number, size: 1 | 2 | 4, value: number): void;
}

/** Does something by itself when time passes. Times are absolute cycles (`Clock.cycles()`). */
export interface TimedDevice {
  /** The cycle at which `service` must be called; Infinity when nothing will happen by itself. */
  nextDeadline(): number;
  /** Does everything that is due at `now` or before. */
  service(now: number): void;
}

/** Keeps everything that changes in plain objects, so that checkpoints can copy it. */
export interface Snapshotted<T> {
  /** A copy that later changes of the device do not touch. */
  snapshot(): T;
  restore(saved: T): void;
}

/** An interrupt request line of a device. Calling it with the level that it has changes nothing. */
export type Line = (asserted: boolean) => void;
