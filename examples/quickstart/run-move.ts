/** The story of a move: a large Pod and a smaller one, both serving; the busiest organization goes from one to the other. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { loadOwnership } from "../../agent/stores/create-stores.ts";
import { type AuditResult, audit } from "./audit/audit.ts";
import { contentsOf, type RepositoryPlace } from "./audit/baseline.ts";
import { query } from "./audit/found.ts";
import type { Coordinator } from "./cluster/coordinator.ts";
import type { PodLayout } from "./cluster/layout.ts";
import { startApplications, startCleave, startRouter, startServers } from "./cluster/start.ts";
import { phasesOf } from "./report/phases.ts";
import { makeReport, type Report } from "./report/report.ts";
import { isolate, numberApart } from "./sample-pod/isolate.ts";
import { watchMigration, writePlan } from "./split.ts";
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
import { windowsOf } from "./traffic/windows.ts";

export const MOVE_PODS = ["pod-0", "pod-1"] as const;
/** What the smaller Pod serves already when the busiest organization comes. */
const COHORT = "move-a-cohort";
export const BUSIEST = "move-the-busiest";
const SCHEMA_FILE = join(import.meta.dirname, "sample-pod/schema.sql");

export interface MoveContext extends StepContext {
  /** Called under traffic, before the busiest organization is moved: for tests that disturb it. */
  readonly beforeMove?: (coordinator: Coordinator, planFile: string) => Promise<void>;
}

export async function runMove(context: MoveContext): Promise<Report> {
  const { layout, options, processes, progress } = context;
  const [source, target] = layout.pods as [PodLayout, PodLayout];
  await progress.step("Starting NATS and the PostgreSQL of both Pods", () =>
    startServers(layout, processes, layout.pods, "logical"),
  );
  await makeData(context, source);
  await progress.step("Giving both Pods the same schema, and keys of their own", async () => {
    await isolate(source.postgres);
    await onDatabase(target, async (db) => void (await db.query(await readFile(SCHEMA_FILE, "utf8"))));
    await numberApart(source.postgres, target.postgres);
  });
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
  const bySize = [...organizations].sort((a, b) => b.size - a.size).map(({ id }) => id);
  const [busiest = "", ...others] = bySize;
  const cohort = others.slice(-Math.max(1, Math.floor(others.length / 4)));
  const moved = new Map([...cohort, busiest].map((id) => [id, target.podId]));
  const authorityOf = new Map(organizations.map(({ id }) => [id, moved.get(id) ?? source.podId]));

  const trafficRepositories = await trafficRepositoriesOf(source);
  const traffic = await beginTraffic(context, [...authorityOf.keys()], trafficRepositories);
  const footer = showTraffic(traffic, progress);
  let final: TrafficStats;
  try {
    await move(context, coordinator, COHORT, cohort, target);
    await progress.step(`${target.podId} serves ${cohort.length} organizations`, () =>
      sleep(options.trafficMs),
    );
    await move(context, coordinator, BUSIEST, [busiest], target);
    await progress.step("Traffic goes on, on both Pods", () => sleep(options.trafficMs));
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
        kind: "move",
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
  const ofBusiest = events.filter((event) => "migrationId" in event && event.migrationId === BUSIEST);
  return makeReport({
    kind: "move",
    pods: layout.pods.length,
    organizations: organizations.length,
    movedOrganizations: moved.size,
    acknowledgedWrites: final.acknowledged,
    staleReads: final.stale,
    failedRequests: router.failed + final.unanswered,
    refusedWrites: sumOf(router, () => true),
    neighbourRefusals: sumOf(router, (organization) => !moved.has(organization)),
    windows: windowsOf(ledger, source.podId, moved),
    phasesMs: phasesOf(ofBusiest),
    floorMs: null,
    floorPartsMs: { commitToReplay: null, append: null, promotion: null },
    audit: result,
    evidence: [...consensusEvidence(events, source.podId), ...trafficChecks(final)],
    seed: options.seed,
  });
}

async function move(
  { beforeMove, layout, options, progress }: MoveContext,
  coordinator: Coordinator,
  migration: string,
  organizations: readonly string[],
  target: PodLayout,
): Promise<void> {
  const assignments = new Map([[target.podId, organizations]]);
  const planFile = writePlan(layout.folder, {
    kind: "move",
    migration,
    assignments,
    settlingMs: options.settlingMs,
  });
  if (migration === BUSIEST) await beforeMove?.(coordinator, planFile);
  const what =
    organizations.length === 1 ? `organization ${organizations[0]}` : `${organizations.length} organizations`;
  await progress.step(`cleave move ${migration}.yaml: ${what} to ${target.podId}`, async () => {
    await coordinator.cleave("move", planFile);
  });
  await watchMigration(coordinator, progress, {
    migration,
    copying: `Copying the rows, repositories and objects of ${what}`,
  });
}

async function onDatabase(pod: PodLayout, work: (db: pg.Client) => Promise<void>): Promise<void> {
  const db = new pg.Client(pod.postgres);
  await db.connect();
  try {
    await work(db);
  } finally {
    await db.end();
  }
}
