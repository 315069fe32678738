/** I6: no fence outlives its deadline plus the time to reach the log, for whoever can reach it; on no store either. */
import type { Checker } from "../observer.ts";
import type { CoordinatorProcess } from "../processes/coordinator-process.ts";
import type { Pod } from "../processes/pod.ts";
import type { Facts } from "./facts.ts";

/** Agents leave the coordinator 300 ms; an append may need a second try. */
const TIME_TO_REACH_THE_LOG_MS = 4_000;
/** From the log's word to every store: retries of stores pause for up to 5 s. */
const TIME_TO_LOWER_MS = 8_000;

const SAYS_WHO_SERVES: ReadonlySet<string> = new Set([
  "FenceLowered",
  "MigrationAborted",
  "RollbackPlanned",
  "TransferRevoked",
]);

export function boundedReadOnly({ truth, cluster, violated }: Facts): Checker {
  const { world, servers } = cluster;
  const ableSince = new Map<string, number>();
  /** By process and epoch: since when it is able to lower that fence, and its clock says that it should. */
  const overdueSince = new Map<string, number>();
  /** When the log last said of any migration that its source serves. */
  let servesSince = 0;

  const processes: readonly (CoordinatorProcess | Pod)[] = [
    ...cluster.coordinators,
    ...cluster.pods.values(),
  ];

  const logAnswers = (): boolean => {
    const { log, blobs } = servers;
    return (
      Math.max(log.stalledUntil, log.staleUntil, blobs.unavailableUntil) <= world.now && log.lostAnswers === 0
    );
  };

  const isAble = (process: CoordinatorProcess | Pod): boolean => {
    const run = process.current?.run;
    return (
      run?.responsive === true &&
      run.host.slowMs === 0 &&
      run.host.nothingDeliveredUntil <= world.now &&
      servers.network.connected(process.id, "log") &&
      (!("postgres" in process) || (process.postgres.up && process.storesFailUntil <= world.now))
    );
  };

  return {
    invariant: "I6",
    appended(record) {
      // A rollback has its Pod as the source, which may have opened just now.
      if (record.events.some(({ type }) => SAYS_WHO_SERVES.has(type))) servesSince = world.now;
    },
    afterEvent() {
      const answers = logAnswers();
      for (const process of processes) {
        if (!answers || !isAble(process)) ableSince.delete(process.id);
        else if (!ableSince.has(process.id)) ableSince.set(process.id, world.now);
      }
      for (const { context, migrationId } of truth.migrations()) {
        if (!context.fenceUp || !context.fence) continue;
        for (const process of processes) {
          const key = `${process.id} ${context.fence.epoch}`;
          const isOver = (process.current?.run.clock.now() ?? 0) >= context.fence.deadlineAt;
          if (!isOver || !ableSince.has(process.id)) overdueSince.delete(key);
          // By true time: its clock may have jumped far behind the deadline just now.
          else if (!overdueSince.has(key)) overdueSince.set(key, world.now);
          if (world.now - (overdueSince.get(key) ?? world.now) > TIME_TO_REACH_THE_LOG_MS)
            violated("I6", `the fence of ${migrationId} is up, though ${process.id} could have lowered it`);
        }
      }
    },
    refused(podId, organization, outcome) {
      if (outcome !== "fenced") return;
      const { podId: authoritative, phase } = truth.authority(organization);
      if (authoritative !== podId || phase === "opened") return;
      const forMs = world.now - Math.max(servesSince, ableSince.get(podId) ?? world.now);
      if (forMs > TIME_TO_LOWER_MS)
        violated(
          "I6",
          `${podId} refuses ${organization} as fenced, ${Math.round(forMs)} ms after the log lowered it`,
        );
    },
  };
}
