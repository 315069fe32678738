/** What tells that a repository is to be read again. */
import { stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { fingerprint } from "../../../../../../agent/stores/git/backend/folder/fingerprint.ts";
import { GitPod } from "../../../../../support/git/pod.ts";

const PATH = "red/one.git";
let pod: GitPod;
beforeEach(async () => {
  pod = await GitPod.create();
  await pod.repository(PATH);
});
afterEach(() => pod.remove());

it.each(["refs/heads/main", "description", "packed-refs"])(
  "%s with another content of the same size, and its old time of modification",
  async (name) => {
    const path = join(pod.path(PATH), name);
    await writeFile(path, "before\n");
    const { atime, mtime } = await stat(path);
    // Of whole milliseconds, so that it can be set exactly.
    await utimes(path, atime, mtime);
    const before = await fingerprint(pod.path(PATH), 0);
    await writeFile(path, "behind\n");
    await utimes(path, atime, mtime);
    const after = await fingerprint(pod.path(PATH), 0);
    expect(after.digest).not.toBe(before.digest);
  },
);
