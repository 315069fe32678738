/** Steps that the demos of a split and of a move have in common. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "undici";
import type { Contents } from "./audit/baseline.ts";
import { type Check, checkOf } from "./audit/check.ts";
import { query } from "./audit/found.ts";
import type { LoggedEvent } from "./cluster/coordinator.ts";
import type { Layout, PodLayout } from "./cluster/layout.ts";
import type { Processes } from "./cluster/processes.ts";
import { waitFor } from "./cluster/waiting.ts";
import type { DemoOptions } from "./options.ts";
import type { Progress } from "./progress.ts";
import type { RouterStats } from "./router/counters.ts";
import { generateSamplePod } from "./sample-pod/generate/generate.ts";
import type { TrafficRepository } from "./traffic/git.ts";
import { type RunningTraffic, startTraffic } from "./traffic/process.ts";
import type { TrafficStats } from "./traffic/protocol.ts";

export interface StepContext {
  readonly options: DemoOptions;
  readonly layout: Layout;
  readonly processes: Processes;
  readonly progress: Progress;
  /** Called when all traffic has ended: for tests that disturb, which must have done with it by then. */
  readonly beforeAudit?: () => Promise<void>;
}

/** The rules of the sample Pod. */
export const OWNERSHIP_FILE = join(import.meta.dirname, "sample-pod/ownership.yaml");
/** Real clients push to some repositories often, rather than to all of them once. */
const TRAFFIC_REPOSITORIES_PER_ORGANIZATION = 2;

export async function makeData({ options, progress }: StepContext, source: PodLayout): Promise<void> {
  const { objects, organizations, repositories, rows } = options;
  await progress.step("Making the sample Pod's data", async (detail) => {
    const parts = new Map<string, string>();
    await generateSamplePod({
      database: source.postgres,
      gitRoot: source.gitRoot,
      objectRoot: source.objectsRoot,
      sizes: { organizations, rows, repositories, objects },
      seed: options.seed,
      ...(options.repositoriesFrom === null ? {} : { importRepositories: options.repositoriesFrom }),
      onProgress: (part, done, total) => {
        parts.set(part, `${part} ${done}/${total}`);
        detail([...parts.values()].join(", "));
      },
    });
    detail(`${rows} rows, ${repositories} repositories, ${objects} objects`);
  });
}

/** Organizations by the number of their rows. */
export async function organizationsOf(
  source: PodLayout,
  baseline: Contents,
): Promise<{ id: string; size: number }[]> {
  const rows = await query<{ id: string }>(
    source,
    "SELECT id::text FROM public.organizations ORDER BY id",
    [],
  );
  return rows.map(({ id }) => {
    let size = 0;
    for (const [thing, digest] of baseline.get(id) ?? [])
      if (thing.startsWith("rows ")) size += Number(digest.split(" ")[0]);
    return { id, size };
  });
}

export async function trafficRepositoriesOf(source: PodLayout): Promise<TrafficRepository[]> {
  return await query<TrafficRepository & Record<string, string>>(
    source,
    `SELECT organization, project FROM (
       SELECT p.organization_id::text AS organization, p.id::text AS project,
              row_number() OVER (PARTITION BY p.organization_id ORDER BY p.id) AS position
         FROM public.projects p JOIN public.project_repositories r ON r.project_id = p.id) x
      WHERE position <= $1 ORDER BY position, organization`,
    [TRAFFIC_REPOSITORIES_PER_ORGANIZATION],
  );
}

export function ledgerFile(layout: Layout): string {
  return join(layout.folder, "traffic", "ledger.jsonl");
}

export async function beginTraffic(
  { layout, options, processes, progress }: StepContext,
  organizations: readonly string[],
  repositories: readonly TrafficRepository[],
): Promise<RunningTraffic> {
  return await progress.step("Clients begin: SQL, git push, objects, readers", async (detail) => {
    const folder = join(layout.folder, "traffic");
    mkdirSync(folder);
    const traffic = startTraffic(processes, {
      routerUrl: layout.routerUrl,
      organizations,
      repositories,
      rate: options.rate,
      seed: options.seed,
      longTransactions: options.longTransactions,
      objectShare: options.objectShare,
      readsPerWrite: options.readsPerWrite,
      ledgerFile: ledgerFile(layout),
      folder,
    });
    await sleep(options.trafficMs);
    const acknowledged = await waitFor(
      "the first acknowledged write of every organization",
      async () => {
        const count = traffic.stats()?.acknowledged ?? 0;
        return count > 2 * organizations.length ? count : null;
      },
      { withinMs: 60_000, everyMs: 100, failed: traffic.failed },
    );
    detail(`${acknowledged} writes so far`);
    return traffic;
  });
}

export function showTraffic(traffic: RunningTraffic, progress: Progress): NodeJS.Timeout {
  return setInterval(() => {
    const stats = traffic.stats();
    if (stats === null) return;
    const faults = stats.failed + stats.unanswered + stats.stale;
    progress.footer(
      `${stats.acknowledged} writes acknowledged · ${stats.pushes} pushes · ${stats.reads} reads · ${faults === 0 ? "none failed" : `${faults} FAILED OR STALE`}`,
    );
  }, 500);
}

export async function routerStats(layout: Layout): Promise<RouterStats> {
  const response = await request(`${layout.routerUrl}/router/stats`);
  const stats = (await response.body.json()) as RouterStats;
  writeFileSync(join(layout.folder, "router-stats.json"), JSON.stringify(stats, null, 2));
  return stats;
}

export function sumOf(router: RouterStats, counts: (organization: string) => boolean): number {
  return Object.entries(router.organizations)
    .filter(([organization]) => counts(organization))
    .reduce((sum, [, { refused }]) => sum + refused, 0);
}

/** What the Pods agreed on at the fence, as the log keeps it: the source's digests and each target's, side by side. */
export function consensusEvidence(events: readonly LoggedEvent[], sourcePodId: string): Check[] {
  const consensus = events.findLast((event) => event.type === "ConsensusReached");
  if (consensus?.type !== "ConsensusReached") return [];
  const expected = consensus.evidence[sourcePodId] ?? {};
  const targets = Object.entries(consensus.evidence).filter(([podId]) => podId !== sourcePodId);
  return targets.map(([podId, stores]) => {
    const pairs = Object.entries(expected).map(([store, { digest }]) => {
      const actual = stores[store as keyof typeof stores]?.digest;
      return { store, digest, same: actual === digest };
    });
    return checkOf(
      `${podId} equalled ${sourcePodId} at the fence`,
      pairs.filter(({ same }) => !same).map(({ store }) => `${store} differs`),
      pairs.map(({ digest, store }) => `${store} ${shortened(digest)}`).join(" · "),
    );
  });
}

function shortened(digest: string): string {
  return digest.length <= 24 ? digest : `${digest.slice(0, 10)}…${digest.slice(-10)}`;
}

export function trafficChecks(final: TrafficStats): Check[] {
  return [
    checkOf(
      "no client met an answer that it did not expect",
      Object.entries(final.unexpected).map(([what, count]) => `${count} × ${what}`),
      `${final.requests} requests, ${final.pushes} pushes, ${final.reads} reads`,
    ),
    checkOf(
      "no reader saw an older state than had been acknowledged or seen",
      final.staleReads.map(
        (read) => `${read.kind} ${read.key} on ${read.podId}: ${read.read}, ${read.expected}`,
      ),
      `${final.reads} reads`,
    ),
    {
      name: "every write was answered in the end",
      ok: final.ambiguous === 0,
      detail: `${final.ambiguous} without an answer`,
    },
  ];
}
