/** The demo's story, step by step: a Pod under traffic, a split, an audit, a report. */
import { setTimeout as sleep } from "node:timers/promises";
import { loadOwnership } from "../../agent/stores/create-stores.ts";
import { assign } from "./assignment.ts";
import { type AuditResult, audit } from "./audit/audit.ts";
import { contentsOf, type RepositoryPlace } from "./audit/baseline.ts";
import { query } from "./audit/found.ts";
import type { Coordinator } from "./cluster/coordinator.ts";
import type { PodLayout } from "./cluster/layout.ts";
import { startApplications, startCleave, startRouter, startServers } from "./cluster/start.ts";
import { floorOf, measureAppend, measureCommitToReplay, promotionOfFile } from "./report/floor.ts";
import { phasesOf } from "./report/phases.ts";
import { makeReport, type Report } from "./report/report.ts";
import { SPLIT, watchMigration, writePlan } from "./split.ts";
import {
  beginTraffic,
  consensusEvidence,
  ledgerFile,
  makeData,
  OWNERSHIP_FILE,
  organizationsOf,
  routerStats,
  type StepContext,
  showTraffic,
  sumOf,
  trafficChecks,
  trafficRepositoriesOf,
} from "./steps.ts";
import { readLedger } from "./traffic/ledger.ts";
import type { TrafficStats } from "./traffic/protocol.ts";
import { percentile, windowsOf } from "./traffic/windows.ts";

export interface DemoContext extends StepContext {
  /** Called under traffic, before `cleave split`: for tests that disturb the split, or do something else first. */
  readonly beforeSplit?: (coordinator: Coordinator, planFile: string) => Promise<void>;
}

export async function runDemo(context: DemoContext): Promise<Report> {
  const { layout, options, processes, progress } = context;
  const [source, ...targets] = layout.pods as [PodLayout, ...PodLayout[]];
  await progress.step("Starting NATS and Pod 0's PostgreSQL", () =>
    startServers(layout, processes, [source]),
  );
  await makeData(context, source);
  const ownership = await loadOwnership(OWNERSHIP_FILE);
  const trafficRun = `s${options.seed}`;
  const repositories = await query<RepositoryPlace & Record<string, string>>(
    source,
    ownership.repositories?.sql ?? "",
    [],
  );
  const baseline = await progress.step("Remembering what Pod 0 holds, for the audit", () =>
    contentsOf(source, ownership, repositories, trafficRun),
  );
  const coordinator = await progress.step(
    "Starting agents, coordinator, applications and router",
    async () => {
      await startApplications(layout, processes);
      const started = await startCleave(layout, processes, OWNERSHIP_FILE);
      await startRouter(layout, processes);
      return started;
    },
  );

  const organizations = await organizationsOf(source, baseline);
  const assignments = assign(
    organizations,
    targets.map((pod) => pod.podId),
  );
  const authorityOf = new Map(organizations.map(({ id }) => [id, source.podId]));
  for (const [podId, ids] of assignments) for (const id of ids) authorityOf.set(id, podId);
  const moved = new Map([...authorityOf].filter(([, podId]) => podId !== source.podId));

  const trafficRepositories = await trafficRepositoriesOf(source);
  const traffic = await beginTraffic(context, [...authorityOf.keys()], trafficRepositories);
  const footer = showTraffic(traffic, progress);
  let floor: { commitToReplayMs: number | null; appendMs: number | null };
  let final: TrafficStats;
  try {
    floor = await split(context, coordinator, assignments);
    await progress.step("Traffic goes on, on all Pods", () => sleep(options.trafficMs));
    final = await progress.step("Ending the traffic; what is under way is finished", () => traffic.stop());
  } finally {
    clearInterval(footer);
    progress.footer("");
  }
  const router = await routerStats(layout);
  const ledger = readLedger(ledgerFile(layout));
  const result: AuditResult = await progress.step("Auditing PostgreSQL, Git and objects directly", (detail) =>
    audit(
      {
        kind: "split",
        pods: layout.pods,
        authorityOf,
        sourcePodId: source.podId,
        ownership,
        repositories,
        trafficRepositories,
        ledger,
        trafficRun,
        baseline,
      },
      detail,
    ),
  );
  const events = await coordinator.events();
  const promotions = targets.map((pod) => promotionOfFile(pod.postgresLog));
  const promotionMs = promotions.includes(null) ? null : percentile(promotions as number[], 1);
  return makeReport({
    kind: "split",
    pods: layout.pods.length,
    organizations: organizations.length,
    movedOrganizations: moved.size,
    acknowledgedWrites: final.acknowledged,
    staleReads: final.stale,
    failedRequests: router.failed + final.unanswered,
    refusedWrites: sumOf(router, () => true),
    neighbourRefusals: sumOf(router, (organization) => !moved.has(organization)),
    windows: windowsOf(ledger, source.podId, moved),
    phasesMs: phasesOf(events),
    floorMs: floorOf({ ...floor, promotionMs }),
    floorPartsMs: { commitToReplay: floor.commitToReplayMs, append: floor.appendMs, promotion: promotionMs },
    audit: result,
    evidence: [...consensusEvidence(events, source.podId), ...trafficChecks(final)],
    seed: options.seed,
  });
}

/** Plans and starts the split with the operator's command, watches it, and measures the floor while it follows. */
async function split(
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
