/**
 * Rule 13, from outside: a process that met an event of a migration which it does not know decides nothing of that
 * migration any more. (That it goes on serving is I5's and I9's affair; that it says so, a scenario's.)
 */
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

export function standsStill({ cluster, violated }: Facts): Checker {
  return {
    invariant: "rule 13",
    appended(record) {
      const id = record.by.replace(/^(coordinator|agent):/, "");
      const host = cluster.hosts.get(id);
      for (const event of record.events) {
        if (event.type === "Unknown" || event.type === "ClusterConfigured") continue;
        if (host?.standsStill.has(event.migrationId))
          violated(
            "rule 13",
            `${id} does not know ${host.olderWithout} and decided ${event.type} of ${event.migrationId}`,
          );
      }
    },
  };
}
