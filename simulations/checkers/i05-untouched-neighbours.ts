/**
 * I5: organizations that are not in the migration see no refused access, and no row, repository or object of theirs
 * comes or goes: neither of those that stay on the source, nor of those that a move's target serves already.
 */
import type { StoreName } from "../../protocol/ids.ts";
import type { Checker } from "../observer.ts";
import { contentOf, type Facts, STORES } from "./facts.ts";

/** What an agent that has just started says before it knows, or has, everything: an outage, and no fence. */
const STARTING: ReadonlySet<string> = new Set(["unknownIdentity", "opening"]);

export function untouchedNeighbours({ truth, cluster, violated }: Facts): Checker {
  const committed = new Map<string, number>();
  const keyOf = (podId: string, store: StoreName, organization: string) =>
    `${podId} ${store} ${organization}`;
  const isMove = cluster.past !== null;

  /** Pods that served before have what was committed there, and of others what is on its way to them. */
  const look = (store: StoreName) => {
    for (const pod of cluster.pods.values()) {
      if (store === "postgres" && !pod.postgres.up) continue;
      for (const organization of cluster.organizations) {
        if (cluster.assignments.has(organization)) continue;
        const expected = committed.get(keyOf(pod.id, store, organization)) ?? 0;
        const found = contentOf(pod, store, organization).length;
        if (found !== expected)
          violated("I5", `${pod.id} has ${found} writes of ${organization} in ${store}, not ${expected}`);
      }
    }
  };

  let version = 0;
  return {
    invariant: "I5",
    refused(podId, organization, outcome) {
      if (cluster.assignments.has(organization) || STARTING.has(outcome)) return;
      // Asked at a Pod that never had them.
      if (truth.authority(organization).podId !== podId) return;
      violated("I5", `${podId} refused ${organization}, which stays where it is: ${outcome}`);
    },
    committed(podId, store, organization) {
      const key = keyOf(podId, store, organization);
      committed.set(key, (committed.get(key) ?? 0) + 1);
    },
    afterEvent() {
      if (!isMove) return;
      let newest = 0;
      for (const { postgres } of cluster.pods.values()) newest += postgres.state.version;
      if (newest === version) return;
      version = newest;
      look("postgres");
    },
    appended() {
      if (isMove) for (const store of STORES) look(store);
    },
    removed(_podId, store) {
      if (isMove && store !== "postgres") queueMicrotask(() => look(store));
    },
    atRest() {
      if (isMove) for (const store of STORES) look(store);
    },
  };
}
