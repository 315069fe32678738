/** What organizations left behind on their source is removed, and nothing else is (rule 10). */
import { mkdirSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { SharePhase } from "../../../../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../../protocol/ids.ts";
import { eventually } from "../../../../support/eventually.ts";
import { fenceFiles } from "../../../../support/file-fence/fence-files.ts";
import { git, migrationId, mustGit, pod0, pod100 } from "../../../../support/git/pod.ts";
import {
  asOnSource,
  at,
  copy,
  exists,
  HOSTILE,
  removeFiles,
  removeRows,
  repositories,
  snapshot,
  split,
  useGitSplit,
} from "../../../../support/git/removal.ts";
import type { Side } from "../../../../support/git/split.ts";

useGitSplit();

describe("the source, after a move", () => {
  beforeEach(async () => {
    split.kind = "move";
    await repositories();
    await split.opened();
    split.removal = asOnSource;
  });

  it("removes what left, and neighbours are byte for byte what they were", async () => {
    // A name that is no text, and folders that are nobody's.
    await writeFile(
      Buffer.concat([Buffer.from(`${at("red/one.git")}/refs/`), Buffer.from([0xff, 0xfe])]),
      "x",
    );
    await mkdir(at("empty/folder"), { recursive: true });
    await writeFile(join(split.source.pod.root, "notes.txt"), "somebody's");
    const before = await snapshot(split.source.pod.root, ["red", "@hashed/aa/bb/red-3.git"]);
    await removeFiles(split.source);
    expect(split.status(split.source)).toMatchObject({
      goal: "removeFiles",
      reached: true,
      progress: { done: 4, total: 4, unit: "repositories" },
      problems: [],
    });
    expect(await snapshot(split.source.pod.root)).toEqual(before);
    expect(await fenceFiles(split.source.pod.control, "owners")).toEqual([
      "git/@hashed/aa/bb/blue-2.git",
      "git/blue/one.git",
    ]);
    await removeFiles(split.target);
    await removeRows(split.source);
    await removeRows(split.target);
    expect(await snapshot(split.source.pod.root)).toEqual(before);
    expect(split.status(split.source)).toMatchObject({ goal: "removeRows", reached: true });
    for (const side of [split.source, split.target]) {
      expect(await fenceFiles(side.pod.control, "shares")).toEqual([]);
      expect(await fenceFiles(side.pod.control, "routes")).toHaveLength(1);
      expect(await readdir(join(side.pod.folder, "state", "git"))).not.toContain(
        `empty-before-${migrationId}`,
      );
    }
    expect(await exists(join(copy("red/one.git"), "cleave-mirror"))).toBe(false);
    expect(await mustGit(["-C", copy(HOSTILE), "rev-parse", "main"])).toMatch(/^[0-9a-f]{40}$/);
  });

  it("refuses writes of who left with the right Pod, and takes those of neighbours, before and after", async () => {
    const push = (path: string) =>
      git([
        "-C",
        at(path),
        "update-ref",
        `refs/heads/${Math.random().toString(36).slice(2)}`,
        "refs/heads/main",
      ]);
    let stop = false;
    let pushed = 0;
    const neighbour = (async () => {
      while (!stop) {
        expect(await push("blue/one.git")).toMatchObject({ code: 0 });
        pushed += 1;
      }
    })();
    await removeFiles(split.source);
    // A new repository is refused as soon as its hook is there, which a watch sees to.
    const refused = async (path: string) => {
      await mustGit(["init", "-q", "--bare", "-b", "main", at(path)]);
      await eventually(async () =>
        expect(await exists(join(at(path), "hooks/reference-transaction"))).toBe(true),
      );
      const commit = await split.source.pod.commit(path, "late");
      const { stderr } = await git(["-C", at(path), "update-ref", "refs/heads/x", commit]);
      expect(stderr).toContain("pod-100 is authoritative");
    };
    await mkdir(at("red"), { recursive: true });
    await refused("red/again.git");
    await removeRows(split.source);
    stop = true;
    await neighbour;
    expect(pushed).toBeGreaterThan(0);
    await rm(at("red"), { recursive: true, force: true });
    await mkdir(at("red"));
    await refused("red/later.git");
    await eventually(async () =>
      expect(await fenceFiles(split.source.pod.control, "owners")).toContain("git/red/later.git"),
    );
    expect(await push("blue/one.git")).toMatchObject({ code: 0 });
  });

  it("an agent that is started again after the end goes on guarding new repositories", {
    timeout: 30_000,
  }, async () => {
    await removeFiles(split.source);
    await removeRows(split.source);
    await split.stop(split.source);
    await mustGit(["init", "-q", "--bare", at("red/later.git")]);
    await split.start(split.source);
    await eventually(
      async () => expect(await exists(join(at("red/later.git"), "hooks/reference-transaction"))).toBe(true),
      20_000,
    );
    const commit = await split.source.pod.commit("red/later.git", "late");
    expect((await git(["-C", at("red/later.git"), "update-ref", "refs/heads/x", commit])).stderr).toContain(
      "pod-100 is authoritative",
    );
  });

  it("and the organization can come back", async () => {
    await removeFiles(split.source);
    await removeRows(split.source);
    await removeFiles(split.target);
    await removeRows(split.target);
    split.removal = null;
    await split.stop(split.source);
    await split.start(split.source);
    const back = (side: Side, goal: "prepare" | "seed" | "match" | "fence", phase: SharePhase) => ({
      ...split.duty(side, goal, phase),
      migrationId: "back-1" as MigrationId,
      role: side === split.target ? ("source" as const) : ("target" as const),
      sourcePodId: pod100,
      targetPodIds: [pod0],
      assignments: new Map([["red" as OrganizationId, pod0]]),
      shares: { [pod0]: phase } as Record<PodId, SharePhase>,
    });
    const seed = back(split.source, "seed", "source");
    const checked = await split.source.store.preflight(seed, "start", AbortSignal.timeout(20_000));
    expect(checked.filter(({ severity }) => severity !== "info")).toEqual([]);
    await split.target.store.reach(back(split.target, "prepare", "source"), AbortSignal.timeout(20_000));
    await split.source.store.reach(seed, AbortSignal.timeout(20_000));
    expect(await split.source.pod.refs("red/one.git")).toBe(await split.target.pod.refs("red/one.git"));
  });

  it("what is nobody's stays, and it is said", async () => {
    await mustGit(["init", "-q", "--bare", at("nobody/x.git")]);
    await mustGit(["init", "-q", "--bare", at("nobody/y.git")]);
    await removeFiles(split.source);
    expect((await readdir(at("nobody"))).sort()).toEqual(["x.git", "y.git"]);
    expect(await exists(at("red"))).toBe(false);
    expect(split.status(split.source).problems.map(({ message }) => message)).toContain(
      "2 repositories without a known owner stay: nobody/x.git; nobody/y.git",
    );
  });

  it("a repository that comes to a removed one's place is locked like that one", async () => {
    await removeFiles(split.source);
    await mustGit(["init", "-q", "--bare", at("red/one.git")]);
    await eventually(async () =>
      expect(await fenceFiles(split.source.pod.control, "owners")).toContain("git/red/one.git"),
    );
    await eventually(async () => {
      await split.reach(split.source, "yield", "opened", 1);
      expect(await exists(join(at("red/one.git"), "HEAD.lock"))).toBe(true);
    });
  });

  it("the end waits until nothing is left, whoever makes something meanwhile", async () => {
    await removeFiles(split.source);
    split.onLookup = () => {
      split.onLookup = () => undefined;
      mkdirSync(at("red/new.git"), { recursive: true });
    };
    await expect(removeRows(split.source)).rejects.toMatchObject({
      code: "REMOVAL_DISAGREES",
      message: "red/new.git is still here",
    });
    expect(await fenceFiles(split.source.pod.control, "shares")).toEqual([migrationId]);
    await removeRows(split.source);
    expect(await exists(at("red"))).toBe(false);
  });

  it("a share that went back to the source is served on, and is not removed", async () => {
    const before = await snapshot(split.source.pod.root);
    await split.source.pod.setPhase("source");
    await removeFiles(split.source, "source");
    await removeRows(split.source, "source");
    // But for the hooks, which go, the lock of HEAD, and the root's mark.
    const ofItself = (line: string) => !/\/hooks|HEAD\.lock|cleave-root/.test(line);
    expect((await snapshot(split.source.pod.root)).filter(ofItself)).toEqual(before.filter(ofItself));
    expect(
      await git(["-C", at("red/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]),
    ).toMatchObject({ code: 0 });
    // Nobody lives elsewhere any more, so no hook is needed.
    expect(await exists(join(at("blue/one.git"), "hooks/reference-transaction"))).toBe(false);
  });

  it("says before what would go", async () => {
    const findings = await split.source.store.preflight(
      { ...split.duty(split.source, "removeRows", "opened"), removal: null },
      "removal",
      AbortSignal.timeout(20_000),
    );
    expect(findings).toEqual([
      {
        store: "git",
        severity: "info",
        code: "DORMANT_DATA",
        message: expect.stringMatching(
          /^4 repositories, about [\d.]+ kB, of 1 organization would be removed$/,
        ),
      },
    ]);
    expect(await exists(at("red/one.git"))).toBe(true);
  });
});
