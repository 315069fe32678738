/**
 * `npm run bench:guard`: what the write guard costs writers, by pgbench's own transaction (TPC-B: three updates, a
 * look and an insert) on a real server with durable commits, many organizations and a single hot one.
 *
 * The same server is measured without the guard, with it installed, and with every organization staged for a
 * migration (its costliest state), in turn and several times; the ratios are medians of those of each round, so that a
 * machine that grows slower meanwhile slows all three. pgbench's branches are the organizations.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Command } from "commander";
import { installGuard, removeGuard } from "../../agent/stores/postgres/fence/install.ts";
import { stageRoutes } from "../../agent/stores/postgres/fence/staging.ts";
import { program } from "../../agent/stores/postgres/server/binaries.ts";
import { percentile } from "../../examples/quickstart/traffic/windows.ts";
import type { MigrationId, OrganizationId, PodId } from "../../protocol/ids.ts";
import { Ownership } from "../../protocol/ownership.ts";
import { Cluster, DATABASE, PASSWORD, postgresEnvironment, USER } from "../support/postgres/postgres.ts";
import { BenchReport } from "./report.ts";

const flags = new Command("npm run bench:guard --")
  .description("Measures transactions per second with and without the write guard.")
  .option("--seconds <n>", "of each measurement", "6")
  .option("--rounds <n>", "of without, installed, staged", "5")
  .option("--organizations <n>", "pgbench's branches", "50")
  .option("--clients <n>", "connections", "8")
  .option("--json <file>", "write the figures as JSON")
  .parse()
  .opts<{ seconds: string; rounds: string; organizations: string; clients: string; json?: string }>();

const POD = "pod-0" as PodId;
const TARGET = "pod-100" as PodId;
const MIGRATION = "bench" as MigrationId;
const RULES = Ownership.parse({
  version: 1,
  root: { table: "public.pgbench_branches", key: "bid" },
  tables: {
    "public.pgbench_tellers": { organization: "bid" },
    "public.pgbench_accounts": { organization: "bid" },
    "public.pgbench_history": { organization: "bid" },
  },
});
const STATES = ["without", "installed", "staged"] as const;
const LOADS = { many: [], hot: ["--define=scale=1"] } as const;
type State = (typeof STATES)[number];
type Load = keyof typeof LOADS;

const run = promisify(execFile);
const { binaries } = await postgresEnvironment();
const cluster = await Cluster.start({
  podId: POD,
  settings: { shared_buffers: "256MB", max_wal_size: "2GB", checkpoint_timeout: "30min" },
});

async function pgbench(...args: readonly string[]): Promise<string> {
  const connection = ["-h", "127.0.0.1", "-p", String(cluster.port), "-U", USER];
  const { stdout } = await run(program(binaries, "pgbench"), [...connection, ...args, DATABASE], {
    env: { ...process.env, PGPASSWORD: PASSWORD },
  });
  return stdout;
}

/** The hot organization is the first: pgbench picks among `scale` branches, with their tellers and accounts. */
async function measure(load: Load): Promise<number> {
  const output = await pgbench(
    ...["-n", "-M", "prepared", "-c", flags.clients, "-j", "2", "-T", flags.seconds, ...LOADS[load]],
  );
  const found = /tps = ([\d.]+)/.exec(output);
  if (!found) throw new Error(`pgbench said nothing of transactions: ${output}`);
  return Number(found[1]);
}

const report = new BenchReport("guard");
const tps = new Map<string, number[]>();
try {
  await pgbench("-i", "-q", "-s", flags.organizations);
  const db = await cluster.connect();
  // Without a key a row of history could not be told from another; the guard asks for one.
  await db.query("ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
  await db.query("VACUUM ANALYZE");
  const assignments = new Map<OrganizationId, PodId>(
    Array.from({ length: Number(flags.organizations) }, (_, at) => [
      String(at + 1) as OrganizationId,
      TARGET,
    ]),
  );
  const enter: Record<State, () => Promise<unknown>> = {
    without: () => removeGuard(db),
    installed: () => installGuard(db, { ownership: RULES, defaultPodId: POD, migrationId: MIGRATION }),
    staged: () =>
      stageRoutes(db, {
        migrationId: MIGRATION,
        sourcePodId: POD,
        defaultPodId: POD,
        targetPodIds: [TARGET],
        assignments,
      }),
  };
  await measure("many");
  for (let round = 1; round <= Number(flags.rounds); round++) {
    for (const state of STATES) {
      if (round > 1 || state !== "without") await enter[state]();
      for (const load of Object.keys(LOADS) as Load[]) {
        const value = await measure(load);
        const key = `${load} ${state}`;
        tps.set(key, [...(tps.get(key) ?? []), value]);
        console.log(`round ${round}: ${key.padEnd(15)} ${value.toFixed(0)} transactions/s`);
      }
    }
  }
  await db.end();
} finally {
  await cluster.remove();
}

const of = (load: Load, state: State) => tps.get(`${load} ${state}`) ?? [];
const median = (values: readonly number[]) => percentile(values, 0.5) ?? Number.NaN;
for (const load of Object.keys(LOADS) as Load[])
  for (const state of STATES) report.figure(`${load} ${state}`, median(of(load, state)), "transactions/s");
const NAMES = { many: "guard-many-organizations-tps", hot: "guard-hot-organization-tps" } as const;
for (const load of Object.keys(LOADS) as Load[]) {
  const ratio = (state: State) =>
    median(of(load, state).map((value, at) => value / (of(load, "without")[at] ?? Number.NaN)));
  report.figure(`${NAMES[load]}, installed only`, ratio("installed"), "");
  report.ratio(NAMES[load], ratio("staged"), "≥", 0.95);
}
report.finish(flags.json);
