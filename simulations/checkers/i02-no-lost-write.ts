/**
 * I2: every acknowledged write is on the authoritative Pod, with nothing added and nothing twice. Where an operator
 * accepted the loss of a Pod, the loss is of what was committed there, and of nothing else.
 */
import type { Migration } from "../../protocol/cluster.ts";
import type { PodId, StoreName } from "../../protocol/ids.ts";
import type { Checker } from "../observer.ts";
import { contentOf, type Facts, STORES } from "./facts.ts";

export function noLostWrite({ truth, cluster, violated }: Facts): Checker {
  const committed = new Map<string, Set<string>>();
  /** Where each write was committed. */
  const where = new Map<string, string>();
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

  /** What the taking Pod has is what there is from now on. */
  const accept = (rollback: Migration, podId: string, organization: string) => {
    for (const store of STORES) {
      const found = new Set(contentOf(cluster.pod(podId), store, organization));
      const known = committed.get(key(store, organization)) ?? new Set<string>();
      for (const write of known) {
        if (found.has(write)) continue;
        known.delete(write);
        const at = where.get(`${store} ${write}`);
        if (at !== rollback.sourcePodId)
          violated(
            "I2",
            `${rollback.migrationId} lost ${write} of ${organization} in ${store}, made on ${at}`,
          );
      }
    }
  };

  /** Whom the Pod serves by that opening. */
  const opened = (migration: Migration | undefined, podId: PodId) => {
    if (migration === undefined) return;
    for (const [organization, target] of truth.assignments(migration)) {
      if (target !== podId) continue;
      if (migration.context.transfer?.forced) accept(migration, target, organization);
      compare(target, organization);
    }
  };

  return {
    invariant: "I2",
    committed(podId, store, organization, write) {
      where.set(`${store} ${write}`, podId);
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
        if (event.type === "Opened") opened(truth.state.migrations[event.migrationId], event.podId);
    },
    atRest() {
      for (const organization of cluster.organizations) {
        const { podId } = truth.authority(organization);
        if (podId !== null) compare(podId, organization);
      }
    },
  };
}
