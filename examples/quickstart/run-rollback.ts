/**
 * The story of the way back: a split, and then one organization rolled back to Pod 0 under traffic, with everything that
 * was written on its new Pod meanwhile. The others stay where they are, and their copies on Pod 0 stay level with them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { assign } from "./assignment.ts";
import { EVERYWHERE } from "./audit/audit.ts";
import type { Coordinator } from "./cluster/coordinator.ts";
import type { PodLayout } from "./cluster/layout.ts";
import { startServers } from "./cluster/start.ts";
import { play } from "./play.ts";
import type { Report } from "./report/report.ts";
import { type DemoContext, organizationsByPod, split } from "./run-demo.ts";
import { windowsBack } from "./run-lifecycle.ts";
import { MIGRATION, watchLevel, watchMigration } from "./split.ts";
import { makeData } from "./steps.ts";

/** The name that Cleave gives the first rollback of the split. */
export const ROLLBACK = `${MIGRATION}-back-1`;

export interface RollbackContext extends DemoContext {
  /** Called under traffic, before `cleave rollback`: for tests that disturb it. */
  readonly beforeRollback?: (coordinator: Coordinator, organizations: readonly string[]) => Promise<void>;
  /** Instead of the operator's command: for tests that roll back in another way. */
  readonly rollBack?: (organizations: readonly string[]) => Promise<void>;
}

export async function runRollback(context: RollbackContext): Promise<Report> {
  const { layout, options, processes, progress } = context;
  const [source, ...targets] = layout.pods as [PodLayout, PodLayout, ...PodLayout[]];
  const podIds = targets.map((pod) => pod.podId);
  const [first] = podIds as [string, ...string[]];
  await progress.step("Starting NATS and Pod 0's PostgreSQL", () =>
    startServers(layout, processes, [source]),
  );
  await makeData(context, source);
  /** The one that goes back: the largest of the first new Pod's. */
  const returned: string[] = [];
  let coordinator: Coordinator | null = null;
  return play(context, {
    kind: "rollback",
    copies: EVERYWHERE,
    /** What the new Pods still serve is on Pod 0 as well, to the last write. */
    levelCopies: {
      podId: source.podId,
      settled: async () => {
        if (coordinator !== null) await watchLevel(coordinator, progress, MIGRATION);
      },
    },
    returned: {
      organizations: returned,
      from: first,
      windows: (ledger) => windowsBack(ledger, first, source.podId, returned),
    },
    migration: MIGRATION,
    assign: (organizations) => {
      const authorityOf = new Map(organizations.map(({ id }) => [id, source.podId]));
      for (const [podId, ids] of assign(organizations, podIds))
        for (const id of ids) authorityOf.set(id, podId);
      returned.push(...(organizationsByPod(authorityOf, [first]).get(first) ?? []).slice(0, 1));
      for (const id of returned) authorityOf.set(id, source.podId);
      return authorityOf;
    },
    migrate: async (started, authorityOf) => {
      coordinator = started;
      const assignments = organizationsByPod(authorityOf, podIds);
      assignments.set(first, [...returned, ...(assignments.get(first) ?? [])]);
      await split(context, coordinator, assignments);
      await progress.step("Retention: all Pods serve, and what they change flows back", () =>
        sleep(options.trafficMs),
      );
      await context.beforeRollback?.(coordinator, returned);
      await rollBack(context, coordinator, returned);
      return { commitToReplayMs: null, appendMs: null };
    },
    promotionMs: () => null,
  });
}

async function rollBack(
  context: RollbackContext,
  coordinator: Coordinator,
  organizations: readonly string[],
): Promise<void> {
  const { progress } = context;
  await progress.step(`cleave rollback ${MIGRATION} --organizations ${organizations.join(" ")}`, async () => {
    if (context.rollBack) await context.rollBack(organizations);
    else await coordinator.cleave("rollback", MIGRATION, "--organizations", ...organizations);
  });
  await watchMigration(coordinator, progress, {
    migration: ROLLBACK,
    copying: "Taking up the copies that were kept level",
  });
}
