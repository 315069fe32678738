/** What differs between two Pods' objects at a fence is named by key, with both values, from what the source really has. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { FolderBackend } from "../../../../../agent/stores/objects/backend/folder/folder.ts";
import { hashObject } from "../../../../../agent/stores/objects/backend/hashing.ts";
import { Inventory } from "../../../../../agent/stores/objects/inventory/inventory.ts";
import { PeerClient } from "../../../../../agent/stores/objects/replication/source-feed.ts";
import { describeObjectDifferences } from "../../../../../agent/stores/objects/verification/differences.ts";
import { MIGRATION, ObjectPod, SOURCE, TARGET } from "../../../../support/objects/pods.ts";

let folder: string;
let source: ObjectPod;
let client: PeerClient;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-differs-"));
  source = new ObjectPod(SOURCE, folder);
  await source.start();
  for (let number = 10; number < 30; number++)
    await source.write(`uploads/red/${number}`, `as it is ${number}`);
  await source.write("uploads/blue/1", "a neighbour's");
  await source.reach("prepare");
  await source.reach("fence", { epoch: 1 });
  client = new PeerClient(source.peer()[SOURCE] as never);
});
afterAll(async () => {
  await client.close();
  await source.kill();
  await rm(folder, { recursive: true });
});

/** The same as the source has, but for what `change` does. */
async function differences(change: (own: Inventory) => void): Promise<string> {
  const own = await Inventory.open(join(await mkdtemp(join(folder, "own-")), "inventory.jsonl"));
  const backend = new FolderBackend(source.root);
  for (const key of Object.keys(await source.contents())) {
    const object = await hashObject(backend, key);
    if (object !== null) own.set(key, object);
  }
  change(own);
  const inScope = (key: string) => key.startsWith("uploads/red/");
  const of = { migrationId: MIGRATION, sourcePodId: SOURCE, podId: TARGET, client, inventory: own, inScope };
  return describeObjectDifferences(of, AbortSignal.timeout(10_000));
}

it("one that is missing, one that is other, and one that only the target has; no neighbour's", async () => {
  const text = await differences((own) => {
    own.delete("uploads/red/10");
    const other = own.get("uploads/red/12");
    own.set("uploads/red/11", other as never);
    own.set("uploads/red/more", { bytes: 3, sha256: "ab".repeat(32), version: "1" });
    own.delete("uploads/blue/1");
  });
  const [missing, another, more, ...rest] = text.split("; ");
  expect(missing).toMatch(/^uploads\/red\/10: pod-0 has 11 bytes, SHA-256 [0-9a-f]{16}…, pod-100 has none$/);
  expect(another).toMatch(
    /^uploads\/red\/11: pod-0 has 11 bytes, SHA-256 ([0-9a-f]{16})…, pod-100 has 11 bytes, SHA-256 (?!\1)/,
  );
  expect(more).toBe("uploads/red/more: pod-0 has none, pod-100 has 3 bytes, SHA-256 abababababababab…");
  expect(rest).toEqual([]);
});

it("the first ten, and how many more; and where none differs, what may be the reason", async () => {
  const text = await differences((own) => {
    for (const key of [...own.keys()]) if (key.startsWith("uploads/red/")) own.delete(key);
  });
  expect(text.split("; ")).toHaveLength(11);
  expect(text).toMatch(/; and 10 more$/);
  expect(await differences(() => undefined)).toContain("same ownership rules");
});
