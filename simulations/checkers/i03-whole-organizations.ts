/** I3: rows, repositories and objects of an organization are served by the same Pod, and all of them are there. */
import type { StoreName } from "../../protocol/ids.ts";
import type { Checker } from "../observer.ts";
import { type Facts, STORES } from "./facts.ts";

export function wholeOrganizations({ truth, cluster, violated }: Facts): Checker {
  return {
    invariant: "I3",
    /** Every store of the Pod that serves an organization enforces the same: that it is served there. */
    atRest() {
      for (const organization of cluster.organizations) {
        const { podId, phase, target, migration } = truth.authority(organization);
        if (podId === null || target === null || migration === null) continue;
        const phases = new Map<StoreName, string | undefined>();
        const pod = cluster.pod(podId);
        for (const store of STORES)
          phases.set(
            store,
            store === "postgres"
              ? pod.postgres.state.shares.get(migration.migrationId)?.get(target)?.phase
              : pod[store].shares.get(migration.migrationId)?.phases[target],
          );
        const differing = [...phases].find(([, enforced]) => enforced !== undefined && enforced !== phase);
        if (differing)
          violated("I3", `${podId} serves ${organization}, but its ${differing[0]} enforces ${differing[1]}`);
      }
    },
  };
}
