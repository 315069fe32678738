import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FolderBackend } from "../../../../../agent/stores/git/backend/folder/folder.ts";
import { GitConfig } from "../../../../../agent/stores/git/config.ts";
import { systemClock } from "../../../../../protocol/adapters/system-clock.ts";
import type { MigrationId, OrganizationId } from "../../../../../protocol/ids.ts";
import { eventually } from "../../../../support/eventually.ts";
import { GitPod, git, migrationId, mustGit, pod0, pod100 } from "../../../../support/git/pod.ts";
import { removeLive } from "../../../../support/remove-live.ts";
import { repositoryBackendContract } from "./contract.ts";
import type { Place } from "./world.ts";

function backendOf(pod: GitPod, program = "git"): FolderBackend {
  return new FolderBackend({
    config: GitConfig.parse({ root: pod.root, program, headLock: "always" }),
    control: pod.control,
    stateDirectory: join(pod.folder, "state", "git"),
    clock: systemClock,
  });
}

async function folderPlace(pod: GitPod): Promise<Place> {
  await pod.fence.initialise(pod0, pod0);
  await pod.setPhase("source");
  const assignments = new Map([["red" as OrganizationId, pod100]]);
  await pod.fence.stageRoutes({ migrationId, sourcePodId: pod0, assignments });
  return {
    backend: backendOf(pod),
    again: () => backendOf(pod),
    repository: (path) => pod.repository(path, "red"),
    duplicate: async (from, to) => {
      await cp(pod.path(from), pod.path(to), { recursive: true });
      await pod.fence.setOwner(to, { kind: "organization", organizationId: "red" as OrganizationId });
    },
    remove: (path) => removeLive(pod.path(path)),
    git: (path, ...args) => git(args, { cwd: pod.path(path) }),
    file: async (path, name, content) => {
      const file = join(pod.path(path), name);
      await mkdir(dirname(file), { recursive: true });
      await rm(file, { force: true });
      if (content !== null) await writeFile(file, content, { mode: 0o755 });
    },
    litter: async () => {
      await symlink("/tmp", pod.path("link"));
      await symlink("/tmp", pod.path("linked.git"));
      await mkdir(pod.path("two\nlines.git"));
      await mkdir(Buffer.from(`${pod.root}/latin-\xe9`, "latin1"));
      await mustGit(["init", "-q", "--bare", pod.path("unnamed")]);
      await pod.repository("@pools/p.git");
      await writeFile(pod.path("a file.git"), "");
      const problems = [
        "link is a symbolic link",
        "linked.git is",
        '"two\\nlines.git"',
        "not UTF-8",
        "unnamed is",
      ];
      return { problems, ignored: "@pools/p.git" };
    },
    setPhase: (phase) => pod.setPhase(phase),
  };
}

repositoryBackendContract("a folder", async () => {
  const pods = [await GitPod.create(), await GitPod.create()] as const;
  return {
    source: await folderPlace(pods[0]),
    target: await folderPlace(pods[1]),
    destroy: async () => {
      for (const pod of pods) await pod.remove();
    },
  };
});

describe("a folder", () => {
  let pod: GitPod;
  beforeEach(async () => {
    pod = await GitPod.create();
  });
  afterEach(() => pod.remove());

  it("is made where there is none, if the one above allows it", async () => {
    await removeLive(pod.root);
    const backend = backendOf(pod);
    expect(await backend.checkTarget({ mustBeEmpty: true })).toEqual([]);
    await expect(backend.list()).rejects.toMatchObject({ code: "ROOT_UNREADABLE" });
    await backend.create();
    expect(await backend.list()).toEqual({ repositories: [], problems: [] });
    expect(await backend.firstEntry()).toBeNull();
    await removeLive(pod.folder);
    expect(await backend.checkTarget({ mustBeEmpty: true })).toMatchObject([{ code: "FILE_PERMISSION" }]);
  });

  it("without a git that is new enough is no place for repositories", async () => {
    const old = join(pod.folder, "old-git");
    await writeFile(old, "#!/bin/sh\necho git version 2.30.9\n", { mode: 0o755 });
    expect(await backendOf(pod, old).checkTarget({ mustBeEmpty: true })).toMatchObject([
      { code: "CONFIG_INVALID", message: "git 2.30 is older than 2.31" },
    ]);
    const none = join(pod.folder, "no-git");
    expect(await backendOf(pod, none).checkTarget({ mustBeEmpty: true })).toMatchObject([
      { code: "CONFIG_INVALID", message: expect.stringContaining("cannot be started") },
    ]);
  });

  it("nothing is installed or removed through a link", async () => {
    const outside = await mkdtemp(join(tmpdir(), "cleave-outside-"));
    try {
      await pod.repository("red/one.git");
      await removeLive(join(pod.path("red/one.git"), "hooks"));
      await symlink(outside, join(pod.path("red/one.git"), "hooks"));
      await symlink(outside, pod.path("linked"));
      await mkdir(join(outside, "two.git"));
      const backend = backendOf(pod);
      await pod.fence.initialise(pod0, pod0);
      await expect(backend.installHook("red/one.git")).rejects.toMatchObject({ code: "INTERNAL" });
      await backend.prepareHook();
      await expect(backend.installHook("red/one.git")).rejects.toMatchObject({
        code: "REPOSITORY_HOOK_DISABLED",
      });
      await expect(backend.hide("linked/two.git", "split-1" as MigrationId)).rejects.toMatchObject({
        code: "REPOSITORY_UNREADABLE",
      });
    } finally {
      await removeLive(outside);
    }
  });

  it("is as full as before after something was discarded", async () => {
    await pod.repository("red/one.git");
    await backendOf(pod).discard("red/one.git", "copy-1");
    expect(await readdir(pod.root, { recursive: true })).toEqual(["+cleave", "red"]);
  });

  it("leaves no git behind that nobody reads from", async () => {
    const slow = join(pod.folder, "slow-git");
    const pidFile = join(pod.folder, "pid");
    await writeFile(slow, `#!/bin/sh\necho $$ > '${pidFile}'\nexec sleep 60\n`, { mode: 0o755 });
    await pod.repository("red/one.git");
    const body = backendOf(pod, slow).uploadPack("red/one.git", "", new PassThrough());
    let pid = 0;
    await eventually(async () => {
      pid = Number(await readFile(pidFile, "utf8"));
      expect(pid).toBeGreaterThan(0);
    });
    body.destroy();
    await eventually(() => expect(() => process.kill(pid, 0)).toThrow());
  });
});
