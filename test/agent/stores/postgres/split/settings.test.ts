/** A new Pod's server has its source's settings, wherever they come from, or it is said before the fence which it has not. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  never,
  SOURCE,
  type TargetPod,
  targetId,
  until,
} from "../../../../support/postgres/pods.ts";

const TARGET = targetId(0);
let pods: Assembly;
let pod: TargetPod;
let source: PostgresStore;
let target: PostgresStore;

/** By file outside of the data directory, by command line, and by a file inside of it. */
const OUTSIDE = {
  timezone: "Asia/Tokyo",
  datestyle: "German",
  statement_timeout: "123456",
  default_text_search_config: "pg_catalog.german",
  shared_preload_libraries: "pg_stat_statements",
  "pg_stat_statements.max": "321",
  search_path: `"$user", "o'dd", public`,
};
const BY_COMMAND_LINE = { lock_timeout: "7s", work_mem: "5555kB" };

async function seen(names: readonly string[]): Promise<Record<string, string>> {
  const client = await connectTo(pod);
  const { rows } = await client.query(
    "SELECT name, current_setting(name) AS value FROM unnest($1::text[]) AS name",
    [names],
  );
  await client.end();
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

beforeAll(async () => {
  pods = await assemble({ cluster: { settings: { archive_mode: "on", archive_command: "true" } } });
  pod = pods.targets[0] as TargetPod;
  await pods.source.stop();
  const file = join(pods.source.folder, "elsewhere.conf");
  const lines = Object.entries(OUTSIDE).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`);
  writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o644 });
  await pods.source.resume({ config_file: file, ...BY_COMMAND_LINE });
  source = pods.store(SOURCE);
  target = pods.store(TARGET);
}, 60_000);
afterAll(() => pods.remove(), 60_000);

it("says before anything begins what will not be as on the source, by plan", async () => {
  const findings = await target.preflight(pods.duty(TARGET, "seed"), "start", never);
  expect(findings).toEqual([
    {
      store: "postgres",
      severity: "warning",
      code: "POSTGRES_SETTING",
      message: expect.stringMatching(/^archive_mode is "on" on the source and will be "off" on this Pod/),
    },
  ]);
  const socket = { serverOptions: { unix_socket_directories: "/tmp", archive_mode: "on" } };
  const own = await pods.store(TARGET, socket).preflight(pods.duty(TARGET, "seed"), "start", never);
  expect(own.map(({ severity, message }) => [severity, message])).toEqual([
    ["info", expect.stringMatching(/^unix_socket_directories is "" on the source and will be "\/tmp"/)],
  ]);
});

it("carries what the data directory does not bring along", async () => {
  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await target.reach(pods.duty(TARGET, "seed"), never);
  await source.reach(pods.duty(SOURCE, "serve"), never);
  await target.reach(pods.duty(TARGET, "follow"), never);
  await until(target, ({ verified }) => verified);
  expect(await seen([...Object.keys(OUTSIDE), ...Object.keys(BY_COMMAND_LINE)])).toEqual({
    ...OUTSIDE,
    ...BY_COMMAND_LINE,
    datestyle: "German, DMY",
    statement_timeout: "123456ms",
  });
  const findings = await target.preflight(pods.duty(TARGET, "follow"), "fence", never);
  expect(findings).toEqual([]);
});

it("says before the fence what was changed since on either side, unless the operator says so himself", async () => {
  await pods.source.query("ALTER SYSTEM SET deadlock_timeout = '3s'");
  await pods.source.query("SELECT pg_reload_conf()");
  const findings = async (options: Record<string, string> = {}) =>
    (
      await pods
        .store(TARGET, { serverOptions: options })
        .preflight(pods.duty(TARGET, "follow"), "fence", never)
    ).map(({ severity, message }) => [severity, message]);
  await expect
    .poll(findings)
    .toEqual([
      ["warning", expect.stringMatching(/^deadlock_timeout is "3000" on the source and "1000" on this Pod/)],
    ]);
  expect(await findings({ deadlock_timeout: "1s" })).toEqual([]);
});
