/** The end of a migration in the file fence: who is authoritative stays written, and nothing else of it does. */
import { access, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FileFence } from "../../../../agent/stores/file-fence/file-fence.ts";
import { organizationHash, routeFile } from "../../../../agent/stores/file-fence/layout.ts";
import { readPhase } from "../../../../agent/stores/file-fence/write-intent.ts";
import { systemClock as clock } from "../../../../protocol/adapters/system-clock.ts";
import type { SharePhase } from "../../../../protocol/cluster.ts";
import type { MigrationId, OrganizationId, PodId } from "../../../../protocol/ids.ts";
import {
  control,
  fence,
  folder,
  migrationId,
  pod0,
  pod100,
  pod101,
  shares,
  staged,
  useFileFence,
} from "../../../support/file-fence/file-fence.ts";

useFileFence();

const org = (id: string) => id as OrganizationId;
const route = (id: string) =>
  readFile(routeFile(control, organizationHash(id)), "utf8").catch(() => "no route");
const where = (id: string) => fence.whereaboutsOf(org(id), migrationId);

test.each([
  [pod0, "WRONG_POD", "own"],
  [pod100, "own", "WRONG_POD"],
  [pod101, "WRONG_POD", "WRONG_POD"],
])(
  "on %s the opened share becomes the target's, the other one the source's again",
  async (self, red, blue) => {
    await staged(self, "opened");
    const verdict = async (id: string) => {
      const found = await readPhase(control, id);
      return found.allowed ? "own" : `${found.reason === "wrong-pod" ? "WRONG_POD" : found.reason}`;
    };
    expect([await verdict("red"), await verdict("blue")]).toEqual([red, blue]);
    await fence.settleMigration(migrationId);
    expect([await verdict("red"), await verdict("blue")]).toEqual([red, blue]);
    expect(await route("red")).toBe("pod-100 - -\n");
    expect(await route("blue")).toBe("no route");
    expect(await readdir(join(control, "shares"))).toEqual([]);
    expect(await fence.hasRoutes()).toBe(true);
  },
);

test("a route whose base becomes the default Pod goes", async () => {
  await fence.initialise(pod100, pod0);
  await fence.setShares(migrationId, pod100, { [pod0]: "opened" } as Record<PodId, SharePhase>);
  await fence.stageRoutes({
    migrationId,
    sourcePodId: pod100,
    assignments: new Map([[org("red"), pod0]]),
  });
  expect(await route("red")).toBe("pod-100 split-1 pod-0\n");
  await fence.settleMigration(migrationId);
  expect(await route("red")).toBe("no route");
  expect(await fence.hasRoutes()).toBe(false);
  expect(await readPhase(control, "red")).toMatchObject({ allowed: false, podId: pod0 });
});

test("a share that is given back keeps a base that is not the default Pod", async () => {
  await fence.initialise(pod101, pod0);
  await fence.setShares(migrationId, pod100, { [pod101]: "source" } as Record<PodId, SharePhase>);
  await fence.stageRoutes({ migrationId, sourcePodId: pod100, assignments: new Map([[org("red"), pod101]]) });
  await fence.settleMigration(migrationId);
  expect(await route("red")).toBe("pod-100 - -\n");
});

test("both stores at once, and once more", async () => {
  await staged(pod0, "opened");
  await Promise.all([fence.settleMigration(migrationId), fence.settleMigration(migrationId)]);
  await fence.settleMigration(migrationId);
  expect(await route("red")).toBe("pod-100 - -\n");
});

test("a duty that comes once more does not bring back what is settled", async () => {
  await staged(pod0, "opened");
  await fence.keepShares(migrationId, pod0, shares("opened", "source"));
  await fence.settleMigration(migrationId);
  await fence.keepShares(migrationId, pod0, shares("opened", "source"));
  expect(await readdir(join(control, "shares"))).toEqual([]);
});

test.each(["fenced", "transferred"] as const)("a share that is %s is not settled", async (phase) => {
  await staged(pod0, phase);
  await expect(fence.settleMigration(migrationId)).rejects.toMatchObject({ code: "REMOVAL_NOT_ALLOWED" });
  expect(await route("red")).toBe("pod-0 split-1 pod-100\n");
  await access(join(control, "shares", migrationId));
});

test("damaged shares are not settled: nobody knows who is authoritative", async () => {
  await staged(pod0, "opened");
  for (const damage of [
    "",
    "pod-100 pod-0 opened",
    "pod-100 pod-0 opened\npod-101\n",
    "pod-101 pod-0 source\n",
  ]) {
    await writeFile(join(control, "shares", migrationId), damage);
    await expect(fence.settleMigration(migrationId)).rejects.toMatchObject({ code: "REMOVAL_NOT_ALLOWED" });
    expect(await route("red")).toBe("pod-0 split-1 pod-100\n");
  }
});

test("a newer migration's routes are left alone", async () => {
  await staged(pod0, "opened");
  const second = "move-2" as MigrationId;
  await fence.setShares(second, pod100, { [pod101]: "source" } as Record<PodId, SharePhase>);
  await fence.stageRoutes({
    migrationId: second,
    sourcePodId: pod100,
    assignments: new Map([[org("red"), pod101]]),
  });
  expect(await where("red")).toEqual({
    podId: pod100,
    unsettled: "it is staged here for the migration move-2",
  });
  await fence.settleMigration(migrationId);
  expect(await route("red")).toBe("pod-100 move-2 pod-101\n");
  expect(await readdir(join(control, "shares"))).toEqual([second]);
});

test("killed after any number of files, another process goes on, and no writer is told anything else", async () => {
  const many = Array.from({ length: 12 }, (_, index) => org(`organization ${index}`));
  const assignments = new Map(many.map((id, index) => [id, index % 2 === 0 ? pod100 : pod101]));
  const answers = async () =>
    JSON.stringify(
      await Promise.all(many.map((id) => readPhase(control, id).then((v) => v.allowed || v.podId))),
    );
  for (let kept = 0; kept <= many.length; kept++) {
    await rm(control, { recursive: true, force: true });
    const first = new FileFence({ directory: control, clock });
    await first.initialise(pod0, pod0);
    await first.setShares(migrationId, pod0, shares("opened", "source"));
    await first.stageRoutes({ migrationId, sourcePodId: pod0, assignments });
    const before = await answers();
    const all = new Map(await Promise.all(many.map(async (id) => [id, await route(id)] as const)));
    await first.settleMigration(migrationId);
    expect(await answers()).toBe(before);
    // As a kill leaves it: some routes still as they were, and so the share, which goes last.
    await first.setShares(migrationId, pod0, shares("opened", "source"));
    for (const id of many.slice(0, kept))
      await writeFile(routeFile(control, organizationHash(id)), all.get(id) ?? "");
    expect(await answers()).toBe(before);
    await new FileFence({ directory: control, clock }).settleMigration(migrationId);
    expect(await answers()).toBe(before);
    expect(await route(many[0] as string)).toBe("pod-100 - -\n");
    expect(await route(many[1] as string)).toBe("no route");
  }
  expect(await readdir(folder)).toEqual(["control"]);
});

test("while routes are rewritten, writers are never told anything else", async () => {
  const many = Array.from({ length: 300 }, (_, index) => org(`organization ${index}`));
  await fence.initialise(pod100, pod0);
  await fence.setShares(migrationId, pod0, shares("opened", "source"));
  await fence.stageRoutes({
    migrationId,
    sourcePodId: pod0,
    assignments: new Map(many.map((id, index) => [id, index % 2 === 0 ? pod100 : pod101])),
  });
  let settled = false;
  const settling = fence.settleMigration(migrationId).then(() => {
    settled = true;
  });
  let asked = 0;
  while (!settled)
    for (const [index, id] of many.slice(0, 20).entries()) {
      const verdict = await readPhase(control, id);
      expect(verdict.allowed).toBe(index % 2 === 0);
      if (!verdict.allowed) expect(verdict).toMatchObject({ reason: "wrong-pod", podId: pod0 });
      asked += 1;
    }
  await settling;
  expect(asked).toBeGreaterThan(0);
});

test("shares never go back, however old the memory of who asks for it", async () => {
  await staged(pod0, "opened");
  const restored = new FileFence({ directory: control, clock });
  for (const phase of ["source", "fenced", "transferred"] as const)
    await expect(restored.setShares(migrationId, pod0, shares(phase))).rejects.toMatchObject({
      code: "AGENT_BEHIND",
    });
  expect(await where("red")).toEqual({ podId: pod100, unsettled: null });
});

test("where an organization is, as far as the files say", async () => {
  await staged(pod0, "fenced");
  expect(await where("red")).toEqual({ podId: pod0, unsettled: "its share is fenced" });
  await fence.setShares(migrationId, pod0, shares("transferred", "source"));
  expect(await where("red")).toEqual({ podId: pod100, unsettled: "its share is transferred" });
  await fence.setShares(migrationId, pod0, shares("opened", "source"));
  expect(await where("red")).toEqual({ podId: pod100, unsettled: null });
  expect(await where("blue")).toEqual({ podId: pod0, unsettled: null });
  expect(await where("nobody's plan")).toEqual({ podId: pod0, unsettled: null });
  await rm(join(control, "shares", migrationId));
  expect(await where("red")).toEqual({ podId: null, unsettled: "its share is missing or damaged" });
  await writeFile(routeFile(control, organizationHash("red")), "pod-100 -\n");
  expect(await where("red")).toEqual({ podId: null, unsettled: "its route is damaged" });
  await rm(join(control, "default"));
  expect(await where("x")).toEqual({ podId: null, unsettled: "this Pod's identity is not established" });
});

test("on a Pod that took no part in a rollback, what went back is on its base Pod again", async () => {
  await staged(pod101, "opened");
  const hash = organizationHash("red");
  await fence.settleMigration(migrationId, { returned: (name) => name === hash });
  expect(await route("red")).toBe("no route");
});

test("a rollback's end gives routes back to the migration that it is of, while that one is known here", async () => {
  await staged(pod100, "opened");
  const rollback = "back" as MigrationId;
  const stage = { migrationId: rollback, sourcePodId: pod100, assignments: new Map([[org("red"), pod0]]) };
  const takeOver = { of: migrationId, requireOpened: true };
  const before = await route("red");
  for (const phase of ["source", "opened"] as const) {
    await fence.setShares(rollback, pod100, { [pod0]: phase } as Record<PodId, SharePhase>);
    await fence.stageRoutes({ ...stage, takeOver });
    expect(await route("red")).toBe("pod-100 back pod-0\n");
    if (phase === "source") await fence.settleMigration(rollback, { of: migrationId });
    else await fence.removeMigration(rollback, { of: migrationId });
    expect(await route("red")).toBe(before);
  }
  await fence.setShares(rollback, pod100, { [pod0]: "opened" } as Record<PodId, SharePhase>);
  await fence.stageRoutes({ ...stage, takeOver });
  await fence.settleMigration(rollback, { of: migrationId });
  expect(await route("red")).toBe("no route");
});

test("a rollback takes over no share that has not opened here, unless its Pod is lost", async () => {
  await staged(pod100, "transferred");
  const stage = {
    migrationId: "back" as MigrationId,
    sourcePodId: pod100,
    assignments: new Map([[org("red"), pod0]]),
  };
  const takeOver = { of: migrationId, requireOpened: true };
  await expect(fence.stageRoutes({ ...stage, takeOver })).rejects.toMatchObject({
    code: "COMMAND_NOT_POSSIBLE",
  });
  await fence.stageRoutes({ ...stage, takeOver: { ...takeOver, requireOpened: false } });
  expect(await route("red")).toBe("pod-100 back pod-0\n");
});
