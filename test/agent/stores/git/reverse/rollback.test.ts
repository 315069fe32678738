/** A rollback in Git: organizations go back to copies that were kept level, and others' way back goes on. */
import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { organizationHash, routeFile } from "../../../../../agent/stores/file-fence/layout.ts";
import type { OrganizationId } from "../../../../../protocol/ids.ts";
import { eventually } from "../../../../support/eventually.ts";
import { git, mustGit, pod0, pod100 } from "../../../../support/git/pod.ts";
import { snapshot } from "../../../../support/git/removal.ts";
import { GitReverseReplicationPods, RED, ROLLBACK } from "../../../../support/git/reverse.ts";

const GREEN = "green" as OrganizationId;
let pods: GitReverseReplicationPods;
beforeEach(async () => {
  pods = await GitReverseReplicationPods.create();
  // Two organizations left; one of them comes back.
  pods.split.assignments.set(GREEN, pod100);
  await pods.source.pod.repository("red/one.git");
  await pods.source.pod.repository("green/one.git");
  await pods.source.pod.repository("blue/one.git");
  await pods.opened();
  await pods.level();
}, 60_000);
afterEach(() => pods.remove());

const here = (path: string) => pods.source.pod.path(path);
const there = (path: string) => pods.target.pod.path(path);
const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
const push = (folder: string, name: string) =>
  git(["-C", folder, "update-ref", `refs/heads/${name}`, "refs/heads/main"]);
const routes = (side: "source" | "target") =>
  Promise.all(
    [RED, GREEN].map((id) =>
      readFile(routeFile(pods[side].pod.control, organizationHash(id)), "utf8").catch(() => "none"),
    ),
  );

it("one organization opens where it was, the other still flows back, and what is left behind is removed", async () => {
  await push(there("red/one.git"), "new");
  await pods.rolledBackTo("fenced");
  expect(pods.status(pods.source)?.evidence?.digest).toBe(pods.status(pods.target)?.evidence?.digest);
  expect((await push(there("red/one.git"), "late")).stderr).toContain("read-only for a moment");
  expect((await push(there("green/one.git"), "meanwhile")).code).toBe(0);
  await pods.rolledBackTo("opened");
  expect((await push(there("red/one.git"), "late")).stderr).toContain("pod-0 is authoritative");
  expect((await push(here("red/one.git"), "after")).code).toBe(0);
  expect(await pods.source.pod.refs("red/one.git")).toContain("refs/heads/new");
  // HEAD too, which no hook watches.
  await mustGit(["-C", here("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/after"]);
  await eventually(async () =>
    expect(await pods.source.pod.refs("green/one.git")).toContain("refs/heads/meanwhile"),
  );
  await pods.level();
  // The new Pod follows nothing of what went back.
  expect(await pods.target.pod.refs("red/one.git")).not.toContain("refs/heads/after");

  // What both do after a restart is the same, and no route is staged anew.
  const before = [await routes("source"), await routes("target")];
  for (const side of [pods.source, pods.target]) {
    const { port } = side.server;
    await pods.split.stop(side);
    await pods.split.start(side, port);
  }
  await pods.again();
  await pods.back(pods.source, "open", "opened");
  await pods.back(pods.target, "yield", "opened");
  expect([await routes("source"), await routes("target")]).toEqual(before);
  expect((await push(here("red/one.git"), "again")).code).toBe(0);
  await pods.level();

  // The rollback removes what it left, and the migration before has nothing of it to remove.
  const log = { mayRemove: () => true };
  for (const side of [pods.target, pods.source]) {
    await pods.back(side, "removeFiles", "opened", log);
    await pods.back(side, "removeRows", "opened", log);
  }
  expect([await exists(there("red/one.git")), await exists(there("green/one.git"))]).toEqual([false, true]);
  expect([await exists(here("red/one.git")), await exists(here("green/one.git"))]).toEqual([true, true]);
  await pods.again();
  await pods.level();
  pods.reverseReplication = [];
  for (const goal of ["removeFiles", "removeRows"] as const)
    for (const side of [pods.source, pods.target]) await pods.reach(side, goal, "opened", log);
  expect([await exists(here("red/one.git")), await exists(here("green/one.git"))]).toEqual([true, false]);
  expect(await routes("source")).toEqual(["none", "pod-100 - -\n"]);
  expect(await routes("target")).toEqual(["none", "pod-100 - -\n"]);
  expect((await push(here("red/one.git"), "kept")).code).toBe(0);
  expect((await push(there("green/one.git"), "kept")).code).toBe(0);
}, 120_000);

it("an aborted one leaves everything as it was, and the organization flows back again", async () => {
  const trees = () =>
    Promise.all(
      [pods.source, pods.target].flatMap(({ pod }) => [
        snapshot(pod.root, []),
        snapshot(pod.control, ["inflight", "dirty", "tmp"]),
      ]),
    );
  const before = await trees();
  await pods.rolledBackTo("fenced");
  await pods.rollbackIs(null);
  for (const side of [pods.target, pods.source, pods.target, pods.source])
    await pods.back(side, "release", "source");
  expect(pods.status(pods.source)).toBeNull();
  expect(await routes("source")).toEqual(["pod-0 split-1 pod-100\n", "pod-0 split-1 pod-100\n"]);
  await pods.level();
  expect(await trees()).toEqual(before);
  expect((await push(there("red/one.git"), "on")).code).toBe(0);
  await eventually(async () => expect(await pods.source.pod.refs("red/one.git")).toContain("refs/heads/on"));
  expect((await push(here("red/one.git"), "x")).stderr).toContain("pod-100 is authoritative");
}, 120_000);

it("revoked before it opened, the new Pod serves again and the copy stays", async () => {
  await pods.rolledBackTo("fenced");
  await pods.rollbackIs("transferred");
  await pods.back(pods.source, "activate", "transferred");
  await pods.back(pods.target, "yield", "transferred");
  await pods.rollbackIs(null);
  await pods.back(pods.target, "yield", "source");
  expect((await push(there("red/one.git"), "on")).code).toBe(0);
  await mustGit(["-C", there("red/one.git"), "symbolic-ref", "HEAD", "refs/heads/on"]);
  await eventually(async () => expect(await pods.source.pod.refs("red/one.git")).toContain("refs/heads/on"));
  const log = { mayRemove: () => true };
  for (const goal of ["removeFiles", "removeRows"] as const)
    for (const side of [pods.target, pods.source]) await pods.back(side, goal, "source", log);
  expect([await exists(here("red/one.git")), await exists(there("red/one.git"))]).toEqual([true, true]);
  expect(await routes("source")).toEqual(["pod-0 split-1 pod-100\n", "pod-0 split-1 pod-100\n"]);
  expect((await push(there("red/one.git"), "still")).code).toBe(0);
}, 120_000);

it("forced, the source takes over from a Pod that is lost, which refuses when it comes back", async () => {
  const { port } = pods.target.server;
  await pods.split.stop(pods.target);
  pods.forced = true;
  pods.rollbacks = [
    { migrationId: ROLLBACK, podId: pod100, phase: "transferred", assignments: pods.returning },
  ];
  await Promise.all([
    pods.back(pods.source, "activate", "transferred"),
    pods.reach(pods.source, "yield", "opened"),
  ]);
  pods.rollbacks = [{ migrationId: ROLLBACK, podId: pod100, phase: "opened", assignments: pods.returning }];
  await Promise.all([pods.back(pods.source, "open", "opened"), pods.reach(pods.source, "yield", "opened")]);
  expect((await push(here("red/one.git"), "after")).code).toBe(0);
  expect((await push(here("green/one.git"), "after")).stderr).toContain("pod-100 is authoritative");
  await pods.split.start(pods.target, port);
  await pods.back(pods.target, "yield", "opened");
  expect((await push(there("red/one.git"), "x")).stderr).toContain("pod-0 is authoritative");
  expect((await push(there("green/one.git"), "x")).code).toBe(0);
  expect(pod0).toBe("pod-0");
}, 120_000);

it("takes over only what the migration that it is of has opened", async () => {
  await pods.source.pod.fence.setShares("other" as never, pod0, { "pod-9": "opened" } as never);
  await pods.source.pod.fence.stageRoutes({
    migrationId: "other" as never,
    sourcePodId: pod0,
    assignments: new Map([[RED, "pod-9" as never]]),
  });
  const before = await routes("source");
  await expect(pods.back(pods.source, "seed", "source")).rejects.toMatchObject({
    code: "ORGANIZATION_CLAIMED",
  });
  expect(await routes("source")).toEqual(before);
  expect(await exists(join(pods.source.pod.root, "red/one.git"))).toBe(true);
}, 60_000);
