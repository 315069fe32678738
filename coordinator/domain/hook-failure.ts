/** A fence that cannot succeed, as some Pod knows already: nobody waits for its deadline. Pure. */
import type { Migration } from "../../protocol/cluster.ts";
import type { ClusterEvent } from "../../protocol/events.ts";
import { participants } from "./consensus.ts";
import type { Observations } from "./observations.ts";

/** A hook of the fence failed; or what its checks had looked at was changed before it was up, so that they run again. */
const HOPELESS: ReadonlySet<string> = new Set(["HOOK_FAILED", "CHECKS_OUTDATED", "SCHEMA_CHANGED"]);

/** `FenceLowered`, when an agent that had applied this very fence says that it is hopeless; else null. */
export function lowerAfterHook(migration: Migration, observations: Observations): ClusterEvent | null {
  const { fence, fenceUp } = migration.context;
  if (fence === null || !fenceUp) return null;
  for (const podId of participants(migration)) {
    const report = observations.reports.get(podId)?.report;
    // As for evidence (rule 3): what was said before this fence is of another one.
    if (report === undefined || report.appliedSequence < fence.raisedSequence) continue;
    for (const status of Object.values(report.migrations[migration.migrationId]?.stores ?? {})) {
      if (status.goal !== "fence" && status.goal !== "match") continue;
      const failed = status.problems.find(({ code }) => HOPELESS.has(code));
      if (failed === undefined) continue;
      const { migrationId } = migration;
      const reason = `${podId}: ${failed.message}`.slice(0, 2_000);
      return { type: "FenceLowered", v: 1, migrationId, epoch: fence.epoch, reason };
    }
  }
  return null;
}
