/** Blobs kept beside the checkpoint, so that a restart without NATS still knows every assignment it ever folded. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { digestOf } from "../assignments.ts";
import type { Digest } from "../ids.ts";
import type { Blobs } from "../ports/blobs.ts";
import { replaceDurably } from "./durable-files.ts";

export class CachedBlobs implements Blobs {
  readonly #blobs: Blobs;
  readonly #directory: string;

  /** `directory` is made when it is missing. Its files are named by digest and checked by it. */
  constructor(blobs: Blobs, directory: string) {
    this.#blobs = blobs;
    this.#directory = directory;
  }

  put(bytes: Uint8Array): Promise<Digest> {
    return this.#blobs.put(bytes);
  }

  async get(digest: Digest): Promise<Uint8Array> {
    const path = join(this.#directory, digest);
    const kept = await readFile(path).catch(() => null);
    if (kept !== null && digestOf(kept) === digest) return kept;
    const bytes = await this.#blobs.get(digest);
    await mkdir(this.#directory, { recursive: true });
    await replaceDurably(path, Buffer.from(bytes));
    return bytes;
  }
}
