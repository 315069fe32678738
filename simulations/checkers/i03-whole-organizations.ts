/** I3: rows, repositories and objects of an organization are served by the same Pod, and all of them are there. */
import type { StoreName } from "../../protocol/ids.ts";
import type { Checker } from "../observer.ts";
import type { Cluster } from "../processes/cluster.ts";
import { type Facts, STORES } from "./facts.ts";

export function wholeOrganizations({ truth, cluster, violated }: Facts): Checker {
  return {
    invariant: "I3",
    /** Every store of the Pod that serves an organization enforces that, and every process sends its clients there. */
    atRest() {
      for (const organization of cluster.organizations) {
        const { podId, phase, target, migration } = truth.authority(organization);
        for (const [id, route] of routesOf(cluster, organization))
          if (route !== podId) violated("I3", `${podId} serves ${organization}, but ${id} names ${route}`);
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

/** What each process that runs, and is not cut off for good, would tell a router. */
function routesOf(cluster: Cluster, organization: string): [id: string, podId: string | undefined][] {
  const isIn = ({ id }: { readonly id: string }) => !cluster.outOfCore.has(id);
  const pods = [...cluster.pods.values()]
    .filter(isIn)
    .map(({ id, current }) => [id, current?.agent] as const);
  const coordinators = cluster.coordinators
    .filter(isIn)
    .map(({ id, current }) => [id, current?.coordinator] as const);
  return [...pods, ...coordinators].flatMap(([id, process]): [string, string | undefined][] =>
    process === undefined ? [] : [[id, process.route(organization as never)?.podId]],
  );
}
