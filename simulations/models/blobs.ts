/** Content-addressed blobs on the log's server: there, or for some time not reachable. */
import { digestOf } from "../../protocol/assignments.ts";
import { CleaveError } from "../../protocol/errors.ts";
import type { Digest } from "../../protocol/ids.ts";
import type { Blobs } from "../../protocol/ports/blobs.ts";
import type { Run } from "./host.ts";
import { LOG, type Network } from "./network.ts";

export class BlobServer {
  readonly content = new Map<Digest, Uint8Array>();
  unavailableUntil = 0;
}

export class BlobClient implements Blobs {
  readonly #server: BlobServer;
  readonly #network: Network;
  readonly #run: Run;

  constructor(server: BlobServer, network: Network, run: Run) {
    this.#server = server;
    this.#network = network;
    this.#run = run;
  }

  async put(bytes: Uint8Array): Promise<Digest> {
    await this.#reach();
    const digest = digestOf(bytes);
    this.#server.content.set(digest, bytes);
    return digest;
  }

  async get(digest: Digest): Promise<Uint8Array> {
    await this.#reach();
    const bytes = this.#server.content.get(digest);
    if (!bytes || digestOf(bytes) !== digest)
      throw new CleaveError("BLOB_CORRUPT", `there is no blob ${digest}`);
    return bytes;
  }

  async #reach(): Promise<void> {
    this.#network.note("blob");
    await this.#run.clock.sleep(this.#network.delayMs(this.#run.host.id, LOG));
    const { world, host } = this.#run;
    if (!this.#network.connected(host.id, LOG) || this.#server.unavailableUntil > world.now)
      throw new CleaveError("NATS_UNREACHABLE", "the blobs cannot be reached");
  }
}
