/** Checks before a migration: each thing that would stop it later is found before anything is changed. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { systemClock } from "../../../../../protocol/adapters/system-clock.ts";
import type { Finding } from "../../../../../protocol/evidence.ts";
import type { OrganizationId, PodId } from "../../../../../protocol/ids.ts";
import {
  type Assembly,
  assemble,
  never,
  SOURCE,
  type TargetPod,
  targetId,
} from "../../../../support/postgres/pods.ts";

const TARGET = targetId(0);
let pods: Assembly;
let pod: TargetPod;
const cleanups: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  pods = await assemble({ cluster: { settings: { max_prepared_transactions: "5" } } });
  pod = pods.targets[0] as TargetPod;
}, 60_000);
afterAll(() => pods.remove(), 60_000);
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}, 60_000);

const codes = (findings: readonly Finding[], severity: Finding["severity"] = "error") =>
  findings.filter((one) => one.severity === severity).map(({ code }) => code);
const ofSource = (store = pods.store(SOURCE)) =>
  store.preflight(pods.duty(SOURCE, "prepare"), "start", never);
const ofTarget = (store = pods.store(TARGET)) => store.preflight(pods.duty(TARGET, "seed"), "start", never);

it("finds nothing wrong with a source and a target that are right", async () => {
  expect(await ofSource()).toEqual([]);
  expect(await ofTarget()).toEqual([]);
});

it("finds settings of the source that do not allow replication", async () => {
  cleanups.push(() => pods.source.stop().then(() => pods.source.resume({ ...fine })));
  const fine = {
    wal_level: "replica",
    max_wal_senders: "10",
    max_replication_slots: "10",
    max_slot_wal_keep_size: "-1",
    fsync: "on",
    full_page_writes: "on",
  };
  await pods.source.stop();
  await pods.source.resume({
    wal_level: "minimal",
    max_wal_senders: "0",
    max_replication_slots: "0",
    max_slot_wal_keep_size: "1GB",
    fsync: "off",
    full_page_writes: "off",
  });
  const findings = await ofSource();
  expect(codes(findings)).toEqual(["POSTGRES_SETTING", "POSTGRES_SETTING", "POSTGRES_SETTING"]);
  expect(codes(findings, "warning")).toEqual(["POSTGRES_SETTING", "POSTGRES_SETTING", "POSTGRES_SETTING"]);
  const text = findings.map(({ message }) => message).join("\n");
  for (const name of [
    "wal_level",
    "max_wal_senders",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "fsync",
  ])
    expect(text).toContain(name);
});

it("finds what would keep reverse replication from flowing, and says how to do without", async () => {
  const duty = { ...pods.duty(SOURCE, "prepare"), reverseReplication: [TARGET] };
  const settings = (findings: readonly Finding[]) =>
    findings.filter(({ code }) => code === "POSTGRES_SETTING").map(({ message }) => message);
  const [found, ...others] = settings(await pods.store(SOURCE).preflight(duty, "start", never));
  expect(others).toEqual([]);
  expect(found).toMatch(/wal_level is replica.*settings\.retention\.reverseReplication: none/);
  const strange = { ...duty, reverseReplication: ["pod-77" as PodId] };
  const findings = await pods.store(SOURCE).preflight(strange, "start", never);
  expect(findings.find(({ code }) => code === "CONFIG_INVALID")?.message).toMatch(/peers\.pod-77\.postgres/);
});

it("finds that the source is not who the agent is, from either side", async () => {
  const other = "pod-7" as PodId;
  const store = pods.store(other);
  expect(
    codes(await store.preflight({ ...pods.duty(SOURCE, "prepare"), podId: other }, "start", never)),
  ).toContain("POSTGRES_IDENTITY");
  await expect(store.reach({ ...pods.duty(SOURCE, "prepare"), podId: other }, never)).rejects.toMatchObject({
    code: "POSTGRES_IDENTITY",
  });
});

it("finds a prepared transaction and a tablespace on the source", async () => {
  const client = await pods.source.connect();
  await client.query(
    "BEGIN; INSERT INTO notes (organization_id, body) VALUES (1, 'x'); PREPARE TRANSACTION 'left'",
  );
  await client.query("SET allow_in_place_tablespaces = on");
  await client.query("CREATE TABLESPACE elsewhere LOCATION ''");
  cleanups.push(async () => {
    await client.query("ROLLBACK PREPARED 'left'");
    await client.query("DROP TABLESPACE elsewhere");
    await client.end();
  });
  const findings = await ofSource();
  expect(codes(findings).sort()).toEqual(["POSTGRES_PREPARED_TRANSACTION", "POSTGRES_TABLESPACE"]);
  expect(findings.map(({ message }) => message).join()).toContain("left");
});

it("finds an organization of the plan that the source does not have", async () => {
  const duty = pods.duty(SOURCE, "prepare");
  const assignments = new Map([...duty.assignments, ["4711" as OrganizationId, TARGET]]);
  const findings = await pods.store(SOURCE).preflight({ ...duty, assignments }, "start", never);
  expect(codes(findings)).toEqual(["PLAN_UNKNOWN_ORGANIZATION"]);
  expect(findings[0]?.message).toContain("4711");
});

it("finds that a user is no superuser, and that a server does not answer", async () => {
  await pods.source.query("CREATE ROLE somebody LOGIN PASSWORD 'else'");
  cleanups.push(() => pods.source.query("DROP ROLE somebody").then(() => undefined));
  const weak = pods.store(SOURCE, { user: "somebody", password: "else" });
  expect(codes(await ofSource(weak))).toContain("POSTGRES_AUTHENTICATION");
  const nobody = pods.store(SOURCE, { port: 1 });
  expect(codes(await ofSource(nobody))).toEqual(["POSTGRES_UNREACHABLE"]);
});

it("finds a target that is not empty, and a port that is taken", async () => {
  const folder = join(pod.folder, "used");
  mkdirSync(folder);
  writeFileSync(join(folder, "PG_VERSION"), "15\n");
  const { port } = pods.source;
  const findings = await ofTarget(pods.store(TARGET, { dataDirectory: folder, port }));
  expect(codes(findings)).toEqual(["POSTGRES_NOT_EMPTY", "POSTGRES_SETTING"]);
  const blocker = createServer().listen(pod.port, "127.0.0.1");
  cleanups.push(() => new Promise((resolve) => blocker.close(() => resolve())));
  expect(codes(await ofTarget())).toEqual(["POSTGRES_SETTING"]);
});

it("finds programs of another version, and none at all", async () => {
  const programs = join(pod.folder, "programs");
  mkdirSync(programs);
  for (const name of ["postgres", "pg_basebackup"]) {
    writeFileSync(join(programs, name), "#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n");
    chmodSync(join(programs, name), 0o755);
  }
  expect(codes(await ofTarget(pods.store(TARGET, { binDirectory: programs })))).toEqual(["POSTGRES_VERSION"]);
  expect(codes(await ofTarget(pods.store(TARGET, { binDirectory: pod.folder })))).toEqual([
    "POSTGRES_TOOL_MISSING",
  ]);
});

it("warns of a clock that is off, and refuses one that is far off", async () => {
  const skewed = (ms: number) => pods.store(TARGET, {}, { ...systemClock, now: () => Date.now() + ms });
  expect(await ofTarget(skewed(200))).toEqual([]);
  expect(codes(await ofTarget(skewed(-2_000)), "warning")).toEqual(["CLOCK_SKEW"]);
  expect(codes(await ofTarget(skewed(8_000)))).toEqual(["CLOCK_SKEW"]);
});

it("finds right before the fence that a guard or a target is missing", async () => {
  const source = pods.store(SOURCE);
  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await source.close();
  cleanups.push(async () => {
    await pods.store(SOURCE).reach(pods.duty(SOURCE, "release"), never);
  });
  const check = () => pods.store(SOURCE).preflight(pods.duty(SOURCE, "serve"), "fence", never);
  expect(codes(await check())).toEqual(["POSTGRES_UNREACHABLE"]);
  const client = await pods.source.connect();
  await client.query(
    "BEGIN; INSERT INTO notes (organization_id, body) VALUES (9, 'x'); PREPARE TRANSACTION 'late'",
  );
  expect(codes(await check())).toContain("POSTGRES_PREPARED_TRANSACTION");
  await client.query("ROLLBACK PREPARED 'late'");
  await client.end();
  await pods.source.query('DROP TRIGGER "~cleave_guard" ON notes');
  expect(codes(await check())).toContain("POSTGRES_GUARD_MISSING");
});
