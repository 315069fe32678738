/** What every object backend has to do, whatever it keeps the objects in. */

import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ObjectBackend } from "../../../../../agent/stores/objects/backend/backend.ts";
import { ContentMismatch } from "../../../../../agent/stores/objects/backend/content-mismatch.ts";
import { compareKeys, keyFault } from "../../../../../agent/stores/objects/inventory/keys.ts";

const sha256 = (content: Buffer) => createHash("sha256").update(content).digest("hex");
const expected = (content: Buffer) => ({ bytes: content.length, sha256: sha256(content) });

/** `create` makes an empty one; `destroy` removes it. */
export function objectBackendContract(
  name: string,
  create: () => Promise<{ backend: ObjectBackend; destroy: () => Promise<void> }>,
): void {
  describe(`${name} keeps objects`, () => {
    let backend: ObjectBackend;
    let destroy: () => Promise<void>;
    beforeEach(async () => {
      ({ backend, destroy } = await create());
    });
    afterEach(() => destroy());

    const put = (key: string, content: Buffer) =>
      backend.put(key, expected(content), async (offset) => Readable.from([content.subarray(offset)]));
    const read = async (key: string, range?: { start: number; end?: number }) => {
      const found = await backend.openRead(key, range);
      if (found === null) return null;
      const chunks: Buffer[] = [];
      for await (const chunk of found.stream) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks);
    };
    const keys = async (options?: Parameters<ObjectBackend["list"]>[0]) => {
      const found: string[] = [];
      for await (const { key } of backend.list(options)) found.push(key);
      return found;
    };

    test("what was put is read, whole and by range", async () => {
      const content = randomBytes(700_000);
      const { bytes, version } = await put("a/b/c.bin", content);
      expect(bytes).toBe(content.length);
      expect(await backend.stat("a/b/c.bin")).toEqual({ bytes, version });
      expect((await read("a/b/c.bin"))?.equals(content)).toBe(true);
      expect((await read("a/b/c.bin", { start: 699_000 }))?.equals(content.subarray(699_000))).toBe(true);
      expect((await read("a/b/c.bin", { start: 10, end: 19 }))?.equals(content.subarray(10, 20))).toBe(true);
    });

    test("says where it is", () => {
      expect(backend.place).not.toBe("");
    });

    test("an empty object is an object", async () => {
      await put("empty", Buffer.alloc(0));
      expect(await read("empty")).toEqual(Buffer.alloc(0));
    });

    test("what is not there is null, and deleting it does nothing", async () => {
      await put("a/b", Buffer.from("1"));
      for (const key of ["nothing", "a", "a/b/c", "a/c"]) {
        expect(await backend.stat(key)).toBeNull();
        expect(await read(key)).toBeNull();
        await backend.delete(key);
      }
      expect(await keys()).toEqual(["a/b"]);
    });

    test("a replaced object has another version, a deleted one is gone", async () => {
      const first = await put("k", Buffer.from("one"));
      const second = await put("k", Buffer.from("two"));
      expect(second.version).not.toBe(first.version);
      await backend.delete("k");
      expect(await keys()).toEqual([]);
    });

    test("a key may become the folder of others and the other way round", async () => {
      await put("a", Buffer.from("1"));
      await backend.delete("a");
      await put("a/b/c", Buffer.from("2"));
      await backend.delete("a/b/c");
      await put("a", Buffer.from("3"));
      expect((await read("a"))?.toString()).toBe("3");
    });

    test("other bytes than announced leave what was there", async () => {
      await put("k", Buffer.from("good"));
      const wanted = expected(Buffer.from("good, but newer"));
      for (const bad of ["good, but w0rse", "good, but newer and longer"]) {
        const attempt = backend.put("k", wanted, async () => Readable.from([Buffer.from(bad)]));
        await expect(attempt).rejects.toBeInstanceOf(ContentMismatch);
      }
      expect((await read("k"))?.toString()).toBe("good");
      expect(await keys()).toEqual(["k"]);
    });

    test("an interrupted put goes on where it broke off, and damage in its first part is found", async () => {
      const content = randomBytes(300_000);
      const broken = async function* () {
        yield content.subarray(0, 100_000);
        throw new Error("cut off");
      };
      const interrupt = () => backend.put("big", expected(content), async () => Readable.from(broken()));
      await expect(interrupt()).rejects.toThrow("cut off");
      expect(await backend.stat("big")).toBeNull();
      expect(await keys()).toEqual([]);
      const offsets: number[] = [];
      await backend.put("big", expected(content), async (offset) => {
        offsets.push(offset);
        return Readable.from([content.subarray(offset)]);
      });
      expect(offsets).toEqual([100_000]);
      expect((await read("big"))?.equals(content)).toBe(true);
    });

    test("lists in the order of the keys' bytes, by prefix, and on from any key", async () => {
      const names = ["a", "a.b", "a/b", "a/b/c", "a-b", "é", "z/1", "z/10", "z/2", "😀", "～"].filter(
        (k) => k !== "a" && k !== "a/b",
      );
      for (const key of names) await put(key, Buffer.from(key));
      const all = await keys();
      expect(all).toEqual([...names].sort(compareKeys));
      expect(await keys({ prefix: "z/1" })).toEqual(["z/1", "z/10"]);
      for (const [index, key] of all.entries())
        expect(await keys({ after: key })).toEqual(all.slice(index + 1));
      expect(await keys({ after: "b" })).toEqual(all.filter((key) => compareKeys(key, "b") > 0));
    });

    // By name, since what is a key is asked of the code under test everywhere else.
    test.each(["..", "../x", "a/../../x", "a/.."])("refuses %j, which leads out or up", async (key) => {
      const refused = { code: "OBJECT_KEY_INVALID" };
      await expect(put(key, Buffer.from("1"))).rejects.toMatchObject(refused);
      await expect(backend.stat(key)).rejects.toMatchObject(refused);
      await expect(read(key)).rejects.toMatchObject(refused);
      await expect(backend.delete(key)).rejects.toMatchObject(refused);
    });

    test("refuses every text that is not a key, and takes every key", async () => {
      const segment = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 });
      const hostile = fc.oneof(
        fc.constantFrom(
          "",
          "/",
          "/etc/passwd",
          "..",
          "../x",
          "a/../../x",
          "a//b",
          "a/",
          "./a",
          "a/./b",
          "a\0b",
          "a\nb",
          ".tmp/x",
        ),
        fc.constantFrom(
          ".cleave-tmp-1",
          "a/.tmp/b",
          `${"x".repeat(256)}`,
          "y/".repeat(600),
          "\ud800",
          "a/.cleave-tmp-x/b",
        ),
        fc.array(segment, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/")),
        fc.string({ unit: "binary", maxLength: 30 }),
      );
      await fc.assert(
        fc.asyncProperty(hostile, async (key) => {
          const content = Buffer.from(key);
          if (keyFault(key) !== null) {
            const refused = { code: "OBJECT_KEY_INVALID" };
            await expect(put(key, content)).rejects.toMatchObject(refused);
            await expect(backend.stat(key)).rejects.toMatchObject(refused);
            await expect(read(key)).rejects.toMatchObject(refused);
            await expect(backend.delete(key)).rejects.toMatchObject(refused);
          } else {
            await put(key, content);
            expect((await read(key))?.equals(content)).toBe(true);
            expect(await keys()).toEqual([key]);
            await backend.delete(key);
          }
        }),
        { numRuns: 150 },
      );
    });
  });
}
