/**
 * I10: while retaining, a rollback would succeed: the dormant copy on the source is as it was when authority left it.
 * (There is no rollback in the product yet; when there is, this checker makes one at rest and asks I1 to I3 again.)
 */
import type { StoreName } from "../../protocol/ids.ts";
import type { Checker } from "../observer.ts";
import { contentOf, type Facts, STORES } from "./facts.ts";

export function reversibility({ truth, cluster, violated }: Facts): Checker {
  const written = new Map<string, string[]>();
  return {
    invariant: "I10",
    committed(podId, store, organization, write) {
      const key = `${podId} ${store} ${organization}`;
      const known = written.get(key);
      if (known) known.push(write);
      else written.set(key, [write]);
    },
    atRest() {
      for (const organization of cluster.assignments.keys()) {
        const { phase, source, migration } = truth.authority(organization);
        if (phase !== "opened" || migration?.lifecycle !== "retaining") continue;
        for (const store of STORES as readonly StoreName[]) {
          const dormant = new Set(contentOf(cluster.pod(source), store, organization));
          const lost = written
            .get(`${source} ${store} ${organization}`)
            ?.find((write) => !dormant.has(write));
          if (lost)
            violated("I10", `the dormant copy of ${organization} on ${source} lost ${lost} in ${store}`);
        }
      }
    },
  };
}
