/**
 * The story to its very end: a split, its retention, the removal of everything dormant, and then a move of one
 * organization back to Pod 0, which holds nothing of it any more. All of it under traffic.
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
import { isolate } from "./sample-pod/isolate.ts";
import { MIGRATION, watchMigration, watchRemoval, watchReverseReplication, writePlan } from "./split.ts";
import { makeData } from "./steps.ts";
import type { LedgerEntry } from "./traffic/ledger.ts";
import { windowsOf } from "./traffic/windows.ts";

export const REVERSE_REPLICATION = "back-to-pod-0";

export async function runLifecycle(context: DemoContext): Promise<Report> {
  const { layout, options, processes, progress } = context;
  const [source, ...targets] = layout.pods as [PodLayout, PodLayout, ...PodLayout[]];
  const podIds = targets.map((pod) => pod.podId);
  const [first] = podIds as [string, ...string[]];
  await progress.step("Starting NATS and Pod 0's PostgreSQL", () =>
    startServers(layout, processes, [source]),
  );
  await makeData(context, source);
  await progress.step("Removing references from one organization to another", () => isolate(source.postgres));
  /** The one that comes back: the largest of the first new Pod's. */
  const returned: string[] = [];
  return play(context, {
    kind: "lifecycle",
    // Nothing is left of the split; what came back is kept where it came from.
    copies: {
      of: (podId, organization) => podId === first && returned.includes(organization),
      ofShared: EVERYWHERE.ofShared,
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
    migrate: async (coordinator, authorityOf) => {
      const assignments = organizationsByPod(authorityOf, podIds);
      assignments.set(first, [...returned, ...(assignments.get(first) ?? [])]);
      await split(context, coordinator, assignments);
      await progress.step("Retention: all Pods serve, copies are kept", () => sleep(options.trafficMs));
      await watchReverseReplication(coordinator, progress, MIGRATION);
      await finalize(context, coordinator);
      await moveBack(context, coordinator, first, returned);
      return { commitToReplayMs: null, appendMs: null };
    },
    promotionMs: () => null,
  });
}

async function finalize({ progress }: DemoContext, coordinator: Coordinator): Promise<void> {
  await progress.step(`cleave finalize ${MIGRATION} --dry-run`, async (detail) => {
    const { findings } = JSON.parse(
      await coordinator.cleave("finalize", MIGRATION, "--dry-run", "--json"),
    ) as {
      findings: readonly { severity: string; message: string }[];
    };
    detail(`${findings.filter(({ severity }) => severity === "info").length} answers of what would go`);
  });
  await progress.step(`cleave finalize ${MIGRATION}: no way back from here`, async () => {
    await coordinator.cleave("finalize", MIGRATION);
  });
  await watchRemoval(coordinator, progress, MIGRATION);
}

async function moveBack(
  { layout, options, progress }: DemoContext,
  coordinator: Coordinator,
  from: string,
  organizations: readonly string[],
): Promise<void> {
  const planFile = writePlan(layout.folder, {
    kind: "move",
    migration: REVERSE_REPLICATION,
    source: from,
    assignments: new Map([["pod-0", organizations]]),
    settlingMs: options.settlingMs,
  });
  const what = `organization ${organizations.join(", ")}`;
  await progress.step(`cleave move ${REVERSE_REPLICATION}.yaml: ${what} from ${from} to pod-0`, async () => {
    await coordinator.cleave("move", planFile);
  });
  await watchMigration(coordinator, progress, {
    migration: REVERSE_REPLICATION,
    copying: `Copying the rows, repositories and objects of ${what}`,
  });
}

/** Of the way back alone: what Pod 0 answered before the split is another window's. */
export function windowsBack(
  ledger: readonly LedgerEntry[],
  from: string,
  to: string,
  organizations: readonly string[],
) {
  return organizations.flatMap((organization) => {
    const own = ledger.filter((entry) => entry.organization === organization);
    const there = own.filter(({ podId }) => podId === from).map(({ endedAt }) => endedAt);
    const since = there.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
    const later = own.filter(({ endedAt }) => endedAt >= since);
    return windowsOf(later, from, new Map([[organization, to]]));
  });
}
