/** What targets remove and what they keep, and what a kill leaves behind. */
import { mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { OrganizationId } from "../../../../../protocol/ids.ts";
import { fenceFiles } from "../../../../support/file-fence/fence-files.ts";
import { git, migrationId, mustGit } from "../../../../support/git/pod.ts";
import {
  asOnSource,
  asOnTarget,
  at,
  copy,
  entries,
  removeFiles,
  removeRows,
  snapshot,
  split,
  useGitSplit,
} from "../../../../support/git/removal.ts";

useGitSplit();

describe("killed in the middle", () => {
  it("another process goes on, and takes with it what was hidden and not deleted yet", {
    timeout: 120_000,
  }, async () => {
    split.kind = "move";
    const first = await split.source.pod.repository("red/deep/0.git");
    for (let number = 1; number < 45; number++) {
      await mkdir(dirname(at(`red/${number}/r.git`)), { recursive: true });
      await mustGit(["clone", "-q", "--bare", at("red/deep/0.git"), at(`red/${number}/r.git`)]);
    }
    await split.source.pod.repository("blue/one.git");
    await split.opened();
    const before = await snapshot(split.source.pod.root, ["red"]);
    const killed = new AbortController();
    let asked = 0;
    const removal = {
      mayRemove: (id: string) => {
        asked += 1;
        if (asked === 2) killed.abort(new Error("killed"));
        return id === "red";
      },
    };
    const duty = { ...split.duty(split.source, "removeFiles", "opened", 1), removal };
    await expect(split.source.store.reach(duty, killed.signal)).rejects.toThrow("killed");
    await split.stop(split.source);
    const trash = join(split.source.pod.root, "+cleave", `removed-${migrationId}`);
    expect((await readdir(trash, { recursive: true })).filter((name) => name.endsWith(".git"))).toHaveLength(
      20,
    );
    expect((await readdir(at("red"))).length).toBeGreaterThan(3);
    // Killed a moment earlier, the owner and the folder would still be there.
    const hidden = (await readdir(trash, { recursive: true })).find((name) => name.endsWith(".git")) ?? "";
    await split.source.pod.fence.setOwner(hidden, {
      kind: "organization",
      organizationId: "red" as OrganizationId,
    });
    await mkdir(dirname(at(hidden)), { recursive: true });

    split.removal = asOnSource;
    await split.start(split.source);
    await removeFiles(split.source);
    expect(split.status(split.source).progress).toEqual({ done: 5, total: 5, unit: "repositories" });
    expect(await snapshot(split.source.pod.root)).toEqual(before);
    expect(await fenceFiles(split.source.pod.control, "owners")).toEqual(["git/blue/one.git"]);
    expect(await mustGit(["-C", copy("red/deep/0.git"), "rev-parse", "main"])).toBe(first);

    // And so at the end.
    await removeRows(split.source);
    await split.stop(split.source);
    await split.start(split.source);
    await removeRows(split.source);
    expect(split.status(split.source)).toMatchObject({ goal: "removeRows", reached: true });
    expect(await fenceFiles(split.source.pod.control, "shares")).toEqual([]);
    // Paused after it had come to its end: nothing comes back.
    await split.reach(split.source, "yield", "opened", 1);
    expect(await fenceFiles(split.source.pod.control, "shares")).toEqual([]);
    expect(await snapshot(split.source.pod.root)).toEqual(before);
    await removeRows(split.source);
  });
});

describe("after a split", () => {
  beforeEach(async () => {
    for (const path of ["red/one.git", "blue/one.git", "green/deep/one.git", "green/two.git"])
      await split.source.pod.repository(path);
    await split.opened();
  });

  it("the source removes what it gave, the target what it never served", async () => {
    split.removal = asOnSource;
    await removeFiles(split.source);
    expect(await entries(split.source.pod.root)).toEqual(["blue", "green"]);
    split.removal = asOnTarget;
    const before = await split.target.pod.refs("red/one.git");
    await removeFiles(split.target);
    expect(await entries(split.target.pod.root)).toEqual(["red"]);
    expect(split.status(split.target)).toMatchObject({
      reached: true,
      progress: { done: 3, total: 3, unit: "repositories" },
      problems: [],
    });
    await removeRows(split.target);
    expect(await split.target.pod.refs("red/one.git")).toBe(before);
    expect(
      await git(["-C", copy("red/one.git"), "update-ref", "refs/heads/x", "refs/heads/main"]),
    ).toMatchObject({ code: 0 });
    expect(await fenceFiles(split.target.pod.control, "owners")).toEqual(["git/red/one.git"]);
  });

  it("what may not go yet stays, the others go, and it is said", async () => {
    split.removal = { mayRemove: (id) => id === "green" };
    await expect(removeFiles(split.target)).rejects.toMatchObject({
      code: "REMOVAL_NOT_ALLOWED",
      message: expect.stringMatching(/^organization blue: the log says/),
    });
    expect(await entries(split.target.pod.root)).toEqual(["blue", "red"]);
    split.removal = { mayRemove: () => true };
    await removeFiles(split.target);
    // Its own stays, whatever the log says.
    expect(await entries(split.target.pod.root)).toEqual(["red"]);
  });

  it("nobody's repositories stay, and are counted", async () => {
    await mustGit(["init", "-q", "--bare", copy("nobody/x.git")]);
    split.removal = asOnTarget;
    await removeFiles(split.target);
    expect(await entries(split.target.pod.root)).toEqual(["nobody", "red"]);
    expect(split.status(split.target)).toMatchObject({
      reached: true,
      problems: [{ code: "OWNER_UNKNOWN", message: "1 repository without a known owner stay: nobody/x.git" }],
    });
  });

  it("a replica that gave its share back is left to the operator", async () => {
    const found = await split.target.store.preflight(
      split.duty(split.target, "removeRows", "source"),
      "removal",
      AbortSignal.timeout(20_000),
    );
    expect(found).toMatchObject([
      { severity: "info", message: expect.stringContaining("the operator's to delete") },
    ]);
  });
});

describe("a move's target", () => {
  beforeEach(async () => {
    split.kind = "move";
    await split.source.pod.repository("red/one.git");
    await split.target.pod.repository("green/one.git");
    await split.target.pod.repository("red/not-ours.git");
  });

  it("that opened keeps everything", async () => {
    await split.opened();
    split.removal = { mayRemove: () => true };
    // Whoever serves gives every repository its hook, sooner or later.
    const look = async () =>
      (await snapshot(split.target.pod.root, ["+cleave"])).filter(
        (line) => !line.includes("/hooks/reference-tr"),
      );
    const before = await look();
    await removeFiles(split.target);
    expect(await look()).toEqual(before);
  });

  it("that gave its share back removes its copies alone, and leaves no hook behind", async () => {
    await split.seeded();
    await split.matched(1);
    await split.reach(split.target, "activate", "transferred", 1);
    split.removal = asOnSource;
    const residents = ["green", "red/not-ours.git"];
    const before = await Promise.all(residents.map((path) => snapshot(copy(path))));
    await removeFiles(split.target, "source");
    expect(await Promise.all(residents.map((path) => snapshot(copy(path))))).toEqual(before);
    expect(await readdir(copy("red"))).toEqual(["not-ours.git"]);
    await removeRows(split.target, "source");
    expect(await fenceFiles(split.target.pod.control, "routes")).toEqual([]);
    expect(await Promise.all(residents.map((path) => snapshot(copy(path))))).toEqual(before);
  });
});
