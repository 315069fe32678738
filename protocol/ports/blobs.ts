import type { Digest } from "../ids.ts";

/** Content-addressed, immutable content that is too large for the log. */
export interface Blobs {
  put(bytes: Uint8Array): Promise<Digest>;
  /** @throws CleaveError BLOB_CORRUPT when it is missing or has another digest. */
  get(digest: Digest): Promise<Uint8Array>;
}
