/** Where objects are kept. Cleave needs no more than this of it; a folder is the first one. */
import type { Readable } from "node:stream";
import type { IdentifiedRoot } from "../../common/root/identity.ts";

export interface ObjectStat {
  readonly bytes: number;
  /** Opaque; another one when the content may be another. */
  readonly version: string;
}

export interface ListedObject extends ObjectStat {
  readonly key: string;
}

export interface Access {
  /** Permission bits, and those above them. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Of an object, and of the folders above it, from the root on. */
export interface ObjectAccess extends Access {
  readonly folders: readonly Access[];
}

export interface ObjectRead extends ObjectStat {
  /** Absent where a backend has no such thing. */
  readonly access?: ObjectAccess;
  /** The whole object or the asked-for range. Has to be consumed or destroyed. */
  readonly stream: Readable;
}

export interface ListOptions {
  /** Only keys that begin with it. */
  readonly prefix?: string;
  /** Only keys after it; a listing is resumed with the last key seen. */
  readonly after?: string;
  /** Something below the root that is no object and may hide some (link, bad name, folder without access). */
  readonly onUnlistable?: (name: string, reason: string) => void;
  /** A temporary file of a writer or of an unfinished copy, as a path below the root. */
  readonly onTemporary?: (name: string) => void;
  /** A folder of such files (`.tmp`); what is in it is not listed. */
  readonly onTemporaryFolder?: (name: string) => void;
}

export interface ExpectedContent {
  readonly bytes: number;
  /** In lower-case hexadecimal. */
  readonly sha256: string;
  /** Asked when bytes come: whom it is open to on its source, and so at most here; null when that is not known. */
  readonly access?: () => ObjectAccess | null;
}

/** Every method that takes a key throws CleaveError OBJECT_KEY_INVALID when it is none or leaves the store. */
export interface ObjectBackend extends IdentifiedRoot {
  /**
   * In the order of the keys' UTF-8 bytes. Objects that come or go meanwhile may be missing or listed. What is not listed
   * is gone only if the place was whole before and after (`identify`).
   */
  list(options?: ListOptions): AsyncIterable<ListedObject>;
  /** Null when there is none. @throws CleaveError OBJECT_UNREADABLE when it is not a readable object. */
  stat(key: string): Promise<ObjectStat | null>;
  /** `range`: first and last byte, inclusive. @throws CleaveError OBJECT_UNREADABLE. */
  openRead(
    key: string,
    range?: { readonly start: number; readonly end?: number },
  ): Promise<ObjectRead | null>;
  /**
   * Replaces the object at once and durably when the content has the expected digest, else leaves what was there.
   * `fetch` is asked for the bytes from an offset on: not 0 when an earlier, interrupted call kept a part of the
   * same content.
   * @throws ContentMismatch (`content-mismatch.ts`); CleaveError DISK_FULL, DISK_FAILED or FILE_PERMISSION; whatever `fetch` or its stream throws.
   */
  put(
    key: string,
    expected: ExpectedContent,
    fetch: (offset: number) => Promise<Readable>,
  ): Promise<ObjectStat>;
  /** Does nothing when there is none. */
  delete(key: string): Promise<void>;
  /** Removes a temporary file that `list` named. */
  deleteTemporary(name: string): Promise<void>;
  /** @throws CleaveError FILE_PERMISSION when the root is not there or does not allow it. */
  checkAccess(mode: "read" | "write"): Promise<void>;
}
