import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silentLogger } from "../../protocol/adapters/logger.ts";
import { BLOB_BUCKET, NatsBlobs } from "../../protocol/adapters/nats-blobs.ts";
import { NatsLink } from "../../protocol/adapters/nats-connection.ts";
import { systemClock } from "../../protocol/adapters/system-clock.ts";
import { digestOf } from "../../protocol/assignments.ts";
import type { Blobs } from "../../protocol/ports/blobs.ts";
import { eventually } from "../support/eventually.ts";
import type { NatsServer } from "../support/nats.ts";
import { natsBackends } from "../support/nats-backends.ts";

interface BlobsWorld {
  makeBlobs(): Promise<Blobs>;
  /** Stores other content under a digest's name. */
  corrupt(digest: string, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export function blobsContract(name: string, makeWorld: () => Promise<BlobsWorld>): void {
  describe(`blobs: ${name}`, () => {
    let world: BlobsWorld;
    beforeEach(async () => {
      world = await makeWorld();
    });
    afterEach(() => world.close());

    it.each([0, 1, 1_000, 128 * 1024, 3_000_000])(
      "gives back the %i bytes that it was given",
      async (size) => {
        const bytes = Buffer.alloc(size, "cleave ");
        const [a, b] = [await world.makeBlobs(), await world.makeBlobs()];
        const digest = await a.put(bytes);
        expect(digest).toBe(digestOf(bytes));
        expect(Buffer.compare(await b.get(digest), bytes)).toBe(0);
      },
    );

    it("takes the same content twice, also at the same time and while it is read", async () => {
      const bytes = Buffer.alloc(2_000_000, "same ");
      const many = await Promise.all([world.makeBlobs(), world.makeBlobs(), world.makeBlobs()]);
      const digests = await Promise.all(many.map((blobs) => blobs.put(bytes)));
      expect(new Set(digests).size).toBe(1);
      const [first, second] = many as [Blobs, Blobs, Blobs];
      const [again, read] = await Promise.all([first.put(bytes), second.get(digestOf(bytes))]);
      expect(again).toBe(digestOf(bytes));
      expect(Buffer.compare(read, bytes)).toBe(0);
    });

    it("throws BLOB_CORRUPT for what is missing", async () => {
      const blobs = await world.makeBlobs();
      await expect(blobs.get(digestOf(Buffer.from("missing")))).rejects.toMatchObject({
        code: "BLOB_CORRUPT",
      });
    });

    it("throws BLOB_CORRUPT for content of another digest, and a new put repairs it", async () => {
      const blobs = await world.makeBlobs();
      const bytes = Buffer.from("right");
      const digest = digestOf(bytes);
      await world.corrupt(digest, Buffer.from("wrong"));
      await expect(blobs.get(digest)).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
      expect(await blobs.put(bytes)).toBe(digest);
      expect(Buffer.compare(await blobs.get(digest), bytes)).toBe(0);
    });
  });
}

for (const backend of await natsBackends()) {
  const title = backend.skipped ? `${backend.name} (skipped: ${backend.skipped})` : backend.name;
  describe.skipIf(backend.skipped !== null)(title, () => {
    let server: NatsServer;
    const links: NatsLink[] = [];
    const open = () => {
      const link = new NatsLink(server.config, systemClock, silentLogger);
      links.push(link);
      return link;
    };
    const down = async () => {
      await Promise.all(links.splice(0).map((link) => link.close()));
      await server.stop();
    };

    blobsContract("JetStream object store", async () => {
      server = await backend.start();
      return {
        makeBlobs: async () => new NatsBlobs(open(), 1),
        corrupt: async (digest, bytes) => {
          const connection = await open().ready();
          const store = await connection.jetstream().views.os(BLOB_BUCKET);
          await store.putBlob({ name: digest }, bytes);
        },
        close: down,
      };
    });

    it("throws BLOB_CORRUPT when a part of the content was lost", async () => {
      server = await backend.start();
      try {
        const blobs = new NatsBlobs(open(), 1);
        const digest = await blobs.put(Buffer.alloc(500_000, "x"));
        const manager = await (await open().ready()).jetstreamManager();
        await manager.streams.deleteMessage(`OBJ_${BLOB_BUCKET}`, 2);
        await expect(blobs.get(digest)).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
        await manager.streams.purge(`OBJ_${BLOB_BUCKET}`, { filter: `$O.${BLOB_BUCKET}.C.>` });
        await expect(blobs.get(digest)).rejects.toMatchObject({ code: "BLOB_CORRUPT" });
      } finally {
        await down();
      }
    });

    it("throws NATS_UNREACHABLE, not BLOB_CORRUPT, while the server is away; content survives its crash", async () => {
      server = await backend.start();
      try {
        const link = open();
        const blobs = new NatsBlobs(link, 1);
        const digest = await blobs.put(Buffer.from("kept"));
        await server.kill();
        await eventually(() => expect(link.connected()).toBe(false));
        await expect(blobs.get(digest)).rejects.toMatchObject({ code: "NATS_UNREACHABLE" });
        await server.start();
        await eventually(async () => expect(Buffer.from(await blobs.get(digest)).toString()).toBe("kept"));
      } finally {
        await down();
      }
    });
  });
}
