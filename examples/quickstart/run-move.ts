/** The story of a move: a large Pod and a smaller one, both serving; the busiest organization goes from one to the other. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { onlyOn } from "./audit/audit.ts";
import type { Coordinator } from "./cluster/coordinator.ts";
import type { PodLayout } from "./cluster/layout.ts";
import { startServers } from "./cluster/start.ts";
import { play } from "./play.ts";
import type { Report } from "./report/report.ts";
import { isolate, numberApart } from "./sample-pod/isolate.ts";
import { watchMigration, writePlan } from "./split.ts";
import { makeData, type StepContext } from "./steps.ts";

export const MOVE_PODS = ["pod-0", "pod-1"] as const;
/** What the smaller Pod serves already when the busiest organization comes. */
const COHORT = "move-a-cohort";
export const BUSIEST = "move-the-busiest";
const SCHEMA_FILE = join(import.meta.dirname, "sample-pod/schema.sql");

export interface MoveContext extends StepContext {
  /** Called under traffic, before the busiest organization is moved: for tests that disturb it. */
  readonly beforeMove?: (coordinator: Coordinator, planFile: string) => Promise<void>;
  /** Called under traffic, when its new Pod serves it. */
  readonly afterMove?: (coordinator: Coordinator) => Promise<void>;
}

export async function runMove(context: MoveContext): Promise<Report> {
  const { layout, options, processes, progress } = context;
  const [source, target] = layout.pods as [PodLayout, PodLayout];
  await progress.step("Starting NATS and the PostgreSQL of both Pods", () =>
    startServers(layout, processes, layout.pods),
  );
  await makeData(context, source);
  await progress.step("Giving both Pods the same schema, and keys of their own", async () => {
    await isolate(source.postgres);
    await onDatabase(target, async (db) => void (await db.query(await readFile(SCHEMA_FILE, "utf8"))));
    await numberApart(source.postgres, target.postgres);
  });
  return play(context, {
    kind: "move",
    copies: onlyOn(source.podId),
    migration: BUSIEST,
    assign: (organizations) => {
      const [busiest, ...others] = organizations.map(({ id }) => id);
      const cohort = others.slice(-Math.max(1, Math.floor(others.length / 4)));
      return new Map(
        organizations.map(({ id }) => [
          id,
          id === busiest || cohort.includes(id) ? target.podId : source.podId,
        ]),
      );
    },
    migrate: async (coordinator, authorityOf) => {
      const [busiest = "", ...cohort] = [...authorityOf].flatMap(([id, podId]) =>
        podId === target.podId ? [id] : [],
      );
      await move(context, coordinator, COHORT, cohort, target);
      await progress.step(`${target.podId} serves ${count(cohort)}`, () => sleep(options.trafficMs));
      await move(context, coordinator, BUSIEST, [busiest], target);
      await context.afterMove?.(coordinator);
      return { commitToReplayMs: null, appendMs: null };
    },
    promotionMs: () => null,
  });
}

const count = (organizations: readonly string[]) =>
  organizations.length === 1 ? `organization ${organizations[0]}` : `${organizations.length} organizations`;

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
  const what = count(organizations);
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
  // What uses it says that it broke.
  db.on("error", () => undefined);
  await db.connect();
  try {
    await work(db);
  } finally {
    await db.end();
  }
}
