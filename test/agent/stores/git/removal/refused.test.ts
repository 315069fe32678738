/** What must not be removed, and is not: whoever says so, and whatever lies in the way. */
import { rmSync, symlinkSync } from "node:fs";
import { lstat, mkdir, readdir, readFile, rename, rm, rmdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { SharePhase } from "../../../../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../../protocol/ids.ts";
import { fenceFiles } from "../../../../support/file-fence/fence-files.ts";
import { migrationId, mustGit, pod0, pod100 } from "../../../../support/git/pod.ts";
import {
  asOnSource,
  at,
  exists,
  removeFiles,
  removeRows,
  repositories,
  snapshot,
  split,
  useGitSplit,
} from "../../../../support/git/removal.ts";
import { removeLive } from "../../../../support/remove-live.ts";

useGitSplit();

describe("the source, after a move", () => {
  beforeEach(async () => {
    split.kind = "move";
    await repositories();
    await split.opened();
    split.removal = asOnSource;
  });

  it("nothing is removed while it is not allowed", async () => {
    const before = await snapshot(split.source.pod.root);
    const refused = async (why: RegExp, run = removeFiles(split.source)) => {
      await expect(run).rejects.toMatchObject({
        code: "REMOVAL_NOT_ALLOWED",
        message: expect.stringMatching(why),
      });
      expect(await snapshot(split.source.pod.root)).toEqual(before);
      expect(split.status(split.source).reached).toBe(false);
    };
    split.removal = null;
    await refused(/retention is not over/);
    await refused(/retention is not over/, removeRows(split.source));
    split.removal = { mayRemove: () => false };
    await refused(/organization red: the log says/);
    await refused(/organization red: the log says/, removeRows(split.source));
    split.removal = asOnSource;
    await split.source.pod.setPhase("transferred");
    await refused(/is transferred/, removeFiles(split.source, "transferred"));
    // The Pod's own word, against everybody else's.
    await split.source.pod.setPhase("fenced");
    const own = async (line: string, why: RegExp) => {
      const [file] = await fenceFiles(split.source.pod.control, "routes");
      const path = join(split.source.pod.control, "routes", file ?? "");
      const text = await readFile(path, "utf8");
      await writeFile(path, line);
      await refused(why);
      await writeFile(path, text);
    };
    await own("pod-0 - -\n", /organization red: this Pod is authoritative/);
    await own("pod-0 move-2 pod-100\n", /organization red: its share is missing/);
    await split.source.pod.fence.setShares("move-2" as MigrationId, pod100, {
      [pod0]: "source",
    } as Record<PodId, SharePhase>);
    await own("pod-100 move-2 pod-0\n", /organization red: it is staged here for the migration move-2/);
    await own("nonsense\n", /organization red: its route is damaged/);
    await removeFiles(split.source);
    expect(await exists(at("red"))).toBe(false);
  });

  it("the database and the fence have to agree whose it is", async () => {
    await split.source.pod.fence.setOwner("red/one.git", {
      kind: "organization",
      organizationId: "blue" as OrganizationId,
    });
    await expect(removeFiles(split.source)).rejects.toMatchObject({
      code: "REMOVAL_DISAGREES",
      message: expect.stringContaining("red/one.git"),
    });
    expect(await exists(at("red/one.git"))).toBe(true);
    expect(await exists(at("red/deep"))).toBe(false);
  });

  it("a repository that others borrow from stays as long as they do", async () => {
    await mustGit([
      "clone",
      "-q",
      "--bare",
      "--shared",
      at("red/one.git"),
      join(split.source.pod.root, "tmp-fork"),
    ]);
    await rename(join(split.source.pod.root, "tmp-fork"), at("blue/fork.git"));
    await mustGit(["init", "-q", "--bare", at("@pools/q.git")]);
    await writeFile(
      join(at("@pools/q.git"), "objects/info/alternates"),
      `# a comment\n"../../../red/deep/er/t\\167o.git/objects"\n`,
    );
    const before = await snapshot(split.source.pod.root, ["blue/fork.git"]);
    const found = await split.source.store.preflight(
      split.duty(split.source, "removeRows", "opened"),
      "removal",
      AbortSignal.timeout(20_000),
    );
    expect(
      found.filter(({ severity }) => severity === "error").map(({ code, message }) => `${code} ${message}`),
    ).toEqual([
      "REMOVAL_REFERENCED @pools/q.git stays and borrows objects from red/deep/er/two.git, which would be removed",
      "REMOVAL_REFERENCED blue/fork.git stays and borrows objects from red/one.git, which would be removed",
    ]);
    await expect(removeFiles(split.source)).rejects.toMatchObject({
      code: "REMOVAL_REFERENCED",
      message: expect.stringMatching(/blue\/fork\.git .* red\/one\.git/),
    });
    expect(await snapshot(split.source.pod.root, ["blue/fork.git"])).toEqual(before);
    // Those that go together go together, the borrower first.
    await removeLive(at("@pools/q.git"));
    await rename(at("blue/fork.git"), at("red/fork.git"));
    const made = join(split.source.pod.folder, "made");
    for (let number = 0; number < 13; number++) {
      const [lender, fork] = [at(`red/a-lender-${number}.git`), at(`red/fork-${number}.git`)];
      await mustGit(["clone", "-q", "--bare", at("red/one.git"), made]);
      await rename(made, lender);
      await mustGit(["clone", "-q", "--bare", "--shared", lender, made]);
      await rename(made, fork);
    }
    let asked = 0;
    split.removal = { mayRemove: () => ++asked === 1 };
    await expect(removeFiles(split.source)).rejects.toMatchObject({ code: "REMOVAL_NOT_ALLOWED" });
    const left = (await readdir(at("red"))).filter((name) => name.endsWith(".git"));
    expect(left.length).toBeGreaterThan(5);
    for (const name of left) await mustGit(["-C", at(`red/${name}`), "rev-parse", "main^{tree}"]);
    split.removal = asOnSource;
    await removeFiles(split.source);
    expect(await exists(at("red"))).toBe(false);
  });

  it("links are not followed", async () => {
    const outside = join(split.source.pod.folder, "outside");
    await mkdir(outside);
    await rename(at("red/deep/er/two.git"), join(outside, "two.git"));
    await removeLive(at("red/deep"));
    await symlink(outside, at("red/deep"));
    await mkdir(at("red/one.git/info"), { recursive: true });
    await symlink(outside, at("red/one.git/objects/elsewhere"));
    await symlink(join(outside, "two.git"), at("red/linked.git"));
    const before = await snapshot(outside);
    // One that comes at the last moment.
    await mkdir(join(outside, "late"));
    await rename(at("@hashed/aa/bb/red-3.git"), join(outside, "late/red-3.git"));
    await mkdir(at("red/late/red-3.git"), { recursive: true });
    split.removal = {
      mayRemove: () => {
        rmSync(at("red/late"), { recursive: true });
        symlinkSync(join(outside, "late"), at("red/late"));
        return true;
      },
    };
    const late = await snapshot(outside);
    await expect(removeFiles(split.source)).rejects.toMatchObject({
      code: "REPOSITORY_UNREADABLE",
      message: expect.stringContaining("red/late leads through a link"),
    });
    expect(await snapshot(outside)).toEqual(late);
    // One in the place of Cleave's own folder.
    await removeLive(join(split.source.pod.root, "+cleave"));
    await mkdir(join(split.source.pod.root, "+cleave"));
    const own = join(split.source.pod.root, "+cleave", `removed-${migrationId}`);
    await symlink(outside, own);
    await expect(removeFiles(split.source)).rejects.toMatchObject({ code: "REPOSITORY_UNREADABLE" });
    expect(await snapshot(outside)).toEqual(late);
    await rm(own);
    await rename(join(outside, "late/red-3.git"), at("@hashed/aa/bb/red-3.git"));
    await rmdir(join(outside, "late"));
    split.removal = asOnSource;
    // Names that no repository can have.
    await mkdir(at("red/two\nlines.git"));
    await mkdir(at("red/.git"));
    await removeFiles(split.source);
    expect(await snapshot(outside)).toEqual(before);
    expect(await exists(at("red/one.git"))).toBe(false);
    expect((await readdir(at("red"))).sort()).toEqual([
      ".git",
      "deep",
      "late",
      "linked.git",
      "two\nlines.git",
    ]);
    expect(split.status(split.source).problems.map(({ message }) => message)).toContainEqual(
      expect.stringMatching(/^5 entries of the Git root cannot be handled and stay: /),
    );
    expect((await lstat(at("red/deep"))).isSymbolicLink()).toBe(true);
  });
});
