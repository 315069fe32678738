/** A fence whose hooks failed on some Pod: nobody waits for its deadline. Pure. */
import type { Migration } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import { participants } from "./consensus.ts";
import type { Observations } from "./observations.ts";

/** `FenceLowered`, when an agent that had applied this very fence says that a hook of it failed; else null. */
export function lowerAfterHook(migration: Migration, observations: Observations): ClusterEvent | null {
  const { fence, fenceUp } = migration.context;
  if (fence === null || !fenceUp) return null;
  for (const podId of participants(migration)) {
    const report = observations.reports.get(podId)?.report;
    // As for evidence (rule 3): what was said before this fence is of another one.
    if (report === undefined || report.appliedSequence < fence.raisedSequence) continue;
    for (const status of Object.values(report.migrations[migration.migrationId]?.stores ?? {})) {
      if (status.goal !== "fence" && status.goal !== "match") continue;
      const failed = status.problems.find(({ code }) => code === "HOOK_FAILED");
      if (failed === undefined) continue;
      const { migrationId } = migration;
      const reason = `${podId}: ${failed.message}`.slice(0, 2_000);
      return { type: "FenceLowered", v: 1, migrationId, epoch: fence.epoch, reason };
    }
  }
  return null;
}
