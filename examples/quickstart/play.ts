/** What every story has: a Pod with data, traffic before, during and after, an audit, a report. */
import { setTimeout as sleep } from "node:timers/promises";
import { loadOwnership } from "../../agent/stores/create-stores.ts";
import { type AuditResult, audit, type CopiesOn } from "./audit/audit.ts";
import { contentsOf, type RepositoryPlace } from "./audit/baseline.ts";
import { query } from "./audit/found.ts";
import type { Coordinator } from "./cluster/coordinator.ts";
import type { PodLayout } from "./cluster/layout.ts";
import { guardsAnswer, startApplications, startCleave, startRouter } from "./cluster/start.ts";
import { type FloorParts, floorOf } from "./report/floor.ts";
import { phasesOf } from "./report/phases.ts";
import { makeReport, type Report } from "./report/report.ts";
import {
  beginTraffic,
  consensusEvidence,
  ledgerFile,
  OWNERSHIP_FILE,
  organizationsOf,
  routerStats,
  type StepContext,
  showTraffic,
  sumOf,
  trafficChecks,
  trafficRepositoriesOf,
} from "./steps.ts";
import { type LedgerEntry, readLedger } from "./traffic/ledger.ts";
import type { TrafficStats } from "./traffic/protocol.ts";
import { type Window, windowsOf } from "./traffic/windows.ts";

export interface Story {
  readonly kind: "split" | "move" | "rollback" | "lifecycle";
  /** Which dormant copies are left in the end. */
  readonly copies: CopiesOn;
  /** A Pod whose dormant copies are kept level: they have every acknowledged write too, once `settled` resolves. */
  readonly levelCopies?: { readonly podId: string; readonly settled: () => Promise<void> };
  /** Organizations that a migration brought elsewhere and another one back, with the windows of the way back. */
  readonly returned?: {
    readonly organizations: readonly string[];
    /** The Pod that gave them back. */
    readonly from: string;
    readonly windows: (ledger: readonly LedgerEntry[]) => readonly Window[];
  };
  /** Which Pod each organization, largest first, is to live on in the end. */
  readonly assign: (organizations: readonly { id: string; size: number }[]) => ReadonlyMap<string, string>;
  /** Under traffic. */
  readonly migrate: (
    coordinator: Coordinator,
    authorityOf: ReadonlyMap<string, string>,
  ) => Promise<Omit<FloorParts, "promotionMs">>;
  /** The migration whose phases are reported. */
  readonly migration: string;
  /** Of the slowest new Pod; null where nothing is promoted. */
  readonly promotionMs: () => number | null;
}

/** From a Pod 0 with data to a report; the servers run already. */
export async function play(context: StepContext, story: Story): Promise<Report> {
  const { layout, options, processes, progress } = context;
  const [source] = layout.pods as [PodLayout, ...PodLayout[]];
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
  const authorityOf = story.assign([...organizations].sort((a, b) => b.size - a.size));
  const moved = new Map([...authorityOf].filter(([, podId]) => podId !== source.podId));
  const trafficRepositories = await trafficRepositoriesOf(source);
  const traffic = await beginTraffic(context, [...authorityOf.keys()], trafficRepositories);
  const footer = showTraffic(traffic, progress);
  let floor: Omit<FloorParts, "promotionMs">;
  let final: TrafficStats;
  try {
    floor = await story.migrate(coordinator, authorityOf);
    await progress.step("Traffic goes on, on all Pods", () => sleep(options.trafficMs));
    final = await progress.step("Ending the traffic; what is under way is finished", () => traffic.stop());
  } finally {
    clearInterval(footer);
    progress.footer("");
  }
  await context.beforeAudit?.();
  await guardsAnswer(layout);
  await story.levelCopies?.settled();
  const router = await routerStats(layout);
  const ledger = readLedger(ledgerFile(layout));
  const returned = story.returned?.organizations ?? [];
  const result: AuditResult = await progress.step("Auditing PostgreSQL, Git and objects directly", (detail) =>
    audit(
      {
        copies: story.copies,
        levelOn: story.levelCopies?.podId ?? null,
        pods: layout.pods,
        authorityOf,
        before: new Map(returned.map((organization) => [organization, story.returned?.from ?? ""])),
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
  const promotionMs = story.promotionMs();
  return makeReport({
    kind: story.kind,
    pods: layout.pods.length,
    organizations: organizations.length,
    movedOrganizations: moved.size + returned.length,
    acknowledgedWrites: final.acknowledged,
    staleReads: final.stale,
    failedRequests: router.failed + final.unanswered,
    refusedWrites: sumOf(router, () => true),
    neighbourRefusals: sumOf(
      router,
      (organization) => !moved.has(organization) && !returned.includes(organization),
    ),
    windows: [
      ...windowsOf(ledger, source.podId, moved),
      ...(story.returned === undefined ? [] : story.returned.windows(ledger)),
    ],
    phasesMs: phasesOf(
      events.filter((event) => !("migrationId" in event) || event.migrationId === story.migration),
    ),
    floorMs: floorOf({ ...floor, promotionMs }),
    floorPartsMs: { commitToReplay: floor.commitToReplayMs, append: floor.appendMs, promotion: promotionMs },
    audit: result,
    evidence: [...consensusEvidence(events, source.podId), ...trafficChecks(final)],
    seed: options.seed,
  });
}
