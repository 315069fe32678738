/**
 * What is left in a source's configuration of its own past, and what leads out of its data directory: it neither stops a
 * copy's server, nor ends it at its promotion, nor is it lost.
 */
import { appendFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import {
  type Assembly,
  assemble,
  connectTo,
  never,
  reachAtLast,
  SOURCE,
  type TargetPod,
  targetId,
  until,
} from "../../../../support/postgres/pods.ts";
import { postgresEnvironment } from "../../../../support/postgres/postgres.ts";

const TARGET = targetId(0);
let pods: Assembly;
afterEach(() => pods.remove(), 60_000);

/** From the checks to the opening; resolves with what the new Pod's server has for these settings. */
async function openedWith(names: readonly string[]): Promise<Record<string, string>> {
  const [source, target] = [pods.store(SOURCE), pods.store(TARGET)];
  expect(await source.preflight(pods.duty(SOURCE, "prepare"), "start", never)).toEqual([]);
  expect(await target.preflight(pods.duty(TARGET, "seed"), "start", never)).toEqual([]);
  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await target.reach(pods.duty(TARGET, "seed"), never);
  await source.reach(pods.duty(SOURCE, "serve"), never);
  await target.reach(pods.duty(TARGET, "follow"), never);
  await until(target, ({ verified }) => verified);
  // A standby that waits with what it replays has nothing of this.
  await pods.source.query("INSERT INTO notes (organization_id, body) VALUES (9, 'at once')");
  const fenced = { epoch: 1, phase: "fenced" } as const;
  const soon = AbortSignal.timeout(20_000);
  expect(await target.preflight(pods.duty(TARGET, "follow"), "fence", never)).toEqual([]);
  await Promise.all([
    source.reach(pods.duty(SOURCE, "fence", fenced), soon),
    target.reach(pods.duty(TARGET, "match", fenced), soon),
  ]);
  await reachAtLast(target, pods.duty(TARGET, "activate", { epoch: 1, phase: "transferred" }));
  await target.reach(pods.duty(TARGET, "open", { epoch: 1, phase: "opened" }), soon);
  const client = await connectTo(pods.targets[0] as TargetPod);
  try {
    const { rows } = await client.query(
      "SELECT name, current_setting(name, true) AS value FROM unnest($1::text[]) AS name",
      [names],
    );
    return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
  } finally {
    await client.end();
  }
}

async function configured(lines: readonly string[], settings: Record<string, string> = {}): Promise<void> {
  await pods.source.stop();
  appendFileSync(join(pods.source.dataDirectory, "postgresql.conf"), `\n${lines.join("\n")}\n`);
  await pods.source.resume(settings);
}

it("of a restoration, of a time as a standby, and of other places on the source's machine", async () => {
  pods = await assemble();
  const { dataDirectory, folder } = pods.source;
  const { binaries } = await postgresEnvironment();
  const inFolder = join(dataDirectory, "conf.d");
  mkdirSync(inFolder, { mode: 0o755 });
  writeFileSync(join(inFolder, "10-own.conf"), "work_mem = '1111kB'\ninclude '../../nested.conf'\n");
  writeFileSync(join(folder, "nested.conf"), "temp_buffers = '2222kB'\n");
  writeFileSync(join(folder, "linked.conf"), "maintenance_work_mem = '3333kB'\n");
  symlinkSync(join(folder, "linked.conf"), join(inFolder, "20-linked.conf"));
  writeFileSync(join(folder, "outside.conf"), "lock_timeout = '44s'\nmyapp.region = 'eu''s'\n");
  writeFileSync(join(folder, "promote"), "");
  // In an encoding that is not the database's.
  for (const name of ["pg_hba.conf", "pg_ident.conf"])
    appendFileSync(join(dataDirectory, name), Buffer.from("# caf\u00e9\n", "latin1"));
  await configured(
    [
      "recovery_target_time = '2040-01-01 00:00:00'",
      "recovery_target_action = 'promote'",
      "recovery_min_apply_delay = '1h'",
      ...(binaries.majorVersion === 15 ? [`promote_trigger_file = '${folder}/promote'`] : []),
      `data_directory = '${dataDirectory}'`,
      "INCLUDE_DIR = 'conf.d' # and more",
      "include_if_exists = '../outside.conf'",
      "include_if_exists = 'not-there.conf'",
    ],
    { "MyApp.tier": "gold", log_line_prefix: "%m\t%p " },
  );
  expect(
    await openedWith([
      "work_mem",
      "temp_buffers",
      "maintenance_work_mem",
      "lock_timeout",
      "myapp.region",
      "myapp.tier",
      "log_line_prefix",
      "recovery_min_apply_delay",
    ]),
  ).toEqual({
    work_mem: "1111kB",
    temp_buffers: "2224kB",
    maintenance_work_mem: "3333kB",
    lock_timeout: "44s",
    "myapp.region": "eu's",
    "myapp.tier": "gold",
    log_line_prefix: "%m\t%p ",
    recovery_min_apply_delay: "0",
  });
});

it("a restoration to a time that is over, which would promote the copy, is none of the copy's", async () => {
  pods = await assemble();
  await pods.source.query("ALTER SYSTEM SET recovery_target_time = '2020-01-01 00:00:00'");
  await configured(["recovery_target_action = 'promote'"]);
  expect(await openedWith(["recovery_target_time"])).toEqual({ recovery_target_time: "" });
});

it("says before anything is copied what a copy's server would not start with", async () => {
  pods = await assemble();
  const folder = join(pods.source.folder, "auth");
  mkdirSync(folder);
  writeFileSync(join(folder, "admins"), "cleave\n");
  const lines = ["database", "replication"].map((what) =>
    what === "database"
      ? "host all @admins 127.0.0.1/32 scram-sha-256 # not @this"
      : 'host replication "cleave", @admins 127.0.0.1/32 scram-sha-256',
  );
  writeFileSync(join(folder, "hba.conf"), `# @nor-this\n${lines.join("\n")}\n`);
  await configured([`synchronous_standby_names = 'FIRST 1 (elsewhere, "POD-100")'`], {
    hba_file: join(folder, "hba.conf"),
    synchronous_commit: "local",
  });
  const serverOptions = {
    max_connections: "20",
    max_worker_processes: "50",
    ssl: "on",
    ssl_cert_file: "/nowhere/server.crt",
    logging_collector: "on",
    log_directory: "/nowhere/at/all",
    shared_preload_libraries: 'pg_stat_statements, "not_installed"',
  };
  const findings = await pods
    .store(TARGET, { serverOptions })
    .preflight(pods.duty(TARGET, "seed"), "start", never);
  const said = findings
    .filter(({ message }) => !/on the source and will be/.test(message))
    .map(({ severity, code, message }) => `${severity} ${code} ${message}`);
  expect(said).toEqual([
    expect.stringMatching(/^error POSTGRES_SETTING .*hba\.conf of the source reads admins, which/),
    expect.stringMatching(/^error POSTGRES_SETTING max_connections is 100 .* and 20 in postgres\.serverOpt/),
    expect.stringMatching(/^warning POSTGRES_SETTING synchronous_standby_names of the source .* counts the/),
    expect.stringMatching(/^error POSTGRES_SETTING ssl_cert_file .*\/nowhere\/server\.crt/),
    expect.stringMatching(/^error POSTGRES_SETTING log_directory .*\/nowhere\/at/),
    expect.stringMatching(/^error POSTGRES_TOOL_MISSING .* not have: not_installed;/),
  ]);
});
