/** The demo's story, step by step: a Pod under traffic, a split, an audit, a report. */

import { assign } from "./assignment.ts";
import { EVERYWHERE } from "./audit/audit.ts";
import type { Coordinator } from "./cluster/coordinator.ts";
import type { PodLayout } from "./cluster/layout.ts";
import { startServers } from "./cluster/start.ts";
import { play } from "./play.ts";
import { measureAppend, measureCommitToReplay, promotionOfFile } from "./report/floor.ts";
import type { Report } from "./report/report.ts";
import { MIGRATION, SPLIT, watchMigration, writePlan } from "./split.ts";
import { makeData, type StepContext } from "./steps.ts";
import { percentile } from "./traffic/windows.ts";

export interface DemoContext extends StepContext {
  /** Called under traffic, before `cleave split`: for tests that disturb the split, or do something else first. */
  readonly beforeSplit?: (coordinator: Coordinator, planFile: string) => Promise<void>;
}

export async function runDemo(context: DemoContext): Promise<Report> {
  const { layout, processes, progress } = context;
  const [source, ...targets] = layout.pods as [PodLayout, ...PodLayout[]];
  await progress.step("Starting NATS and Pod 0's PostgreSQL", () =>
    startServers(layout, processes, [source]),
  );
  await makeData(context, source);
  const podIds = targets.map((pod) => pod.podId);
  return play(context, {
    kind: "split",
    copies: EVERYWHERE,
    migration: MIGRATION,
    assign: (organizations) => {
      const authorityOf = new Map(organizations.map(({ id }) => [id, source.podId]));
      for (const [podId, ids] of assign(organizations, podIds))
        for (const id of ids) authorityOf.set(id, podId);
      return authorityOf;
    },
    migrate: (coordinator, authorityOf) =>
      split(context, coordinator, organizationsByPod(authorityOf, podIds)),
    promotionMs: () => {
      const promotions = targets.map((pod) => promotionOfFile(pod.postgresLog));
      return promotions.includes(null) ? null : percentile(promotions as number[], 1);
    },
  });
}

export function organizationsByPod(
  authorityOf: ReadonlyMap<string, string>,
  podIds: readonly string[],
): Map<string, string[]> {
  const idsOn = (podId: string) => [...authorityOf].flatMap(([id, at]) => (at === podId ? [id] : []));
  return new Map(podIds.map((podId) => [podId, idsOn(podId)]));
}

/** Plans and starts the split with the operator's command, watches it, and measures the floor while it follows. */
export async function split(
  { beforeSplit, layout, options, progress }: DemoContext,
  coordinator: Coordinator,
  assignments: ReadonlyMap<string, readonly string[]>,
): Promise<{ commitToReplayMs: number | null; appendMs: number | null }> {
  const shares = [...assignments].map(([pod, list]) => `${list.length} to ${pod}`).join(", ");
  const planFile = writePlan(layout.folder, { kind: "split", assignments, settlingMs: options.settlingMs });
  await beforeSplit?.(coordinator, planFile);
  await progress.step(`cleave split plan.yaml: organizations ${shares}`, async () => {
    await coordinator.cleave("split", planFile);
  });
  const [source, ...targets] = layout.pods as [PodLayout, ...PodLayout[]];
  const floor: { commitToReplayMs: number | null; appendMs: number | null } = {
    commitToReplayMs: null,
    appendMs: null,
  };
  await watchMigration(coordinator, progress, SPLIT, async () => {
    floor.appendMs = await measureAppend(layout.natsUrl);
    const standbys = targets.map((pod) => pod.postgres);
    floor.commitToReplayMs = await measureCommitToReplay(source.postgres, standbys);
  });
  return floor;
}
