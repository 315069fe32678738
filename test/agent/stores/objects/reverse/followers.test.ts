/** After a split: what the new Pod changes comes into the objects that the source keeps; and a rollback to them. */
import { chmod, mkdtemp, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { organizationHash, routeFile } from "../../../../../agent/stores/file-fence/layout.ts";
import { eventually } from "../../../../support/eventually.ts";
import { snapshot } from "../../../../support/git/removal.ts";
import type { ObjectPod } from "../../../../support/objects/pods.ts";
import { ObjectReverseReplicationPods } from "../../../../support/objects/reverse.ts";

let folder: string;
let pods: ObjectReverseReplicationPods;
let source: ObjectPod;
let target: ObjectPod;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-objects-"));
  pods = new ObjectReverseReplicationPods(folder);
  ({ source, target } = pods);
  await pods.start();
  for (const key of ["red/a", "red/b", "red/c", "blue/a", "green/a"])
    await source.write(`uploads/${key}`, `${key} as it was`);
  await source.write("lfs/ab", "shared");
});
afterEach(async () => {
  await target.kill();
  await source.kill();
  await rm(folder, { recursive: true, force: true });
});

const route = (pod: ObjectPod, organization: string) =>
  readFile(routeFile(pod.control, organizationHash(organization)), "utf8").catch(() => "none");
/** What the two hold of the organizations that left. */
const copies = async (pod: ObjectPod) =>
  Object.fromEntries(Object.entries(await pod.contents()).filter(([key]) => /\/(red|blue)\//.test(key)));
const equal = () =>
  eventually(async () => expect(await copies(source)).toEqual(await copies(target)), 20_000);

it("what is written and deleted arrives, from the very first write on; neighbours and what is shared stay", async () => {
  await pods.opened();
  // At once, before anything on the new Pod looks at its objects.
  await target.write("uploads/red/a", "changed first");
  await target.remove("uploads/red/b");
  await target.write("uploads/red/new", "new");
  await target.write("lfs/cd", "shared and new");
  await target.remove("lfs/ab");
  await source.write("uploads/green/b", "goes on");
  await equal();
  await pods.level();
  expect(await copies(source)).toEqual({
    "uploads/red/a": "changed first",
    "uploads/red/c": "red/c as it was",
    "uploads/red/new": "new",
    "uploads/blue/a": "blue/a as it was",
  });
  await target.write("uploads/blue/a", "later");
  await target.remove("uploads/red/new");
  await equal();
  await pods.level();
  // It has a copy of all that the source had, and tells of its own share and of what is shared.
  const { agentUrl, token } = Object.values(target.peer())[0] ?? { agentUrl: "", token: "" };
  const told = await fetch(`${agentUrl}/objects/changes?migration=split-1`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const { entries } = (await told.json()) as { entries: { key: string }[] };
  expect(entries.filter(({ key }) => key.includes("/green/"))).toEqual([]);
  expect(entries.map(({ key }) => key)).toContain("uploads/red/a");
  expect(Object.keys(await target.contents())).toContain("uploads/green/a");
  const all = await source.contents();
  expect(all).toMatchObject({
    "uploads/green/a": "green/a as it was",
    "uploads/green/b": "goes on",
    "lfs/ab": "shared",
    "lfs/cd": "shared and new",
  });
  await expect(source.write("uploads/red/x")).rejects.toMatchObject({ code: "WRONG_POD" });
  expect(source.status().problems).toEqual([]);
}, 60_000);

it("the first write of all is not missed, whoever looks when: no sweep comes to help", async () => {
  pods.config = { sweepSeconds: 3_600, verifyPauseSeconds: 0.02 };
  for (const pod of [target, source]) {
    await pod.kill();
    await pods.restart(pod);
  }
  await pods.opened();
  await target.write("uploads/red/a", "changed first");
  await target.remove("uploads/red/b");
  await equal();
  expect(await source.read("uploads/red/a")).toBe("changed first");
}, 60_000);

it("what is damaged, lost or made in the dormant copy is mended", async () => {
  await pods.opened();
  await pods.level();
  const path = join(source.root, "uploads/red/a");
  const { atime, mtime } = await stat(path);
  await writeFile(path, "red/a as it WAS");
  await utimes(path, atime, mtime);
  await rm(join(source.root, "uploads/red/b"));
  await source.writeUnannounced("uploads/blue/foreign", "nobody's");
  await equal();
  await pods.level();
  expect(await source.read("uploads/red/a")).toBe("red/a as it was");
}, 60_000);

it("deletions that nobody heard of are found after a restart of either, by ownership alone", async () => {
  await pods.opened();
  await pods.level();
  await source.kill();
  await target.remove("uploads/red/b");
  await source.writeUnannounced("uploads/green/late", "a neighbour's");
  await pods.restart(source);
  await pods.reach(source, "yield", "opened");
  await equal();
  await target.kill();
  await eventually(() => expect(pods.flow?.lag.amount).toBeNull(), 20_000);
  await rm(join(target.root, "uploads/red/c"));
  await pods.restart(target);
  await pods.reach(target, "open", "opened");
  await equal();
  expect(Object.keys(await copies(source))).toEqual(["uploads/blue/a", "uploads/red/a"]);
  expect(await source.read("uploads/green/late")).toBe("a neighbour's");
  await pods.level();
}, 60_000);

it("while the new Pod has something that it cannot list, nothing counts as deleted, and it says what", async () => {
  await pods.opened();
  await pods.level();
  await target.kill();
  await rm(join(target.root, "uploads/red/c"));
  await target.writeUnannounced("uploads/red/bad\u0001name", "x");
  await pods.restart(target);
  await pods.reach(target, "open", "opened");
  await eventually(() => {
    expect(pods.flow?.problem?.message).toContain("bad");
    expect(pods.flow?.lag.amount).toBeNull();
    expect(target.status().problems.map(({ code }) => code)).toEqual(["OBJECT_UNREADABLE"]);
  }, 20_000);
  expect(await source.read("uploads/red/c")).toBe("red/c as it was");
  await rm(join(target.root, "uploads/red/bad\u0001name"));
  await equal();
  await pods.level();
}, 60_000);

it("given up, nothing flows back any more", async () => {
  await pods.opened();
  await pods.level();
  pods.reverseReplication = [];
  await pods.again();
  expect(pods.flow).toBeUndefined();
  await target.write("uploads/red/a", "unheard");
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await source.read("uploads/red/a")).toBe("red/a as it was");
}, 60_000);

it("a rollback of one organization opens over its copy; the other still flows back; what it left is removed", async () => {
  await pods.opened();
  await pods.level();
  expect(
    await source.store.preflight(
      pods.rollbackDuty(source, "seed", "source"),
      "start",
      AbortSignal.timeout(5_000),
    ),
  ).toEqual([]);
  await target.write("uploads/red/a", "before the fence");
  source.servedContent = [];
  target.servedContent = [];
  await pods.rolledBackTo("fenced");
  expect(pods.status(source)?.evidence?.digest).toMatch(/^3\//);
  expect(pods.status(source)?.evidence?.digest).toBe(pods.status(target)?.evidence?.digest);
  // Nothing is copied that is there already.
  expect(target.servedContent.filter((key) => key !== "uploads/red/a")).toEqual([]);
  await expect(target.write("uploads/red/late")).rejects.toMatchObject({ code: "WRITE_FENCED" });
  await pods.rolledBackTo("opened");
  await source.write("uploads/red/after", "served here");
  await expect(target.write("uploads/red/late")).rejects.toMatchObject({ code: "WRONG_POD" });
  await target.write("uploads/blue/a", "still flows");
  await eventually(async () => expect(await source.read("uploads/blue/a")).toBe("still flows"));
  await pods.level();
  expect(await source.read("uploads/red/after")).toBe("served here");

  for (const pod of [source, target]) {
    await pod.kill();
    await pods.restart(pod);
  }
  await pods.again();
  await pods.back(source, "open", "opened");
  await pods.back(target, "yield", "opened");
  await pods.level();
  expect(await source.read("uploads/red/after")).toBe("served here");

  const log = { mayRemove: () => true };
  for (const pod of [target, source])
    for (const goal of ["removeFiles", "removeRows"] as const) await pods.back(pod, goal, "opened", log);
  expect(Object.keys(await copies(target))).toEqual(["uploads/blue/a"]);
  pods.reverseReplication = [];
  for (const goal of ["removeFiles", "removeRows"] as const)
    for (const pod of [source, target]) await pods.reach(pod, goal, "opened", log);
  expect(Object.keys(await copies(source)).every((key) => key.startsWith("uploads/red/"))).toBe(true);
  expect(await source.read("uploads/red/after")).toBe("served here");
  expect([await route(source, "red"), await route(source, "blue")]).toEqual(["none", "pod-100 - -\n"]);
  await source.write("uploads/red/end");
  await target.write("uploads/blue/end");
}, 90_000);

it("an aborted rollback leaves everything as it was, and the organization flows back again", async () => {
  await pods.opened();
  await pods.level();
  const look = () =>
    Promise.all(
      [source, target].flatMap((pod) => [
        snapshot(pod.root),
        snapshot(pod.control, ["inflight", "dirty", "tmp"]),
        snapshot(join(pod.folder, "state"), ["inventory"]),
      ]),
    );
  const before = await look();
  await pods.rolledBackTo("fenced");
  await pods.rollbackIs(null);
  for (const pod of [target, source, target, source]) await pods.back(pod, "release", "source");
  await pods.level();
  expect(await look()).toEqual(before);
  expect(await route(source, "red")).toBe("pod-0 split-1 pod-100\n");
  await target.write("uploads/red/on", "and on");
  await equal();
}, 60_000);

it("forced, the source takes over from a Pod that is lost, which refuses when it comes back", async () => {
  await pods.opened();
  await pods.level();
  await target.kill();
  pods.forced = true;
  const rollback = {
    migrationId: "split-1-back-1" as never,
    podId: target.podId,
    assignments: pods.returning,
  };
  for (const phase of ["transferred", "opened"] as const) {
    pods.rollbacks = [{ ...rollback, phase }];
    await Promise.all([
      pods.back(source, phase === "opened" ? "open" : "activate", phase),
      pods.reach(source, "yield", "opened"),
    ]);
  }
  await source.write("uploads/red/after");
  await expect(source.write("uploads/blue/x")).rejects.toMatchObject({ code: "WRONG_POD" });
  await pods.restart(target);
  await pods.back(target, "yield", "opened");
  await expect(target.write("uploads/red/x")).rejects.toMatchObject({ code: "WRONG_POD" });
  await target.write("uploads/blue/x");
  await chmod(target.root, 0o755);
}, 60_000);
