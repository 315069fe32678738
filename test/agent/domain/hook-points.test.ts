/** Given the log and what was called before, then what an agent's hooks are called for. */
import { expect, it } from "vitest";
import { beforeFence, beforeRemoval, dueAfterwards, fenced } from "../../../agent/domain/hook-points.ts";
import { lowerAfterHook } from "../../../coordinator/domain/hook-failure.ts";
import { accept, noObservations } from "../../../coordinator/domain/observations.ts";
import type { ClusterEvent } from "../../../protocol/events.ts";
import { epoch, fold, migrationId, pod, report, say, storeStatus, until } from "../../support/story.ts";

const migrationOf = (events: readonly ClusterEvent[]) => {
  const migration = fold(events).migrations[migrationId];
  if (!migration) throw new Error("there is none");
  return migration;
};
const due = (events: readonly ClusterEvent[], self: string, ...begun: string[]) =>
  dueAfterwards(migrationOf(events), pod(self), (key) => begun.includes(key)).map(({ key }) => key);

it("before a fence, the next attempt; while it is up, this one", () => {
  expect(beforeFence(migrationOf(until.ready())).key).toBe("beforeFence:1");
  expect(fenced(migrationOf(until.fencing())).key).toBe("fenced:1");
  expect(due(until.ready(), "pod-0", "beforeFence:1")).toEqual([]);
  expect(due(until.fencing(), "pod-0", "beforeFence:1", "fenced:1")).toEqual([]);
});

it("after a lowered fence, that the attempt is over, for whoever was told that it began", () => {
  const lowered = [...until.fencing(), say.lowered()];
  expect(due(lowered, "pod-0", "fenced:1")).toEqual(["aborted:1"]);
  expect(due(lowered, "pod-0", "beforeFence:1")).toEqual(["aborted:1"]);
  expect(due(lowered, "pod-0")).toEqual([]);
  expect(due(lowered, "pod-9", "fenced:1")).toEqual([]);
});

it("after the transfer, on each Pod its own", () => {
  const activating = until.activating();
  expect(due(activating, "pod-0")).toEqual(["transferred"]);
  expect(due(activating, "pod-100")).toEqual(["transferred"]);
  const one = [...activating, say.opened("pod-100")];
  expect(due(one, "pod-100")).toEqual(["transferred", "opened"]);
  expect(due(one, "pod-101")).toEqual(["transferred"]);
  expect(due(one, "pod-0")).toEqual(["transferred"]);
  const both = [...one, say.opened("pod-101")];
  expect(due(both, "pod-0")).toEqual(["transferred", "opened"]);
  const revoked = [...one, say.revoked("pod-101")];
  expect(due(revoked, "pod-101")).toEqual(["aborted:revoked"]);
  expect(due(revoked, "pod-0")).toEqual(["transferred", "opened"]);
});

it("after an abort, that alone", () => {
  expect(due([...until.ready(), say.aborted()], "pod-100", "beforeFence:1")).toEqual(["aborted"]);
});

it("before a removal, but not before a dry run of its checks", () => {
  const retaining = [...until.activating(), say.opened("pod-100"), say.opened("pod-101")];
  expect(beforeRemoval(migrationOf(retaining))).toBeNull();
  const check = (end: boolean): ClusterEvent => ({ type: "RemovalCheckStarted", v: 2, migrationId, end });
  expect(beforeRemoval(migrationOf([...retaining, check(false)]))).toBeNull();
  expect(beforeRemoval(migrationOf([...retaining, check(true)]))?.point).toBe("beforeRemoval");
});

it("a coordinator lowers the fence of which a hook failed, and no other", () => {
  const state = fold(until.fencing());
  const migration = state.migrations[migrationId];
  if (!migration) throw new Error("there is none");
  const heard = (appliedSequence: number, code: string, goal: "fence" | "yield" = "fence") => {
    const said = report("pod-0", { goal, appliedSequence });
    const part = said.migrations[migrationId];
    if (!part) throw new Error("there is none");
    const status = storeStatus(goal, { reached: false, problems: [{ code, message: "hook pause: 500" }] });
    const migrations = { [migrationId]: { ...part, stores: { ...part.stores, postgres: status } } };
    return lowerAfterHook(migration, accept(noObservations, state, { ...said, migrations }, 1));
  };
  const { raisedSequence } = migration.context.fence ?? { raisedSequence: 0 };
  expect(heard(raisedSequence, "HOOK_FAILED")).toEqual({
    type: "FenceLowered",
    v: 1,
    migrationId,
    epoch: epoch(1),
    reason: "pod-0: hook pause: 500",
  });
  // And of one whose checks have looked at another schema than the fence found.
  expect(heard(raisedSequence, "CHECKS_OUTDATED")).toMatchObject({ type: "FenceLowered" });
  expect(heard(raisedSequence - 1, "HOOK_FAILED")).toBeNull();
  expect(heard(raisedSequence, "HOOK_RETRIED")).toBeNull();
  expect(heard(raisedSequence, "HOOK_FAILED", "yield")).toBeNull();
  expect(lowerAfterHook(migration, noObservations)).toBeNull();
});
