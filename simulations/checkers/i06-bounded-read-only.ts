/** I6: no fence outlives its deadline plus the time to reach the log, for whoever can reach it. */
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

/** Agents leave the coordinator 300 ms; an append may need a second try. */
const TIME_TO_REACH_THE_LOG_MS = 4_000;

export function boundedReadOnly({ truth, cluster, violated }: Facts): Checker {
  const { world, servers } = cluster;
  const ableSince = new Map<string, number>();
  return {
    invariant: "I6",
    afterEvent() {
      const fenced = truth.migrations().filter(({ context }) => context.fenceUp);
      if (fenced.length === 0) {
        ableSince.clear();
        return;
      }
      for (const { context, migrationId } of fenced) {
        const deadline = context.fence?.deadlineAt ?? 0;
        for (const process of [...cluster.coordinators, ...cluster.pods.values()]) {
          const run = process.current?.run;
          const able =
            run?.responsive === true &&
            run.host.slowMs === 0 &&
            run.clock.now() > deadline &&
            servers.network.connected(process.id, "log") &&
            servers.log.stalledUntil <= world.now &&
            servers.log.staleUntil <= world.now &&
            servers.log.lostAnswers === 0;
          const since = able ? (ableSince.get(process.id) ?? world.now) : null;
          if (since === null) ableSince.delete(process.id);
          else ableSince.set(process.id, since);
          if (since !== null && world.now - since > TIME_TO_REACH_THE_LOG_MS)
            violated(
              "I6",
              `the fence of ${migrationId} is up, though ${process.id} could have lowered it for long`,
            );
        }
      }
    },
  };
}
