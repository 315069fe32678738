import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FolderBackend } from "../../../../../agent/stores/objects/backend/folder/folder.ts";
import { objectBackendContract } from "./contract.ts";

objectBackendContract("the file system", async () => {
  const folder = await mkdtemp(join(tmpdir(), "cleave-backend-"));
  return {
    backend: new FolderBackend(folder),
    destroy: () => rm(folder, { recursive: true, force: true }),
  };
});

describe("the file system never leads out of the root", () => {
  let folder: string;
  let root: string;
  let backend: FolderBackend;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "cleave-backend-"));
    root = join(folder, "root");
    await mkdir(root);
    await mkdir(join(folder, "outside"));
    await writeFile(join(folder, "outside", "secret"), "secret");
    backend = new FolderBackend(root);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  const putEmpty = (key: string) =>
    backend.put(key, { bytes: 0, sha256: emptyDigest }, async () => Readable.from([]));

  test("through a linked folder", async () => {
    await symlink(join(folder, "outside"), join(root, "link"));
    const refused = { code: "OBJECT_KEY_INVALID" };
    await expect(backend.openRead("link/secret")).rejects.toMatchObject(refused);
    await expect(backend.stat("link/secret")).rejects.toMatchObject(refused);
    await expect(backend.delete("link/secret")).rejects.toMatchObject(refused);
    await expect(putEmpty("link/new")).rejects.toMatchObject(refused);
    expect(await readdir(join(folder, "outside"))).toEqual(["secret"]);
  });

  test("through a linked file; a pipe does not hold it up", async () => {
    await symlink(join(folder, "outside", "secret"), join(root, "link"));
    execFileSync("mkfifo", [join(root, "pipe")]);
    for (const key of ["link", "pipe"]) {
      await expect(backend.openRead(key)).rejects.toMatchObject({ code: "OBJECT_UNREADABLE" });
      await expect(backend.stat(key)).rejects.toMatchObject({ code: "OBJECT_UNREADABLE" });
    }
    await putEmpty("link");
    expect((await backend.stat("link"))?.bytes).toBe(0);
    expect(await readdir(join(folder, "outside"))).toEqual(["secret"]);
  });

  test("listing names what is no object, and temporary files apart", async () => {
    await symlink(join(folder, "outside"), join(root, "link"));
    await writeFile(join(root, "bad\nname"), "");
    await writeFile(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), "");
    await writeFile(join(root, ".cleave-tmp-1"), "");
    await mkdir(join(root, ".tmp"));
    await writeFile(join(root, ".tmp", "x"), "");
    await writeFile(join(root, "fine"), "1");
    const unlistable: string[] = [];
    const temporary: string[] = [];
    const keys: string[] = [];
    const options = {
      onUnlistable: (name: string) => unlistable.push(name),
      onTemporary: (name: string) => temporary.push(name),
    };
    for await (const { key } of backend.list(options)) keys.push(key);
    expect(keys).toEqual(["fine"]);
    expect(unlistable).toHaveLength(3);
    expect(temporary).toEqual([".cleave-tmp-1"]);
    await backend.deleteTemporary(".cleave-tmp-1");
    await expect(backend.deleteTemporary("fine")).rejects.toMatchObject({ code: "OBJECT_KEY_INVALID" });
    await expect(backend.deleteTemporary("../outside/.tmp/../secret")).rejects.toMatchObject({
      code: "OBJECT_KEY_INVALID",
    });
  });
});
