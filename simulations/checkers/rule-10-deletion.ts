/**
 * Rule 10, beside I7: the way back is given up by an operator's word or by the plan's time and by nothing else; and when
 * a migration is completed, nothing dormant is left of it on any Pod that takes part.
 */
import type { Checker } from "../observer.ts";
import { contentOf, type Facts, STORES } from "./facts.ts";

export function deletion({ truth, cluster, violated }: Facts): Checker {
  const allowed = new Set<string>();
  return {
    invariant: "rule 10",
    appended(record) {
      for (const event of record.events) {
        if (event.type === "RemovalCheckStarted" && event.end) {
          const migration = truth.state.migrations[event.migrationId];
          const forMs = migration?.settings.retention.forMs ?? null;
          const since = record.at - (migration?.context.transfer?.at ?? record.at);
          if (record.by.startsWith("operator:") || (forMs !== null && since >= forMs))
            allowed.add(event.migrationId);
        }
        if (event.type === "RetentionEnded" && !allowed.has(event.migrationId))
          violated("rule 10", `nobody ended the retention of ${event.migrationId}, and it ended`);
      }
    },
    atRest() {
      for (const migration of truth.migrations()) {
        if (migration.lifecycle !== "completed") continue;
        const { shares } = migration.context;
        // What a rollback did not take over stays as the migration before has it, on both sides.
        if (migration.of !== null && !Object.values(shares).includes("opened")) continue;
        const named = truth.assignments(migration);
        for (const podId of [migration.sourcePodId, ...migration.context.targetPodIds]) {
          const isSplitTarget = migration.kind === "split" && shares[podId] !== undefined;
          if (isSplitTarget && shares[podId] === "revoked") continue;
          for (const organization of cluster.organizations) {
            if (!isSplitTarget && !named.has(organization as never)) continue;
            if (truth.authority(organization).podId === podId) continue;
            for (const store of STORES)
              if (contentOf(cluster.pod(podId), store, organization).length > 0)
                violated(
                  "rule 10",
                  `${migration.migrationId} is completed, and ${podId} still has ${store} of ${organization}`,
                );
          }
        }
      }
    },
  };
}
