/** The fence's evidence: only from what was replayed, the same after a restart of the agent, and gone when lowered. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { PostgresStore } from "../../../../../agent/stores/postgres/store.ts";
import { CleaveError } from "../../../../../protocol/errors.ts";
import {
  type Assembly,
  assemble,
  connectTo,
  MIGRATION,
  never,
  SOURCE,
  type TargetPod,
  targetId,
  until,
} from "../../../../support/postgres/pods.ts";
import { signalServer } from "../../../../support/postgres/postgres.ts";

const TARGET = targetId(0);
let pods: Assembly;
let pod: TargetPod;
let source: PostgresStore;
let target: PostgresStore;

beforeAll(async () => {
  pods = await assemble();
  pod = pods.targets[0] as TargetPod;
  source = pods.store(SOURCE);
  target = pods.store(TARGET);
  await source.reach(pods.duty(SOURCE, "prepare"), never);
  await target.reach(pods.duty(TARGET, "seed"), never);
  await source.reach(pods.duty(SOURCE, "serve"), never);
  await target.reach(pods.duty(TARGET, "follow"), never);
}, 60_000);
afterAll(() => pods.remove(), 60_000);

async function onTarget<Row extends object>(text: string): Promise<Row[]> {
  const client = await connectTo(pod);
  try {
    return (await client.query(text)).rows as Row[];
  } finally {
    await client.end();
  }
}

it("matches only when the marker was replayed, not when it was received", async () => {
  await onTarget("SELECT pg_wal_replay_pause()");
  await source.reach(pods.duty(SOURCE, "fence", { epoch: 1, phase: "fenced" }), never);
  const lsn = source.status(MIGRATION)?.evidence?.details["lsn"];
  const matching = target.reach(pods.duty(TARGET, "match", { epoch: 1, phase: "fenced" }), never);
  await expect
    .poll(() => onTarget(`SELECT pg_last_wal_receive_lsn() >= '${lsn}'::pg_lsn AS received`))
    .toEqual([{ received: true }]);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(target.status(MIGRATION)).toMatchObject({ goal: "match", reached: false, evidence: null });
  await onTarget("SELECT pg_wal_replay_resume()");
  await matching;
  expect(target.status(MIGRATION)?.evidence?.digest).toBe(source.status(MIGRATION)?.evidence?.digest);
});

it("gives the same evidence of an epoch after both agents were killed", async () => {
  const digest = source.status(MIGRATION)?.evidence?.digest;
  const [otherSource, otherTarget] = [pods.store(SOURCE), pods.store(TARGET)];
  await otherSource.reach(pods.duty(SOURCE, "fence", { epoch: 1, phase: "fenced" }), never);
  await otherTarget.reach(pods.duty(TARGET, "match", { epoch: 1, phase: "fenced" }), never);
  expect(otherSource.status(MIGRATION)?.evidence?.digest).toBe(digest);
  expect(otherTarget.status(MIGRATION)?.evidence?.digest).toBe(digest);
});

it("does not match an epoch whose marker was never written, and does not promote for it", async () => {
  const impatient = AbortSignal.timeout(200);
  await expect(
    target.reach(pods.duty(TARGET, "match", { epoch: 2, phase: "fenced" }), impatient),
  ).rejects.toThrow();
  await expect(
    target.reach(pods.duty(TARGET, "activate", { epoch: 2, phase: "transferred" }), never),
  ).rejects.toMatchObject({ code: "POSTGRES_LINEAGE" });
  expect(await onTarget("SELECT pg_is_in_recovery() AS recovering")).toEqual([{ recovering: true }]);
});

it("serves again when the fence was lowered, and follows on", async () => {
  const insert = "INSERT INTO notes (organization_id, body) VALUES (1, 'again')";
  await expect(pods.source.query(insert)).rejects.toMatchObject({ code: "CL503" });
  await source.reach(pods.duty(SOURCE, "serve", { epoch: 1 }), never);
  await target.reach(pods.duty(TARGET, "follow", { epoch: 1 }), never);
  await pods.source.query(insert);
  expect(source.status(MIGRATION)?.evidence).toBeNull();
  await until(target, ({ verified, lag, evidence }) => verified && lag?.amount === 0 && evidence === null);
});

it("ends a straggler at the fence and names it", async () => {
  const straggler = await pods.source.connect();
  await straggler.query("BEGIN; INSERT INTO notes (organization_id, body) VALUES (1, 'late')");
  await source.reach(pods.duty(SOURCE, "fence", { epoch: 3, phase: "fenced" }), never);
  expect(source.status(MIGRATION)?.stragglers.join()).toContain("late");
  await expect(straggler.query("COMMIT")).rejects.toThrow();
  await target.reach(pods.duty(TARGET, "match", { epoch: 3, phase: "fenced" }), never);
  expect(await onTarget("SELECT count(*)::int AS n FROM notes WHERE body = 'late'")).toEqual([{ n: 0 }]);
});

it("promotes although standby and source died after the transfer", async () => {
  await signalServer(pod.dataDirectory, "SIGKILL");
  await pods.source.kill();
  const afterwards = pods.store(TARGET);
  await afterwards.reach(pods.duty(TARGET, "activate", { epoch: 3, phase: "transferred" }), never);
  await afterwards.reach(pods.duty(TARGET, "open", { epoch: 3, phase: "opened" }), never);
  const rows = await onTarget<{ body: string }>(
    "INSERT INTO notes (organization_id, body) VALUES (1, 'new home') RETURNING body",
  );
  expect(rows).toEqual([{ body: "new home" }]);
});

it("never removes what was promoted", async () => {
  await expect(pods.store(TARGET).reach(pods.duty(TARGET, "release"), never)).rejects.toSatisfy(
    (error) => error instanceof CleaveError && /was promoted/.test(error.message),
  );
  expect(await onTarget("SELECT 1 AS alive")).toEqual([{ alive: 1 }]);
});
