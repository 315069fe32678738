/** The base copy against `pg_dump --data-only | psql` and against the initial copy of a subscription. */
import { spawn } from "node:child_process";
import { BaseCopy } from "../../../agent/stores/postgres/replication/base-copy.ts";
import { program } from "../../../agent/stores/postgres/server/binaries.ts";
import { quoteLiteral } from "../../../agent/stores/postgres/server/queryable.ts";
import { systemClock } from "../../../protocol/adapters/system-clock.ts";
import { PASSWORD, postgresEnvironment, USER } from "../../support/postgres/postgres.ts";
import { type BenchPods, type Contender, secondsOf } from "./pods.ts";

export interface CopyRound {
  readonly contender: Contender;
  readonly seconds: number;
  readonly rows: number;
}

/** One copy by each contender, in this order. */
export async function copyRound(
  pods: BenchPods,
  concurrency: number,
  order: readonly Contender[],
): Promise<CopyRound[]> {
  const contenders: Record<Contender, () => Promise<number>> = {
    cleave: () => byCleave(pods, concurrency),
    native: () => bySubscription(pods),
    dump: () => byDump(pods),
  };
  const rounds: CopyRound[] = [];
  for (const contender of order) {
    await pods.clean(contender);
    const seconds = await contenders[contender]();
    rounds.push({ contender, seconds, rows: await pods.count(contender) });
  }
  return rounds;
}

/** With its slot and its snapshot, from the first statement to the last commit. */
async function byCleave(pods: BenchPods, concurrency: number): Promise<number> {
  const copy = new BaseCopy({
    source: pods.endpoint("source"),
    target: pods.endpoint("target", "cleave"),
    moving: await pods.moving(),
    slot: "cleave_bench",
    clock: systemClock,
    concurrency,
  });
  try {
    return await secondsOf(() => copy.run(AbortSignal.timeout(600_000)));
  } finally {
    copy.close();
    await pods.source.query("SELECT pg_drop_replication_slot('cleave_bench')");
  }
}

/** Until every table is copied; what comes after that (catching up) is not counted. */
async function bySubscription(pods: BenchPods): Promise<number> {
  const db = await pods.on("native");
  const seconds = await secondsOf(async () => {
    await db.query(
      `CREATE SUBSCRIPTION native_bench CONNECTION ${quoteLiteral(pods.conninfo)} PUBLICATION native_bench`,
    );
    for (;;) {
      const { rows } = await db.query(
        "SELECT FROM pg_catalog.pg_subscription_rel WHERE srsubstate NOT IN ('f', 's', 'r')",
      );
      if (rows.length === 0) return;
      await new Promise((done) => setTimeout(done, 5));
    }
  });
  await db.query("DROP SUBSCRIPTION native_bench");
  return seconds;
}

/** From a database that has these rows alone; neither side looks at foreign keys or triggers, for there are none. */
async function byDump(pods: BenchPods): Promise<number> {
  const { binaries } = await postgresEnvironment();
  const [dump, psql] = [program(binaries, "pg_dump"), program(binaries, "psql")];
  const connection = (port: number) => `-h 127.0.0.1 -p ${port} -U ${USER}`;
  const line = `"${dump}" ${connection(pods.source.port)} --data-only --schema=public alone | "${psql}" ${connection(pods.target.port)} -q -X -v ON_ERROR_STOP=1 -d dump >/dev/null`;
  return await secondsOf(async () => {
    const shell = spawn("/bin/sh", ["-c", line], {
      env: { ...process.env, PGPASSWORD: PASSWORD },
      stdio: ["ignore", "ignore", "inherit"],
    });
    const code = await new Promise((resolve) => shell.once("close", resolve));
    if (code !== 0) throw new Error(`pg_dump | psql ended with ${code}`);
  });
}
