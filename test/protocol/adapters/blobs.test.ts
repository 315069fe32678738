import { describe, expect, it } from "vitest";
import { silentLogger } from "../../../protocol/adapters/logger.ts";
import { BLOB_BUCKET, NatsBlobs } from "../../../protocol/adapters/nats-blobs.ts";
import { NatsLink } from "../../../protocol/adapters/nats-connection.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { eventually } from "../../support/eventually.ts";
import { natsBackends } from "../../support/nats/backends.ts";
import type { NatsServer } from "../../support/nats/nats.ts";
import { blobsContract } from "./blobs-contract.ts";

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
