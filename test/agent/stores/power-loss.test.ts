/** What a store says that it has is on the disk: the power goes, and what was not synced is gone. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FileFence } from "../../../agent/stores/file-fence/file-fence.ts";
import { readPhase } from "../../../agent/stores/file-fence/verdict.ts";
import { FolderBackend } from "../../../agent/stores/objects/backend/folder/folder.ts";
import { hashObject } from "../../../agent/stores/objects/backend/hashing.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import type { PodId } from "../../../protocol/ids.ts";
import { eventually } from "../../support/eventually.ts";
import { git, migrationId, mustGit, pod0, pod100 } from "../../support/git/pod.ts";
import { GitSplit } from "../../support/git/split.ts";
import { canMount, Disk } from "../../support/on-a-disk.ts";

describe.skipIf(!canMount())("after a power loss", () => {
  let disk: Disk;
  beforeEach(() => {
    disk = new Disk();
  });
  afterEach(() => disk.remove());

  it("the fence's files say what they said", async () => {
    const directory = join(disk.path, "control");
    const fence = new FileFence({ directory, clock: systemClock });
    await fence.initialise(pod0, pod0);
    const phases = { [pod100]: "source" } as Record<PodId, "source" | "fenced">;
    await fence.setShares(migrationId, pod0, phases);
    await fence.stageRoutes({
      migrationId,
      sourcePodId: pod0,
      assignments: new Map([["red" as never, pod100]]),
    });
    await fence.setShares(migrationId, pod0, { ...phases, [pod100]: "fenced" });
    const control = join(disk.afterPowerLoss(), "control");
    expect(await readPhase(control, "red")).toMatchObject({ allowed: false, reason: "fenced" });
  });

  it("an object that was put into a new folder is there, whole", async () => {
    const content = Buffer.alloc(300_000, "x");
    const { createHash } = await import("node:crypto");
    const sha256 = createHash("sha256").update(content).digest("hex");
    const backend = new FolderBackend(disk.path);
    await backend.put("uploads/red/new/folder/1", { bytes: content.length, sha256 }, async () =>
      Readable.from([content]),
    );
    const after = await hashObject(new FolderBackend(disk.afterPowerLoss()), "uploads/red/new/folder/1");
    expect(after).toMatchObject({ bytes: content.length, sha256 });
  });

  it("copies of repositories are whole, when they were made and after each change", async () => {
    const before = process.env["TMPDIR"];
    process.env["TMPDIR"] = disk.path;
    const split = await GitSplit.create().finally(() => {
      if (before === undefined) delete process.env["TMPDIR"];
      else process.env["TMPDIR"] = before;
    });
    try {
      const { pod } = split.source;
      const first = await pod.repository("red/deep/one.git");
      await mustGit(["-C", pod.path("red/deep/one.git"), "config", "cleave.test", "yes"]);
      await split.seeded();
      const copyAfterPowerLoss = () =>
        join(disk.afterPowerLoss(), split.target.pod.path("red/deep/one.git").slice(disk.path.length));
      const made = copyAfterPowerLoss();
      expect(await git([`--git-dir=${made}`, "fsck", "--full", "--strict"])).toMatchObject({ code: 0 });
      expect(await mustGit([`--git-dir=${made}`, "rev-parse", "main"])).toBe(first);
      expect(await readFile(join(made, "config"), "utf8")).toContain("[cleave]");
      expect(await readFile(join(made, "hooks", "reference-transaction"), "utf8")).toContain("Cleave");

      const second = await pod.commit("red/deep/one.git", "second", first);
      await mustGit(["-C", pod.path("red/deep/one.git"), "update-ref", "refs/heads/main", second]);
      const [source, target] = await split.matched(1);
      expect(target).toBe(source);
      const changed = copyAfterPowerLoss();
      expect(await mustGit([`--git-dir=${changed}`, "rev-parse", "main"])).toBe(second);
      expect(await git([`--git-dir=${changed}`, "fsck", "--full"])).toMatchObject({ code: 0 });
    } finally {
      await split.remove();
    }
  });

  it("a file of state that was replaced is the new one", async () => {
    const { StateFile } = await import("../../../agent/stores/common/state-file.ts");
    const file = new StateFile(disk.path, "state/one.json");
    await file.makeFolder();
    await file.replace("old", { durable: true });
    await file.replace("new", { durable: true });
    const after = new StateFile(disk.afterPowerLoss(), "state/one.json");
    await eventually(async () => expect(await after.readIfPresent()).toBe("new"));
  });
});
