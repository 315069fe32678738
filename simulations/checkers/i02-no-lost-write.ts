/** I2: every acknowledged write is on the authoritative Pod, with nothing added and nothing twice. */
import type { StoreName } from "../../protocol/ids.ts";
import type { Checker } from "../observer.ts";
import { contentOf, type Facts, STORES } from "./facts.ts";

export function noLostWrite({ truth, cluster, violated }: Facts): Checker {
  const committed = new Map<string, Set<string>>();
  const key = (store: StoreName, organization: string) => `${store} ${organization}`;

  /** A Pod that serves an organization has all that was ever committed for it, once each. */
  const compare = (podId: string, organization: string) => {
    for (const store of STORES) {
      const expected = committed.get(key(store, organization)) ?? new Set<string>();
      const content = contentOf(cluster.pod(podId), store, organization);
      const found = new Set(content);
      const lost = [...expected].find((write) => !found.has(write));
      if (lost) violated("I2", `${podId} serves ${organization} without ${lost} in ${store}`);
      const added = content.find((write) => !expected.has(write));
      if (added)
        violated("I2", `${podId} has ${added} of ${organization} in ${store}, which nobody committed`);
      if (found.size !== content.length)
        violated("I2", `${podId} has a write of ${organization} in ${store} twice`);
    }
  };

  return {
    invariant: "I2",
    committed(_podId, store, organization, write) {
      const known = committed.get(key(store, organization));
      if (known) known.add(write);
      else committed.set(key(store, organization), new Set([write]));
    },
    acknowledged(podId, store, organization, write) {
      if (!committed.get(key(store, organization))?.has(write))
        violated("I2", `${podId} acknowledged ${write} of ${organization}, which ${store} never committed`);
    },
    appended(record) {
      for (const event of record.events)
        if (event.type === "Opened")
          for (const [organization, target] of cluster.assignments)
            if (target === event.podId) compare(target, organization);
    },
    atRest() {
      for (const organization of cluster.organizations) {
        const { podId } = truth.authority(organization);
        if (podId !== null) compare(podId, organization);
      }
    },
  };
}
