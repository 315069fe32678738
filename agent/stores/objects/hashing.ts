/** The content digest of one object as it is on disk now. */
import { createHash } from "node:crypto";
import type { ObjectBackend } from "./backend.ts";

export interface HashedObject {
  readonly bytes: number;
  readonly sha256: string;
  readonly version: string;
}

/**
 * Null when there is no such object. When the object is replaced meanwhile the newest content counts.
 * @throws CleaveError OBJECT_UNREADABLE.
 */
export async function hashObject(
  backend: ObjectBackend,
  key: string,
  onBytes?: (bytes: number) => Promise<void>,
): Promise<HashedObject | null> {
  for (let attempt = 0; ; attempt++) {
    const read = await backend.openRead(key);
    if (read === null) return null;
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of read.stream as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
      if (onBytes) await onBytes(chunk.length);
    }
    const after = await backend.stat(key);
    // A file that is written in place all the time is taken as it was last seen; its next change is noticed again.
    if (after?.version === read.version || attempt === 3)
      return { bytes, sha256: hash.digest("hex"), version: read.version };
  }
}
