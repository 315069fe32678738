/** What every store of blobs has to do: the real one and the simulator's model run the same tests. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { digestOf } from "../../../protocol/assignments.ts";
import type { Blobs } from "../../../protocol/ports/blobs.ts";

export interface BlobsWorld {
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
