/** What a scrub reads, and what it may take: the side of a store. */

export interface Reading {
  /** How the disk differs from what is believed, in words; null when it bears it out. */
  readonly why: string | null;
  /** The belief that was compared; null when the item was copied meanwhile, so that there is nothing to say. */
  readonly belief: object | null;
}

export interface Look {
  readonly version: string;
  readonly bytes: number;
  /** Of a large item that grows: what the store needs in order to read the next time only what was added. */
  readonly since?: { readonly content: string; readonly tips: Buffer };
}

/** What scrubs of one Pod's copies share, so that one begins where another one of the same items ended. */
export class ScrubMemory {
  /** Beliefs that the disk was found to bear out by this process. */
  readonly borneOut = new WeakSet<object>();
  /** By name, where a belief does not say it itself: how the item looked when it was read, and how large it was. */
  readonly looks = new Map<string, Look>();
}

/** What is read back, and what is done about damage. */
export interface Scrubbed {
  /** Items of the copy that are to be here, whether or not they are being copied now. */
  names(): Iterable<string>;
  /** How many these are, about: for people. */
  readonly size: number;
  /** Those that the copier may have changed since the last call; at first all. */
  changed(): Iterable<string>;
  /**
   * What the copier believes of the item: another object for another content. Null when it is not here or is being copied
   * now, so that there is nothing to compare.
   */
  belief(name: string): object | null;
  /** In the scope of evidence: read back before others. */
  isAssigned(name: string): boolean;
  /** Bytes that a reading costs, as far as they are known. */
  bytes(name: string): number;
  /** File times alone: false when it may be another now than when it was read last. @throws when nobody can say. */
  looksSame(name: string): Promise<boolean>;
  /** Reads the item back. `take` waits for the rate. @throws when it cannot be read now, though it may be sound. */
  read(name: string, signal: AbortSignal, take: (bytes: number) => Promise<void>): Promise<Reading>;
  /** Has it copied again. Until it was read back then, nothing is evidence. */
  damaged(name: string, why: string): void;
  /** It is not to be here any more. */
  isGone(name: string): boolean;
  /** The end of a pass: what else has to be looked at. */
  passed?(signal: AbortSignal): Promise<void>;
}

export interface Limits {
  readonly bytesPerSecond: number;
  readonly itemsPerSecond: number;
  readonly concurrency: number;
  /** Between two passes. */
  readonly pauseMs: number;
  /** Between two looks at the file times of everything. */
  readonly lookMs: number;
}
