/** I7: nothing is deleted that is authoritative, retained or claimed. */

import type { Migration } from "../../protocol/cluster.ts";
import { isOver } from "../../protocol/migration-machine.ts";
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";
import { rollbackOf } from "./rolled-back.ts";

export function noEarlyDeletion({ truth, cluster, violated }: Facts): Checker {
  return {
    invariant: "I7",
    removed(podId, store, organizations = cluster.organizations) {
      /** What a rollback left here is its own to remove, when it cleans. */
      const isGivenBack = (migration: Migration, organization: string): boolean => {
        const rollback = rollbackOf(truth, migration, organization);
        return rollback?.sourcePodId === podId && rollback.lifecycle === "cleaning";
      };
      const claim = truth.migrations().find(
        (m) =>
          !isOver(m.lifecycle) &&
          m.lifecycle !== "planned" &&
          m.lifecycle !== "preflight" &&
          m.context.shares[podId as never] &&
          // A copy that never became more than one.
          !(m.lifecycle === "cleaning" && m.context.shares[podId as never] === "revoked") &&
          organizations.some(
            (organization) =>
              truth.assignments(m).get(organization as never) === podId && !isGivenBack(m, organization),
          ),
      );
      if (claim)
        violated(
          "I7",
          `${podId} removed its ${store}, which ${claim.migrationId} (${claim.lifecycle}) claims`,
        );
      const retains = truth
        .migrations()
        .find(
          (m) =>
            m.lifecycle === "retaining" &&
            (m.sourcePodId === podId || (m.kind === "split" && m.context.shares[podId as never])) &&
            organizations.some(
              (organization) =>
                truth.assignments(m).has(organization as never) && !isGivenBack(m, organization),
            ),
        );
      if (retains)
        violated("I7", `${podId} removed its ${store} of what ${retains.migrationId} still retains`);
      for (const organization of organizations)
        if (truth.authority(organization).podId === podId)
          violated("I7", `${podId} removed its ${store} although it is authoritative for ${organization}`);
    },
  };
}
