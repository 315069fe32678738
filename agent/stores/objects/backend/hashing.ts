/** The content digest of one object as it is on disk now. */
import { createHash } from "node:crypto";
import { CleaveError } from "../../../../protocol/errors.ts";
import { quoteKey } from "../inventory/keys.ts";
import type { ObjectBackend } from "./backend.ts";

export interface HashedObject {
  readonly bytes: number;
  readonly sha256: string;
  readonly version: string;
}

/**
 * Null when there is no such object. A change while it is read is not noticed here: the version is that of the
 * beginning, so whoever compares versions later sees it, and a writer announces it.
 * @throws CleaveError OBJECT_UNREADABLE.
 */
export async function hashObject(
  backend: ObjectBackend,
  key: string,
  onBytes?: (bytes: number) => Promise<void>,
): Promise<HashedObject | null> {
  const read = await backend.openRead(key);
  if (read === null) return null;
  const hash = createHash("sha256");
  let bytes = 0;
  const chunks = (read.stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await chunks.next().catch((error: Error) => {
        throw new CleaveError("OBJECT_UNREADABLE", `${quoteKey(key)}: ${error.message}`, { cause: error });
      });
      if (done === true) break;
      hash.update(value);
      bytes += value.length;
      if (onBytes) await onBytes(value.length);
    }
  } finally {
    read.stream.destroy();
  }
  return { bytes, sha256: hash.digest("hex"), version: read.version };
}
