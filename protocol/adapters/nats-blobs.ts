/** Content-addressed blobs in a JetStream object store; the name is the SHA-256 of the content. */
import { NatsError, type ObjectStore, StorageType } from "nats";
import { digestOf } from "../assignments.ts";
import { CleaveError } from "../errors.ts";
import type { Digest } from "../ids.ts";
import type { Blobs } from "../ports/blobs.ts";
import type { NatsLink } from "./nats-connection.ts";

export const BLOB_BUCKET = "CLEAVE_BLOBS";

const WRONG_LAST_SEQUENCE = 10071;
/** A store that has lost a chunk answers with silence. */
const CHUNK_MS = 5_000;

export class NatsBlobs implements Blobs {
  readonly #link: NatsLink;
  readonly #replicas: number;
  #store: ObjectStore | null = null;

  /** `replicas` of the bucket, when it is created. */
  constructor(link: NatsLink, replicas: number) {
    this.#link = link;
    this.#replicas = replicas;
  }

  /** Never replaces a good blob: that would take the content from under another process that is reading it. */
  async put(bytes: Uint8Array): Promise<Digest> {
    const digest = digestOf(bytes);
    return await this.#answered(`storing blob ${digest}`, async () => {
      const store = await this.#opened();
      const existing = await store.info(digest);
      if (existing && (await this.#read(store, digest).then(isRight(digest), () => false))) return digest;
      try {
        await store.putBlob({ name: digest }, bytes, { previousRevision: existing?.revision ?? 0 });
      } catch (error) {
        // Another process stored the same content at the same time.
        if (!(error instanceof NatsError && error.api_error?.err_code === WRONG_LAST_SEQUENCE)) throw error;
        await this.get(digest);
      }
      return digest;
    });
  }

  async get(digest: Digest): Promise<Uint8Array> {
    return await this.#answered(`reading blob ${digest}`, async () => {
      const bytes = await this.#read(await this.#opened(), digest);
      if (isRight(digest)(bytes)) return bytes;
      throw new CleaveError("BLOB_CORRUPT", `blob ${digest} has the content of ${digestOf(bytes)}`);
    });
  }

  async #read(store: ObjectStore, digest: Digest): Promise<Uint8Array> {
    const found = await store.get(digest);
    if (found === null) throw new CleaveError("BLOB_CORRUPT", `blob ${digest} is missing`);
    // The reader below sees the same error.
    found.error.catch(() => undefined);
    const reader = found.data.getReader();
    const chunks: Uint8Array[] = [];
    try {
      for (;;) {
        const { done, value } = await within(reader.read(), digest);
        if (done) return Buffer.concat(chunks);
        chunks.push(value);
      }
    } catch (error) {
      void reader.cancel().catch(() => undefined);
      if (error instanceof NatsError || error instanceof CleaveError) throw error;
      throw new CleaveError("BLOB_CORRUPT", `blob ${digest}: ${messageOf(error)}`, { cause: error });
    }
  }

  async #opened(): Promise<ObjectStore> {
    if (this.#store) return this.#store;
    const connection = await this.#link.ready();
    const options = {
      storage: StorageType.File,
      replicas: this.#replicas,
      description: "Cleave: large content",
    };
    this.#store = await connection.jetstream({ checkAPI: false }).views.os(BLOB_BUCKET, options);
    return this.#store;
  }

  /** A server that is away is not a corrupt blob: the first passes by itself. */
  async #answered<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      await this.#link.ready();
      if (!this.#link.connected()) throw new Error("NATS is not connected");
      return await work();
    } catch (error) {
      if (this.#link.connected() && error instanceof CleaveError) throw error;
      throw new CleaveError("NATS_UNREACHABLE", `${what}: ${messageOf(error)}`, { cause: error });
    }
  }
}

const isRight = (digest: Digest) => (bytes: Uint8Array) => digestOf(bytes) === digest;

async function within<T>(read: Promise<T>, digest: Digest): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const missing = new CleaveError("BLOB_CORRUPT", `a part of blob ${digest} did not arrive`);
    timer = setTimeout(() => reject(missing), CHUNK_MS);
  });
  try {
    return await Promise.race([read, late]);
  } finally {
    clearTimeout(timer);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
