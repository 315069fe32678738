/** I9: when faults stop, every migration comes to an end or waits for an operator, and everybody is served again. */
import { isOver } from "../../protocol/migration-machine.ts";
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

export function exits({ truth, cluster }: Facts): Checker {
  return {
    invariant: "I9",
    waitsFor() {
      const waits: string[] = [];
      for (const { migrationId, lifecycle, context } of truth.migrations()) {
        if (isOver(lifecycle) || lifecycle === "retaining") continue;
        const status = cluster.coordinators
          .find(({ id, current }) => current !== null && !cluster.outOfCore.has(id))
          ?.current?.coordinator.status()
          .migrations.find((m) => m.migrationId === migrationId);
        const why = JSON.stringify(status?.waitingFor ?? context.reason);
        waits.push(`${migrationId} to leave ${lifecycle} (${why})`);
      }
      const last = cluster.servers.log.records.length;
      for (const process of cluster.pods.values()) {
        if (process.isLost || cluster.outOfCore.has(process.id)) continue;
        const sequence = process.current?.agent.health().sequence;
        if (sequence !== last) waits.push(`${process.id} to fold the log (${sequence ?? "down"} of ${last})`);
      }
      return waits;
    },
  };
}
