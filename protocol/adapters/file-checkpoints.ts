/** Checkpoints in one file, replaced by rename and synced; a checksum finds truncated ones. */
import { readFile } from "node:fs/promises";
import { decode, encode } from "@msgpack/msgpack";
import { digestOf } from "../assignments.ts";
import type { ClusterState } from "../cluster.ts";
import type { Checkpoints } from "../ports/checkpoints.ts";
import { replaceDurably } from "./durable-files.ts";

/** Grows with every change of ClusterState's shape; a checkpoint of another version is ignored and the log is read. */
const VERSION = 5;

export class FileCheckpoints implements Checkpoints {
  readonly #path: string;
  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<ClusterState | null> {
    try {
      const outer = decode(await readFile(this.#path)) as {
        version: number;
        digest: string;
        state: Uint8Array;
      };
      if (outer.version !== VERSION || digestOf(outer.state) !== outer.digest) return null;
      return decode(outer.state) as ClusterState;
    } catch {
      // Missing, truncated or unreadable: the log has it all.
      return null;
    }
  }

  async save(state: ClusterState): Promise<void> {
    const bytes = encode(state);
    await replaceDurably(
      this.#path,
      Buffer.from(encode({ version: VERSION, digest: digestOf(bytes), state: bytes })),
    );
  }
}
