/** Whoever deletes a repository, hooks first and for long, finds nothing there that came back; whoever lost a hook gets it. */
import { execFile } from "node:child_process";
import { readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FolderBackend } from "../../../../../agent/stores/git/backend/folder/folder.ts";
import { GitConfig } from "../../../../../agent/stores/git/config.ts";
import { ReturningHooks } from "../../../../../agent/stores/git/fence/returning-hooks.ts";
import { systemClock } from "../../../../../protocol/adapters/system-clock.ts";
import { eventually } from "../../../../support/eventually.ts";
import { GitPod, git, mustGit } from "../../../../support/git/pod.ts";
import { GitSplit } from "../../../../support/git/split.ts";

const PATH = "red/one.git";
let remove: () => Promise<void>;
afterEach(() => remove());

async function withObjects(pod: GitPod): Promise<string> {
  await pod.repository(PATH);
  const folder = pod.path(PATH);
  for (const text of ["a", "b", "c", "d"])
    await mustGit(["-C", folder, "hash-object", "-w", "--stdin"], { input: text });
  return folder;
}

describe("one that is taken apart", () => {
  let pod: GitPod;
  let backend: FolderBackend;
  beforeEach(async () => {
    pod = await GitPod.create();
    remove = () => pod.remove();
    const config = GitConfig.parse({ root: pod.root });
    const stateDirectory = join(pod.folder, "state", "git");
    backend = new FolderBackend({ config, control: pod.control, stateDirectory, clock: systemClock });
    await backend.prepareHook();
  });

  it("gets nothing between any two steps, and can be removed to the end", async () => {
    const folder = await withObjects(pod);
    await backend.installHook(PATH);
    const returning = new ReturningHooks(backend);
    await rm(join(folder, "hooks"), { recursive: true });
    await returning.note(PATH);
    const objects = (await readdir(join(folder, "objects"))).map((name) => join("objects", name));
    expect(objects.length).toBeGreaterThan(5);
    for (const name of [...objects, "objects", "branches", "description", "HEAD", "info", "config", "refs"]) {
      await rm(join(folder, name), { recursive: true, force: true });
      expect(await returning.putBack(PATH)).toBe(false);
    }
    await rmdir(folder);
  });

  it("gets its hook when nothing went since the last look, whatever came", async () => {
    const folder = await withObjects(pod);
    const returning = new ReturningHooks(backend);
    await returning.note(PATH);
    await mustGit(["-C", folder, "hash-object", "-w", "--stdin"], { input: "another" });
    expect(await returning.putBack(PATH)).toBe(true);
    expect(await backend.isHookInForce(PATH)).toBe(true);
    expect(returning.paths).toEqual([]);
  });
});

it("a hook that was taken away comes back", async () => {
  const pods = await GitSplit.create({ sweepSeconds: 0.1, scanSeconds: 0.1 });
  remove = () => pods.remove();
  const folder = await withObjects(pods.source.pod);
  await pods.seeded();
  await rm(join(folder, "hooks"), { recursive: true });
  await eventually(async () => {
    expect(await readdir(join(folder, "hooks")).catch(() => [])).toContain("reference-transaction");
  });
});

it("one that is gone right before the fence is there when it stands", async () => {
  const pods = await GitSplit.create({ sweepSeconds: 3_600, scanSeconds: 3_600 });
  remove = () => pods.remove();
  const folder = await withObjects(pods.source.pod);
  await pods.seeded();
  await rm(join(folder, "hooks"), { recursive: true });
  await pods.reach(pods.source, "fence", "fenced", 1);
  const refused = await git(["-C", folder, "update-ref", "refs/heads/late", "refs/heads/main"]);
  expect(refused.stderr).toContain("read-only for a moment");
  await promisify(execFile)("rm", ["-rf", folder]);
});
