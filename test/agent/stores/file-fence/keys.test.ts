/** One rule for writers and agent: what a writer may announce is carried as it was announced; the rest is refused. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FileFence } from "../../../../agent/stores/file-fence/file-fence.ts";
import { withWriteIntent } from "../../../../agent/stores/file-fence/write-intent.ts";
import { FolderBackend } from "../../../../agent/stores/objects/backend/folder/folder.ts";
import { hashObject } from "../../../../agent/stores/objects/backend/hashing.ts";
import { systemClock as clock } from "../../../../protocol/adapters/system-clock.ts";
import { pod0 } from "../../../support/file-fence/file-fence.ts";

let folder: string;
let control: string;
let fence: FileFence;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-keys-"));
  control = join(folder, "control");
  fence = new FileFence({ directory: control, clock });
  await fence.initialise(pod0, pod0);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const KEYS: readonly [key: string, rule: RegExp | "carried"][] = [
  ["uploads/red/a", "carried"],
  ["uploads/red/ü (NFC: \u00fc, NFD: u\u0308)", "carried"],
  ["uploads/red/A", "carried"],
  ["uploads/red/trailing dots...", "carried"],
  ["uploads/red/trailing space ", "carried"],
  ["uploads/red/back\\slash", "carried"],
  ["uploads/red/...", "carried"],
  ["uploads/red/%2e%2e", "carried"],
  ["uploads/red/\u2028 line \ufffd separator \u0085", "carried"],
  ["uploads/red/.tmp2", "carried"],
  ["uploads/red/x.tmp", "carried"],
  ["uploads/red/.hidden", "carried"],
  ["uploads/red/-rf", "carried"],
  ["uploads/red/😀?#&*", "carried"],
  [`uploads/red/${"x".repeat(255)}`, "carried"],
  [`${"x/".repeat(500)}${"x".repeat(24)}`, "carried"],
  ["", /empty/],
  ["/uploads/red/a", /absolute/],
  ["uploads//a", /two in a row/],
  ["uploads/a/", /ends with a slash/],
  ["./a", /`\.` or `\.\.`/],
  ["x/../a", /`\.` or `\.\.`/],
  ["uploads/..", /`\.` or `\.\.`/],
  [".tmp/a", /`\.tmp`/],
  ["uploads/.tmp/a", /`\.tmp`/],
  ["uploads/red/.tmp", /`\.tmp`/],
  ["uploads/.cleave-tmp-1/a", /`\.cleave`/],
  ["uploads/.cleave-tmp-1", /`\.cleave`/],
  [".cleave-root", /`\.cleave`/],
  ["uploads/.cleave-root", /`\.cleave`/],
  ["uploads/.cleave", /`\.cleave`/],
  ["lost+found/a", /file system's own/],
  [".snapshot/a", /file system's own/],
  ["uploads/lost+found/a", "carried"],
  ["uploads/a\u0000b", /control/],
  ["uploads/a\nb", /control/],
  ["uploads/a\u007fb", /control/],
  ["uploads/\ud800", /Unicode/],
  [`uploads/${"ü".repeat(128)}`, /255 bytes/],
  [`${"x/".repeat(512)}x`, /1024 bytes/],
];

test.each(KEYS)("%j", async (key, rule) => {
  const source = join(folder, "source");
  const write = () =>
    withWriteIntent({ control, store: "objects", key, organizationId: null }, async () => {
      await mkdir(dirname(join(source, key)), { recursive: true });
      await writeFile(join(source, key), key);
    });
  if (rule !== "carried") {
    await expect(write()).rejects.toMatchObject({ code: "OBJECT_KEY_INVALID" });
    await expect(write()).rejects.toThrow(rule);
    expect(await fence.takeDirty("objects")).toEqual([]);
    return;
  }
  await write();
  const [announced] = await fence.takeDirty("objects");
  expect(announced?.key).toBe(key);
  await fence.acknowledgeDirty("objects", announced?.id ?? "");
  // As the agent finds it, and as a target has it.
  const backend = new FolderBackend(source);
  const listed: string[] = [];
  const refused: string[] = [];
  for await (const found of backend.list({
    onUnlistable: (name) => refused.push(name),
    onTemporary: (name) => refused.push(name),
  }))
    listed.push(found.key);
  expect(listed).toContain(key);
  expect(refused).toEqual([]);
  const object = await hashObject(backend, key);
  const target = new FolderBackend(join(folder, "target"));
  await mkdir(join(folder, "target"), { recursive: true });
  await target.put(key, { bytes: object?.bytes ?? 0, sha256: object?.sha256 ?? "" }, async () => {
    const read = await backend.openRead(key);
    if (read === null) throw new Error("it is gone");
    return read.stream;
  });
  expect(await readFile(join(folder, "target", key), "utf8")).toBe(key);
});

test.each([
  ["red.git", null],
  ["@hashed/aa/bb/red two.git", null],
  ["./red.git", /`\.` or `\.\.`/],
  ["a//red.git", /two slashes/],
  ["red.git/", /`\.git`/],
  ["red", /`\.git`/],
  ["red.git/objects.git", /another repository/],
  ["red\\.git", /backslash/],
  ["+cleave/red.git", /Cleave/],
  ["lost+found/red.git", /volume's own/],
])("a repository's path %j", async (key, rule) => {
  const write = withWriteIntent({ control, store: "git", key, organizationId: null }, async () => 1);
  if (rule === null) {
    expect(await write).toBe(1);
    return;
  }
  await expect(write).rejects.toMatchObject({ code: "OBJECT_KEY_INVALID" });
  await expect(write).rejects.toThrow(rule);
});
