/**
 * I10: while retaining, a rollback succeeds. One that an operator asks for is waited for when faults are over (and I1 to
 * I3 are looked at after it as ever); of what nobody rolls back, the dormant copy on the source lost nothing that was
 * written there, and where a way back is kept it equals what the new authority has.
 */
import { type Migration, reverseReplicationOf } from "../../protocol/cluster.ts";
import type { PodId } from "../../protocol/ids.ts";
import { backSlotName } from "../models/postgres/slot-names.ts";
import type { Checker } from "../observer.ts";
import { contentOf, type Facts, STORES } from "./facts.ts";
import { isRolledBack } from "./rolled-back.ts";

export function reversibility({ truth, cluster, violated }: Facts): Checker {
  const written = new Map<string, string[]>();

  const isKept = (migration: Migration, podId: PodId): boolean => {
    const pod = cluster.pod(podId);
    const slot = pod.postgres.logical.slots.get(backSlotName(migration.migrationId, podId));
    return reverseReplicationOf(migration).includes(podId) && !pod.isLost && slot?.lost === false;
  };

  const lookAt = (migration: Migration, podId: PodId, organization: string) => {
    const source = migration.sourcePodId;
    for (const store of STORES) {
      const dormant = new Set(contentOf(cluster.pod(source), store, organization));
      const lost = written.get(`${source} ${store} ${organization}`)?.find((write) => !dormant.has(write));
      if (lost) violated("I10", `the dormant copy of ${organization} on ${source} lost ${lost} in ${store}`);
      if (!isKept(migration, podId)) continue;
      const content = contentOf(cluster.pod(podId), store, organization);
      const missing = content.find((write) => !dormant.has(write));
      if (missing !== undefined || dormant.size !== content.length)
        violated(
          "I10",
          `${source} has ${dormant.size} writes of ${organization} in ${store} and ${podId} has ${content.length}: ${missing ?? "one too many"} did not flow back`,
        );
    }
  };

  return {
    invariant: "I10",
    /** An operator gives up what is gone: a fault may have cost the WAL, but nobody drops the slot before. */
    appended(record) {
      for (const event of record.events) {
        if (event.type !== "ReverseReplicationGivenUp") continue;
        const { postgres, isLost } = cluster.pod(event.podId);
        if (!isLost && !postgres.logical.slots.has(backSlotName(event.migrationId, event.podId)))
          violated(
            "I10",
            `the slot of reverse replication from ${event.podId} was gone before that was given up`,
          );
      }
    },
    committed(podId, store, organization, write) {
      const key = `${podId} ${store} ${organization}`;
      const known = written.get(key);
      if (known) known.push(write);
      else written.set(key, [write]);
    },
    atRest() {
      for (const migration of truth.migrations()) {
        if (migration.lifecycle !== "retaining" || migration.of !== null) continue;
        for (const [organization, podId] of truth.assignments(migration))
          if (migration.context.shares[podId] === "opened" && !isRolledBack(truth, migration, organization))
            lookAt(migration, podId, organization);
      }
    },
  };
}
