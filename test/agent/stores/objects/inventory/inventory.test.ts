import { createHash } from "node:crypto";
import { appendFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { InventoryDigest } from "../../../../../agent/stores/common/verification/inventory-digest.ts";
import { Inventory } from "../../../../../agent/stores/objects/inventory/inventory.ts";

/** Few keys, so that the same one comes again. */
const key = fc.constantFrom("a", "b", "a/b", "ab", "a\u0000", "😀");
const change = fc.record({ key, value: fc.option(fc.constantFrom("", "1", "2", "b1"), { nil: null }) });

describe("the digest of an inventory", () => {
  test("depends on what is held and not on how it came to be", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
        const digest = new InventoryDigest();
        const held = new Map<string, string>();
        for (const { key, value } of changes) {
          if (value === null) {
            digest.delete(key);
            held.delete(key);
          } else {
            digest.set(key, value);
            held.set(key, value);
          }
        }
        const anew = new InventoryDigest();
        for (const [key, value] of [...held].reverse()) anew.set(key, value);
        expect(digest.root()).toBe(anew.root());
        expect(digest.size).toBe(held.size);
      }),
    );
  });

  test("differs for any two different inventories, also when key and value only meet elsewhere", () => {
    const content = fc.dictionary(fc.string(), fc.string(), { maxKeys: 5 });
    const rootOf = (entries: [string, string][]) => {
      const digest = new InventoryDigest();
      for (const [key, value] of entries) digest.set(key, value);
      return digest.root();
    };
    fc.assert(
      fc.property(content, content, (a, b) => {
        const same = JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort());
        expect(rootOf(Object.entries(a)) === rootOf(Object.entries(b))).toBe(same);
      }),
    );
    expect(rootOf([["a", "bc"]])).not.toBe(rootOf([["ab", "c"]]));
    expect(
      rootOf([
        ["a", "1"],
        ["b", "2"],
      ]),
    ).not.toBe(
      rootOf([
        ["a", "2"],
        ["b", "1"],
      ]),
    );
  });

  test("buckets narrow a difference down to keys", () => {
    const one = new InventoryDigest();
    const other = new InventoryDigest();
    for (let number = 0; number < 1_000; number++) {
      one.set(`key ${number}`, "same");
      other.set(`key ${number}`, number === 500 ? "other" : "same");
    }
    const differing = Array.from({ length: 256 }, (_, index) => index).filter(
      (index) => one.bucket(index) !== other.bucket(index),
    );
    expect(differing).toEqual([createHash("sha256").update("key 500").digest()[0]]);
    expect(one.keysOfBucket(differing[0] as number)).toContain("key 500");
  });
});

describe("the inventory", () => {
  let folder: string;
  let path: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "cleave-inventory-"));
    path = join(folder, "inventory.jsonl");
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const object = (content: string, version = content) => ({
    bytes: content.length,
    sha256: createHash("sha256").update(content).digest("hex"),
    version,
  });

  test("a reader that pages through changes ends with what is held, whatever page size and wherever it began", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(change, { maxLength: 15 }), { maxLength: 6 }),
        fc.integer({ min: 1, max: 7 }),
        async (rounds, limit) => {
          await rm(path, { force: true });
          const inventory = await Inventory.open(path);
          const reader = new Map<string, string>();
          let since = 0;
          const read = () => {
            for (;;) {
              const { changes, remaining } = inventory.changes(since, inventory.generation, limit);
              for (const change of changes) {
                expect(change.generation).toBeGreaterThan(since);
                since = change.generation;
                if (change.deleted) reader.delete(change.key);
                else reader.set(change.key, change.sha256);
              }
              if (remaining === 0) return;
            }
          };
          for (const round of rounds) {
            for (const { key, value } of round) {
              if (value === null) inventory.delete(key);
              else inventory.set(key, object(value));
            }
            read();
            expect(reader).toEqual(
              new Map([...inventory.keys()].map((key) => [key, inventory.get(key)?.sha256])),
            );
          }
          await inventory.saved();
          const again = await Inventory.open(path);
          expect(new Set(again.keys())).toEqual(new Set(inventory.keys()));
          expect(again.bytes).toBe(inventory.bytes);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("nothing after the asked-for generation is told", async () => {
    const inventory = await Inventory.open(path);
    inventory.set("a", object("1"));
    const final = inventory.generation;
    inventory.set("b", object("1"));
    inventory.set("a", object("2"));
    const { changes, remaining } = inventory.changes(0, final, 10);
    expect({ changes, remaining }).toEqual({ changes: [], remaining: 0 });
  });

  test("another version of the same content is no change, and another content of the same version is one", async () => {
    const inventory = await Inventory.open(path);
    inventory.set("a", object("1", "touched once"));
    const { generation } = inventory;
    inventory.set("a", object("1", "touched twice"));
    expect(inventory.generation).toBe(generation);
    inventory.set("a", object("2", "touched twice"));
    expect(inventory.generation).toBe(generation + 1);
    await inventory.saved();
    expect((await Inventory.open(path)).get("a")).toMatchObject(object("2", "touched twice"));
  });

  test("damaged lines cost nothing but their own entries", async () => {
    const inventory = await Inventory.open(path);
    inventory.set("a", object("1"));
    inventory.set("b", object("2"));
    await inventory.saved();
    const text = await readFile(path, "utf8");
    await writeFile(path, `${text.trimEnd().slice(0, -10)}\u0000\u0000`);
    appendFileSync(path, '\nnot json\n["c"]\n[1,2,3,4]\n["d","x","y","z"]\nnull\n');
    const again = await Inventory.open(path);
    expect([...again.keys()]).toEqual(["a"]);
    again.set("c", object("3"));
    await again.saved();
    expect([...(await Inventory.open(path)).keys()]).toEqual(["a", "c"]);
  });

  test("a scope's digest follows every change of its keys and of no others", async () => {
    const inventory = await Inventory.open(path);
    inventory.set("in/1", object("1"));
    const { digest, remove } = inventory.addScope((key) => key.startsWith("in/"));
    const before = digest.root();
    inventory.set("out/1", object("1"));
    expect(digest.root()).toBe(before);
    inventory.set("in/2", object("1"));
    expect(digest.size).toBe(2);
    inventory.delete("in/2");
    expect(digest.root()).toBe(before);
    remove();
    inventory.set("in/3", object("1"));
    expect(digest.root()).toBe(before);
  });
});
