/** When a move or a rollback is over, or a way back, nothing of it is left on any Pod: no slot, and no staged route. */
import { reverseReplicationOf } from "../../protocol/cluster.ts";
import { isOver } from "../../protocol/migration-machine.ts";
import { backSlotName } from "../models/postgres/slot-names.ts";
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

export function nothingLeft({ truth, cluster, violated }: Facts): Checker {
  return {
    invariant: "leftovers",
    atRest() {
      for (const migration of truth.migrations()) {
        const { migrationId, lifecycle, context, sourcePodId, kind } = migration;
        const kept = reverseReplicationOf(migration);
        for (const podId of [sourcePodId, ...context.targetPodIds]) {
          const { postgres, git, objects, isLost } = cluster.pod(podId);
          // A replica of a split that gave its share back is the operator's to wipe.
          if (isLost || cluster.outOfCore.has(podId) || context.shares[podId] === "revoked") continue;
          const name = backSlotName(migrationId, podId);
          if (!kept.includes(podId) && postgres.logical.slots.has(name))
            violated("leftovers", `${podId} keeps the slot ${name}, which nobody follows any more`);
          if (kind === "split" || lifecycle === "refused" || !isOver(lifecycle)) continue;
          const staged = [postgres.state.routes, git.routes, objects.routes];
          if (staged.some((routes) => routes.has(migrationId)))
            violated(
              "leftovers",
              `${migrationId} is ${lifecycle}, and its routes are still staged on ${podId}`,
            );
        }
      }
    },
  };
}
