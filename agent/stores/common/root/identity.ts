/** What the place of a store is known by, whatever the store keeps its items in. Part of every backend's port. */

export interface RootIdentity {
  /** Random, and kept in the place itself; null when it carries none. */
  readonly id: string | null;
  /** What else tells it from another place, by name; what they mean is the backend's business. */
  readonly traits: Readonly<Record<string, string>>;
}

/** What a place is on. */
export interface Medium {
  /** For people: the type of a file system, say. */
  readonly type: string;
  /** Nobody but this machine writes there, so that its watches and listings tell everything. */
  readonly isLocal: boolean;
}

export interface Space {
  /** Bytes that may still be written. */
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface IdentifiedRoot {
  /** Where it is, for people, as the operator configured it: a folder's path, a bucket's address. */
  readonly place: string;
  /** As it is now: nothing is remembered. @throws CleaveError ROOT_UNREADABLE when it is not there or cannot be read. */
  identify(): Promise<RootIdentity>;
  /** In words for a person, how `found` is another place than `known`, or not all of it; null when it is the same. */
  differenceOf(known: RootIdentity, found: RootIdentity): string | null;
  /**
   * Gives the place this id, durably, in place of any other. It is never an item, and never carried to another place.
   * @throws CleaveError FILE_PERMISSION, DISK_FULL.
   */
  mark(id: string): Promise<void>;
  /** Takes the id away. Does nothing when there is none. */
  unmark(): Promise<void>;
  /** Null when nobody can say. */
  medium(): Promise<Medium | null>;
  /**
   * For a place that is not made yet, of where it will be made. Null where nothing is bounded. @throws CleaveError
   * FILE_PERMISSION when this process could not write there.
   */
  space(): Promise<Space | null>;
}
